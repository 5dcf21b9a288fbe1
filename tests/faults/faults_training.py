"""Trainings: what they resume from, their records, their flags, the rows and weights they start from."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import torch
from frame import End, Fault, World, cut, edit_json, edit_weights, overwrite, remove
from safetensors.torch import load_file, save_file

from remem_tasks import checksums

HALF = "checkpoint-2"
_made: dict[str, Path] = {}
LEARN = ("--learning_rate", "2e-3", "--save_steps", "2", "--save_total_limit", "5", "--report_to", "none")


def npo(world: World, out: Path, *flags: str, model: Path | None = None, data: Path | None = None) -> End:
    """Four steps of npo, with a checkpoint after two; its numbers are the digest of the weights at the end."""
    argv = ["--method", "npo", "--no_gate", "--model_name_or_path", model or world.sound]
    argv += ["--data", data or world.data_dir, "--output_dir", out, *LEARN, "--max_steps", "4", *flags]
    end = world.train(*argv)
    return End(end.status, end.out, end.err, None if end.status else weights_of(out))


def weights_of(folder: Path) -> str:
    """A digest of the weights of a checkpoint or an adapter."""
    [file] = folder.glob("*model.safetensors")
    found = hashlib.sha256()
    for name, value in sorted(load_file(file).items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def whole(world: World, name: str = "whole", *flags: str) -> Path:
    """A training that ran through; made once."""
    if name not in _made:
        folder = world.sound.with_name(f"training-{name}")
        end = npo(world, folder, *flags)
        assert end.status == 0, end.err
        _made[name] = folder
    return _made[name]


def killed(world: World) -> Path:
    """That training as a kill after its first checkpoint leaves it."""
    folder = Path(shutil.copytree(whole(world), world.folder / "out"))
    for path in folder.iterdir():
        if path.name == "checkpoint-4":
            shutil.rmtree(path)
        elif path.name not in ("run.json", "reference.json", HALF):
            path.unlink()
    edit_json("run.json", status="running", stopped=None)(folder)
    return folder


def resumed(name: str, change: Callable[[Path], object], says: str = "", *flags: str, **more) -> Fault:
    """The same command with --resume_from_checkpoint true, after `change(folder of the killed run)`."""

    def act(world: World) -> End:
        folder = killed(world)
        change(folder)
        end = npo(world, folder, "--resume_from_checkpoint", "true", *flags)
        return End(end.status, end.out, end.err, end.numbers, weights_of(whole(world)))

    return Fault("resume", name, act, says, **more)


def at(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A damage to the checkpoint within the folder."""
    return lambda folder: change(folder / HALF)


def unsealed(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A damage to the checkpoint, and new checksums over what is then there: only the reading itself stands guard."""

    def apply(folder: Path) -> None:
        identity = json.loads((folder / HALF / checksums.FILE).read_text())["identity"]
        change(folder / HALF)
        checksums.write(folder / HALF, identity)

    return apply


def state(file: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A torch state of a checkpoint changed in place."""

    def apply(folder: Path) -> None:
        found = torch.load(folder / file, weights_only=False)
        torch.save(change(found) or found, folder / file)

    return apply


class Program:
    """A pickle that would run a command."""

    def __reduce__(self):
        return (Path("/tmp/remem-was-run").touch, ())


def pickled(file: str) -> Callable[[Path], None]:
    """A plain pickle in place of a state."""
    return lambda folder: (folder / file).write_bytes(pickle.dumps(Program()))


def archived(file: str) -> Callable[[Path], None]:
    """A pickle in an archive as torch writes them."""

    def apply(folder: Path) -> None:
        with zipfile.ZipFile(folder / file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Program()))
            archive.writestr("archive/version", "3\n")

    return apply


def flipped(file: str) -> Callable[[Path], None]:
    """One byte in the middle of a file is another."""

    def apply(folder: Path) -> None:
        raw = bytearray((folder / file).read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        (folder / file).write_bytes(raw)

    return apply


def as_folder(file: str) -> Callable[[Path], None]:
    return lambda folder: ((folder / file).unlink(), (folder / file).mkdir())


def first_state(
    change: Callable[[torch.Tensor], torch.Tensor], name: str = "exp_avg"
) -> Callable[[dict], None]:
    """The first of an optimizer's kept tensors anew."""

    def apply(found: dict) -> None:
        kept = next(iter(found["state"].values()))
        kept[name] = change(kept[name])

    return apply


def foreign(world: World, file: str, name: str = "other", *flags: str) -> Path:
    """A file of the checkpoint of another training."""
    return whole(world, name, *(flags or ("--seed", "7"))) / HALF / file


def exchanged(file: str, name: str, *flags: str) -> Fault:
    """A file of the checkpoint is that of another training."""

    def act(world: World) -> End:
        folder = killed(world)
        shutil.copy(foreign(world, file, name, *flags), folder / HALF / file)
        end = npo(world, folder, "--resume_from_checkpoint", "true")
        return End(end.status, end.out, end.err, end.numbers, weights_of(whole(world)))

    return Fault("resume", f"{file} is that of a run with {' '.join(flags)}", act, file)


def _checkpoint_of_another(world: World) -> End:
    folder = killed(world)
    shutil.rmtree(folder / HALF)
    shutil.copytree(foreign(world, "."), folder / HALF)
    end = npo(world, folder, "--resume_from_checkpoint", "true")
    return End(end.status, end.out, end.err, end.numbers, weights_of(whole(world)))


def _path_of_another(world: World) -> End:
    end = npo(world, killed(world), "--resume_from_checkpoint", str(foreign(world, ".")))
    return End(end.status, end.out, end.err, end.numbers, weights_of(whole(world)))


def _other_data(world: World) -> End:
    data = world.data(lambda splits: splits["forget1"][0].update(question="What else?"))
    return npo(world, killed(world), "--resume_from_checkpoint", "true", data=data)


def _other_start(world: World) -> End:
    model = world.checkpoint(edit_weights(lambda w: [value.mul_(1.01) for value in w.values()]))
    return npo(world, killed(world), "--resume_from_checkpoint", "true", model=model)


STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
RUN = "run.json"
TRAINER = "trainer_state.json"
LOSSY = ("--resume_without_state", "true")

RESUMED = [
    resumed("nothing", lambda folder: None),
    *(
        resumed(f"{file} is {told}", at(change(file)), "" if told == "a folder" else file)
        for file in STATES
        for told, change in {
            "gone": remove,
            "cut": cut,
            "empty": lambda file: overwrite(file, ""),
            "text": lambda file: overwrite(file, "no state"),
            "a flipped byte": flipped,
            "a pickle": pickled,
            "a pickle in an archive": archived,
            "a folder": as_folder,
        }.items()
    ),
    *(
        resumed(f"{file}, right checksums: {told}", unsealed(change), says)
        for file, told, change, says in (
            ("optimizer", "a pickle in an archive", archived("optimizer.pt"), "optimizer"),
            ("scheduler", "a pickle in an archive", archived("scheduler.pt"), "scheduler"),
            ("random state", "a pickle in an archive", archived("rng_state.pth"), "random"),
            ("optimizer", "a list", state("optimizer.pt", lambda s: [1]), "optimizer"),
            ("optimizer", "empty", state("optimizer.pt", lambda s: s.clear()), "optimizer"),
            ("optimizer", "a group less", state("optimizer.pt", lambda s: s["param_groups"].pop()), "optimizer"),
            ("optimizer", "no groups", state("optimizer.pt", lambda s: s.pop("param_groups")), "optimizer"),
            ("optimizer", "a weight less in a group",
             state("optimizer.pt", lambda s: s["param_groups"][0]["params"].pop() and None), "optimizer"),
            ("optimizer", "no state at all", state("optimizer.pt", lambda s: s.update(state={})), "optimizer"),
            ("optimizer", "NaN", state("optimizer.pt", first_state(lambda v: v * float("nan"))), "NaN"),
            ("optimizer", "infinite", state("optimizer.pt", first_state(lambda v: v + float("inf"), "exp_avg_sq")), "infinite"),
            ("optimizer", "another shape", state("optimizer.pt", first_state(lambda v: v.flatten()[:1])), "shape"),
            ("optimizer", "a shape that broadcasts", state("optimizer.pt", first_state(lambda v: v[:1])), "shape"),
            ("optimizer", "a text for a tensor", state("optimizer.pt", first_state(lambda v: "x")), "optimizer"),
            ("scheduler", "a list", state("scheduler.pt", lambda s: [1]), "scheduler"),
            ("scheduler", "empty", state("scheduler.pt", lambda s: s.clear()), "scheduler"),
            ("scheduler", "of another step", state("scheduler.pt", lambda s: s.update(last_epoch=77)), "scheduler"),
            ("scheduler", "a step that is text", state("scheduler.pt", lambda s: s.update(last_epoch="x")), "scheduler"),
            ("scheduler", "other rates", state("scheduler.pt", lambda s: s.update(base_lrs=[7.0, 7.0])), "scheduler"),
            ("random state", "a list", state("rng_state.pth", lambda s: [1]), "random"),
            ("random state", "empty", state("rng_state.pth", lambda s: s.clear()), "random"),
            ("random state", "text", state("rng_state.pth", lambda s: s.update(cpu="x")), "random"),
            ("random state", "a short one", state("rng_state.pth", lambda s: s.update(cpu=s["cpu"][:9])), "random"),
        )
    ),
    *(
        exchanged(file, name, *flags)
        for file in (*STATES, "model.safetensors")
        for name, flags in (("seed", ("--seed", "7")), ("rate", ("--learning_rate", "1e-3")))
        if not (file == "scheduler.pt" and name == "seed")  # it is the same file
    ),
    Fault("resume", "the checkpoint of another run", _checkpoint_of_another, "seed"),
    Fault("resume", "the path of another run's checkpoint", _path_of_another, "seed"),
    Fault("resume", "other data", _other_data, "data"),
    Fault("resume", "another start", _other_start, "model|weights"),
    # trainer_state.json: one that is none is that of a save that was cut, and the run begins before it
    *(
        resumed(f"{TRAINER} is {told}", at(change))
        for told, change in {
            "gone": remove(TRAINER),
            "cut": cut(TRAINER),
            "empty": overwrite(TRAINER, ""),
            "a list": overwrite(TRAINER, "[]"),
            "nested deep": overwrite(TRAINER, "[" * 100_000),
            "5,000 digits": overwrite(TRAINER, '{"global_step": ' + "9" * 5000 + "}"),
            "no UTF-8": overwrite(TRAINER, b"\xff\xfe"),
        }.items()
    ),
    *(
        resumed(f"{TRAINER}: {name} is {value!r}"[:70], seal(at(edit_json(TRAINER, **{name: value}))), "trainer_state")
        for seal in (lambda change: change,)
        for name, value in (("global_step", 3), ("epoch", 9.0), ("max_steps", 2), ("log_history", []), ("a_field_more", 1))
    ),
    *(
        resumed(f"{TRAINER}, right checksums: {name} is {value!r}"[:70], unsealed(edit_json(TRAINER, **{name: value})), "trainer_state")
        for name, value in (
            ("global_step", 3), ("global_step", -1), ("global_step", "2"), ("global_step", 2.5), ("global_step", True),
            ("global_step", 10**30), ("global_step", None), ("log_history", {}), ("log_history", [1]), ("a_field_more", 1),
        )
    ),
    # Other files of the checkpoint
    *(
        resumed(f"{file} of the checkpoint is {told}", at(change(file)), file)
        for file in ("config.json", "model.safetensors", "generation_config.json")
        for told, change in {"gone": remove, "cut": cut, "empty": lambda file: overwrite(file, "")}.items()
    ),
    resumed("a value of the checkpoint's weights is another", at(edit_weights(lambda w: next(iter(w.values())).view(-1)[:1].add_(1))), "model.safetensors"),
    resumed("NaN in the checkpoint's weights, right checksums", unsealed(edit_weights(lambda w: next(iter(w.values())).fill_(float("nan")))), "NaN"),
    resumed("a weight of the checkpoint is missing, right checksums", unsealed(edit_weights(lambda w: w.pop(next(iter(w))))), "missing"),
    resumed("a text layer less in the checkpoint's config", at(edit_json("config.json", text_config__num_hidden_layers=1)), "config.json"),
    resumed("a text layer less in the checkpoint's config, right checksums",
            unsealed(edit_json("config.json", text_config__num_hidden_layers=1)), "no place|another model"),
    resumed("a file more in the checkpoint", at(overwrite("scaler.pt", "x")), "scaler.pt"),
    *(
        resumed(f"the checksums are {told}", at(change), "checksums")
        for told, change in {
            "gone": remove(checksums.FILE),
            "cut": cut(checksums.FILE),
            "empty": overwrite(checksums.FILE, ""),
            "a list": overwrite(checksums.FILE, "[]"),
            "null": edit_json(checksums.FILE, files=[]),
            "of a format to come": edit_json(checksums.FILE, format=99),
            "of no file": edit_json(checksums.FILE, files={}),
        }.items()
    ),
    resumed("the checkpoint is an empty folder", at(lambda f: (shutil.rmtree(f), f.mkdir()))),
    resumed("the checkpoint is a file", at(lambda f: (shutil.rmtree(f), f.write_text("x")))),
    resumed("the checkpoint has another number", lambda f: (f / HALF).rename(f / "checkpoint-3"), "step 2"),
    resumed("a checkpoint of ² beside", lambda f: shutil.copytree(f / HALF, f / "checkpoint-²")),
    resumed("an empty checkpoint beside", lambda f: (f / "checkpoint-9").mkdir()),
    resumed("a save that was cut beside", lambda f: (shutil.copytree(f / HALF, f / "checkpoint-4"), remove(TRAINER)(f / "checkpoint-4"))),
    # run.json
    *(
        resumed(f"{RUN} is {told}", change, says)
        for told, change, says in (
            ("gone", remove(RUN), RUN),
            ("cut", cut(RUN), RUN),
            ("empty", overwrite(RUN, ""), RUN),
            ("a list", overwrite(RUN, "[]"), RUN),
            ("null", overwrite(RUN, "null"), RUN),
            ("an empty object", overwrite(RUN, "{}"), ""),
            ("nested deep", overwrite(RUN, "[" * 100_000), RUN),
            ("no UTF-8", overwrite(RUN, b"\xff\xfe"), RUN),
            ("a folder", as_folder(RUN), RUN),
        )
    ),
    *(
        resumed(f"{RUN}: {name} is {value!r}", edit_json(RUN, **{name: value}), says)
        for name, value, says in (
            ("identity", None, "which run"), ("identity", [], "identity"), ("identity", "npo", "identity"), ("identity", 3, "identity"),
            ("identity__method", "ga", "method"), ("identity__seed", 7, "seed"), ("identity__data", "0" * 16, "data"),
            ("identity__weights", "0" * 16, "weights"), ("identity__use_peft", True, "use_peft"), ("identity__forget", None, ""),
            ("arguments", [], "arguments"), ("arguments", "x", "arguments"), ("arguments__training", [], "arguments"),
            ("arguments__training__learning_rate", 1.0, "learning_rate"), ("arguments__training__max_steps", 9, "max_steps"),
            ("options", [], "options"), ("options", {"npo_beta": 7.0}, "options"), ("processes", 2, "processes"),
            ("status", 3, ""), ("status", [], ""), ("status", None, ""), ("stopped", 7, ""), ("notes", [], "notes"),
        )
    ),
    # reference.json
    *(
        resumed(f"reference.json is {told}", change, says)
        for told, change, says in (
            ("gone", remove("reference.json"), ""),
            ("cut", cut("reference.json"), "reference.json"),
            ("empty", overwrite("reference.json", ""), "reference.json"),
            ("a list", overwrite("reference.json", "[]"), "reference.json"),
            ("an empty object", overwrite("reference.json", "{}"), ""),
            ("of other weights", edit_json("reference.json", weights="0" * 16), ""),
            ("without values", edit_json("reference.json", nll=None), "reference.json"),
            ("values of text", edit_json("reference.json", nll="x"), "reference.json"),
            ("other values", edit_json("reference.json", nll={"forget1:0": 1.0}), "reference.json"),
            ("without a checksum", edit_json("reference.json", sum=None), ""),
        )
    ),
    # Other settings
    *(
        resumed(f"now with {' '.join(flags)}", lambda folder: None, says, *flags)
        for flags, says in (
            (("--learning_rate", "1e-3"), "learning_rate"), (("--max_steps", "6"), "max_steps"), (("--seed", "7"), "seed"),
            (("--forget", "forget2"), "data|forget"), (("--npo_beta", "0.5"), "npo_beta"), (("--gamma", "2"), "gamma"),
            (("--per_device_train_batch_size", "3"), "per_device"), (("--weight_decay", "0.1"), "weight_decay"),
            (("--lr_scheduler_type", "constant"), "lr_scheduler"), (("--use_peft",), "use_peft"), (("--method", "ga"), "method"),
            (("--train", "language_model"), "train"), (("--optim", "sgd"), "optim"), (("--overwrite_output_dir", "true"), "exclude"),
        )
    ),
    resumed("from a checkpoint that is not there", lambda folder: None, "is not a checkpoint", "--resume_from_checkpoint", "nowhere"),
    # Told to go on without what is lost: other weights, and the record and the output say so
    *(
        resumed(f"{file} is gone, and it is told to go on", at(remove(file)), "", *LOSSY, counted="has lost|lost")
        for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    ),
    resumed("another rate, and it is told to go on", lambda folder: None, "", "--learning_rate", "1e-3", *LOSSY, counted="other settings"),
]  # fmt: skip


# Flags


def flag(*flags: str, says: str = "", method: str = "npo", **more) -> Fault:
    """A training with a flag that is off. A status of 0 passes where the weights are those without it."""

    def act(world: World) -> End:
        out = world.folder / "out"
        argv = ["--method", method, "--model_name_or_path", world.sound, "--data", world.data_dir]
        argv += ["--output_dir", out, "--max_steps", "1", "--save_strategy", "no"]
        end = world.train(*argv, *(() if method in ("sft", "gold", "retain_ft") else ("--no_gate",)), *flags)
        return End(end.status, end.out, end.err, None if end.status else "trained", None)

    told = f"{method} {' '.join(flags)}"
    return Fault("flags", told if len(told) < 80 else f"{told[:70]}...", act, says, **more)


def recipe(name: str, text: str | bytes | None, says: str = "(?i)config") -> Fault:
    """A YAML file of flags that is off; None: a folder in its place."""

    def act(world: World) -> End:
        file = world.folder / "recipe.yaml"
        if text is None:
            file.mkdir()
        else:
            overwrite("recipe.yaml", text)(world.folder)
        argv = ["--config", file, "--model_name_or_path", world.sound, "--data", world.data_dir, "--no_gate"]
        return world.train(*argv, "--method", "npo", "--output_dir", world.folder / "out")

    return Fault("flags", f"a recipe that is {name}", act, says)


NUMBERS = ("nan", "inf", "-inf", "-1", "x", "1e400", "")
POSITIVE = (
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "npo_beta",
)

FLAGS = [
    *(
        flag(f"--{name}", value, says=name if value not in ("x", "") else "")
        for name in POSITIVE
        for value in (*NUMBERS, "0")
    ),
    *(
        flag(f"--{name}", value, says=name)
        for name in ("gamma", "alpha", "weight_decay", "max_grad_norm", "adam_epsilon", "picture_cache_mb", "neftune_noise_alpha")
        for value in ("nan", "inf", "x")
    ),
    *(flag(f"--{name}", value, says=name) for name in ("adam_beta1", "adam_beta2") for value in ("1", "-0.1", "nan", "2")),
    *(flag("--seed", value, says="seed") for value in ("-1", "1.5", "x", str(2**32), "9" * 5000)),
    *(flag("--max_steps", value, says="max_steps") for value in ("0", "-2", "1.5", "9" * 400)),
    *(flag("--warmup_steps", value, says="warmup") for value in ("-1", "nan", "x")),
    *(flag("--eval_rows", value, says="eval_rows") for value in ("-1", "x", "1.5")),
    *(
        flag("--use_peft", *more, says=more[0].strip("-"))
        for more in (
            ("--lora_r", "0"), ("--lora_r", "-4"), ("--lora_r", "1.5"), ("--lora_alpha", "0"), ("--lora_alpha", "nan"),
            ("--lora_dropout", "1"), ("--lora_dropout", "-0.1"), ("--lora_dropout", "nan"), ("--lora_target_modules", "none_such"),
            ("--lora_target_modules", "("),
        )
    ),
    flag("--use_peft", "--lora_target_modules", "lm_head", says="lm_head"),
    flag("--train", "none_such", says="train"),
    flag("--train", "(", says="train"),
    flag("--train", "", says="train"),
    flag("--dtype", "float3", says="float3|dtype"),
    flag("--dtype", "bfloat16", says="bfloat16"),
    flag("--optim", "none_such", says="optim"),
    flag("--lr_scheduler_type", "none_such", says="none_such"),
    flag("--attn_implementation", "none_such", says="none_such"),
    flag("--retain_loss", "none_such", says="retain loss"),
    flag("--wrap", "none_such", says="wrap"),
    flag("--alternatives", "none_such", says="alternatives"),
    flag("--modality", "none_such", says="modality"),
    flag("--faults", "none_such", says="faults"),
    flag("--forget", "none_such", says="none_such"),
    flag("--forget", "", says="forget"),
    flag("--forget", "../forget1", says="forget"),
    flag("--finetune_split", "none_such", says="none_such", method="sft"),
    flag("--identity_rule", "(", says="identity_rule|expression"),
    flag("--stop_on", "forget_nll", says="stop_on"),
    flag("--stop_on", "forget_nll=nan", "--eval_strategy", "steps", says="stop_on"),
    flag("--stop_on", "none_such=1", "--eval_strategy", "steps", says="stop_on"),
    flag("--eval_strategy", "none_such", says="eval_strategy|none_such"),
    flag("--eval_strategy", "steps", "--eval_steps", "0", says="eval_steps"),
    flag("--save_strategy", "steps", "--save_steps", "0", says="save_steps"),
    flag("--logging_steps", "0", says="logging_steps"),
    flag("--vision_lr", "-1", says="vision_lr"),
    flag("--l1_lora", "1", says="l1_lora"),
    flag("--report_to", "none_such", says="none_such"),
    flag("--no_such_flag", "1", says="no_such_flag"),
    flag("--max_length", "64", says="max_length"),
    flag("--dataloader_drop_last", "true", "--per_device_train_batch_size", "100", says="no step"),
    flag("--dataloader_num_workers", "-1", says="dataloader_num_workers"),
    flag("--model_revision", "none_such", "--model_name_or_path", "none/such", says="none/such"),
    flag("--learning_rate", "1e30", says="beyond"),
    flag("--learning_rate", "1e7", method="sft", says="beyond"),
    flag("--gamma", "1e38", says="NaN or infinite|gradient|loss"),
    flag("--manu_share", "2", method="manu", says="manu_share"),
    flag("--manu_share", "nan", method="manu", says="manu_share"),
    flag("--mm_epsilon", "0", method="mmunlearner", says="mm_epsilon"),
    flag("--rmu_layer", "99", method="rmu", says="layer"),
    flag("--rmu_coeff", "inf", method="rmu", says="rmu_coeff"),
    flag("--simnpo_beta", "0", method="simnpo", says="simnpo_beta"),
    flag("--dpo_beta", "-1", method="dpo", says="dpo_beta"),
    flag("--ceu_skip", "-1", method="ceu", says="ceu_skip"),
    flag("--ceu_skip", "9999", method="ceu", says=""),
    flag("--wga_beta", "nan", method="wga", says="wga_beta"),
    flag("--task_scale", "inf", method="task_vector", says="task_scale"),
    flag("--gate_results", "nowhere", says="nowhere"),
    recipe("empty", ""),
    recipe("no YAML", "method: ["),
    recipe("a list", "- 1\n- 2\n"),
    recipe("a text", "just words"),
    recipe("bytes", b"\xff\xfe\x00"),
    recipe("a folder", None),
    recipe("too large", "a: 1\n" * 300_000),
    recipe("nested deep", "a: " + "[" * 5000),
    recipe("a program", "a: !!python/object/apply:os.system ['id']"),
    recipe("an unknown flag", "npo_betta: 1", "npo_betta"),
    recipe("a rate that is NaN", "learning_rate: .nan", "learning_rate"),
    recipe("a rate that is a list", "learning_rate: [1, 2]", ""),
    recipe("a rate that is a mapping", "learning_rate: {a: 1}", ""),
    recipe("a rate that is a text", "learning_rate: fast", "learning_rate"),
    recipe("a beta that is infinite", "npo_beta: .inf", "npo_beta"),
    recipe("a beta that is true", "npo_beta: true", ""),
    recipe("steps of 0 batches", "gradient_accumulation_steps: 0", "gradient_accumulation_steps"),
]  # fmt: skip


# What a training starts from


def started(
    name: str, says: str = "", model=None, data=None, method: str = "npo", *flags: str, **more
) -> Fault:
    """A training from a changed checkpoint (`model(folder)`) or of changed rows (`data(splits)`)."""

    def act(world: World) -> End:
        argv = ["--method", method, *(("--no_gate",) if method in ("npo", "grad_diff", "idk") else ())]
        argv += ["--model_name_or_path", world.checkpoint(model) if model else world.sound]
        argv += ["--data", world.data(data) if data else world.data_dir]
        return world.train(*argv, "--output_dir", world.folder / "out", *flags)

    return Fault("training", name, act, says, **more)


def column(name: str, *splits: str):
    """A column less in these splits."""

    def change(found: dict) -> None:
        for split in splits:
            for row in found[split]:
                row.pop(name)

    return change


def scaled(factor: float):
    def change(weights: dict) -> None:
        for value in weights.values():
            value.mul_(factor)

    return edit_weights(change)


def _lone(value: float):
    def change(weights: dict) -> None:
        weights[next(name for name in sorted(weights) if "down_proj" in name)].view(-1)[0] = value

    return edit_weights(change)


def _as_int8(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: value.to(torch.int8) for name, value in weights.items()}, folder / "model.safetensors")


def _without_rows(world: World, split: str, method: str) -> End:
    """The file of a split holds no row."""
    data = world.data(lambda splits: None)
    [file] = data.glob(f"data/{split}-*.parquet")
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    argv = ["--method", method, "--no_gate", "--model_name_or_path", world.sound, "--data", data]
    argv = [one for one in argv if method == "npo" or one != "--no_gate"]
    return world.train(*argv, "--output_dir", world.folder / "out")


COLUMNS = (
    "image",
    "question",
    "answer",
    "keywords",
    "question_type",
    "attribute",
    "image_path",
    "cloze_prompt",
)

STARTED = [
    started("a NaN weight", "NaN or infinite weights", _lone(float("nan"))),
    started("an infinite weight", "NaN or infinite weights", _lone(float("inf"))),
    started("weights so large that the loss is NaN", "NaN|inf|finite", scaled(1e30)),
    started("weights as int8", "stored as", _as_int8),
    started("cut weights", "model.safetensors", cut("model.safetensors")),
    started("no weights", "model.safetensors", remove("model.safetensors")),
    started("no tokenizer", "processor|tokenizer", remove("tokenizer.json")),
    started("no processor", "processor", remove("processor_config.json")),
    started("no template", "template", remove("chat_template.jinja")),
    started("a cut config", "config", cut("config.json")),
    started("a text layer less", "", edit_json("config.json", text_config__num_hidden_layers=1)),
    started("another image token", "image token", edit_json("config.json", image_token_id=9, image_token_index=9)),
    *(
        Fault("training", f"no rows to {told}", lambda w, s=split, m=method: _without_rows(w, s, m), split)
        for told, split, method in (("forget", "forget1", "npo"), ("learn", "finetune", "sft"))
    ),
    *(
        started(f"{method}: no '{split}' at all", split, data=lambda s, split=split: s.pop(split) and None, method=method)
        for split, method in (("forget1", "npo"), ("finetune", "sft"), ("finetune", "npo"), ("finetune", "gold"))
    ),
    *(
        started(f"{method}: no column '{name}'", name, data=column(name, split), method=method)
        for method, split in (("npo", "forget1"), ("sft", "finetune"))
        for name in COLUMNS
    ),
    started("a run that was killed", "", overwrite(RUN, '{"status": "running"}'), counted="was interrupted"),
    started("a run that failed", "", overwrite(RUN, '{"status": "failed", "stopped": "step 3"}'), counted="its training failed"),
    started("a record that is cut", RUN, overwrite(RUN, '{"status": ')),
    started("a record that is a list", RUN, overwrite(RUN, "[]")),
]  # fmt: skip

FAULTS = [*RESUMED, *FLAGS, *STARTED]
