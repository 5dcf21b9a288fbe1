"""Models that say nothing real, and what else would make replies look forgotten."""

from __future__ import annotations

import torch
from frame import Fault, edit_weights

KIND = "replies"


def scored(name: str, change, says: str = "") -> Fault:
    return Fault(KIND, name, lambda world: world.score(world.checkpoint(change)), says)


def only(part: str, change):
    """Changes in place every tensor whose name holds `part`."""

    def apply(weights: dict) -> None:
        for name in weights:
            if part in name:
                change(weights[name])

    return edit_weights(apply)


def _one(value: float):
    return lambda tensor: tensor.view(-1)[:1].fill_(value)


def _row(value: float):
    return lambda tensor: tensor[7].fill_(value)


FAULTS = [
    *(
        scored(f"{name} all zero", only(part, torch.Tensor.zero_), "constant|same")
        for name, part in {
            "every weight": "",
            "the head": "lm_head",
            "the last norm": "model.norm.weight",
        }.items()
    ),
    *(
        scored(f"{name} at {value:g}", only(part, _one(value)))
        for value in (1e30, 3e38)
        for name, part in {
            "a value of every weight": "",
            "a value of the head": "lm_head",
            "a value of the last norm": "model.norm.weight",
            "a value of each feed-forward": "down_proj",
        }.items()
    ),
    scored("one row of the head at 1e30", only("lm_head", _row(1e30))),
    scored(
        "a head that repeats one row", only("lm_head", lambda w: w.copy_(w[:1].expand_as(w))), "constant|same"
    ),
]
