"""lmms-eval's results files: the newest of a folder, as plain numbers."""

from __future__ import annotations

import math
from pathlib import Path

from remem_tasks.binding import read_results, verify
from remem_tasks.errors import RememError

Scores = dict[str, dict[str, float]]  # task → metric → value


def newest_results(folder: str | Path) -> Path:
    """The newest `*_results.json` below an `--output_path`.

    Raises:
        RememError: there is none.
    """
    files = sorted(Path(folder).rglob("*_results.json"), key=lambda file: (file.name, file.stat().st_mtime))
    if not files:
        raise RememError(f"no *_results.json below '{folder}': was it scored with --output_path {folder}?")
    return files[-1]


def read_scores(file: str | Path) -> Scores:
    """The metrics of each task in a results file, without aliases, standard errors and filter names.

    Raises:
        RememError: the file is not a results file or was changed after the run, or a score is not a finite number.
    """
    raw = read_results(file)
    verify(file, raw)
    results = raw["results"]
    scores: Scores = {}
    for task, values in results.items():
        scores[task] = {}
        for key, value in values.items():
            name, _, filtered = key.partition(",")
            if (
                not filtered
                or "_stderr" in name
                or isinstance(value, bool)
                or not isinstance(value, int | float)
            ):
                continue
            if not math.isfinite(value):
                raise RememError(f"'{file}': {task} {name} is {value}")
            scores[task][name] = value
    return scores
