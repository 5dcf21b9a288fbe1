"""Training: its start, its output folder, and checkpoints that it goes on from."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from faults_adapters import FILE as ADAPTER
from frame import End, Fault, World, cut, edit_json, edit_weights, overwrite, remove
from safetensors.torch import load_file

from remem_tasks.checkpoint_files import tensors_of

FLAGS = (
    "--method",
    "npo",
    "--no_gate",
    "--learning_rate",
    "1e-3",
    "--save_steps",
    "1",
    "--save_total_limit",
    "5",
)


def weights_of(folder: Path) -> dict | None:
    """The numbers of a training: its weights, bit by bit."""
    file = next((folder / name for name in ("model.safetensors", ADAPTER) if (folder / name).is_file()), None)
    if file is None or not tensors_of(file):
        return None
    return {name: hash(value.numpy().tobytes()) for name, value in load_file(file).items()}


def trained(world: World, model: Path, out: Path, *flags: str) -> End:
    end = world.train(
        "--model_name_or_path", model, "--data", world.data_dir, "--output_dir", out, *FLAGS, *flags
    )
    return End(end.status, end.out, end.err, weights_of(out) if not end.status else None)


def start(name: str, change: Callable[[Path], object], says: str = "") -> Fault:
    """Training from a damaged checkpoint."""
    return Fault(
        "training", name, lambda world: trained(world, world.checkpoint(change), world.folder / "run"), says
    )


def resumed(
    name: str, change: Callable[[Path], object], says: str = "", *flags: str, counted: str | None = None
) -> Fault:
    """A run of two steps, cut back to its first checkpoint, which `change` damages, and gone on with."""

    def act(world: World) -> End:
        whole, out = world.folder / "whole", world.folder / "run"
        right = trained(world, world.sound, whole)
        assert right.status == 0, right.err
        shutil.copytree(whole, out)
        shutil.rmtree(out / "checkpoint-2")
        (out / "model.safetensors").unlink()
        change(out / "checkpoint-1")
        end = trained(world, world.sound, out, "--resume_from_checkpoint", "true", *flags)
        return End(end.status, end.out, end.err, end.numbers, right.numbers)

    return Fault("resume", name, act, says, counted)


class _Runs:
    """Unpickled, it would write a file."""

    def __reduce__(self):
        return (open, ("/tmp/remem-faults-ran", "w"))


def _pickled(file: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes(pickle.dumps(_Runs()))


def _saved(file: str, value: object) -> Callable[[Path], object]:
    return lambda folder: torch.save(value, folder / file)


FAULTS = [
    start("a tensor is missing", edit_weights(lambda w: w.pop(min(w)))),
    start("an unknown tensor", edit_weights(lambda w: w.update(other=torch.ones(2))), "no place"),
    start(
        "an int8 tensor", edit_weights(lambda w: w.update({min(w): w[min(w)].to(torch.int8)})), "stored as"
    ),
    start("a NaN", edit_weights(lambda w: w[min(w)].view(-1)[:1].fill_(float("nan"))), "NaN"),
    start(
        "a layer less in the config", edit_json("config.json", text_config__num_hidden_layers=1), "no place"
    ),
    start("cut weights", cut("model.safetensors"), "model.safetensors"),
    start(
        "a template that drops the question",
        overwrite("chat_template.jinja", "<image> ASSISTANT: hello"),
        "drops",
    ),
    resumed("nothing happened", lambda folder: None),
    *(
        resumed(f"{file} is gone", remove(file), says)
        for file, says in {
            "optimizer.pt": "has lost optimizer.pt",
            "scheduler.pt": "has lost scheduler.pt",
            "rng_state.pth": "",
            "trainer_state.json": "",
            "model.safetensors": "model.safetensors",
            "config.json": "config",
        }.items()
    ),
    *(
        resumed(f"{file} is {how}", change(file))
        for file in (
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
            "trainer_state.json",
            "model.safetensors",
        )
        for how, change in {"cut": cut, "empty": lambda file: overwrite(file, "")}.items()
    ),
    *(
        resumed(f"{file} is a pickle that runs", _pickled(file), "damaged")
        for file in ("optimizer.pt", "rng_state.pth")
    ),
    resumed("an optimizer that is a list", _saved("optimizer.pt", [1, 2]), "cannot be loaded"),
    resumed(
        "an optimizer of another model",
        _saved("optimizer.pt", {"state": {}, "param_groups": []}),
        "cannot be loaded",
    ),
    resumed("an optimizer that holds a class", _saved("optimizer.pt", {"x": _Runs}), "cannot be loaded"),
    resumed("a scheduler that is a number", _saved("scheduler.pt", 3), "cannot be loaded"),
    resumed("random states that are a list", _saved("rng_state.pth", [1]), "cannot be loaded"),
    resumed(
        "weights of int8", edit_weights(lambda w: w.update({min(w): w[min(w)].to(torch.int8)})), "stored as"
    ),
    resumed(
        "a NaN in the weights", edit_weights(lambda w: w[min(w)].view(-1)[:1].fill_(float("nan"))), "NaN"
    ),
    resumed(
        "told to go on without the optimizer",
        remove("optimizer.pt"),
        "",
        "--resume_without_state",
        "true",
        counted="lost optimizer.pt",
    ),
]
