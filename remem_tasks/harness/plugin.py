"""How lmms-eval comes to know our tasks and models.

`register` is the entry point (group `lmms_eval.models`). lmms-eval calls it while `lmms_eval.models`
is imported, so before any TaskManager is made.

Exit status: lmms-eval's command line prints what went wrong and exits with 0. Its two forms,
`lmms-eval` and `python -m lmms_eval`, both end in `lmms_eval.__main__.cli_evaluate`; they get it
wrapped (see `exit_status.with_status`). Whoever uses lmms-eval as a library meets none of this.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import types
from difflib import get_close_matches
from pathlib import Path

from remem_tasks.benchmarks.registry import FOLDERS
from remem_tasks.binding import KEY, digest_of_weights
from remem_tasks.harness import loaded
from remem_tasks.harness.exit_status import with_status

TASKS_FOLDERS = tuple(map(str, FOLDERS))
"""Indexed with all folders below them: the tasks of each benchmark."""
OWN = ("remem_hf", "remem_openai", "remem_vllm")
"""Our models."""
MODELS = (*OWN, "llava")


def register() -> list:
    """The entry point: our models; and, on the way, our task folder and the exit status."""
    from lmms_eval.models.registry_v2 import ModelManifest

    from remem_tasks.harness import listing, llava

    install()
    listing.show_models(OWN)
    upstream = sys.modules.get("lmms_eval.__main__")
    if type(upstream) is types.ModuleType:
        # The command line is being imported, and `cli_evaluate` is not defined yet: hand it out
        # wrapped when the command line comes for it.
        upstream.__class__ = _CommandLineModule
    return [
        ModelManifest("remem_hf", chat_class_path="remem_tasks.harness.remem_hf.RememHF"),
        ModelManifest("remem_openai", chat_class_path="remem_tasks.harness.remem_openai.RememOpenAI"),
        ModelManifest("remem_vllm", chat_class_path="remem_tasks.harness.remem_vllm.RememVLLM"),
        llava.manifest(),
    ]


def install() -> None:
    """Make every TaskManager index our task folder, and tell our tasks which model they serve. Idempotent."""
    import lmms_eval.tasks as upstream

    if getattr(upstream.TaskManager, "_remem_tasks", False):
        return
    upstream.TaskManager._remem_tasks = True
    index_folders = upstream.TaskManager.initialize_tasks
    own = set(map(os.path.realpath, TASKS_FOLDERS))
    load_tasks, match = upstream.get_task_dict, upstream.TaskManager.match_tasks

    @functools.wraps(index_folders)
    def initialize_tasks(self, include_path=None, include_defaults=True):
        ours = index_folders(self, include_path=list(TASKS_FOLDERS), include_defaults=False)
        # (lmms-eval reads tags of tasks without a class of their own only.)
        for tag, tasks in _tags().items():
            ours.setdefault(tag, {"type": "tag", "task": tasks, "yaml_path": -1})
        folders = [include_path] if isinstance(include_path, str) else list(include_path or [])
        others = [folder for folder in folders if os.path.realpath(folder) not in own]
        # (lmms-eval has some two thousand files of its own, which take ten seconds to read.)
        unread = not include_defaults or (loaded.asked and set(loaded.asked) <= set(ours))
        return {**ours, **index_folders(self, include_path=others, include_defaults=not unread)}

    @functools.wraps(match)
    def match_tasks(self, task_list):
        found = match(self, task_list)
        loaded.unknown.clear()
        for name in task_list:
            if name not in found and "*" not in name and not os.path.isfile(name):
                loaded.unknown[name] = get_close_matches(name, self.all_tasks, n=4, cutoff=0.7)
        return found

    @functools.wraps(load_tasks)
    def get_task_dict(task_name_list, task_manager=None, task_type="simple"):
        tasks = load_tasks(task_name_list, task_manager, task_type)
        loaded.tasks[:] = loaded.our_tasks(tasks)
        for task in loaded.tasks:
            task.request_style = task_type
        if loaded.tasks:
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
        if tasks := loaded.our_tasks(given["task_dict"]):
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


class _CommandLineModule(types.ModuleType):
    """`lmms_eval.__main__` with `cli_evaluate` wrapped."""

    def __getattribute__(self, name: str):
        found = super().__getattribute__(name)
        return with_status(found, self, "lmms-eval", _is_ours) if name == "cli_evaluate" else found


def _is_ours(args) -> bool:
    """Whether a run's arguments, or the tasks it loaded, name anything of this package."""
    from remem_tasks.benchmarks.registry import BENCHMARKS

    named = any(task.startswith(name) for task in str(args.tasks).split(",") for name in BENCHMARKS)
    return bool(loaded.tasks) or args.model in MODELS or named
