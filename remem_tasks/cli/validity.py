"""`remem study validity`: its arguments, and how they become plans."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

from remem_tasks.cli.numbers import add_options, numbers
from remem_tasks.errors import RememError
from remem_tasks.terminal import say


def run(args: argparse.Namespace) -> None:
    """The command."""
    from unlearning.experiments.validity.made import QUICK, made
    from unlearning.experiments.validity.plan import ValidityPlan
    from unlearning.experiments.validity.study import validity

    given = dict(QUICK) if args.quick else {}
    names = {field.name for field in fields(ValidityPlan)}
    given |= {name: value for name, value in vars(args).items() if name in names and value is not None}
    for name in ("looks", "lengths"):
        if isinstance(given.get(name), str):
            given[name] = numbers(name, given[name])
    if isinstance(given.get("methods"), str):
        given["methods"] = tuple(one.strip() for one in given["methods"].split(","))
    if isinstance(given.get("rates"), str):
        given["rates"] = tuple(_rate(one) for one in given["rates"].split(","))
    own = [name for name in ("data", "start", "gold") if getattr(args, name) is not None]
    out = Path(args.out)
    if own and args.architectures:
        raise RememError(f"--architectures makes data and models of its own: leave --{own[0]} out")
    if own and len(own) < 3:
        raise RememError("--data, --start and --gold go together; without all three they are made here")
    if own:
        plans: list[tuple[str, Callable[[], ValidityPlan]]] = [(args.name, partial(ValidityPlan, **given))]
    else:
        plan = ValidityPlan(**{"data": "", "start": "", "gold": "", **given})
        plan.check()
        plans = [
            (arch, partial(made, plan, arch, out / f"made-{arch}", args.quick, args.workers))
            for arch in (one.strip() for one in (args.architectures or "llava").split(","))
        ]
    validity(plans, out, lambda line: say(line, flush=True), args.no_gate or (args.quick and not own))
    say((out / "validity.md").read_text(encoding="utf-8"))


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RememError(f"--rates: '{text}' is not a number") from None


def add(actions: argparse._SubParsersAction) -> None:
    """Add the command to those of `remem study`."""
    parser = actions.add_parser(
        "validity",
        help="metrics on trial: which tell who knows from who never did, and stay the same after relearning and NF4",
    )
    parser.add_argument("--out", required=True, help="folder; finished work in it is skipped")
    parser.add_argument("--data", help="folder or Hub id, in ReMem's shape")
    parser.add_argument("--start", metavar="CKPT", help="checkpoint that has memorised it")
    parser.add_argument(
        "--gold",
        metavar="CKPT",
        help="checkpoint that never saw the people of --forget; the pools start from it",
    )
    parser.add_argument(
        "--name", default="models", help="what the tables call the checkpoints given (%(default)s)"
    )
    parser.add_argument(
        "--architectures",
        help="by commas: data, start and gold of each are made as the demo's, in --out; default without --start: llava",
    )
    options = (
        ("forget", str, "split that is forgotten (forget1)"),
        ("retain", str, "split whose EM says what is left (retain)"),
        ("pool", int, "models of each of the two pools (20)"),
        ("unlearned", int, "unlearned models: looks at trainings (30)"),
        ("methods", str, "that unlearn, by commas (npo,idk,grad_diff,simnpo,undial,rmu)"),
        ("rates", str, "learning rates of the pools, by commas (3e-4,1e-3)"),
        ("lengths", str, "steps of the pools' trainings, by commas (24,48)"),
        ("looks", str, "steps after which unlearning is looked at, by commas (10,20,40)"),
        ("batch", int, "rows, or pairs of rows, per step (8)"),
        ("lr-scale", float, "the middle of a method's learning rates, in multiples of its default (5)"),
        ("relearn", str, "options of `remem train` for relearning all forget rows, on gold too"),
        ("utility", float, "share of the start's retain EM that a model needs to be judged (.8)"),
        ("max-rows", int, "rows of each set that are scored at most (60)"),
        ("seed", int, "of everything (0)"),
        ("device", str, "cpu or cuda (cpu)"),
    )
    add_options(parser, options)
    parser.add_argument(
        "--workers", type=int, default=2, help="steps at a time while models are made (%(default)s)"
    )
    parser.add_argument("--no-gate", action="store_true", help="go on with a start that had not memorised")
    parser.add_argument("--quick", action="store_true", help="next to no training: does it run here?")
    parser.set_defaults(run=run)
