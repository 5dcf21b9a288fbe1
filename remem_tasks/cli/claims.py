"""`remem study claims`: its arguments, and how they become a plan."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from remem_tasks.cli.numbers import SCALE, add_options, numbers
from remem_tasks.errors import RememError
from remem_tasks.terminal import say

QUICK: dict[str, Any] = {
    "scale": {
        "identities": 5,
        "hops": 2,
        "test_qa": 4,
        "image_size": 56,
        "steps": 2,
        "base_pictures": 40,
        "base_epochs": 1,
    },
    "amounts": (6, 12),
    "amount": 12,
    "images": 4,
    "ratios": (0.4, 0.7, 1.0),
    "shapes": {"fiubench": (6, 0.0, 1), "remem": (12, 0.7, 4)},
}


def run(args: argparse.Namespace) -> None:
    """The command."""
    from unlearning.experiments.claims.study import ClaimsPlan, claims
    from unlearning.experiments.scale import ScaleStudy

    quick = dict(QUICK) if args.quick else {"scale": {}}
    names = {field.name for field in fields(ScaleStudy)} - {"qa", "ratios", "images"}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    scale = ScaleStudy(**{**quick.pop("scale"), **given})
    own = {name: getattr(args, name) for name in ("amount", "ratio", "images", "sweep")}
    if args.amounts:
        own["amounts"] = numbers("amounts", args.amounts)
    if args.ratios:
        own["ratios"] = _shares(args.ratios)
    plan = ClaimsPlan(scale=scale, **{**quick, **{k: v for k, v in own.items() if v is not None}})
    claims(plan, args.out, lambda line: say(line, flush=True))
    say((Path(args.out) / "claims.md").read_text(encoding="utf-8"))


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise RememError(f"--ratios '{text}': shares by commas, such as 0.4,0.7,1.0") from None


def add(actions: argparse._SubParsersAction) -> None:
    """Add the command to those of `remem study`."""
    parser = actions.add_parser("claims", help="the paper's five claims, re-run: a verdict and a figure each")
    parser.add_argument("--out", required=True, help="folder; finished work in it is skipped")
    parser.add_argument("--sweep", metavar="FOLDER", help="a sweep's --out, for the fifth claim")
    options = (
        ("amounts", str, "questions per identity, by commas (20,60,160)"),
        ("ratios", str, "shares of 1-hop questions, by commas, 1.0 among them (0.4,0.7,1.0)"),
        ("amount", int, "questions per identity where the share varies (60)"),
        ("ratio", float, "share of 1-hop questions where the amount varies (0.7)"),
        ("images", int, "pictures per identity in both (20)"),
        *SCALE,
    )
    add_options(parser, options)
    parser.add_argument(
        "--quick", action="store_true", help="next to no data and training: does it run here?"
    )
    parser.set_defaults(run=run)
