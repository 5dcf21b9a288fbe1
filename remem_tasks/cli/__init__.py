"""The commands `lmms_eval` (lmms-eval with our tasks and an honest exit status) and `remem`."""

from __future__ import annotations

import argparse
import sys

from remem_tasks import __version__
from remem_tasks.cli import attack, data, experiments, judge, models, report, sae, stream
from remem_tasks.errors import RememError, exit_on_error
from remem_tasks.terminal import Parser, starts
from remem_tasks.training import find_ours

FORGE_MODULES = ("faker", "python_avatars", "resvg_py", "sklearn")  # the extra [forge]


def lmms_eval() -> None:
    starts("lmms_eval")

    def body() -> int:
        from remem_tasks.harness.command import run_lmms_eval

        return run_lmms_eval()

    sys.exit(exit_on_error(body, "lmms_eval"))


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


def commands_parser() -> argparse.ArgumentParser:
    """The parser of `remem` with all its commands."""
    parser = Parser(prog="remem", description="Machine unlearning for vision-language models.")
    parser.add_argument("--version", action="version", version=f"remem {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        experiments.add_demo,
        data.add_forge,
        models.add_base,
        models.add_train,
        data.add_data,
        models.add_merge,
        models.add_push,
        models.add_cache,
        report.add_report,
        report.add_gate,
        report.add_leaderboard,
        report.add_diagnose,
        experiments.add_study,
        experiments.add_reproduce,
        experiments.add_sweep,
        _add_lm_eval,
        _add_tasks_path,
        attack.add,
        stream.add,
        sae.add,
        judge.add,
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
        sys.exit(exit_on_error(lambda: models.train(argv[1:]), "remem train"))
    if argv[:1] == ["lm_eval"]:
        if own:
            starts("remem lm_eval")
        sys.exit(exit_on_error(lambda: _lm_eval(argv[1:]), "remem lm_eval"))
    args = commands_parser().parse_args(argv)
    if own and args.command != "tasks-path":
        starts(f"remem {args.command}")
    sys.exit(exit_on_error(lambda: _run(args), f"remem {args.command}"))
