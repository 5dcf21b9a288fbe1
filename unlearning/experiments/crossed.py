"""A checkpoint scored on what it was trained on, on test rows, and on rows with words and pictures crossed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import datasets

from remem_tasks.benchmarks.remem.data import available_splits, load_split, resolve_source
from remem_tasks.checksums import content_of
from remem_tasks.evaluate import score
from remem_tasks.files import locked
from remem_tasks.report.diagnose import CROSSED, Diagnosis, diagnose
from remem_tasks.report.runs import read_runs
from unlearning.experiments.ledger import Records


class Contents:
    """The content of checkpoints and data sets, of which each is read once."""

    def __init__(self) -> None:
        self.weights: Callable[[str], str] = cache(content_of)
        self.rows: Callable[[str], str] = cache(self._rows)

    @staticmethod
    def _rows(data: str) -> str:
        """Of a data set, its card with it, which says what its splits are."""
        return content_of(data, "**/*", aside=("*.lock", "*.tmp", ".*"))


def score_once(
    checkpoint: str,
    data: str,
    tasks: Sequence[str],
    out: str | Path,
    device: str = "cpu",
    contents: Contents | None = None,
) -> None:
    """EM of a checkpoint by this environment's lmms-eval, unless `out` holds a complete scoring of its files and these rows.

    Args:
        contents: shared by what is asked of one checkpoint and one data set.
    """
    contents = contents or Contents()
    asked = {
        "checkpoint": str(checkpoint),
        "weights": contents.weights(str(checkpoint)),
        "data": str(data),
        "rows": contents.rows(str(data)),
        "tasks": list(tasks),
        "metrics": "em",
    }
    records = Records(out)
    if records.found("scored", asked):
        return
    score(checkpoint, tasks, out, {"REMEM_DATA": str(data)}, device, batch_size=64, metrics="em")
    records.keep("scored", asked)


def cross(data: str, out: str | Path, contents: Contents | None = None) -> dict[str, Path]:
    """Two data folders whose split `test` has words and pictures crossed, person by person; kept while the data stay.

    Returns:
        `new_words`: test questions with training pictures; `new_pictures`: as many training questions of
        the same person with the test pictures.
    """
    out, of = Path(out), {"rows": (contents or Contents()).rows(data)}
    records = Records(out)
    if records.found("made_of", of):
        return {kind: out / kind for kind in CROSSED}
    finetune, test = load_split(data, "finetune"), load_split(data, "test")
    columns = [name for name in test.column_names if name not in ("row_id", "identity", "hop")]
    rows_of: dict[str, list[int]] = {}
    for place, identity in enumerate(finetune["identity"][:]):
        rows_of.setdefault(identity, []).append(place)
    taken: dict[str, int] = {}
    pairs = []
    for place, identity in enumerate(test["identity"][:]):
        if own := rows_of.get(identity):
            nth = taken[identity] = taken.get(identity, -1) + 1
            step = max(1, len(own) // max(1, sum(name == identity for name in test["identity"][:])))
            pairs.append((place, own[nth * step % len(own)]))
    folders = {}
    forget = load_split(data, "forget1") if "forget1" in available_splits(data) else None
    for kind in CROSSED:
        folder = folders[kind] = out / kind
        rows = []
        for new, old in pairs:
            words, shown = (test[new], finetune[old]) if kind == "new_words" else (finetune[old], test[new])
            row = {name: words[name] for name in columns}
            rows.append({**row, "image": shown["image"], "image_path": shown["image_path"]})
        (folder / "data").mkdir(parents=True, exist_ok=True)
        if forget is not None:  # who counts as forgotten
            forget.select_columns(columns).cast_column("image", datasets.Image()).to_parquet(
                folder / "data" / "forget1-00000-of-00001.parquet"
            )
        table = datasets.Dataset.from_list(rows, features=test.select_columns(columns).features)
        partial = folder / "data" / "test.partial"
        table.cast_column("image", datasets.Image()).to_parquet(partial)
        partial.rename(folder / "data" / "test-00000-of-00001.parquet")
    records.keep("made_of", of)
    return folders


@locked
def diagnose_checkpoint(checkpoint: str, data: str | None, out: str | Path, device: str = "cpu") -> Diagnosis:
    """Score a checkpoint on finetune, test and both crossed sets in folder `out`, then `diagnose`.

    A second call goes on with what is scored.
    """
    out, source, contents = Path(out), str(resolve_source(data)), Contents()
    score_once(checkpoint, source, ("remem_finetune", "remem_test"), out / "results", device, contents)
    crossed = {}
    for kind, folder in cross(source, out / "crossed", contents).items():
        score_once(checkpoint, str(folder), ("remem_test",), out / f"results_{kind}", device, contents)
        crossed[kind] = read_runs([f"{kind}={out / f'results_{kind}'}"])[0]
    (run,) = read_runs([f"{Path(checkpoint).name or checkpoint}={out / 'results'}"])
    return diagnose(run, crossed)
