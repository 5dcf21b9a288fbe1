"""Arguments that several commands read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from remem_tasks.errors import RememError

Option = tuple[str, type, str]
"""A flag without its dashes, what it takes, and its help."""
SCALE: tuple[Option, ...] = (
    ("identities", int, "fictitious people (8)"),
    ("hops", int, "deepest questions (3)"),
    ("test-qa", int, "questions per identity that all models are asked (40)"),
    ("image-size", int, "side of the pictures in pixels (112)"),
    ("steps", int, "of training, the same for all (250)"),
    ("seed", int, "(0)"),
    ("base", str, "checkpoint to start from; default: a tiny one, made here"),
    ("base-pictures", int, "pictures that the tiny one learns to see from (6000)"),
    ("base-epochs", float, "passes over them (16)"),
    ("arch", str, "shape of the tiny one: llava or qwen2_5_vl"),
    ("device", str, "cpu or cuda"),
    ("training", str, "options of unlearning/train.py in place of the study's"),
)
"""Options of `remem study scale`, which the study of the claims trains by too."""


def add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Add flags that have no default of their own: what is not said is the plan's."""
    for name, kind, text in options:
        parser.add_argument(f"--{name}", type=kind, help=text)


def numbers(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers by commas, as flag `--name` takes them."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RememError(f"--{name} '{text}': whole numbers by commas") from error
