"""`remem demo`, `study`, `reproduce` and `sweep`: pipelines of forge, training and scoring."""

from __future__ import annotations

import argparse
from dataclasses import fields

from remem_tasks.cli import boards, claims, validity
from remem_tasks.cli.engine import add_engine, engine_of
from remem_tasks.cli.numbers import SCALE, add_options, numbers
from remem_tasks.terminal import console, say


def _demo(args: argparse.Namespace) -> None:
    from unlearning.experiments.demo import FULL, LARGE, QUICK, demo

    size = QUICK if args.quick else LARGE if args.large else FULL
    demo(args.out, args.arch, args.workers, size, args.until, args.seed)


def add_demo(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "demo",
        help="the whole loop at a size for two CPU cores: data, memorise, forget, score, table",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default="runs/demo", help="folder; a second call resumes what is there")
    parser.add_argument(
        "--arch", choices=("llava", "qwen2_5_vl"), default="llava", help="shape of the checkpoint"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="the same commands with next to no training: do they run here?"
    )
    size.add_argument(
        "--large",
        action="store_true",
        help="with 16 people in place of 8: what the docs' longer experiments begin from",
    )
    parser.add_argument("--until", metavar="STEP", help="the last step to run, such as memorised")
    parser.add_argument("--seed", type=int, default=42, help="of every training")
    parser.set_defaults(run=_demo)


def _study_scale(args: argparse.Namespace) -> None:
    from unlearning.experiments.scale import ScaleStudy, study

    names = {field.name for field in fields(ScaleStudy)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    for name in ("qa", "ratios", "images"):
        if name in given:
            given[name] = tuple(given[name])
    engine = engine_of(args)
    study(ScaleStudy(**given), args.out, lambda line: say(line, flush=True), args.keep_models, engine)
    say(f"look at it: {args.out}/scale.png (beside it scale.md and scale.csv)")


def add_study(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("study", help="studies that train many models; a second call resumes")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    scale = actions.add_parser(
        "scale", help="QA per identity x single-hop ratio x pictures per identity: EM by hop"
    )
    scale.add_argument("--out", required=True, help="folder; finished work in it is skipped")
    scale.add_argument("--qa", type=int, nargs="+", help="training questions per identity (20 60)")
    scale.add_argument("--ratios", type=float, nargs="+", help="shares of 1-hop questions (0.4 0.7 1.0)")
    scale.add_argument("--images", type=int, nargs="+", help="training pictures per identity (5 20)")
    add_options(scale, SCALE)
    scale.add_argument("--keep-models", action="store_true", help="keep the checkpoints of all cells")
    add_engine(scale)
    scale.set_defaults(run=_study_scale)
    validity.add(actions)
    claims.add(actions)
    boards.add_leaderboard(actions)
    boards.add_trajectories(actions)
    boards.add_exposure(actions)


def _reproduce(args: argparse.Namespace) -> None:
    from unlearning.experiments.clear_table import METHODS, QUICK, TableSize, report, reproduce

    methods = args.methods.split(",") if args.methods else METHODS
    size = QUICK if args.quick else TableSize(seed=args.seed)
    reproduce(
        args.out, methods, size, not args.no_l1, args.base, args.device, lambda line: say(line, flush=True)
    )
    say(f"the table: {args.out}/clear.md (beside it clear.csv and clear.json)")
    say(f"every row, every reply, the gate: {report(args.out)}")


def add_reproduce(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "reproduce", help="a paper's main table at demo size, beside the published one"
    )
    parser.add_argument(
        "paper", choices=("clear",), help="CLEAR: ten methods with and without L1-LoRA, and a λ sweep"
    )
    parser.add_argument("--out", default="runs/clear", help="folder; a second call resumes it (%(default)s)")
    parser.add_argument("--methods", help="some of the ten, by commas; default: all")
    parser.add_argument("--no-l1", action="store_true", help="without the half of the table that has L1")
    parser.add_argument("--base", help="checkpoint to start from; default: a tiny one, made here")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data and training (%(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="next to no data and training: does it run here?"
    )
    parser.set_defaults(run=_reproduce)


def _sweep(args: argparse.Namespace) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from unlearning.experiments.sweep.plan import FORGET_METHODS, SweepPlan
    from unlearning.experiments.sweep.sweep import sweep
    from unlearning.experiments.sweep.table import cells

    given = {field.name: getattr(args, field.name) for field in fields(SweepPlan)}
    given = {name: value for name, value in given.items() if value is not None}
    if "methods" in given:
        names = [name.strip() for name in given["methods"].split(",")]
        given["methods"] = FORGET_METHODS if names == ["all"] else tuple(names)
    for name in ("seeds", "steps"):
        if name in given:
            given[name] = numbers(name, given[name])
    found = sweep(SweepPlan(**given), args.out, lambda line: say(line, flush=True), engine_of(args))
    screen = console()
    heads, lines = cells(found, brief=screen.width < 140)
    table = Table(*heads, box=SIMPLE, padding=(0, 1, 0, 0), title="Forget methods, tuned alike, in per cent")
    for line in lines:
        table.add_row(*line)
    screen.print(table)
    say(f"the table: {args.out}/results.md (beside it results.csv, results.json and results.png)")


def add_sweep(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "sweep", help="tune forget methods on the same budget and report them on other rows: one table"
    )
    parser.add_argument("--data", required=True, help="folder or Hub id of the rows")
    parser.add_argument("--base", required=True, metavar="CKPT", help="checkpoint that has memorised them")
    parser.add_argument(
        "--gold",
        required=True,
        metavar="CKPT|EM",
        help="checkpoint that never saw the people of --report, or its exact match on --tune as a number",
    )
    parser.add_argument("--out", required=True, help="folder; finished work in it is skipped")
    parser.add_argument("--methods", help="by commas, or all (all)")
    parser.add_argument("--seeds", help="of reporting, by commas (0,1,2)")
    for name, kind, text in (
        ("budget", int, "training runs that each method has for tuning (6)"),
        ("batch", int, "pairs of a forget and a retain row per step (8)"),
        ("lr-scale", float, "the middle of a method's learning rates, in multiples of its default (1)"),
        ("tolerance", float, "how far above gold's forget EM is its level (.05)"),
        ("max-rows", int, "rows of each set that are scored at most; 0: all (96)"),
        ("match", str, "of what reporting has as many as the chosen point: passes or steps (passes)"),
        ("tune", str, "forget split that settings are chosen by (forget1)"),
        ("report", str, "forget split that is reported (forget2)"),
        ("retain", str, "split whose halves are the retain rows of tuning and reporting (retain)"),
        ("test", str, "split that is scored in reporting alone (test)"),
        ("training", str, "more options of unlearning/train.py, such as '--use_peft --lora_r 32'"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--steps", help="after which a tuning run is looked at, by commas (12,24,48)")
    add_engine(parser)
    parser.set_defaults(run=_sweep)
