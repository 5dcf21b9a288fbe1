"""How lmms-eval comes to know our tasks and models, and how a failed run comes to a non-zero exit status.

`register` is the entry point (group `lmms_eval.models`). lmms-eval calls it while `lmms_eval.models`
is imported, so before any TaskManager is made.

Exit status: lmms-eval's command line prints what went wrong and exits with 0. Its two forms,
`lmms-eval` and `python -m lmms_eval`, both end in `lmms_eval.__main__.cli_evaluate`; they get it
wrapped (see `with_status`). Whoever uses lmms-eval as a library meets none of this.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

import yaml

from remem_tasks.benchmarks.registry import FOLDERS
from remem_tasks.benchmarks.scoring_config import SETTINGS, flags_parser, scoring_config_of, variable
from remem_tasks.binding import KEY, digest_of_weights, seal
from remem_tasks.errors import (
    COLLAPSED,
    INTERRUPTED,
    TERMINATED,
    RememError,
    Terminated,
    deaf_at_exit,
    refused,
    sigterm_raises,
)
from remem_tasks.files import Locked, lock
from remem_tasks.harness.ending import ending
from remem_tasks.terminal import own_line, say, short

TASKS_FOLDERS = tuple(map(str, FOLDERS))
"""Indexed with all folders below them: the tasks of each benchmark."""
MODELS = ("remem_hf", "llava")
FEWEST_REPLIES = 4
"""Of fewer replies it is not said that they are all the same."""
LONG_TABLE = "--long_table"
"""The flag that adds the harness's table of all scores."""
MAX_FAILED_SHARE = 0.01
"""A run in which more than this share of a task's replies failed is a failed run."""

_last_tasks: list = []
"""The tasks of ours that the latest run loaded."""
_unknown: dict[str, list[str]] = {}
"""The names among the latest run's tasks that no task has, with those that are like them."""


def register() -> list:
    """The entry point: our models; and, on the way, our task folder and the exit status."""
    from lmms_eval.models.registry_v2 import ModelManifest

    from remem_tasks.harness import listing, llava

    install()
    listing.show_models(("remem_hf",))
    upstream = sys.modules.get("lmms_eval.__main__")
    if type(upstream) is types.ModuleType:
        # The command line is being imported, and `cli_evaluate` is not defined yet: hand it out
        # wrapped when the command line comes for it.
        upstream.__class__ = _CommandLineModule
    return [
        ModelManifest("remem_hf", chat_class_path="remem_tasks.harness.remem_hf.RememHF"),
        llava.manifest(),
    ]


def install() -> None:
    """Make every TaskManager index our task folder, and tell our tasks which model they serve. Idempotent."""
    import lmms_eval.tasks as upstream

    if getattr(upstream.TaskManager, "_remem_tasks", False):
        return
    upstream.TaskManager._remem_tasks = True
    index_folders = upstream.TaskManager.initialize_tasks
    load_tasks, match = upstream.get_task_dict, upstream.TaskManager.match_tasks

    @functools.wraps(index_folders)
    def initialize_tasks(self, include_path=None, include_defaults=True):
        folders = [include_path] if isinstance(include_path, str) else list(include_path or [])
        known = set(map(os.path.realpath, folders))
        folders += [folder for folder in TASKS_FOLDERS if os.path.realpath(folder) not in known]
        found = index_folders(self, include_path=folders, include_defaults=include_defaults)
        # (lmms-eval reads tags of tasks without a class of their own only.)
        for tag, tasks in _tags().items():
            found.setdefault(tag, {"type": "tag", "task": tasks, "yaml_path": -1})
        return found

    @functools.wraps(match)
    def match_tasks(self, task_list):
        found = match(self, task_list)
        _unknown.clear()
        for name in task_list:
            if name not in found and "*" not in name and not os.path.isfile(name):
                _unknown[name] = get_close_matches(name, self.all_tasks, n=4, cutoff=0.7)
        return found

    @functools.wraps(load_tasks)
    def get_task_dict(task_name_list, task_manager=None, task_type="simple"):
        tasks = load_tasks(task_name_list, task_manager, task_type)
        _last_tasks[:] = _our_tasks(tasks)
        for task in _last_tasks:
            task.request_style = task_type
        if _last_tasks:
            _tell_tasks_their_backend()
        return tasks

    upstream.TaskManager.initialize_tasks = initialize_tasks
    upstream.TaskManager.match_tasks = match_tasks
    upstream.get_task_dict = get_task_dict
    evaluator = sys.modules.get("lmms_eval.evaluator")
    if hasattr(evaluator, "get_task_dict"):  # it was imported before us and holds the name by itself
        evaluator.get_task_dict = get_task_dict


def _tags() -> dict[str, list[str]]:
    """The tags of our tasks' YAML files: name → tasks."""
    found: dict[str, list[str]] = {}
    for file in sorted(file for folder in TASKS_FOLDERS for file in Path(folder).glob("*/tasks/*.yaml")):
        lines = dict(re.findall(r"^(task|tag): (\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE))
        if "tag" in lines:
            found.setdefault(lines["tag"], []).append(lines["task"])
    return found


def _tell_tasks_their_backend() -> None:
    """Make `lmms_eval.evaluator.evaluate`, the one place that has both, tell our tasks what the model can do."""
    evaluator = sys.modules.get("lmms_eval.evaluator")
    evaluate = getattr(evaluator, "evaluate", None)
    if evaluate is None or getattr(evaluate, "_remem_tasks", False):
        return

    @functools.wraps(evaluate)
    def told(*args, **kwargs):
        from remem_tasks.harness.backends import capabilities_of, computed_by

        given = dict(zip(("lm", "task_dict"), args), **kwargs)
        if tasks := _our_tasks(given["task_dict"]):
            capabilities, computed = capabilities_of(given["lm"]), computed_by(given["lm"])
            for task in tasks:
                task.serve(capabilities, computed)
            weights = digest_of_weights(getattr(given["lm"], "model", None))  # before the run lets go of them
        logger = getattr(evaluator, "eval_logger", None)
        evaluator.eval_logger = _WithoutDirections(logger)
        try:
            results = evaluate(*args, **kwargs)
        finally:
            evaluator.eval_logger = logger
        if tasks and results is not None:
            results[KEY] = {"weights": weights}
        return results

    told._remem_tasks = True
    evaluator.evaluate = told


class _WithoutDirections:
    """lmms-eval's logger, but for a warning of each of our scores that is to fall on one set of a group and to stay on
    another: of the group `remem` they are all meant so, and 63 lines of it hide the end of a run."""

    def __init__(self, logger) -> None:
        self._logger = logger

    def __getattr__(self, name: str):
        return getattr(self._logger, name)

    def warning(self, message, *args, **kwargs) -> None:
        from remem_tasks.benchmarks.registry import BENCHMARKS

        metric = re.match(r"Higher_is_better values for metric (\w+) in group", str(message))
        if not (metric and metric[1].startswith(tuple(f"{name}_" for name in BENCHMARKS))):
            self._logger.warning(message, *args, **kwargs)


def last_tasks() -> list:
    """The tasks of ours that the latest run in this process loaded."""
    return list(_last_tasks)


def _our_tasks(tasks: dict) -> list:
    from remem_tasks.harness.task import BenchmarkTask

    found = []
    for task in tasks.values():
        if isinstance(task, dict):
            found += _our_tasks(task)
        elif isinstance(task, BenchmarkTask):
            found.append(task)
    return found


class _CommandLineModule(types.ModuleType):
    """`lmms_eval.__main__` with `cli_evaluate` wrapped."""

    def __getattribute__(self, name: str):
        found = super().__getattribute__(name)
        return with_status(found, self, "lmms-eval", _is_ours) if name == "cli_evaluate" else found


def _is_ours(args) -> bool:
    """Whether a run's arguments, or the tasks it loaded, name anything of this package."""
    from remem_tasks.benchmarks.registry import BENCHMARKS

    named = any(task.startswith(name) for task in str(args.tasks).split(",") for name in BENCHMARKS)
    return bool(_last_tasks) or args.model in MODELS or named


def _table_of(upstream, long: bool, ends: list[str]) -> Callable:
    """What the command line makes its closing tables by: a compact one, unless all scores are wanted.

    Args:
        long: whether the harness's table stays.
        ends: the compact table and what follows it of each run, in the order of the runs; taken off the front.
    """
    make_table = upstream.make_table
    ours = False  # whether the run whose tables are being made has tasks of ours

    @functools.wraps(make_table)
    def table(results, column="results", *args, **kwargs):
        nonlocal ours
        told = ""
        if column == "results":
            told = ends.pop(0) if ends else ""
            ours = bool(told)
        whole = make_table(results, column, *args, **kwargs) if long or not ours else ""
        return "\n".join(filter(None, [whole, told]))

    return table


def with_status(
    cli_evaluate: Callable,
    upstream,
    program: str,
    counts: Callable[[object], bool],
    long_table: bool | None = None,
) -> Callable:
    """lmms-eval's command line, which ends in SystemExit(1) when a run failed.

    A run fails when it raises, or when more than MAX_FAILED_SHARE of a task's replies failed (then
    its results are written first). A RememError is printed as one line, without its traceback
    unless `--verbosity DEBUG` asks for it. Other runs of one `--config` still take place.

    Args:
        cli_evaluate: what it wraps.
        upstream: the module `lmms_eval.__main__`.
        program: how the lines on stderr begin.
        counts: from a run's arguments, whether its failure counts.
        long_table: whether the harness's table of all scores is printed beside ours; None: in place of it.
    """

    @functools.wraps(cli_evaluate)
    def run_all(*args, **kwargs):
        run_one = upstream.cli_evaluate_single
        failed, lines, empty = [], [], []
        ends: list[str] = []
        make_table = upstream.make_table

        def leave():
            own_line(sys.stderr)
            for line in [*lines, *empty]:
                say(f"{program}: error: {short(line)}", file=sys.stderr)
            raise SystemExit(1 if failed else COLLAPSED)

        @functools.wraps(run_one)
        def cli_evaluate_single(args):
            _last_tasks.clear()
            _unknown.clear()
            started = time.time()
            try:
                if counts(args):
                    _check_arguments(args)
                with own_stamp(args.output_path if counts(args) else None):
                    results, samples = run_one(args)
            except Exception as error:
                if not counts(args):
                    raise
                failed.append(args)
                told = isinstance(error, RememError) or (isinstance(error, ValueError) and bool(_unknown))
                line = _no_model(error) or (str(error).strip() if told else refused(error))
                if not line or args.verbosity == "DEBUG":
                    raise
                if told and not isinstance(error, RememError):
                    line = _no_task(_unknown)
                lines.append(line.splitlines()[0])
                if int(os.environ.get("WORLD_SIZE", 1)) > 1:
                    leave()  # at once: the other ranks wait for this one, and end when it ends
                return None, None
            found = failed_reply_lines(results, _last_tasks)
            if counts(args) and results is not None and args.output_path:
                found += _sealed(args, results, started)
            lines.extend(found)
            failed.extend(found)
            if counts(args):
                empty.extend(collapsed_lines(results, _last_tasks))
            if results is not None and long_table is not None:
                ends.append(ending(results, args.output_path, bool(args.log_samples), samples))
            return results, samples

        upstream.cli_evaluate_single = cli_evaluate_single
        if long_table is not None:
            upstream.make_table = _table_of(upstream, long_table, ends)
        try:
            cli_evaluate(*args, **kwargs)
        finally:
            upstream.cli_evaluate_single = run_one
            upstream.make_table = make_table
        if failed or empty:
            leave()

    return run_all


@contextmanager
def own_stamp(output_path: str | None) -> Iterator[None]:
    """Within, lmms-eval names its files by a second that no other run into this folder has.

    It names them by the second alone and appends to what it finds: two runs of one second would double
    every row. The first process of a run takes the name, and holds it until the run ends.
    """
    if not output_path or int(os.environ.get("RANK", 0)):
        yield
        return
    from lmms_eval import utils

    given, there = utils.get_datetime_str, Path(output_path).exists()
    with ExitStack() as held:
        if not there:  # a run that wrote nothing leaves no folder
            held.callback(_remove_if_empty, output_path)

        def own(*args, **kwargs) -> str:
            while True:
                stamp = given(*args, **kwargs)
                with suppress(Locked):
                    held.enter_context(lock(Path(output_path) / stamp))
                    if not any(Path(output_path).rglob(f"{stamp.replace(':', '-')}_*")):
                        return stamp
                time.sleep(0.1)

        utils.get_datetime_str = own
        try:
            yield
        finally:
            utils.get_datetime_str = given


def _remove_if_empty(folder: str) -> None:
    with suppress(OSError):
        Path(folder).rmdir()


def _no_task(unknown: Mapping[str, list[str]]) -> str:
    """What is said of names that no task has."""
    told = [
        f"'{name}'" + (f" (there are {', '.join(sorted(like))})" if like else "")
        for name, like in unknown.items()
    ]
    return f"no task {', '.join(told)}; all names: lmms_eval --tasks list"


def _no_model(error: Exception) -> str:
    """What is said of a `--model` that lmms-eval does not know; "" for another error."""
    found = re.match(r"Model '(.*)' not found in available models: (.*)$", str(error), re.DOTALL)
    if not found:
        return ""
    near = get_close_matches(found[1], re.findall(r"\w+", found[2]), n=1)
    return f"no model '{found[1]}'{f'; did you mean {near[0]!r}?' if near else ''} (any checkpoint: --model remem_hf)"


def _check_arguments(args) -> None:
    """Raise a RememError for what would otherwise show after the run, or not at all."""
    if args.tasks is None:
        raise RememError("no task: --tasks remem_forget1,remem_retain (or: --tasks list)")
    if args.output_path:
        place = Path(args.output_path).absolute()
        while not place.exists():
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise RememError(
                f"output_path '{args.output_path}': '{place}' is not a folder that can be written to"
            )


def _sealed(args, results: Mapping, started: float) -> list[str]:
    """Bind what a run wrote (`binding.seal`); a line where a file is missing or not whole.

    lmms-eval only logs it when it cannot write one.
    """
    stamp = str(results.get("date", "")).replace(":", "-")
    written = [
        file
        for file in Path(args.output_path).rglob("*_results.json")
        if file.stat().st_mtime >= started - 2 and file.name.startswith(stamp)
    ]
    if not written:
        return [f"the results could not be written under '{args.output_path}'"]
    try:
        for file in written:
            seal(file, logged=bool(getattr(args, "log_samples", False)))
    except RememError as error:
        return [str(error)]
    return []


def failed_reply_lines(results: dict | None, tasks: Iterable) -> list[str]:
    """One line for each task of ours of whose replies more than MAX_FAILED_SHARE failed.

    Args:
        results: what `simple_evaluate` returned: all ranks' numbers on rank 0, None on the others.
        tasks: the run's BenchmarkTasks, asked for their own count where results have no rate
            (`--predict_only`).
    """
    if results is None:
        return []
    lines = []
    for task in tasks:
        name = f"{task.benchmark.name}_failed_rate,"
        scores = results["results"].get(task.config.task, {})
        rates = [value for metric, value in scores.items() if metric.startswith(name)]
        share = max(rates) if rates else task.failed_replies / max(task.replies, 1)
        if share > MAX_FAILED_SHARE:
            lines.append(
                f"{task.config.task}: {share:.1%} of the replies failed (at most {MAX_FAILED_SHARE:.0%} may); "
                "they count as wrong, so the scores look like forgetting and are not to be used"
            )
    return lines


def collapsed_lines(results: dict | None, tasks: Iterable) -> list[str]:
    """A line if a run's replies, over all of its tasks, are all blank or all the same.

    Args:
        results: None on the ranks that have no numbers.
        tasks: the run's BenchmarkTasks; each rank has seen its own rows' replies.
    """
    said: Counter[str] = sum((task.said for task in tasks), Counter())
    total = sum(said.values())
    if results is None or total < FEWEST_REPLIES or len(said) > 1:
        return []
    (reply,) = said
    what = f"the same ({reply[:60]!r})" if reply else "blank"
    return [
        f"all {total} replies are {what}: a model that collapsed, or that was taught one refusal; the results are written, "
        "and say little of forgetting. Score rows beside these that it should still answer (retain, test)"
    ]


def run_lmms_eval() -> int:
    """lmms-eval's command line with our tasks and models, where every failed run counts.

    Returns:
        The exit status: 0; 1 if a run failed or too many of its replies did; COLLAPSED if the replies are all
        blank or all the same; 130 on an interrupt, 143 on SIGTERM; argparse's own.
    """
    import lmms_eval.__main__ as upstream
    from lmms_eval.cli import dispatch

    install()
    cli_evaluate = upstream.__dict__["cli_evaluate"]
    ordinary = type(upstream)
    upstream.__class__ = types.ModuleType
    arguments, before = sys.argv, dict(os.environ)
    try:
        try:
            others = _take_flags(arguments[1:])
            config = _config_of(others)
        except RememError as error:
            say(f"lmms_eval: error: {short(error)}", file=sys.stderr)
            return 2
        long_table = LONG_TABLE in others
        sys.argv = [arguments[0], *(one for one in others if one != LONG_TABLE)]
        upstream.cli_evaluate = with_status(
            cli_evaluate, upstream, "lmms_eval", lambda args: True, long_table
        )
        with sigterm_raises():
            dispatch.main()
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            own_line(sys.stderr)
            say(leaving.code, file=sys.stderr)
            return 1
        return int(leaving.code or 0)
    except ValueError as error:
        if not config:
            raise
        own_line(sys.stderr)
        say(f"lmms_eval: error: --config {config}: {short(error)}", file=sys.stderr)
        return 2
    except Terminated:
        own_line(sys.stderr)
        say("lmms_eval: terminated", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        own_line(sys.stderr)
        say("lmms_eval: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        deaf_at_exit()
        sys.argv = arguments
        for name in map(variable, SETTINGS):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
        upstream.cli_evaluate = cli_evaluate
        upstream.__class__ = ordinary
    return 0


def _config_of(arguments: Sequence[str]) -> str:
    """The file of lmms-eval's `--config`, or "".

    Raises:
        RememError: it is not there, or holds no settings.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config")
    file = reader.parse_known_args(arguments)[0].config
    if not file:
        return ""
    try:
        told = yaml.safe_load(Path(file).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise RememError(
            f"--config '{file}' cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        ) from error
    except yaml.YAMLError as error:
        raise RememError(f"--config '{file}' is not YAML ({str(error).splitlines()[0]})") from error
    runs = told if isinstance(told, list) else [told]
    if not runs or not all(isinstance(run, dict) and run for run in runs):
        raise RememError(
            f"--config '{file}' holds no settings: a mapping of flags (`tasks: remem_forget1`), or a list of them"
        )
    return file


def _take_flags(arguments: list[str]) -> list[str]:
    """Put the suite's flags into the environment, where tasks look; returns the other arguments.

    Raises:
        RememError: a value that is unknown or out of range.
    """
    parser = flags_parser()
    given, others = parser.parse_known_args(arguments)
    for name, value in vars(given).items():
        if value is not None:
            os.environ[variable(name)] = value
    scoring_config_of({})
    if {"-h", "--help"} & set(others):
        parser.add_argument(
            LONG_TABLE, action="store_true", help="print the harness's table of all scores too"
        )
        say(parser.format_help().removeprefix("usage: ").strip() + "\n")
    return others
