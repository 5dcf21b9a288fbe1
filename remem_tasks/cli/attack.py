"""`remem attack`: its arguments, and how they become a plan."""

from __future__ import annotations

import argparse
from pathlib import Path

from remem_tasks.cli.engine import add_engine, engine_of
from remem_tasks.cli.numbers import numbers
from remem_tasks.errors import RememError
from remem_tasks.terminal import console, say


def _named(given: list[str]) -> dict[str, str]:
    """name → checkpoint, of CKPT or NAME=CKPT; without a name the folder's."""
    models: dict[str, str] = {}
    for one in given:
        label, equals, rest = one.partition("=")
        name, path = (label, rest) if equals and not Path(one).exists() else (Path(one).resolve().name, one)
        if not name or name in (".", "..") or "/" in name:
            raise RememError(f"'{one}': '{name}' is no name for a model")
        if name in models:
            raise RememError(f"two models are called '{name}'; NAME=CKPT gives one another name")
        models[name] = path
    return models


def run(args: argparse.Namespace) -> None:
    """The command."""
    from unlearning.experiments.attack import attack
    from unlearning.experiments.attack_plan import AttackPlan, expand
    from unlearning.experiments.attack_table import table

    names = (
        "gold",
        "start",
        "data",
        "forget",
        "gate_results",
        "share",
        "relearn",
        "relearn_all",
        "relearn_own",
        "benign",
    )
    given = {name: getattr(args, name) for name in (*names, "no_gate", "device", "quantise_backend")}
    given = {name: value for name, value in given.items() if value is not None}
    if args.attacks:
        given["attacks"] = expand([one.strip() for one in args.attacks.split(",")])
    if args.seeds:
        given["seeds"] = numbers("seeds", args.seeds)
    plan, engine = AttackPlan(_named(args.models), **given), engine_of(args)
    found = attack(plan, args.out, lambda line: say(line, flush=True), engine)
    console().print(table(found))
    say(f"every figure: {args.out}/attacks.json; the table, and what was not tried: {args.out}/attacks.md")


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "attack", help="is it forgotten? relearning, quantisation, other questions and pictures, beside gold"
    )
    parser.add_argument("models", nargs="+", metavar="CKPT", help="what forgot; NAME=CKPT names it")
    parser.add_argument("--gold", required=True, metavar="CKPT", help="that never saw the forgotten people")
    parser.add_argument("--start", required=True, metavar="CKPT", help="that forgetting began from")
    parser.add_argument("--out", required=True, help="folder; what is done in it is not done again")
    parser.add_argument("--data", help="folder or Hub id of the data; default $REMEM_DATA")
    parser.add_argument("--forget", metavar="SPLIT", help="what was to be forgotten (forget1)")
    parser.add_argument(
        "--attacks",
        help="by commas: all, relearn, quantise, or relearn_rest, relearn_all, relearn_benign, quantise_nf4, "
        "quantise_int8, quantise_rtn4, prompt, context, picture, lens, and of OFFSIDE relearn_own (all)",
    )
    parser.add_argument("--seeds", help="of what is trained, by commas (42,43,44)")
    parser.add_argument(
        "--gate_results", metavar="RESULTS", help="the start's scores; without them it is scored here"
    )
    parser.add_argument(
        "--no_gate", action="store_true", help="go on though the start had not memorised; the table says so"
    )
    for name, kind, text in (
        (
            "share",
            float,
            "part of the forgotten people, of one alone of the facts, that relearn_rest learns (0.2)",
        ),
        ("relearn", str, "options of `remem train` for relearn_rest and relearn_benign"),
        ("relearn_all", str, "options of `remem train` for relearn_all"),
        (
            "relearn_own",
            str,
            "options of `remem train` for relearn_own, which learns the data's own relearn set",
        ),
        ("benign", int, "rows of people who stay that relearn_benign learns (200)"),
        ("device", str, "cpu or cuda (cpu)"),
        ("quantise_backend", str, "round_trip: weights to the values that so many bits hold, and back"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=text)
    add_engine(parser)
    parser.set_defaults(run=run)
