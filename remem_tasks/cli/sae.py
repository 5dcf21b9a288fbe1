"""`remem sae`: its arguments, and how they become a plan."""

from __future__ import annotations

import argparse

from remem_tasks.cli.numbers import add_options
from remem_tasks.terminal import say


def run(args: argparse.Namespace) -> None:
    """The command."""
    from unlearning.experiments.sae import SaePlan, train

    names = SaePlan.__dataclass_fields__
    given = {name: value for name in names if (value := getattr(args, name, None)) is not None}
    found = train(SaePlan(**given), args.out, lambda line: say(line, flush=True))
    held_out = found["held_out"]
    say(
        f"{args.out}: {found['features']} features; of states it was not trained on it explains "
        f"{held_out['explained']:.1%}, with {held_out['active']:.1f} features on; {held_out['silent']:.1%} are on in none"
    )
    say(f"to scale what is active in rows to be forgotten: remem train --method sae --sae {args.out} ...")


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser("sae", help="sparse autoencoders of a checkpoint's states")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    train = actions.add_parser(
        "train", help="train one on a decoder layer's output, for `remem train --method sae`"
    )
    train.add_argument("--model", required=True, metavar="CKPT", help="checkpoint whose states it reads")
    train.add_argument("--out", required=True, help="folder to make; must be empty or absent")
    train.add_argument("--data", help="folder or Hub id of rows; default $REMEM_DATA")
    options = (
        ("split", str, "split of the data (what was memorised: finetune)"),
        ("layer", int, "decoder layer, from 0; -1: in the middle of the depth (-1)"),
        ("width", int, "features, in multiples of the states' width (8)"),
        ("active", int, "features that are on in a state, on the average of training (16)"),
        ("steps", int, "of training, of 512 states each (2000)"),
        ("states", int, "states that are looked at, at most (50000)"),
        ("rows", int, "rows they are taken from, spread evenly; 0: all (0)"),
        ("seed", int, "(0)"),
        ("device", str, "cpu or cuda (cpu)"),
    )
    add_options(train, options)
    train.set_defaults(run=run)
