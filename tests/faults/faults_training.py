"""Trainings that go on from a checkpoint, and trainings that are told to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from functools import cache
from pathlib import Path

import torch
from faults_outputs import TRAIN, child, ended, scoring
from frame import End, Fault, World, cut, edit_json, edit_weights, overwrite, remove
from safetensors.torch import load_file

FLAGS = ("--max_steps", "4", "--save_steps", "2", "--learning_rate", "2e-3", "--save_total_limit", "5")
RESUME = ("--resume_from_checkpoint", "true")
STEP = "checkpoint-2"


class Trap:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, flag: Path) -> None:
        self.flag = str(flag)

    def __reduce__(self):
        return os.mkdir, (self.flag,)


def argv(world: World, method: str = "npo") -> list:
    return [
        "--method",
        method,
        "--no_gate",
        "--model_name_or_path",
        world.sound,
        "--data",
        world.data_dir,
        *FLAGS,
    ]


_whole: dict[Path, Path] = {}


def whole(world: World) -> Path:
    """The folder of a sound training of four steps, made once."""
    if world.sound not in _whole:
        out = world.sound.with_name("trained")
        end = world.train(*argv(world), "--output_dir", out)
        assert end.status == 0, end.err
        _whole[world.sound] = out
    return _whole[world.sound]


@cache
def weights(folder: Path) -> dict:
    return load_file(folder / "model.safetensors")


def stopped(world: World) -> Path:
    """The folder as a kill after the second step would have left it."""
    folder = Path(shutil.copytree(whole(world), world.folder / "run"))
    for path in folder.iterdir():
        if path.name not in (STEP, "run.json", "reference.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    edit_json("run.json", status="running")(folder)
    return folder


def resumed(name: str, change, says: str = "", *flags: str, counted: str | None = None, **more) -> Fault:
    """`change(folder of the run)`, then the run goes on; right: the weights of the run that was never stopped."""

    def act(world: World) -> End:
        folder = stopped(world)
        change(folder)
        end = world.train(*argv(world), "--output_dir", folder, *RESUME, *flags)
        assert not (folder / "trap").exists(), "what a checkpoint holds was executed"
        told = (folder / "run.json").read_text() if end.status == 0 else ""
        same = None
        if end.status == 0:
            found, right = load_file(folder / "model.safetensors"), weights(whole(world))
            same = found.keys() == right.keys() and all(torch.equal(found[key], right[key]) for key in right)
        return End(end.status, end.out + told, end.err, same, True)

    return Fault("training", name, act, says, counted, **more)


def inside(change):
    """A change in the checkpoint's own folder."""
    return lambda folder: change(folder / STEP)


def trapped(file: str, old: bool = False):
    """A pickle that would make a folder; `old`: in the format before zip."""

    def apply(folder: Path) -> None:
        torch.save(
            {"state": Trap(folder / "trap")}, folder / STEP / file, _use_new_zipfile_serialization=not old
        )

    return apply


def other_state(file: str, value):
    return inside(lambda folder: torch.save(value, folder / file))


def _flip(file: str):
    def apply(folder: Path) -> None:
        raw = bytearray((folder / file).read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        (folder / file).write_bytes(raw)

    return apply


STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def started(name: str, flags, says: str) -> Fault:
    """A training that should not begin: `flags(world)`."""
    return Fault(
        "training", name, lambda w: w.train(*argv(w), "--output_dir", w.folder / "out", *flags(w)), says
    )


def _told(signal_number: int, command: str, wait_for, status: int, says: str) -> Fault:
    """A command in a process of its own that is sent a signal once `wait_for(out)`."""

    def act(world: World) -> End:
        out = world.folder / "out"
        if command == "train":
            argv_ = [TRAIN, *argv(world), "--output_dir", out, "--max_steps", "2000", "--report_to", "none"]
        else:
            argv_ = scoring(world, out, "remem_finetune,remem_test")
        process = child(world, *argv_)
        deadline = time.time() + 120
        while not wait_for(out, process) and process.poll() is None and time.time() < deadline:
            time.sleep(0.05)
        process.send_signal(signal_number)
        end = ended(process)
        assert end.status == status, f"status {end.status}\n{end.err[-2000:]}"
        if command == "train":
            record = json.loads((out / "run.json").read_text())
            expected = "interrupted" if says else "running"
            assert record["status"] == expected, record["status"]
        else:
            assert not list(out.rglob("*_results.json"))
        if not says:  # killed: no line can be said; the same command must go on
            again = world.train(*argv(world), "--output_dir", out, *RESUME, "--max_steps", "4")
            return End(again.status, again.out, again.err, again.status, 0)
        return end

    told = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C", signal.SIGKILL: "kill -9"}[signal_number]
    return Fault("signals", f"{command}: {told}", act, says, slow=True)


def _training(out: Path, process) -> bool:
    return any(out.glob("checkpoint-*/trainer_state.json"))


def _loading(out: Path, process) -> bool:
    process.log.seek(0)
    return len(process.log.read()) > 200


FAULTS = [
    resumed("nothing", lambda folder: None),
    *(
        fault
        for file in STATES
        for fault in (
            resumed(f"{file} is lost", inside(remove(file)), file),
            resumed(f"{file} is cut", inside(cut(file)), file),
            resumed(f"{file} is empty", inside(overwrite(file, "")), file),
            resumed(f"{file} is text", inside(overwrite(file, "no state")), file),
            resumed(f"{file} has a flipped byte", inside(_flip(file)), file),
            resumed(f"{file} is a program", trapped(file), "cannot be loaded"),
            resumed(f"{file} is a program in the old format", trapped(file, old=True), file),
            resumed(f"{file} is a state of nothing", other_state(file, {}), "cannot be loaded"),
            resumed(f"{file} is a list", other_state(file, [1, 2]), "cannot be loaded"),
        )
    ),
    resumed("the optimiser's state is of one weight", other_state("optimizer.pt", {
        "state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.ones(1), "exp_avg_sq": torch.ones(1)}},
        "param_groups": [{"params": [0], "lr": 1.0}]}), "cannot be loaded"),
    resumed("lost states are allowed", inside(remove("optimizer.pt")), "", "--resume_without_state", "true",
            counted='"lost": \\[\n? *"optimizer.pt"'),
    # The checkpoint's other files
    resumed("trainer_state.json is cut", inside(cut("trainer_state.json"))),
    resumed("trainer_state.json is lost", inside(remove("trainer_state.json"))),
    resumed("trainer_state.json is a list", inside(overwrite("trainer_state.json", "[]"))),
    resumed("trainer_state.json is nested deep", inside(overwrite("trainer_state.json", "[" * 100_000))),
    *(
        resumed(f"trainer_state.json: {key} is {value!r}", inside(edit_json("trainer_state.json", **{key: value})), "trainer_state")
        for key, value in (
            ("global_step", -1), ("global_step", "two"), ("global_step", 3), ("global_step", 10**12),
            ("epoch", "x"), ("log_history", 3), ("unknown_key", 1), ("global_step", None),
        )
    ),
    resumed("the weights are lost", inside(remove("model.safetensors")), "model.safetensors"),
    resumed("the weights are cut", inside(cut("model.safetensors")), "model.safetensors"),
    resumed("a weight is missing", inside(edit_weights(lambda w: w.pop(sorted(w)[3]) and None)), ""),
    resumed("a weight is NaN", inside(edit_weights(lambda w: w[sorted(w)[3]].view(-1)[:1].fill_(float("nan")))), "NaN"),
    resumed("a weight is int8", inside(edit_weights(lambda w: w.update({sorted(w)[3]: w[sorted(w)[3]].to(torch.int8)}))), "stored as"),
    resumed("a weight more", inside(edit_weights(lambda w: w.update(more=torch.ones(2)))), "no place"),
    resumed("the configuration is cut", inside(cut("config.json")), "config.json"),
    resumed("the arguments are a program", trapped("training_args.bin")),
    resumed("no checkpoint is left", lambda f: shutil.rmtree(f / STEP)),
    resumed("a folder that is named as a checkpoint", lambda f: (f / "checkpoint-²").mkdir()),
    resumed("a file that is named as a checkpoint", lambda f: (f / "checkpoint-9").write_text("x")),
    # The run's own files
    resumed("run.json is cut", cut("run.json"), "run.json"),
    resumed("run.json is lost", remove("run.json"), "run.json"),
    resumed("run.json is a list", overwrite("run.json", "[]"), "run.json"),
    resumed("run.json has 5,000 digits", overwrite("run.json", '{"identity": ' + "9" * 5000 + "}"), "run.json"),
    resumed("run.json's identity is a list", edit_json("run.json", identity=[1]), "run.json"),
    resumed("a run of other data", edit_json("run.json", identity__data="0" * 16), "data"),
    resumed("a run of other weights", edit_json("run.json", identity__weights="0" * 32), "weights"),
    resumed("a run of another method", edit_json("run.json", identity__method="idk"), "method"),
    resumed("reference.json is cut", cut("reference.json"), "reference.json"),
    resumed("reference.json is a list", overwrite("reference.json", "[]"), "reference.json"),
    resumed("reference.json is lost", remove("reference.json")),
    resumed("reference.json's values are text", edit_json("reference.json", nll="x"), "reference.json"),
    resumed("reference.json lacks a row", lambda f: _drop_row(f), "reference.json"),
    resumed("reference.json's value is NaN", lambda f: _drop_row(f, float("nan")), "reference.json"),
    resumed("reference.json's value is null", lambda f: _drop_row(f, []), "reference.json"),
    # Beginnings
    started("resumed from a folder that is none", lambda w: ("--resume_from_checkpoint", w.folder / "nowhere"), "nowhere"),
    started("a method that is none", lambda w: ("--method", "no_such"), "no_such"),
    started("a learning rate of NaN", lambda w: ("--learning_rate", "nan"), "learning_rate|NaN|finite"),
    started("a learning rate of infinity", lambda w: ("--learning_rate", "inf"), "learning_rate|NaN|finite"),
    started("a learning rate of 1e30", lambda w: ("--learning_rate", "1e30"), "NaN|finite|infinite"),
    started("a batch of 0", lambda w: ("--per_device_train_batch_size", "0"), "batch"),
    started("a configuration that is cut", lambda w: ("--config", _config(w, "method: [")), "given.yaml"),
    started("a configuration of bytes", lambda w: ("--config", _config(w, b"\xff\xfe\x00")), "given.yaml"),
    started("a configuration that is a list", lambda w: ("--config", _config(w, "- a\n")), "given.yaml"),
    started("a configuration that would execute", lambda w: ("--config", _config(w, "method: !!python/object/apply:os.system ['touch trap']\n")), "given.yaml"),
    started("a configuration with an unknown key", lambda w: ("--config", _config(w, "no_such_key: 1\n")), "no_such_key"),
    started("a gate without results", lambda w: ("--no_gate", "false", "--gate_results", w.folder / "none"), "none"),
    # Told to end
    _told(signal.SIGTERM, "train", _training, 143, "terminated"),
    _told(signal.SIGINT, "train", _training, 130, "interrupted"),
    _told(signal.SIGKILL, "train", _training, -9, ""),
    _told(signal.SIGTERM, "score", _loading, 143, "terminated"),
    _told(signal.SIGINT, "score", _loading, 130, "interrupted"),
]  # fmt: skip


def _config(world: World, text: str | bytes) -> Path:
    overwrite("given.yaml", text)(world.folder)
    return world.folder / "given.yaml"


def _drop_row(folder: Path, value=None) -> None:
    """One entry of the reference's table is gone, or another."""
    path = folder / "reference.json"
    found = json.loads(path.read_text())
    key = sorted(found["nll"])[0]
    if value is None:
        found["nll"].pop(key)
    else:
        found["nll"][key] = value
    path.write_text(json.dumps(found))
