"""Losses on the retain rows, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from unlearning import losses
from unlearning.forward import Answers


def _kl(rows: Answers) -> torch.Tensor:
    return losses.kl_to_reference(rows.reference_logits, rows.logits, rows.token_count)


# By name: L_retain of the retain rows, and what of the model before unlearning it needs.
RETAIN_LOSSES: dict[str, tuple[Callable[[Answers], torch.Tensor], str | None]] = {
    "nll": (lambda rows: rows.token_nll, None),
    "kl": (lambda rows: _kl(rows), "logits"),
    "nll+kl": (lambda rows: rows.token_nll + _kl(rows), "logits"),
    "js": (
        lambda rows: losses.js_to_reference(rows.reference_logits, rows.logits, rows.token_count),
        "logits",
    ),
    "hidden": (
        lambda rows: losses.hidden_distance(rows.hidden, rows.reference_hidden, rows.token_count),
        "hidden",
    ),
}
