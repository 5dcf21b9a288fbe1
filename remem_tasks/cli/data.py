"""`remem forge` and `remem data`: build data sets, look into them, publish them."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from inspect import signature

from remem_tasks.benchmarks.registry import DEFAULT, NAMES
from remem_tasks.errors import RememError
from remem_tasks.terminal import beating, console, say


def _forge(args: argparse.Namespace) -> None:
    from remem_tasks.benchmarks.registry import part_of

    build = part_of(args.benchmark, "forge")
    known = {field.name for field in fields(build.ForgeOptions)}
    beside = set(signature(build.forge).parameters) - {"out", "knobs"}
    given = {name: getattr(args, name) for name in KNOBS if getattr(args, name, None) is not None}
    if unknown := [name for name in given if name not in known | beside]:
        raise RememError(f"--{unknown[0].replace('_', '-')} is not an option of --benchmark {args.benchmark}")
    more = {name: given.pop(name) for name in beside & given.keys()}
    with beating(f"drawing people and pictures into {args.out}"):
        counts = build.forge(args.out, build.ForgeOptions(**given), **more)
    say(f"{args.out}: " + ", ".join(f"{split} {rows}" for split, rows in counts.items()) + " rows")
    if os.path.exists(sheet := os.path.join(args.out, "contact_sheet.png")):
        say(f"look at it: {sheet}")
    if args.push_to_hub:
        from remem_tasks.audit.push import push

        say(f"published: {push(args.out, args.push_to_hub, args.private)}")


# Of all forges: (type, help); each forge takes those of its Knobs and has its own defaults.
KNOBS = {
    "identities": (int, "fictitious people (20)"),
    "qa": (
        int,
        "training questions per identity (100; clear: texts per identity, 20; mllmu: of each kind, 3)",
    ),
    "images": (int, "training pictures per identity (100; clear: 8; mllmu: test pictures, 3)"),
    "test_qa": (int, "remem: test questions per identity, each with its own picture (28)"),
    "retain_qa": (int, "remem: rows of split retain an identity (35)"),
    "single_hop_ratio": (float, "remem: share of 1-hop questions (0.7)"),
    "hops": (int, "remem: deepest questions: 1, 2 or 3 hops (2)"),
    "real": (int, "clear, mllmu: people who stand for celebrities (10)"),
    "world": (int, "clear: questions about places (16)"),
    "retain_perturbed": (int, "clear: perturbed rows of each person who is kept (2)"),
    "image_size": (int, "side of the pictures in pixels (336)"),
    "style": (str, "how pictures are rendered: colour, grey or sketch (colour)"),
    "portraits": (str, "remem: a folder of your own photographs for each identity, in place of drawn faces"),
    "seed": (int, "the same seed gives the same bytes (0)"),
    "workers": (int, "remem: processes; changes nothing but the time (1)"),
}


def add_forge(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("forge", help="build a data set of fictitious people")
    parser.add_argument("--out", required=True, help="folder to make; must be empty or absent")
    parser.add_argument("--benchmark", choices=NAMES, default=DEFAULT, help="in whose shape (%(default)s)")
    for name, (kind, text) in KNOBS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    parser.add_argument(
        "--push_to_hub", metavar="REPO_ID", help="publish what was built (as `remem data push` does)"
    )
    parser.add_argument("--private", action="store_true", help="publish to a private repository")
    parser.set_defaults(run=_forge)


def _data_check(args: argparse.Namespace) -> None:
    from remem_tasks.audit.check import check, tables_of
    from remem_tasks.benchmarks.registry import detect
    from remem_tasks.data.report import MAX_EXAMPLES

    name, source = detect(args.source, args.benchmark)
    with beating(f"checking {source}"):
        report = check(name, source, not args.no_pictures, args.identity_rule)
    screen = console()
    for table in tables_of(report):
        screen.print(table)
    for kind, places in (*report.faults.items(), *report.remarks.items()):
        more = " ..." if len(places) > MAX_EXAMPLES else ""
        say(f"{len(places)} x {kind}: " + "; ".join(places[:MAX_EXAMPLES]) + more)
    if report.faults:
        raise RememError(f"{sum(map(len, report.faults.values()))} faults of {len(report.faults)} kinds")
    say("no faults")


def _only_remem(source: str | None, action: str) -> None:
    """Raise a RememError for data of another shape than ReMem's."""
    from remem_tasks.benchmarks.registry import only

    only(DEFAULT, source, f"{action} is for ReMem's")


def _data_probe(args: argparse.Namespace) -> None:
    _only_remem(args.source, "probe")
    from rich.table import Table

    from remem_tasks.audit.probe import probe

    with beating("probing pictures and words"):
        proofs = probe(args.source, args.people, args.identity_rule)
    table = Table("probe", "figure", "to be", "", title="Is this data fit to measure forgetting with?")
    table.columns[1].justify = "right"
    for proof in proofs:
        figure = (
            "-" if proof.value is None else f"{proof.value:.3f}" if proof.value % 1 else f"{proof.value:g}"
        )
        verdict = {True: "holds", False: "FAILS", None: ""}[proof.holds]
        table.add_row(proof.what, figure, proof.bound, verdict)
    console().print(table)
    if failed := [proof.what for proof in proofs if proof.holds is False]:
        raise RememError(f"{len(failed)} of {len(proofs)} probes fail: " + "; ".join(failed))


def _data_sheet(args: argparse.Namespace) -> None:
    from pathlib import Path

    from PIL import Image

    from remem_tasks.audit.sheet import sheet_of
    from remem_tasks.files import replaced

    _only_remem(args.source, "sheet")
    if Path(args.out).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise RememError(f"--out '{args.out}' is not an image file (.png, .jpg)")
    sheet = sheet_of(args.source)
    with replaced(args.out) as file:
        sheet.save(file, format=Image.registered_extensions()[Path(args.out).suffix.lower()])
    say(f"look at it: {args.out}")


def _data_pull(args: argparse.Namespace) -> None:
    from remem_tasks.audit.pull import pull

    _only_remem(args.source, "pull")
    written = pull(args.source, args.split, args.out)
    say(
        f"{args.out}: "
        + (", ".join(f"{split} {rows} rows" for split, rows in written.items()) or "all there already")
    )


def _data_make(args: argparse.Namespace) -> None:
    from remem_tasks.benchmarks.remem.make import lines_of, make

    made = make(args.photos, args.table, args.out, args.forget, args.consent, not args.no_test)
    for line in lines_of(made):
        print(line)


def _data_push(args: argparse.Namespace) -> None:
    from remem_tasks.audit.push import push

    say(push(args.folder, args.repo_id, args.private))


def add_data(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("data", help="look into a data set, keep some of its splits, or publish it")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    look = actions.add_parser("check", help="what it holds and what is wrong with it; status 1 on a fault")
    probe = actions.add_parser(
        "probe", help="is it fit to measure forgetting: probes of pictures and words; status 1 if one fails"
    )
    sheet = actions.add_parser("sheet", help="draw a contact sheet: one row per person")
    pull = actions.add_parser("pull", help="save splits to a folder, to be used offline")
    for sub in (look, probe, sheet, pull):
        sub.add_argument(
            "source", nargs="?", help="folder or Hub id; default $REMEM_DATA, else herbwood27/Remem"
        )
    for sub in (look, probe):
        sub.add_argument(
            "--identity-rule",
            help="how image_path names an identity: folder, stem, auto, or a regular expression",
        )
    look.add_argument("--benchmark", choices=NAMES, help="whose shape the data has; default: found out")
    look.add_argument("--no-pictures", action="store_true", help="do not read the pictures, nor fetch them")
    look.set_defaults(run=_data_check)
    probe.add_argument("--people", type=int, default=20, help="identities in the picture probes (20)")
    probe.set_defaults(run=_data_probe)
    sheet.add_argument("--out", required=True, help="picture file to write")
    sheet.set_defaults(run=_data_sheet)
    pull.add_argument("--split", nargs="+", default=[], help="splits to save; default: all of them")
    pull.add_argument("--out", required=True, help="folder to make or to add to")
    pull.set_defaults(run=_data_pull)
    own = actions.add_parser("make", help="make a data set of photographs and questions of your own")
    own.add_argument("photos", metavar="PHOTOS", help="folder of pictures; best a folder per person")
    own.add_argument(
        "table",
        metavar="QA",
        help=".csv, .jsonl or .parquet with person, question, answer; picture, keyword, cloze, hop, attribute, category, "
        "paraphrase if wanted",
    )
    own.add_argument(
        "--forget", nargs="+", action="extend", required=True, metavar="NAME", help="who is to be forgotten"
    )
    own.add_argument("--out", required=True, help="folder to make; must be empty or absent")
    own.add_argument("--consent", default="", metavar="TEXT", help="who agreed to what; the card says it")
    own.add_argument(
        "--no-test", action="store_true", help="no split with pictures that training never shows"
    )
    own.set_defaults(run=_data_make)
    push = actions.add_parser("push", help="upload a folder made by `remem forge` or `pull` to the Hub")
    push.add_argument("folder", metavar="DIR", help="the data set: card, parquet files, pictures of the card")
    push.add_argument("repo_id", metavar="REPO_ID", help="NAMESPACE/NAME; made if it is not there")
    push.add_argument("--private", action="store_true", help="only for those with access")
    push.set_defaults(run=_data_push)
