"""`remem study leaderboard`, `trajectories` and `exposure`: their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from remem_tasks.cli.numbers import numbers
from remem_tasks.errors import RememError
from remem_tasks.terminal import say


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _fill(args: argparse.Namespace) -> None:
    from unlearning.experiments.attack_plan import expand
    from unlearning.experiments.leaderboard import BoardPlan, fill

    given = {
        name: value for name in ("relearn", "share", "device") if (value := getattr(args, name)) is not None
    }
    if args.methods:
        given["methods"] = _names(args.methods)
    if args.seeds:
        given["seeds"] = numbers("seeds", args.seeds)
    if args.attacks:
        given["attacks"] = expand(_names(args.attacks))
    plan = BoardPlan(args.sweep, args.file, keep_models=args.keep_models, no_gate=args.no_gate, **given)
    fill(plan, args.out, lambda line: say(line, flush=True))
    say((Path(args.out) / "leaderboard.md").read_text(encoding="utf-8"))
    say(
        f"{args.file}: every entry read back and worked out anew from its samples; as a page: {args.out}/leaderboard.html"
    )


def add_leaderboard(actions: argparse._SubParsersAction) -> None:
    """Add `leaderboard` to the commands of `remem study`."""
    parser = actions.add_parser(
        "leaderboard",
        help="fill leaderboard.jsonl from a sweep: its chosen settings trained anew, scored, attacked, entered",
    )
    parser.add_argument("--sweep", required=True, metavar="FOLDER", help="the --out of `remem sweep`")
    parser.add_argument("--out", required=True, help="folder; finished work in it is skipped")
    parser.add_argument("--file", default="leaderboard.jsonl", help="the board (%(default)s)")
    parser.add_argument("--methods", help="some of the sweep's, by commas (all)")
    parser.add_argument("--seeds", help="by commas (the sweep's)")
    parser.add_argument("--attacks", help="of `remem attack`, by commas (relearn_rest,quantise_nf4)")
    parser.add_argument("--relearn", help="options of `remem train` for relearn_rest (16 steps at 5e-4)")
    parser.add_argument("--share", type=float, help="of people, or facts, that relearn_rest learns (.34)")
    parser.add_argument("--device", help="cpu or cuda (cpu)")
    parser.add_argument("--keep-models", action="store_true", help="keep the weights of all checkpoints")
    parser.add_argument(
        "--no-gate", action="store_true", help="go on with a start that had not memorised; the board says so"
    )
    parser.set_defaults(run=_fill)


def _trajectories(args: argparse.Namespace) -> None:
    from unlearning.experiments.trajectories import of_runs, of_sweep, write

    if bool(args.sweep) == bool(args.runs):
        raise RememError("give --sweep FOLDER, or the folders of some trainings")
    write(of_sweep(args.sweep) if args.sweep else of_runs(args.runs), args.out)
    say((Path(args.out) / "trajectories.md").read_text(encoding="utf-8"))
    say(f"as a picture: {args.out}/trajectories.png")


def add_trajectories(actions: argparse._SubParsersAction) -> None:
    """Add `trajectories` to the commands of `remem study`."""
    parser = actions.add_parser(
        "trajectories",
        help="forget and retain over the whole run, every method in one picture; nothing is trained",
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="folders of `remem train --eval_strategy steps`"
    )
    parser.add_argument("--sweep", metavar="FOLDER", help="a sweep: the tuning runs of its chosen settings")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.set_defaults(run=_trajectories)


def _exposure(args: argparse.Namespace) -> None:
    from unlearning.experiments.steadiness import SteadinessPlan, steadiness

    models = {}
    for text in args.models:
        name, _, path = text.partition("=")
        path, _, data = (path or name).partition(",")
        models[name if "=" in text else Path(path).name] = (path, data or args.data)
    if len(models) < len(args.models):
        raise RememError("two models of one name: NAME=CKPT tells them apart")
    given: dict[str, Any] = {}
    for name in ("rollouts", "seeds"):
        if text := getattr(args, name):
            given[name] = numbers(name, text)
    if args.contexts:
        given["contexts"] = _names(args.contexts)
    for name in ("forget", "max_rows", "device"):
        if (value := getattr(args, name)) is not None:
            given[name] = value
    steadiness(SteadinessPlan(models, **given), args.out, lambda line: say(line, flush=True))
    say((Path(args.out) / "exposure.md").read_text(encoding="utf-8"))


def add_exposure(actions: argparse._SubParsersAction) -> None:
    """Add `exposure` to the commands of `remem study`."""
    parser = actions.add_parser(
        "exposure", help="how much Exposure varies with M, seed and cloze context, over several checkpoints"
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="[NAME=]CKPT[,DATA]",
        help="checkpoints, each with data of its own or those of --data",
    )
    parser.add_argument("--out", required=True, help="folder; finished work in it is skipped")
    parser.add_argument("--data", help="folder or Hub id, in ReMem's shape; default $REMEM_DATA")
    parser.add_argument("--forget", help="split that is asked (forget1)")
    parser.add_argument("--rollouts", help="values of M by commas, the usual one first (64,16,256)")
    parser.add_argument("--contexts", help="cloze contexts by commas, the usual one first (question,picture)")
    parser.add_argument("--seeds", help="of rollouts, by commas (0,1,2)")
    parser.add_argument("--max-rows", type=int, help="rows that are asked at most (60)")
    parser.add_argument("--device", help="cpu or cuda (cpu)")
    parser.set_defaults(run=_exposure)
