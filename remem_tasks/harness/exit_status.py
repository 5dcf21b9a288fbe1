"""How a failed run of lmms-eval comes to a non-zero exit status, and to one line that says why."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

from remem_tasks.binding import seal
from remem_tasks.errors import (
    COLLAPSED,
    RememError,
    refused,
)
from remem_tasks.files import Locked, lock
from remem_tasks.harness import loaded
from remem_tasks.harness.ending import ending
from remem_tasks.terminal import own_line, say, short

FEWEST_REPLIES = 4
"""Of fewer replies it is not said that they are all the same."""
MAX_FAILED_SHARE = 0.01
"""A run in which more than this share of a task's replies failed is a failed run."""


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
            loaded.forget()
            started = time.time()
            try:
                if counts(args):
                    _check_arguments(args)
                loaded.asked[:] = filter(None, (args.tasks or "").split(","))
                with own_stamp(args.output_path if counts(args) else None):
                    results, samples = run_one(args)
            except Exception as error:
                if not counts(args):
                    raise
                failed.append(args)
                told = isinstance(error, RememError) or (
                    isinstance(error, ValueError) and bool(loaded.unknown)
                )
                line = _no_model(error) or (str(error).strip() if told else refused(error))
                if not line or args.verbosity == "DEBUG":
                    raise
                if told and not isinstance(error, RememError):
                    line = _no_task(loaded.unknown)
                lines.append(line.splitlines()[0])
                if int(os.environ.get("WORLD_SIZE", 1)) > 1:
                    leave()  # at once: the other ranks wait for this one, and end when it ends
                return None, None
            finally:
                loaded.asked.clear()
            found = failed_reply_lines(results, loaded.tasks)
            if counts(args) and results is not None and args.output_path:
                found += _sealed(args, results, started)
            lines.extend(found)
            failed.extend(found)
            if counts(args):
                empty.extend(collapsed_lines(results, loaded.tasks))
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
