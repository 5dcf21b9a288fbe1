"""Adapters that are scored: their configuration, their tensors, the base they name, and those that a training of ours made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from adapter import made
from faults_training import weights_of
from frame import End, Fault, World, cut, edit_json, edit_weights, overwrite, remove

CONFIG = "adapter_config.json"
FILE = "adapter_model.safetensors"
_known: dict[str, dict] = {}


def right(world: World) -> dict:
    """What the sound checkpoint says with the sound adapter on it."""
    if "numbers" not in _known:
        end = world.score(args=f"peft={made(world.sound)}", right={})
        assert end.status == 0 and end.numbers, end.err
        _known["numbers"] = end.numbers
    return _known["numbers"]


def scored(
    name: str, change: Callable[[Path], object], says: str = "", *, whole: bool = False, **more
) -> Fault:
    """A scoring of a changed copy of the adapter: `peft=` beside its base, or `whole`, as the checkpoint itself."""

    def act(world: World) -> End:
        known = right(world)
        folder = Path(shutil.copytree(made(world.sound), world.folder / "adapter"))
        change(folder)
        if whole:
            shutil.copy(world.sound / "generation_config.json", folder)
            return world.score(folder, args=f"processor={world.sound}", right=known)
        return world.score(args=f"peft={folder}", right=known)

    return Fault("adapters", name, act, says, **more)


def config(name: str, says: str = "", **changes) -> Fault:
    return scored(name, edit_json(CONFIG, **changes), says)


def each(part: str, change) -> Callable[[Path], None]:
    """The first tensor whose name holds `part` anew; None removes it."""

    def apply(weights: dict) -> None:
        name = next(name for name in sorted(weights) if part in name)
        new = change(weights.pop(name))
        if new is not None:
            weights[name] = new

    return edit_weights(apply, FILE)


def renamed(part: str, new: str) -> Callable[[Path], None]:
    def apply(weights: dict) -> None:
        name = next(name for name in sorted(weights) if part in name)
        weights[name.replace(part, new)] = weights.pop(name)

    return edit_weights(apply, FILE)


def every(change) -> Callable[[Path], None]:
    return edit_weights(lambda w: w.update({name: change(value) for name, value in w.items()}), FILE)


def _pickle_alone(folder: Path) -> None:
    torch.save({}, folder / "adapter_model.bin")
    (folder / FILE).unlink()


def _folder_for(file: str):
    return lambda folder: ((folder / file).unlink(), (folder / file).mkdir())


def given(name: str, place: Callable[[World], object], says: str = "") -> Fault:
    """Something else than an adapter after `peft=`."""
    return Fault("adapters", name, lambda w: w.score(args=f"peft={place(w)}", right=right(w)), says)


def _file(world: World) -> Path:
    (world.folder / "file").write_text("x")
    return world.folder / "file"


def _empty(world: World) -> Path:
    (world.folder / "empty").mkdir()
    return world.folder / "empty"


# An adapter that a training of ours made, with its record and checksums


def trained(world: World) -> Path:
    if "trained" not in _known:
        folder = world.sound.with_name("trained-adapter")
        argv = [
            "--method",
            "sft",
            "--use_peft",
            "--model_name_or_path",
            world.sound,
            "--data",
            world.data_dir,
        ]
        argv += ["--learning_rate", "2e-3", "--save_strategy", "no", "--output_dir", folder]
        end = world.train(*argv)
        assert end.status == 0 and weights_of(folder), end.err
        end = world.score(folder, right={})
        assert end.status == 0, end.err
        _known["trained"], _known["right"] = folder, end.numbers
    return _known["trained"]


def ours(name: str, change: Callable[[Path], object], says: str = "", base=None, **more) -> Fault:
    """A scoring of a changed copy of that adapter, on its own base or on `base(folder)`'s."""

    def act(world: World) -> End:
        folder = Path(shutil.copytree(trained(world), world.folder / "trained"))
        change(folder)
        if base is None:
            return world.score(folder, right=_known["right"])
        return world.score(world.checkpoint(base), args=f"peft={folder}", right=_known["right"])

    return Fault("adapters", f"ours: {name}", act, says, **more)


WRONG_RANKS = (0, -1, 1, 3, 10**6, 10**12, 10**30, 1.5, "2", None, True, [2], {"a": 2})
EDITS = {
    "lora_alpha": 64, "r": 3, "use_rslora": True, "alpha_pattern": {"q_proj": 99}, "lora_dropout": 0.5, "target_modules": "all-linear",
}  # fmt: skip

FAULTS = [
    scored("nothing", lambda folder: None),
    scored("nothing, as the checkpoint", lambda folder: None, whole=True),
    # The configuration
    *(config(f"a rank of {value!r}", r=value) for value in WRONG_RANKS if value is not None),
    *(
        config(f"lora_alpha {value!r}", lora_alpha=value)
        for value in ("x", [], {}, float("nan"), float("inf"))
    ),
    *(
        config(f"target_modules {value!r}"[:60], target_modules=value)
        for value in (
            "none_such", "(", "", [], ["none_such"], ["q_proj"], ["q_proj", "v_proj", "k_proj"], 3, {"a": 1}, [3], "all-linear",
            r".*\.(q_proj|v_proj)", r".*language_model.*\.q_proj",
        )
    ),
    *(config(f"peft_type {value!r}", peft_type=value) for value in ("NONE_SUCH", "IA3", "PROMPT_TUNING", 3, "", [])),
    *(config(f"task_type {value!r}", task_type=value) for value in ("NONE_SUCH", 3, [])),
    *(config(f"bias {value!r}", bias=value) for value in ("all", "none_such", 3)),
    *(config(f"layers_to_transform {value!r}", layers_to_transform=value) for value in ([0], [99], "x", [-1], 0)),
    *(config(f"modules_to_save {value!r}", modules_to_save=value) for value in (["lm_head"], ["none_such"], "x", 3)),
    *(config(f"rank_pattern {value!r}", rank_pattern=value) for value in ({"q_proj": 4}, {"q_proj": 0}, {"q_proj": "x"}, [], 3)),
    config("DoRA", use_dora=True),
    config("an initialisation that is none", init_lora_weights="none_such"),
    config("a field that is unknown", no_such_field=1),
    config("no rank", r=None),
    config("no peft_type", peft_type=None),
    *(
        scored(f"the configuration is {told}", change, CONFIG)
        for told, change in {
            "gone": remove(CONFIG),
            "cut": cut(CONFIG),
            "empty": overwrite(CONFIG, ""),
            "a list": overwrite(CONFIG, "[]"),
            "null": overwrite(CONFIG, "null"),
            "nested deep": overwrite(CONFIG, "[" * 100_000),
            "no UTF-8": overwrite(CONFIG, b"\xff\xfe\x00"),
            "of 5,000 digits": overwrite(CONFIG, '{"r": ' + "9" * 5000 + "}"),
            "a folder": _folder_for(CONFIG),
        }.items()
    ),
    scored("the configuration is an empty object", overwrite(CONFIG, "{}")),
    # The base that it names
    *(
        scored(f"a base of {value!r}"[:60], edit_json(CONFIG, base_model_name_or_path=value), "base", whole=True)
        for value in (None, "", 3, "/nowhere/at/all", "../up", [], "a b")
    ),
    scored("a base of 300 letters", edit_json(CONFIG, base_model_name_or_path="x" * 300), whole=True),
    # Tensors
    *(
        scored(f"a tensor of {part} {told}", each(part, change), says)
        for part in ("lora_A", "lora_B")
        for told, change, says in (
            ("is missing", lambda w: None, "missing"),
            ("of another rank", lambda w: torch.cat([w, w], dim=0 if w.shape[0] == 2 else 1), ""),
            ("cut in its width", lambda w: w[:, :-1].clone() if w.shape[0] == 2 else w[:-1].clone(), ""),
            ("in one dimension", lambda w: w.flatten(), ""),
            ("turned round", lambda w: w.T.contiguous(), ""),
            ("as int8", lambda w: w.to(torch.int8), "stored as"),
            ("as bool", lambda w: w.to(torch.bool), "stored as"),
            ("as int64", lambda w: w.to(torch.int64), "stored as"),
            ("as float8", lambda w: w.to(torch.float8_e4m3fn), "stored as"),
            ("with NaN", lambda w: w * float("nan"), "NaN"),
            ("with infinity", lambda w: w + float("inf"), "infinite"),
            ("of no rows", lambda w: w[:0].clone(), ""),
        )
    ),
    scored("every tensor as float64", every(lambda w: w.double())),
    scored("every tensor as int8", every(lambda w: w.to(torch.int8)), "stored as"),
    scored("a tensor of another layer", renamed("layers.0", "layers.9")),
    scored("a tensor of another module", renamed("q_proj", "o_proj")),
    scored("a tensor of an unknown name", renamed("lora_A", "lora_X")),
    scored("a tensor more", edit_weights(lambda w: w.update(other=torch.ones(2)), FILE), "no place"),
    scored("no tensor at all", edit_weights(lambda w: w.clear(), FILE)),
    *(
        scored(f"the weights are {told}", change, FILE)
        for told, change in {
            "gone": remove(FILE),
            "cut": cut(FILE),
            "cut in their header": cut(FILE, 0.01),
            "without their last byte": cut(FILE, 0.99999),
            "empty": overwrite(FILE, ""),
            "text": overwrite(FILE, "not weights"),
            "a pickle": _pickle_alone,
            "a folder": _folder_for(FILE),
            "a header of 2**62 bytes": overwrite(FILE, (2**62).to_bytes(8, "little")),
        }.items()
    ),
    # What stands after peft=
    given("a folder that is not there", lambda w: "/nowhere/at/all", "nowhere"),
    given("a file", _file, "file"),
    given("an empty folder", _empty, CONFIG),
    given("a whole checkpoint", lambda w: w.sound, CONFIG),
    given("an empty name", lambda w: "", "empty"),
    given("a name of 300 characters", lambda w: w.folder / ("x" * 300), ""),
    # On another base
    *(
        Fault(
            "adapters",
            f"on a base with {told}",
            lambda w, change=change: w.score(w.checkpoint(change), args=f"peft={made(w.sound)}", right=right(w)),
        )
        for told, change in {
            "a text layer less": edit_json("config.json", text_config__num_hidden_layers=1),
            "no weights": remove("model.safetensors"),
            "a narrower text model": edit_json("config.json", text_config__hidden_size=32),
        }.items()
    ),
    # Ours
    ours("nothing", lambda folder: None),
    *(ours(f"{name} is {value!r}", edit_json(CONFIG, **{name: value}), CONFIG) for name, value in EDITS.items()),
    ours("a value of a tensor is another", each("lora_B", lambda w: w + 0.25), FILE),
    ours("tensors of two layers are exchanged", edit_weights(lambda w: _swap(w), FILE), FILE),
    ours("the weights are gone", remove(FILE), FILE),
    ours("the configuration is gone", remove(CONFIG), ""),
    ours("a tokenizer that is cut, where the base's is read", cut("tokenizer.json")),
    ours("the checksums are cut", cut("checksums.json"), "checksums"),
    ours("the checksums are a list", overwrite("checksums.json", "[]"), "checksums"),
    ours("the record is cut", cut("run.json"), "run.json"),
    ours("the record is a list", overwrite("run.json", "[]"), "run.json"),
    ours("the record is null", overwrite("run.json", "null"), "run.json"),
    ours("an identity that is a text", edit_json("run.json", identity="x"), ""),
    ours("arguments that are a list", edit_json("run.json", arguments=[1]), ""),
    ours("other weights by its record", edit_json("run.json", identity__weights="0" * 16), "trained on other weights"),
    ours(
        "on a base of other weights",
        lambda folder: None,
        "trained on other weights",
        base=edit_weights(lambda w: [value.mul_(1.01) for value in w.values()]),
    ),
]  # fmt: skip


def _swap(weights: dict) -> None:
    first, second = [name for name in sorted(weights) if "q_proj.lora_A" in name][:2]
    weights[first], weights[second] = weights[second], weights[first]
