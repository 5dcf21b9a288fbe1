"""`remem report`, `gate`, `leaderboard` and `diagnose`: what scores say."""

from __future__ import annotations

import argparse
from dataclasses import fields

from remem_tasks.errors import RememError
from remem_tasks.report.thresholds import Thresholds
from remem_tasks.terminal import beating, console, progress, say


def _thresholds(args: argparse.Namespace) -> Thresholds:
    return Thresholds(**{field.name: getattr(args, field.name) for field in fields(Thresholds)})


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    for field in fields(Thresholds):
        what = "of each verdict" if field.name == "confidence" else "that a starting model has to reach"
        parser.add_argument(
            f"--{field.name}", type=float, default=field.default, help=f"{what} (%(default)s)"
        )


def _report(args: argparse.Namespace) -> None:
    from remem_tasks.attacks import audit
    from remem_tasks.render.text import tables, write_report
    from remem_tasks.report.summary import report_of

    with beating("reading and comparing the runs"):
        report = report_of(args.runs, args.gold, args.start, _thresholds(args), attacks=args.attacks)
        audited = audit.sheet(report, args.audit, args.attacks) if args.audit else ""
    with beating(f"writing {args.out}"):
        page = write_report(report, args.out, args.title, not args.no_pictures)
    screen = console()
    for note in report.notes:
        screen.print(note, style="dim", markup=False, highlight=False)
    for table in tables(report, screen.width):
        screen.print(table)
    say(f"the report: {page} (beside it report.md and results.csv)")
    if args.audit:
        say(f"to print: {audit.write(audited, args.out)}")


def add_report(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "report", help="tables, statistics and one HTML page of any number of scored models"
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="an --output_path of lmms-eval, a folder of several, or a results file; NAME=RUN names it, and "
        "one NAME for several RUNs makes them seeds of one model",
    )
    parser.add_argument("--out", default="report", help="folder to write to (%(default)s)")
    _add_reference_runs(parser)
    parser.add_argument(
        "--attacks", metavar="DIR", help="a folder of `remem attack`: the report says what they recovered"
    )
    parser.add_argument("--audit", metavar="RUN", help="also write audit.html: one page about this model")
    parser.add_argument("--title", default="Unlearning report")
    parser.add_argument("--no-pictures", action="store_true", help="leave the thumbnails out")
    _add_thresholds(parser)
    parser.set_defaults(run=_report)


def _gate(args: argparse.Namespace) -> None:

    from remem_tasks.render.gate import table_of
    from remem_tasks.report.gate import gate_of

    verdict = gate_of(args.results, _thresholds(args), args.forget)
    console().print(table_of(verdict, args.attributes))
    for line in (*verdict.notes, *verdict.missing, *verdict.reasons):
        say(line)
    verdict.check()
    say(f"passed: '{verdict.model}' had memorised what is to be forgotten")


def add_gate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "gate",
        help="had the starting model memorised? EM, MEMO, exposure with bounds; status 1 if not, 3 if "
        "there are too few rows to say",
    )
    parser.add_argument("results", help="the --output_path that the starting model was scored to")
    parser.add_argument("--attributes", action="store_true", help="show every attribute")
    parser.add_argument(
        "--forget", metavar="SPLIT", help="the split to be forgotten; it has to be among them"
    )
    _add_thresholds(parser)
    parser.set_defaults(run=_gate)


def _leaderboard_add(args: argparse.Namespace) -> None:
    from remem_tasks.report.leaderboard import append, entries_of
    from remem_tasks.report.summary import report_of

    report = report_of(args.runs, args.gold, args.start, _thresholds(args))
    entries = entries_of(report, args.name)
    total = append(args.file, entries, args.no_gate)
    say(f"{args.file}: {', '.join(entry['name'] for entry in entries)} added, {total} entries")


def _leaderboard_verify(args: argparse.Namespace) -> None:
    from remem_tasks.report.leaderboard import entries_of, read_board, verify
    from remem_tasks.report.summary import report_of

    board = read_board(args.file)
    report = report_of(args.runs, args.gold, args.start, _thresholds(args))
    for entry in entries_of(report, args.name):
        say(f"{args.file}: '{entry['name']}' holds: {verify(entry, board)}")


def _leaderboard_show(args: argparse.Namespace) -> None:

    from remem_tasks.report.leaderboard import read_board, table_of

    if not (board := read_board(args.file)):
        raise RememError(f"'{args.file}' holds no entry")
    console().print(table_of(board))
    say(f"{len(board)} entries, no faults")


def _add_reference_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gold", metavar="RUN", help="the model that never saw the forget set")
    parser.add_argument("--start", metavar="RUN", help="the model that forgetting began from")


def add_leaderboard(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "leaderboard", help="append scored models to a leaderboard.jsonl, or show it"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    put = actions.add_parser("add", help="check entries and append them, all or none")
    put.add_argument("runs", nargs="+", metavar="RUN", help="as in `remem report`")
    _add_reference_runs(put)
    put.add_argument("--name", help="of the entry; default: the run's")
    put.add_argument("--no-gate", action="store_true", help="enter it though its start failed the gate")
    _add_thresholds(put)
    put.set_defaults(run=_leaderboard_add)
    verify = actions.add_parser(
        "verify",
        help="work an entry out anew from its results and samples, and compare; status 1 if it differs",
    )
    verify.add_argument("runs", nargs="+", metavar="RUN", help="the scores the entry was made from")
    _add_reference_runs(verify)
    verify.add_argument("--name", help="of the entry; default: the run's")
    _add_thresholds(verify)
    verify.set_defaults(run=_leaderboard_verify)
    show = actions.add_parser("show", help="check a board and print it, least exposure first")
    show.set_defaults(run=_leaderboard_show)
    for sub in (put, show, verify):
        sub.add_argument("--file", default="leaderboard.jsonl", help="(%(default)s)")


def _diagnose(args: argparse.Namespace) -> None:
    from pathlib import Path

    from remem_tasks.render.diagnosis import tables_of, write_diagnosis
    from remem_tasks.report.diagnose import diagnose
    from remem_tasks.report.runs import read_runs
    from unlearning.experiments.crossed import diagnose_checkpoint

    if (Path(args.model) / "config.json").is_file() or (Path(args.model) / "adapter_config.json").is_file():
        progress("scores the checkpoint three times: on finetune and test, and on two crossed sets")
        found = diagnose_checkpoint(args.model, args.data, args.out, args.device)
    else:
        runs = read_runs([args.model])
        if len(runs) > 1:
            raise RememError(f"'{args.model}' holds {len(runs)} models; diagnose one at a time")
        found = diagnose(runs[0])
    written = write_diagnosis(found, args.out)
    for table in tables_of(found):
        console().print(table)
    for line in found.findings() + found.notes:
        say(line)
    say("written: " + ", ".join(map(str, written)))


def add_diagnose(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "diagnose", help="what stage 1 did not teach: attributes, hops, recognition, new words and pictures"
    )
    parser.add_argument(
        "model", help="a checkpoint, which is scored first; or the --output_path of its scores"
    )
    parser.add_argument("--data", help="folder or Hub id, for a checkpoint; default $REMEM_DATA")
    parser.add_argument("--out", default="diagnosis", help="folder to write to (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where a checkpoint is scored (%(default)s)")
    parser.set_defaults(run=_diagnose)
