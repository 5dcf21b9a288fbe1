"""lmms-eval in this process: run its tasks on `remem_hf`, write its files. For `remem_tasks.evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lmms_eval.evaluator as upstream
from lmms_eval import utils
from lmms_eval.loggers import EvaluationTracker
from lmms_eval.tasks import TaskManager

from remem_tasks.benchmarks.base import Benchmark
from remem_tasks.errors import RememError
from remem_tasks.harness import exit_status, loaded, plugin
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.harness.task import BenchmarkTask


def load(checkpoint: str, device: str) -> RememHF:
    """A checkpoint as the harness takes it."""
    return RememHF(checkpoint, device=device)


def around(model: Any, processor: Any, cache: str | None) -> RememHF:
    """A model that is in memory, as the harness takes it."""
    return RememHF.around(model, processor, cache)


def task_of(
    name: str, split: str, benchmark: Benchmark, metadata: Mapping[str, Any], max_new_tokens: int
) -> BenchmarkTask:
    """A task that no YAML names, in the settings of those that one names.

    Args:
        benchmark: what asks and scores in place of the registered one of its name.
        metadata: what the results keep of it.
        max_new_tokens: of a reply.
    """
    return BenchmarkTask(
        config={
            "task": name,
            "test_split": split,
            "output_type": "generate_until",
            "generation_kwargs": {
                "max_new_tokens": max_new_tokens,
                "do_sample": False,
                "temperature": 0,
                "until": [],
            },
            "metadata": {"benchmark": benchmark.name, "version": 1.0, **metadata},
        },
        benchmark=benchmark,
    )


def run(model: RememHF, tasks: Sequence[str | BenchmarkTask], gen_kwargs: str | None) -> dict[str, Any]:
    """What `simple_evaluate` gives for tasks of ours.

    Raises:
        RememError: a fault of data or checkpoint; replies that failed.
    """
    plugin.install()
    results = upstream.simple_evaluate(
        model=model,
        tasks=list(tasks),
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        gen_kwargs=gen_kwargs,
    )
    if failed := exit_status.failed_reply_lines(results, loaded.last_tasks()):
        raise RememError("; ".join(failed))
    return results


def write(results: Mapping[str, Any], out: str | Path, model: str) -> Path:
    """Write them as `lmms_eval --log_samples --output_path` does; returns where the results file is to be.

    (The harness only logs it when it cannot write one.)

    Raises:
        RememError: none was written.
    """
    with exit_status.own_stamp(str(out)):
        return _write(results, out, model, utils.get_datetime_str())


def _write(results: Mapping[str, Any], out: str | Path, model: str, stamp: str) -> Path:
    tracker = EvaluationTracker(str(out))
    tracker.general_config_tracker.log_experiment_args("remem_hf", f"pretrained={model}", "", "", False)
    samples = results["samples"]
    whole = {name: value for name, value in results.items() if name != "samples"}
    whole["config"] = {**results["config"], "model_args": f"pretrained={model}"}
    tracker.save_results_aggregated(whole, samples, stamp)
    for task, rows in samples.items():
        tracker.save_results_samples(task, [dict(row) for row in rows])
    written = list(Path(out).rglob(f"{stamp.replace(':', '-')}_results.json"))
    if not written:
        raise RememError(f"the results could not be written under '{out}'")
    return written[0]
