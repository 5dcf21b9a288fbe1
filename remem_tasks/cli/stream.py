"""`remem stream`: its arguments, and how they become a plan."""

from __future__ import annotations

import argparse
from pathlib import Path

from remem_tasks.terminal import say


def run(args: argparse.Namespace) -> None:
    """The command."""
    from unlearning.experiments.stream import StreamPlan, stream

    names = ("start", "method", "data", "training", "gate_results", "no_gate", "seed")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    requests = tuple(one.strip() for one in args.requests.split(",") if one.strip())
    stream(StreamPlan(requests=requests, **given), args.out, lambda line: say(line, flush=True))
    say((Path(args.out) / "stream.md").read_text(encoding="utf-8"))


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "stream", help="requests to forget, one after the other: what stays forgotten, what is left"
    )
    parser.add_argument(
        "--start", required=True, metavar="CKPT", help="that has memorised all who are asked for"
    )
    parser.add_argument("--requests", required=True, help="forget splits by commas: forget1,forget2")
    parser.add_argument("--method", required=True, help="how each request is answered")
    parser.add_argument("--out", required=True, help="folder; what is done in it is not done again")
    parser.add_argument("--data", help="folder or Hub id, in ReMem's shape; default $REMEM_DATA")
    parser.add_argument(
        "--training", help="options of `remem train`, such as '--learning_rate 1e-4 --max_steps 60'"
    )
    parser.add_argument("--gate_results", metavar="RESULTS", help="the start's scores, as for `remem train`")
    parser.add_argument("--no_gate", action="store_true", help="start from any model")
    parser.add_argument("--seed", type=int, help="of every training (42)")
    parser.set_defaults(run=run)
