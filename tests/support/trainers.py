"""A trainer in memory, as `unlearning.train` makes it; run as a script it trains several and keeps their weights.

accelerate launch --config_file … tests/trainers.py DATA CHECKPOINT OUT METHOD,METHOD … FLAGS
"""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from remem_tasks.checkpoints import load_processor
from unlearning import sharding
from unlearning.arguments import parse
from unlearning.data import Role, load_rows
from unlearning.methods import METHODS
from unlearning.models import load_models, loader
from unlearning.run import build_trainer

# Of the methods that look at rows before the first step: a few of them, and little made of them.
FEW = (
    *("--mm_rows", "2", "--manu_rows", "2", "--kvw_rows", "2", "--lunar_rows", "2", "--smfa_rows", "2"),
    *(
        "--pava_rows",
        "1",
        "--pava_anchors",
        "4",
        "--sae_rows",
        "2",
        "--sae_steps",
        "20",
        "--sae_ratio",
        "0.1",
    ),
)

# Reading a data set is two thirds of making a trainer. Nobody changes its tables, or its files within a session.
tables = cache(load_rows)
# What `from_pretrained` depends on beside the folder.
LOADING = {"--dtype", "--attn_implementation", "--model_init_kwargs", "--model_revision", "--load_in_4bit"}
_read: dict = {}


def _copies(folder: Path, load, flags: tuple[str, ...]):
    """`load`, but of a checkpoint that was read before a copy, if its weights are the same file still: half the time of making a trainer."""
    weights = folder / "model.safetensors"
    if LOADING & set(flags) or not weights.is_file():
        return load
    key = weights, weights.stat().st_mtime_ns

    def copied():
        if key not in _read:
            _read[key] = load()
        return deepcopy(_read[key])

    return copied


def own(method: str, *flags: str, but: str = "") -> tuple[str, ...]:
    """Of flags with their values, those that a method has, but one."""
    pairs = zip(flags[::2], flags[1::2])
    return tuple(
        part
        for flag, value in pairs
        if flag.removeprefix("--") in METHODS[method].options.keys() - {but}
        for part in (flag, value)
    )


def trainer_of(data, folder, output, method: str, *flags: str):
    """A trainer that has not trained yet; altpo gets one other answer a row if the data has none."""
    argv = ["--method", method, "--model_name_or_path", str(folder), "--data", str(data)]
    argv += ["--output_dir", str(output), "--disable_tqdm", "true", "--save_strategy", "no", *flags]
    data_args, args, model_args = parse(argv)
    cls = METHODS[args.method]
    rows = replace(
        tables(data_args.data, cls.rows_from, data_args.forget, alternatives=args.alternatives != "model")
    )
    if Role.ALT in cls.roles and rows.alternatives is None and args.alternatives == "auto":
        asked = zip(rows.forget["row_id"][:], rows.forget["attribute"][:])
        rows.alternatives = {row: [f"The {attribute} is unclear."] for row, attribute in asked}
    load = _copies(Path(folder), loader(str(folder), args, model_args), flags)
    models = load_models(args, model_args, load)
    return build_trainer(args, rows, load_processor(str(folder)), models)


def main(data: str, folder: str, output: str, methods: str, *flags: str) -> None:
    """Every other method with LoRA."""
    for number, method in enumerate(methods.split(",")):
        torch.manual_seed(0)
        lora = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0") if number % 2 else ()
        few = own(method, *FEW)
        trainer = trainer_of(data, folder, Path(output) / method, method, *flags, *few, *lora)
        trainer.train()
        trainer.finish()
        model = trainer.accelerator.unwrap_model(trainer.model)
        weights = {
            name: sharding.whole(value.detach())
            for name, value in model.named_parameters()
            if value.requires_grad
        }
        if trainer.is_world_process_zero():
            processes = trainer.accelerator.num_processes
            torch.save({"weights": weights, "processes": processes}, Path(output) / f"{method}.pt")
        trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(*sys.argv[1:])
