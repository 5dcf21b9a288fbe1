"""Adapters that are scored on a sound base: their weights, their configuration, the base they name."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import torch
from faults_weights import Q, each, every
from frame import End, Fault, World, cut, edit_json, edit_weights, overwrite, remove
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

FILE = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@cache
def made(base: Path) -> Path:
    """An adapter of rank 2 on a base, whose matrices are not zero."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(base)
    settings = LoraConfig(r=2, lora_alpha=4, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    folder = base.with_name(f"{base.name}-adapter")
    adapted.save_pretrained(folder)
    return folder


_known: dict[Path, dict] = {}


def scored(name: str, change, says: str = "", alone: bool = False, **more) -> Fault:
    """A fault of an adapter's folder; `alone`: it is given without its base, which it names."""

    def act(world: World) -> End:
        sound = made(world.sound)
        if sound not in _known:
            _known[sound] = world.score(args=f"peft={sound}").numbers
            assert _known[sound] and _known[sound] != world.score().numbers
        folder = Path(shutil.copytree(sound, world.folder / "adapter"))
        change(folder)
        given = {"model": folder} if alone else {"args": f"peft={folder}"}
        end = world.score(**given, right=_known[sound])
        return End(end.status, end.out, end.err, end.numbers, end.right)

    return Fault("adapters", name, act, says, **more)


def on_adapter(change):
    """A change of `faults_weights` on the adapter's file."""

    def apply(folder: Path) -> None:
        (folder / FILE).rename(folder / "model.safetensors")
        change(folder)
        (folder / "model.safetensors").rename(folder / FILE)

    return apply


def _value(value: float):
    def change(tensor):
        tensor.view(-1)[0] = value
        return tensor

    return change


def record(**identity):
    """The record of a training that made the adapter."""

    def apply(folder: Path) -> None:
        (folder / "run.json").write_text(
            json.dumps({"identity": identity, "arguments": {"model": {"dtype": "float32"}}})
        )

    return apply


def without_file(folder: Path) -> None:
    (folder / FILE).unlink()
    torch.save({}, folder / "adapter_model.bin")


FAULTS = [
    scored("nothing", lambda folder: None),
    scored("nothing, given without its base", lambda folder: None, alone=True),
    *(
        scored(f"a matrix {told}", on_adapter(each(part, change)), says)
        for part in ("lora_A", "lora_B")
        for told, change, says in (
            (f"{part} is missing", lambda w: None, ""),
            (f"{part} of another shape", lambda w: w[:-1].clone(), ""),
            (f"{part} holds NaN", _value(float("nan")), "NaN"),
            (f"{part} holds infinity", _value(float("inf")), "NaN or inf"),
            (f"{part} as int8", lambda w: w.to(torch.int8), "stored as"),
        )
    ),
    scored(
        "a matrix more",
        edit_weights(lambda w: w.update({"base_model.model.x.lora_A.weight": torch.ones(2, 2)}), FILE),
    ),
    scored("a matrix under another name", on_adapter(each("lora_A", lambda w: None)), ""),
    scored("every matrix as int8", on_adapter(every(lambda w: w.to(torch.int8))), "stored as"),
    scored("no matrices", edit_weights(lambda w: w.clear(), FILE)),
    scored("a weight of the base in it", edit_weights(lambda w: w.update({Q: torch.ones(2)}), FILE)),
    scored("the file is gone", remove(FILE), FILE),
    scored("the file is cut", cut(FILE), FILE),
    scored("the file is empty", overwrite(FILE, ""), FILE),
    scored("the file is a pickle", without_file, FILE),
    scored("the configuration is gone", remove(CONFIG), CONFIG),
    scored("the configuration is cut", cut(CONFIG), CONFIG),
    scored("the configuration is a list", overwrite(CONFIG, "[]"), CONFIG),
    scored("the configuration is nested deep", overwrite(CONFIG, "[" * 100_000), CONFIG),
    scored(
        "a number of 5,000 digits in the configuration",
        overwrite(CONFIG, '{"r": ' + "9" * 5000 + "}"),
        CONFIG,
    ),
    *(
        scored(told, edit_json(CONFIG, **change), "adapter")
        for told, change in {
            "another rank": {"r": 4},
            "a rank of 0": {"r": 0},
            "a rank that is a text": {"r": "two"},
            "other targets": {"target_modules": ["k_proj"]},
            "targets that are none": {"target_modules": ["nowhere"]},
            "more targets": {"target_modules": ["q_proj", "v_proj", "k_proj"]},
            "targets that are a broken expression": {"target_modules": "(("},
            "another type of adapter": {"peft_type": "IA3"},
            "a type of adapter that is none": {"peft_type": "NONE_SUCH"},
            "no type of adapter": {"peft_type": None},
            "an unknown key with a wrong task": {"task_type": "NONE_SUCH"},
        }.items()
    ),
    *(
        scored(f"alone: {told}", edit_json(CONFIG, **change), "adapter", alone=True)
        for told, change in {
            "a base that is gone": {"base_model_name_or_path": "/nowhere/at/all"},
            "a base that is null": {"base_model_name_or_path": []},
            "a base that is no name": {"base_model_name_or_path": "a b/c\nd"},
        }.items()
    ),
    scored(
        "alone: it names itself as its base",
        lambda f: edit_json(CONFIG, base_model_name_or_path=str(f))(f),
        "adapter",
        alone=True,
    ),
    scored("a record of other weights", record(weights="0" * 32), "other weights"),
    scored("a record that is cut", lambda f: (record(weights="0")(f), cut("run.json")(f)), "run.json"),
    scored("a record that is a list", overwrite("run.json", "[]"), "run.json"),
    scored("a record whose identity is a list", overwrite("run.json", '{"identity": []}')),
    scored("an adapter's path that is not there", lambda f: shutil.rmtree(f), "adapter"),
    scored("an adapter's path that is a file", lambda f: (shutil.rmtree(f), f.write_text("x")), "adapter"),
]
