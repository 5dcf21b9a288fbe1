"""The front doors from Python: `import remem_tasks as remem`, and everything here is `remem.…`.

Five things: a metric (`remem.metrics`), a loss (`remem.losses`), a trainer (`remem.trainer`, `remem.train`), reading
results into a dataframe (`remem.read_results`, `remem.read_rows`), and a task of one's own (`remem.Benchmark`,
`remem.score`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remem_tasks import metrics
from remem_tasks.benchmarks.base import Benchmark, Metric, Request, RunContext
from remem_tasks.errors import RememError
from remem_tasks.reading import read_object
from remem_tasks.training import find_ours

find_ours()

from unlearning import losses  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

    from unlearning.trainer import UnlearnTrainer

__all__ = [
    "Benchmark",
    "Metric",
    "RememError",
    "Request",
    "RunContext",
    "losses",
    "metrics",
    "read_results",
    "read_rows",
    "score",
    "train",
    "trainer",
]


def _arguments(
    method: str, model: str | Path, out: str | Path, data: str | Path | None, flags: Mapping[str, Any]
) -> list[str]:
    """Flags of the training script, as a shell would give them; None leaves one out."""
    given = {"method": method, "model_name_or_path": model, "output_dir": out, "data": data, **flags}
    argv: list[str] = []
    for name, value in given.items():
        if value is None:
            continue
        several = isinstance(value, Sequence) and not isinstance(value, str)
        argv += [f"--{name}", *(map(str, value) if several else [str(value)])]
    return argv


def trainer(
    method: str, model: str | Path, out: str | Path, *, data: str | Path | None = None, **flags: Any
) -> UnlearnTrainer:
    """A trainer that has not trained yet: `.train()`, then `.finish()`, then `.save_model()`.

    Args:
        method: as `--method`: `npo`, `grad_diff`, `idk`, …
        model: checkpoint folder or Hub id that forgetting starts from.
        out: output folder.
        data: folder or Hub id of the rows; None: `REMEM_DATA`, else the published set.
        flags: any flag of `remem train` by its name, such as `learning_rate=1e-4` or `forget="forget2"`; a
            sequence gives several values.

    Raises:
        RememError: an unknown flag, rows or checkpoint that cannot be read, a starting model that the gate refuses.
    """
    from unlearning.arguments import parse
    from unlearning.run import build_trainer, prepare

    parsed = parse(_arguments(method, model, out, data, flags))
    if parsed is None:
        raise RememError("help is a flag of the command: remem train --help")
    ready = prepare(*parsed)
    return build_trainer(ready.args, ready.rows, ready.processor, ready.models)


def train(
    method: str, model: str | Path, out: str | Path, *, data: str | Path | None = None, **flags: Any
) -> dict[str, Any]:
    """A whole run in this process, as `remem train` does it; returns what its `run.json` says.

    Args: as `trainer`.

    Raises:
        RememError: as `trainer`; and a loss that is NaN, a disk that is full.
    """
    from unlearning.run import run

    run(_arguments(method, model, out, data, flags))
    return read_object(Path(out) / "run.json")


def score(
    checkpoint: str | Path,
    tasks: Sequence[str],
    out: str | Path,
    *,
    data: str | Path | None = None,
    benchmarks: str | Path | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    metrics: str | None = None,
) -> Path:
    """Score a checkpoint as `lmms_eval --log_samples --output_path OUT` does, in a process of its own.

    Args:
        checkpoint: folder or Hub id.
        tasks: their names, such as `["remem_forget1", "remem_retain"]`.
        out: folder for results, samples and `log.txt`.
        data: folder or Hub id of ReMem's rows; None: `REMEM_DATA`, else the published set.
        benchmarks: a folder that holds a benchmark of your own (`REMEM_BENCHMARKS`).
        device: `cpu`, `cuda`, `cuda:1`.
        batch_size: rows at once; None: as many as fit.
        metrics: families of scores, such as `em,memo,exposure`; None: all.

    Returns:
        The results file.

    Raises:
        RememError: the scoring failed; its last line is in the message.
    """
    from remem_tasks.evaluate import score as run

    given = {"REMEM_DATA": data, "REMEM_BENCHMARKS": benchmarks}
    variables = {name: str(value) for name, value in given.items() if value is not None}
    return run(checkpoint, tasks, out, variables, device, batch_size, metrics)


def read_results(*runs: str | Path, gold: str | None = None, start: str | None = None) -> pd.DataFrame:
    """Scores of any number of runs: one line per run, task, part of it, and score.

    Args:
        runs: as `remem report` takes them: an `--output_path`, a folder of several, a results file, `NAME=PATH`.
        gold: the model that never saw the forget set, by name or path.
        start: the model that forgetting began from.

    Returns:
        The columns of `results.csv`: `run`, `task`, `part`, `metric`, `value`, `low`, `high`, `rows`, `gate`, … Scores
        are shares from 0 to 1.

    Raises:
        RememError: a run that cannot be read, or that belongs to no results.
    """
    import pandas as pd

    from remem_tasks.render.text import CSV_COLUMNS, score_lines
    from remem_tasks.report.summary import report_of

    lines = score_lines(report_of([str(run) for run in runs], gold, start))
    return pd.DataFrame(lines, columns=CSV_COLUMNS)


def read_rows(*runs: str | Path) -> pd.DataFrame:
    """Every question and reply of any number of runs: one line per run, task and row.

    Args:
        runs: as `read_results`.

    Returns:
        `run`, `task`, `row_id`, `identity`, `hop`, `attribute`, `forgotten`, `question`, `answer`, `reply`, `status` (answered,
        refusal, …), then a column per score (0 to 1; NaN: not measured on that row).

    Raises:
        RememError: a run that cannot be read.
    """
    import pandas as pd

    from remem_tasks.report.runs import read_runs

    lines = []
    for run in read_runs([str(run) for run in runs]):
        for task, result in run.task_results.items():
            for place, (row, reply) in enumerate(zip(result.rows, result.replies)):
                lines.append(
                    {
                        "run": run.name,
                        "task": task,
                        "row_id": row.row_id,
                        "identity": row.identity,
                        "hop": row.hop,
                        "attribute": row.attribute,
                        "forgotten": row.forgotten,
                        "question": row.question,
                        "answer": row.answer,
                        "reply": reply.text,
                        "status": str(result.statuses[place]),
                        **{name: float(values[place]) for name, values in result.scores.items()},
                    }
                )
    return pd.DataFrame(lines)
