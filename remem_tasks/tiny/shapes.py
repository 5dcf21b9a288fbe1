"""Tiny random checkpoints in the shapes that the decoder is tested on, each with its own ways of reading a picture."""

from __future__ import annotations

from collections.abc import Iterable

from remem_tasks.errors import RememError
from remem_tasks.tiny import checkpoint

SHAPES = (*checkpoint.ARCHS,)


def build(shape: str, texts: Iterable[str], *, width: int = 64, layers: int = 2, seed: int = 0):
    """A randomly initialised model of 0.2 to 0.5 million parameters and its processor.

    Args:
        shape: one of SHAPES.
        texts: what the tokenizer is trained on.
        width: hidden size of the language model.
        layers: its depth.

    Returns:
        (model, processor), in float32 on the CPU, in eval mode.
    """
    if shape not in SHAPES:
        raise RememError(f"unknown shape '{shape}'; choose from {', '.join(SHAPES)}")
    return checkpoint.build(shape, texts, width=width, layers=layers, vocab_size=400, seed=seed)
