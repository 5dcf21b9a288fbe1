"""Adapters: their tensors, their configuration, the base that they stand on."""

from __future__ import annotations

import json

import torch
from frame import Fault, World, cut, edit_json, edit_weights, overwrite, remove
from peft import LoraConfig, get_peft_model

from remem_tasks.checkpoint_files import digest
from remem_tasks.checkpoints import load_model

FILE = "adapter_model.safetensors"


def adapter(world: World, change=None):
    """A LoRA adapter on the sound checkpoint that changes its answers, after `change(folder)`."""
    model = load_model(str(world.sound))
    made_on = digest(model)
    torch.manual_seed(0)
    made = get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model.*(q|v)_proj"))
    for name, value in made.named_parameters():
        if "lora_B" in name:
            value.data = 0.3 * torch.randn(value.shape)
    folder = world.folder / "adapter"
    made.save_pretrained(folder)
    (folder / "run.json").write_text(json.dumps({"identity": {"weights": made_on}}))
    if change:
        change(folder)
    return folder


def scored(name: str, change, says: str = "adapter") -> Fault:
    def act(world: World):
        return world.score(args=f"peft={adapter(world, change)}")

    return Fault("adapters", name, act, says)


def first(change):
    """Changes the first tensor; None removes it."""

    def apply(weights: dict) -> None:
        name = min(weights)
        new = change(weights.pop(name))
        if new is not None:
            weights[name] = new

    return edit_weights(apply, FILE)


def _on_other_weights(world: World):
    base = world.checkpoint(
        edit_weights(lambda w: w.update({name: v * 1.1 for name, v in w.items()})), "other"
    )
    return world.score(base, args=f"peft={adapter(world)}")


def _value(number: float):
    return lambda tensor: tensor.fill_(number)


FAULTS = [
    scored("a tensor is missing", first(lambda _: None)),
    scored("an unknown tensor", edit_weights(lambda w: w.update(other=torch.ones(2)), FILE)),
    scored("a tensor of another shape", first(lambda w: w[:, :-1].clone())),
    scored("a tensor of another rank", first(lambda w: torch.cat([w, w]))),
    *(
        scored(
            f"a tensor as {str(kind).removeprefix('torch.')}",
            first(lambda w, kind=kind: w.to(kind)),
            "stored as",
        )
        for kind in (torch.int8, torch.bool, torch.float8_e4m3fn)
    ),
    scored("a NaN", first(_value(float("nan"))), "NaN or infinite"),
    scored("an infinity", first(_value(float("inf"))), "NaN or infinite"),
    scored("no tensor", edit_weights(lambda w: w.clear(), FILE)),
    scored("the weights are gone", remove(FILE)),
    scored("the weights are cut", cut(FILE)),
    scored("the weights are empty", overwrite(FILE, ""), FILE),
    scored("pickled weights alone", lambda f: (f / FILE).rename(f / "adapter_model.bin")),
    scored("the config is gone", remove("adapter_config.json")),
    scored("the config is cut", cut("adapter_config.json")),
    scored("the config is a list", overwrite("adapter_config.json", "[]")),
    scored(
        "the config has a number of 5,000 digits",
        overwrite("adapter_config.json", '{"r": ' + "9" * 5000 + "}"),
    ),
    scored("an unknown kind of adapter", edit_json("adapter_config.json", peft_type="NO_SUCH")),
    scored("no kind of adapter", edit_json("adapter_config.json", peft_type=None)),
    scored("another rank in the config", edit_json("adapter_config.json", r=3)),
    scored("a rank that is a text", edit_json("adapter_config.json", r="two")),
    scored("a rank of zero", edit_json("adapter_config.json", r=0)),
    scored("targets that are not there", edit_json("adapter_config.json", target_modules=["no_such"])),
    scored("fewer targets", edit_json("adapter_config.json", target_modules=r".*language_model.*q_proj")),
    scored(
        "more targets", edit_json("adapter_config.json", target_modules=r".*language_model.*(q|k|v)_proj")
    ),
    Fault("adapters", "a base with other weights", _on_other_weights, "trained on other weights"),
    Fault(
        "adapters",
        "its base is gone",
        lambda w: w.score(
            adapter(w, edit_json("adapter_config.json", base_model_name_or_path="/gone")),
        ),
        "/gone",
    ),
    Fault(
        "adapters",
        "its base is a number",
        lambda w: w.score(adapter(w, edit_json("adapter_config.json", base_model_name_or_path=7))),
        "adapter",
    ),
]
