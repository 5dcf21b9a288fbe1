"""How lmms-eval comes to know our tasks and models, and how a failed run comes to a non-zero exit status.

`register` is the entry point (group `lmms_eval.models`). lmms-eval calls it while `lmms_eval.models`
is imported, so before any TaskManager is made; but `lmms_eval.evaluator` and `lmms_eval.__main__` are
then imported by half, and what concerns them waits for the first TaskManager.

Exit status: lmms-eval's command line prints what went wrong and exits with 0. When a run of it that
holds a task or a model of ours fails, `sys.exit`, the last thing that both `lmms-eval` and
`python -m lmms_eval` call, is replaced by one that exits with 1 where 0 was meant. Nothing of the
kind happens when lmms-eval is used as a library.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from remem_tasks.errors import RememError

TASKS_FOLDER = str(Path(__file__).parent / "tasks")
MODELS = ("remem_hf", "llava")
MAX_FAILED_SHARE = 0.01
"""A run in which more than this share of a task's replies failed is a failed run."""


@dataclass
class _Status:
    failed: bool = False
    lines: list[str] = field(default_factory=list)
    own_script: bool = False


_status = _Status()


def register() -> list:
    """The entry point: our models; and, on the way, our task folder."""
    from lmms_eval.models.registry_v2 import ModelManifest

    from remem_tasks.engine import llava

    install()
    return [
        ModelManifest("remem_hf", chat_class_path="remem_tasks.engine.remem_hf.RememHF"),
        llava.manifest(),
    ]


def install() -> None:
    """Make every TaskManager index our task folder, and tell our tasks which model they serve. Idempotent."""
    import lmms_eval.tasks as upstream

    if getattr(upstream.TaskManager, "_remem_tasks", False):
        return
    upstream.TaskManager._remem_tasks = True
    index_folders = upstream.TaskManager.initialize_tasks
    match_names = upstream.TaskManager.match_tasks
    load_tasks = upstream.get_task_dict

    @functools.wraps(index_folders)
    def initialize_tasks(self, include_path=None, include_defaults=True):
        _wrap_evaluator()
        folders = [include_path] if isinstance(include_path, str) else list(include_path or [])
        if os.path.realpath(TASKS_FOLDER) not in map(os.path.realpath, folders):
            folders.append(TASKS_FOLDER)
        return index_folders(self, include_path=folders, include_defaults=include_defaults)

    @functools.wraps(match_names)
    def match_tasks(self, task_list):
        found = match_names(self, task_list)
        # The command line refuses an unknown name before it calls the evaluator.
        unknown = [name for name in task_list if name not in found and "*" not in name]
        if (
            _on_command_line()
            and _is_ours(self.model_name, unknown)
            and not all(map(os.path.isfile, unknown))
        ):
            _fail()
        return found

    @functools.wraps(load_tasks)
    def get_task_dict(task_name_list, task_manager=None, task_type="simple"):
        tasks = load_tasks(task_name_list, task_manager, task_type)
        for task in _our_tasks(tasks):
            task.request_style = task_type
        _last_tasks[:] = _our_tasks(tasks)
        return tasks

    upstream.TaskManager.initialize_tasks = initialize_tasks
    upstream.TaskManager.match_tasks = match_tasks
    upstream.get_task_dict = get_task_dict
    evaluator = sys.modules.get("lmms_eval.evaluator")
    if hasattr(evaluator, "get_task_dict"):  # imported before us: it holds the name by itself
        evaluator.get_task_dict = get_task_dict


_last_tasks: list = []
"""The tasks of ours that the latest run loaded."""


def _our_tasks(tasks: dict) -> list:
    from remem_tasks.task import BenchmarkTask

    found = []
    for task in tasks.values():
        if isinstance(task, dict):
            found += _our_tasks(task)
        elif isinstance(task, BenchmarkTask):
            found.append(task)
    return found


def _is_ours(model: object, tasks: Iterable) -> bool:
    from remem_tasks.benchmarks import BENCHMARKS

    named = any(str(task).startswith(name) for task in tasks for name in BENCHMARKS)
    return model in MODELS or named


def _on_command_line() -> bool:
    """Whether this process is `lmms-eval` or `python -m lmms_eval`, not a program that uses the library."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return Path(sys.argv[0]).stem == "lmms-eval" or getattr(spec, "name", "") == "lmms_eval.__main__"


def _wrap_evaluator() -> None:
    evaluator = sys.modules.get("lmms_eval.evaluator")
    evaluate = getattr(evaluator, "simple_evaluate", None)
    if evaluate is None or getattr(evaluate, "_remem_tasks", False):
        return

    @functools.wraps(evaluate)
    def simple_evaluate(*args, **kwargs):
        command_line = kwargs.get("cli_args")
        if command_line is None:
            return evaluate(*args, **kwargs)
        _last_tasks.clear()
        try:
            results = evaluate(*args, **kwargs)
        except BaseException:
            names = str(command_line.tasks).split(",")
            if _last_tasks or _is_ours(command_line.model, names):
                _fail()
            raise
        for line in failed_reply_lines(results, _last_tasks):
            _fail(line)
        return results

    simple_evaluate._remem_tasks = True
    evaluator.simple_evaluate = simple_evaluate


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
        scores = results["results"].get(task.config.task, {})
        rates = [
            value for name, value in scores.items() if name.startswith(f"{task.benchmark.name}_failed_rate,")
        ]
        share = max(rates) if rates else task.failed_replies / max(task.replies, 1)
        if share > MAX_FAILED_SHARE:
            lines.append(
                f"{task.config.task}: {share:.1%} of the replies failed (at most {MAX_FAILED_SHARE:.0%} may); "
                "they count as wrong, so the scores look like forgetting and are not to be used"
            )
    return lines


def _fail(line: str | None = None) -> None:
    """Note that the run failed, so that the process exits with 1."""
    if line:
        _status.lines.append(line)
    if _status.failed or _status.own_script:
        _status.failed = True
        return
    _status.failed = True
    leave = sys.exit

    def exit_with_status(code=None):
        for message in _status.lines:
            print(f"lmms-eval: error: {message}", file=sys.stderr)
        leave(1 if code in (None, 0) else code)

    sys.exit = exit_with_status


def run_lmms_eval() -> int:
    """lmms-eval's command line with our tasks and models; the exit status.

    Returns:
        0; 1 if a run failed or too many of its replies did; 130 on an interrupt; what argparse says.
    """
    import lmms_eval.__main__ as upstream
    from lmms_eval.cli import dispatch

    install()
    run_one = upstream.cli_evaluate_single
    _status.failed, _status.own_script = False, True
    _status.lines.clear()

    def cli_evaluate_single(args):
        try:
            if args.tasks is None:
                raise RememError("name at least one task: --tasks remem_forget1,remem_retain")
            return run_one(args)
        except Exception as error:
            clear = isinstance(error, RememError) or str(error).startswith("Tasks not found")
            _fail(str(error).strip().splitlines()[0] if clear else None)
            if clear and args.verbosity != "DEBUG":
                return None, None
            raise

    upstream.cli_evaluate_single = cli_evaluate_single
    code = 0
    try:
        dispatch.main()
    except SystemExit as leaving:
        code = leaving.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        print("lmms_eval: interrupted", file=sys.stderr)
        return 130
    finally:
        upstream.cli_evaluate_single = run_one
        _status.own_script = False
        for line in _status.lines:
            print(f"lmms_eval: error: {line}", file=sys.stderr)
    return int(_status.failed or code or 0)
