"""The commands `lmms_eval` (lmms-eval with our tasks and an honest exit status) and `remem`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import fields
from inspect import signature

from remem_tasks import __version__, attack_command, judge_command, sae_command, stream_command
from remem_tasks.benchmarks.registry import DEFAULT, NAMES
from remem_tasks.errors import RememError, exit_on_error
from remem_tasks.report.thresholds import Thresholds
from remem_tasks.terminal import Parser, beating, console, progress, say, starts
from remem_tasks.training import LAUNCH_HELP, find_ours, launch_command

FORGE_MODULES = ("faker", "python_avatars", "resvg_py", "sklearn")  # the extra [forge]


def lmms_eval() -> None:
    starts("lmms_eval")

    def body() -> int:
        from remem_tasks.harness.plugin import run_lmms_eval

        return run_lmms_eval()

    sys.exit(exit_on_error(body, "lmms_eval"))


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


def _add_forge(commands: argparse._SubParsersAction) -> None:
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


def _base(args: argparse.Namespace) -> None:
    from remem_tasks.tiny.pretrain import make_base

    report = make_base(
        args.out,
        args.arch,
        pictures=args.pictures,
        epochs=args.epochs,
        image_size=args.image_size,
        seed=args.seed,
        workers=args.workers,
        width=args.width,
    )
    accuracy = ", ".join(f"{part} {value:.2f}" for part, value in report["held_out_accuracy"].items())
    say(f"{args.out}: {report['parameters']:,} parameters, {report['steps']} steps, {report['seconds']} s")
    say(f"parts of unseen people's faces it names right: {accuracy}")


def _add_base(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "base",
        help="make a tiny checkpoint that can see: its vision tower learns from people in no benchmark",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", required=True, default=argparse.SUPPRESS, help="folder to make; must be empty or absent"
    )
    parser.add_argument(
        "--arch", choices=("llava", "qwen2_5_vl"), default="llava", help="shape of the checkpoint"
    )
    parser.add_argument("--pictures", type=int, default=6000, help="pictures of random people to learn from")
    parser.add_argument("--epochs", type=float, default=16, help="passes over them")
    parser.add_argument(
        "--image-size", type=int, default=56, help="side of the pictures the model sees, in pixels"
    )
    parser.add_argument("--width", type=int, default=192, help="hidden size of its language model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw the pictures")
    parser.set_defaults(run=_base)


def _data_check(args: argparse.Namespace) -> None:

    from remem_tasks.audit.check import SHOWN, check, config_table, tables_of
    from remem_tasks.benchmarks.registry import data_of, detect

    name, source = detect(args.source, args.benchmark)
    if name != DEFAULT:
        if args.identity_rule:
            raise RememError("--identity-rule is for data in the shape of ReMem")
        with beating(f"checking {source}"):
            report = data_of(name).check(source, pictures=not args.no_pictures)
        tables = [config_table(report)]
    else:
        with beating(f"checking {source}"):
            report = check(source, args.identity_rule, pictures=not args.no_pictures)
        tables = tables_of(report)
    screen = console()
    for table in tables:
        screen.print(table)
    for kind, places in (*report.faults.items(), *report.remarks.items()):
        say(f"{len(places)} x {kind}: " + "; ".join(places[:SHOWN]) + (" ..." if len(places) > SHOWN else ""))
    if report.faults:
        raise RememError(f"{sum(map(len, report.faults.values()))} faults of {len(report.faults)} kinds")
    say("no faults")


def _only_remem(source: str | None, action: str) -> None:
    """Raise a RememError for data of another shape than ReMem's."""
    from remem_tasks.benchmarks.registry import data_of, detect

    name, place = detect(source)
    if name != DEFAULT:
        raise RememError(f"'{place}' has the shape of {data_of(name).HOME.name}: {action} is for ReMem's")


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

    from remem_tasks.files import replaced
    from remem_tasks.forge.contact_sheet import sheet_of

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


def _add_data(commands: argparse._SubParsersAction) -> None:
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


def _merge(args: argparse.Namespace) -> None:
    from remem_tasks.checkpoints import merge

    with beating(f"merging {args.adapter} into its base"):
        merge(args.adapter, args.out)
    say(f"{args.out}: {args.adapter} merged into its base")


def _add_merge(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "merge", help="merge a LoRA adapter into its base, to continue training from it"
    )
    parser.add_argument("--adapter", required=True, help="folder of the adapter; it names its base")
    parser.add_argument("--out", required=True, help="folder to make; must be empty or absent")
    parser.set_defaults(run=_merge)


def _push(args: argparse.Namespace) -> None:
    from remem_tasks.audit.publish import publish

    published = 0
    for item, page in publish(args.folder, args.namespace, args.private, args.dry_run):
        say(f"{item.folder}: {page}", flush=True)
        published += not item.missing
    if not published:
        raise RememError(f"nothing below '{args.folder}' can be published; see above")


def _add_push(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "push",
        help="publish the data set and the checkpoints below a folder, such as the demo's, with their cards",
    )
    parser.add_argument("folder", metavar="DIR", help="such as runs/demo, or one checkpoint")
    parser.add_argument("--namespace", help="user or organisation on the Hub; default: the token's user")
    parser.add_argument("--private", action="store_true", help="only for those with access")
    parser.add_argument("--dry-run", action="store_true", help="upload nothing; name the repositories")
    parser.set_defaults(run=_push)


def _cache(args: argparse.Namespace) -> None:
    from remem_tasks.engine import cache

    folder = cache.folder_of()
    if folder is None:
        raise RememError(f"the cache is off: ${cache.VARIABLE} is '{os.environ.get(cache.VARIABLE)}'")
    models, size = cache.size_of(folder)
    if args.clear:
        cache.clear(folder)
    cleared = ", cleared" if args.clear else ""
    say(f"{folder}: replies of {models} model{'' if models == 1 else 's'}, {size / 2**20:.1f} MB{cleared}")


def _add_cache(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("cache", help="the replies that remem_hf has kept: their size, and --clear")
    parser.add_argument("--clear", action="store_true", help="remove them")
    parser.set_defaults(run=_cache)


def _train(argv: list[str]) -> int:
    """Run the training script under `accelerate launch`; its exit status."""
    if {"-h", "--help", "--help_all"} & set(argv):
        find_ours()
        print(LAUNCH_HELP, flush=True)
        from unlearning.config import parse

        parse(argv)
        return 0
    return subprocess.run(launch_command(argv), check=False).returncode


def _add_train(commands: argparse._SubParsersAction) -> None:
    """For `remem --help`; `main` hands all of its arguments on."""
    commands.add_parser(
        "train", add_help=False, help="train or forget: accelerate launch of the training script"
    )


def _demo(args: argparse.Namespace) -> None:
    from unlearning.experiments.demo import demo

    demo(args.out, args.arch, args.workers, args.quick, args.until, args.seed)


def _add_demo(commands: argparse._SubParsersAction) -> None:
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
    parser.add_argument(
        "--quick", action="store_true", help="the same commands with next to no training: do they run here?"
    )
    parser.add_argument("--until", metavar="STEP", help="the last step to run, such as memorised")
    parser.add_argument("--seed", type=int, default=42, help="of every training")
    parser.set_defaults(run=_demo)


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


def _add_report(commands: argparse._SubParsersAction) -> None:
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

    from remem_tasks.report.gate import gate_of, table_of

    verdict = gate_of(args.results, _thresholds(args), args.forget)
    console().print(table_of(verdict, args.attributes))
    for line in (*verdict.notes, *verdict.missing, *verdict.reasons):
        say(line)
    verdict.check()
    say(f"passed: '{verdict.model}' had memorised what is to be forgotten")


def _add_gate(commands: argparse._SubParsersAction) -> None:
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


def _add_leaderboard(commands: argparse._SubParsersAction) -> None:
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

    from remem_tasks.report.diagnose import diagnose, diagnose_checkpoint, tables_of, write_diagnosis
    from remem_tasks.report.runs import read_runs

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


def _add_diagnose(commands: argparse._SubParsersAction) -> None:
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


def _study_scale(args: argparse.Namespace) -> None:
    from unlearning.experiments.scale import Scale, study

    names = {field.name for field in fields(Scale)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    for name in ("qa", "ratios", "images"):
        if name in given:
            given[name] = tuple(given[name])
    study(Scale(**given), args.out, lambda line: say(line, flush=True), args.keep_models)
    say(f"look at it: {args.out}/scale.png (beside it scale.md and scale.csv)")


def _add_study(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("study", help="studies that train many models; a second call resumes")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    scale = actions.add_parser(
        "scale", help="QA per identity x single-hop ratio x pictures per identity: EM by hop"
    )
    scale.add_argument("--out", required=True, help="folder; finished work in it is skipped")
    scale.add_argument("--qa", type=int, nargs="+", help="training questions per identity (20 60)")
    scale.add_argument("--ratios", type=float, nargs="+", help="shares of 1-hop questions (0.4 0.7 1.0)")
    scale.add_argument("--images", type=int, nargs="+", help="training pictures per identity (5 20)")
    for name, kind, text in (
        ("identities", int, "fictitious people (8)"),
        ("hops", int, "deepest questions (3)"),
        ("test-qa", int, "questions per identity that all models are asked (40)"),
        ("image-size", int, "side of the pictures in pixels (112)"),
        ("steps", int, "of training, the same for all (250)"),
        ("seed", int, "(0)"),
        ("base", str, "checkpoint to start from; default: a tiny one, made here"),
        ("base-pictures", int, "pictures that the tiny one learns to see from (6000)"),
        ("base-epochs", float, "passes over them (16)"),
        ("arch", str, "shape of the tiny one: llava or qwen2_5_vl"),
        ("device", str, "cpu or cuda"),
        ("training", str, "options of unlearning/train.py in place of the study's"),
    ):
        scale.add_argument(f"--{name}", type=kind, help=text)
    scale.add_argument("--keep-models", action="store_true", help="keep the checkpoints of all cells")
    scale.set_defaults(run=_study_scale)


def _reproduce(args: argparse.Namespace) -> None:
    from unlearning.experiments.clear_table import METHODS, QUICK, Size, report, reproduce

    methods = args.methods.split(",") if args.methods else METHODS
    size = QUICK if args.quick else Size(seed=args.seed)
    reproduce(
        args.out, methods, size, not args.no_l1, args.base, args.device, lambda line: say(line, flush=True)
    )
    say(f"the table: {args.out}/clear.md (beside it clear.csv and clear.json)")
    say(f"every row, every reply, the gate: {report(args.out)}")


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
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

    from unlearning.experiments.sweep import FORGET_METHODS, Plan, sweep
    from unlearning.experiments.sweep_table import cells

    given = {field.name: getattr(args, field.name) for field in fields(Plan)}
    given = {name: value for name, value in given.items() if value is not None}
    if "methods" in given:
        names = [name.strip() for name in given["methods"].split(",")]
        given["methods"] = FORGET_METHODS if names == ["all"] else tuple(names)
    for name in ("seeds", "steps"):
        if name in given:
            given[name] = _numbers(name, given[name])
    found = sweep(Plan(**given), args.out, lambda line: say(line, flush=True))
    screen = console()
    heads, lines = cells(found, brief=screen.width < 140)
    table = Table(*heads, box=SIMPLE, padding=(0, 1, 0, 0), title="Forget methods, tuned alike, in per cent")
    for line in lines:
        table.add_row(*line)
    screen.print(table)
    say(f"the table: {args.out}/results.md (beside it results.csv, results.json and results.png)")


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RememError(f"--{name} '{text}': whole numbers by commas") from error


def _add_sweep(commands: argparse._SubParsersAction) -> None:
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
        ("most-rows", int, "rows of each set that are scored at most; 0: all (96)"),
        ("as-many", str, "of what reporting has as many as the chosen point: passes or steps (passes)"),
        ("tune", str, "forget split that settings are chosen by (forget1)"),
        ("report", str, "forget split that is reported (forget2)"),
        ("retain", str, "split whose halves are the retain rows of tuning and reporting (retain)"),
        ("test", str, "split that is scored in reporting alone (test)"),
        ("training", str, "more options of unlearning/train.py, such as '--use_peft --lora_r 32'"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--steps", help="after which a tuning run is looked at, by commas (12,24,48)")
    parser.set_defaults(run=_sweep)


def _tasks_path(args: argparse.Namespace) -> None:
    if args.harness == "lm_eval":
        from remem_tasks.harness.lm_eval import tasks_folder

        print(tasks_folder())
        return
    from remem_tasks.benchmarks.registry import FOLDERS

    print(FOLDERS[0])


def _add_tasks_path(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("tasks-path", help="the folder of the tasks' YAML files, for --include_path")
    parser.add_argument("harness", choices=("lmms_eval", "lm_eval"), help="which harness is to read them")
    parser.set_defaults(run=_tasks_path)


def _lm_eval(argv: list[str]) -> None:
    from remem_tasks.harness import lm_eval as harness

    harness.main(argv)


def _add_lm_eval(commands: argparse._SubParsersAction) -> None:
    commands.add_parser(
        "lm_eval", help="lm_eval's command line with these tasks and the model remem_hf", add_help=False
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="remem", description="Machine unlearning for vision-language models.")
    parser.add_argument("--version", action="version", version=f"remem {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_forge,
        _add_base,
        _add_train,
        _add_data,
        _add_merge,
        _add_push,
        _add_cache,
        _add_report,
        _add_gate,
        _add_leaderboard,
        _add_diagnose,
        _add_study,
        _add_reproduce,
        _add_sweep,
        _add_lm_eval,
        _add_tasks_path,
        attack_command.add,
        stream_command.add,
        sae_command.add,
        judge_command.add,
    ):
        add(commands)
    return parser


def _run(args: argparse.Namespace) -> None:
    find_ours()
    try:
        args.run(args)
    except ModuleNotFoundError as error:
        if error.name not in FORGE_MODULES:
            raise
        raise RememError(f"'{error.name}' is not installed; pip install 'remem-unlearning[forge]'") from error


def main(argv: list[str] | None = None) -> None:
    own, argv = argv is None, sys.argv[1:] if argv is None else argv
    if argv[:1] == ["train"]:
        if own and not {"-h", "--help", "--help_all"} & set(argv):
            starts("remem train")  # its arguments are the script's own
        sys.exit(exit_on_error(lambda: _train(argv[1:]), "remem train"))
    if argv[:1] == ["lm_eval"]:
        if own:
            starts("remem lm_eval")
        sys.exit(exit_on_error(lambda: _lm_eval(argv[1:]), "remem lm_eval"))
    args = _parser().parse_args(argv)
    if own and args.command != "tasks-path":
        starts(f"remem {args.command}")
    sys.exit(exit_on_error(lambda: _run(args), f"remem {args.command}"))
