"""Scoring a checkpoint: the one way in for everything that is not the command `lmms_eval` itself.

    score("models/npo", ["remem_forget1"], "results/npo", {"REMEM_DATA": "data"})

runs this environment's lmms-eval with the model `remem_hf`, as a process of its own or in this one; either way the
folder then holds what `lmms_eval --log_samples --output_path` leaves, sealed (`binding`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remem_tasks.binding import seal
from remem_tasks.errors import COLLAPSED, RememError
from remem_tasks.files import locked
from remem_tasks.processes import run
from remem_tasks.report.results import newest_results
from remem_tasks.terminal import beating

if TYPE_CHECKING:
    from remem_tasks.benchmarks.base import Benchmark

PROGRAM = (sys.executable, "-c", "from remem_tasks.cli import lmms_eval; lmms_eval()")


def arguments(
    checkpoint: str | Path,
    tasks: Sequence[str],
    out: str | Path,
    device: str = "cpu",
    batch_size: int | None = None,
    metrics: str | None = None,
) -> list[str]:
    """The flags of `lmms_eval` that score a checkpoint to a folder."""
    flags = ["--model", "remem_hf", "--model_args", f"pretrained={checkpoint},device={device}"]
    flags += ["--tasks", ",".join(tasks), "--output_path", str(out), "--log_samples"]
    flags += ["--batch_size", str(batch_size)] if batch_size else []
    return flags + (["--metrics", metrics] if metrics else [])


@locked
def score(
    checkpoint: str | Path,
    tasks: Sequence[str],
    out: str | Path,
    variables: Mapping[str, str | None],
    device: str = "cpu",
    batch_size: int | None = None,
    metrics: str | None = None,
) -> Path:
    """Score a checkpoint in a process of its own.

    Args:
        checkpoint: folder or Hub id.
        tasks: names of tasks.
        out: folder for results, samples and the process's `log.txt`.
        variables: of the process's environment: where data lie (`REMEM_DATA`, …); None takes one away.
        batch_size: rows at once; None for the model's own.
        metrics: families of scores, as `--metrics` takes them; None for all.

    Returns:
        The results file.

    Raises:
        RememError: the process ended with another status than 0 or COLLAPSED; its last line is in the message.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    command = [*PROGRAM, *arguments(checkpoint, tasks, out, device, batch_size, metrics)]
    log = out / "log.txt"
    with log.open("w") as written, beating(f"scoring '{checkpoint}' (log: {log})", lambda: _far(log)):
        status = run(command, environment, written)
    if status not in (0, COLLAPSED):  # what says nothing real has its results all the same
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        raise RememError(f"scoring '{checkpoint}' ended with status {status}: {last} (all of it: {log})")
    return newest_results(out)


BAR = re.compile(r"(\d+)%\|[^|]*\|\s*(\d+/\d+)")


def _far(log: Path) -> str:
    """How far a scoring is, by the last progress bar in its log: `40 % (12/30)`; "" before the first."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4000))
        found = BAR.findall(file.read().decode("utf-8", "replace"))
    return f"{found[-1][0]} % ({found[-1][1]})" if found else ""


def score_here(
    checkpoint: str | Path,
    tasks: Sequence[str],
    out: str | Path,
    variables: Mapping[str, str | None],
    device: str = "cpu",
    gen_kwargs: str | None = None,
) -> dict[str, Any]:
    """Score a checkpoint in this process, which saves lmms-eval's start of some seconds.

    Args:
        variables: set while it runs, as in `score`.
        gen_kwargs: generation settings, as `--gen_kwargs` takes them.

    Returns:
        What `simple_evaluate` gives; results and samples are in `out` as well.

    Raises:
        RememError: a fault of data, checkpoint or backend; replies that failed; files that could not be written.
    """
    from remem_tasks.harness.in_process import load, run

    with _environment(variables):
        results = run(load(str(checkpoint), device), tasks, gen_kwargs)
    save(results, out, str(checkpoint))
    return results


@dataclass(frozen=True)
class AskedTask:
    """A task that no YAML names.

    Attributes:
        name: of the task in the results.
        split: whose rows are asked.
        benchmark: what asks and scores.
        metadata: what the results keep of it, beside what every task keeps.
        max_new_tokens: of a reply.
    """

    name: str
    split: str
    benchmark: Benchmark
    metadata: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 128


def score_model(
    model: Any,
    processor: Any,
    name: str,
    asked: Sequence[AskedTask],
    out: str | Path,
    variables: Mapping[str, str | None],
    cache: str | None = None,
) -> Path:
    """Score a model that is in memory by tasks of one's own.

    Args:
        model: an image-text-to-text model, on the device where it is to run.
        processor: its processor.
        name: path by which the results call it.
        variables: set while it runs, as in `score`.
        cache: where replies are kept, as of `remem_hf`; `off` for weights that nobody will have again.

    Returns:
        The results file; samples are beside it.

    Raises:
        RememError: as `score_here`.
    """
    from remem_tasks.harness.in_process import around, run, task_of

    with _environment(variables):
        tasks = [
            task_of(one.name, one.split, one.benchmark, one.metadata, one.max_new_tokens) for one in asked
        ]
        results = run(around(model, processor, cache), tasks, None)
    return save(results, out, name)


def save(results: Mapping[str, Any], out: str | Path, model: str) -> Path:
    """Write what the harness gave in this process as `lmms_eval --log_samples --output_path` does.

    Args:
        model: name or path of what was scored.

    Returns:
        The results file, sealed.

    Raises:
        RememError: it could not be written.
    """
    from remem_tasks.harness.in_process import write

    file = write(results, out, model)
    seal(file, logged=True)
    return file


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}

    def put(found: Mapping[str, str | None]) -> None:
        for name, value in found.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(variables)
    try:
        yield
    finally:
        put(before)
