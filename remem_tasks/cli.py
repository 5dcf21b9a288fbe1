"""The commands `lmms_eval` (lmms-eval with our tasks and an honest exit status) and `remem`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from remem_tasks import __version__
from remem_tasks.errors import exit_on_error


def lmms_eval() -> None:
    from remem_tasks.plugin import run_lmms_eval

    sys.exit(run_lmms_eval())


def _forge(args: argparse.Namespace) -> None:
    from remem_tasks.forge.build import Knobs, forge

    knobs = Knobs(**{field.name: getattr(args, field.name) for field in fields(Knobs)})
    counts = forge(args.out, knobs, args.workers)
    print(f"{args.out}: " + ", ".join(f"{split} {rows}" for split, rows in counts.items()) + " rows")


def _add_forge(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "forge",
        help="build a ReMem-shaped data set of fictitious people",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", required=True, default=argparse.SUPPRESS, help="folder to make; must be empty or absent"
    )
    parser.add_argument("--identities", type=int, default=20, help="fictitious people")
    parser.add_argument("--qa", type=int, default=100, help="training questions an identity")
    parser.add_argument("--images", type=int, default=100, help="training pictures an identity")
    parser.add_argument(
        "--test-qa", type=int, default=28, help="test questions an identity, each with its own picture"
    )
    parser.add_argument("--retain-qa", type=int, default=28, help="rows of split retain an identity")
    parser.add_argument("--single-hop-ratio", type=float, default=0.7, help="share of 1-hop questions")
    parser.add_argument("--hops", type=int, default=2, help="deepest questions: 1, 2 or 3 hops")
    parser.add_argument("--image-size", type=int, default=336, help="side of the pictures in pixels")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument("--workers", type=int, default=1, help="processes; changes nothing but the time")
    parser.set_defaults(run=_forge)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="remem", description="Machine unlearning for vision-language models."
    )
    parser.add_argument("--version", action="version", version=f"remem {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_forge(commands)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    sys.exit(exit_on_error(lambda: args.run(args), f"remem {args.command}"))
