"""What stands beside the rows of a split: other questions with the same answer, wrong answers, a refusal.

A data set may have it as the config `perturbed`, row by row as in the same split of the config
`default`: for truth ratios (TOFU, arXiv 2401.06121), paraphrase attacks, and refusal training.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from remem_tasks.benchmarks.remem import data as load
from remem_tasks.data.tables import read_parquet
from remem_tasks.errors import RememError
from remem_tasks.metrics.words import occurs, tokens

CONFIG = "perturbed"
_TEXTS = datasets.List(datasets.Value("string"))
FEATURES = datasets.Features(
    {
        "question": datasets.Value("string"),
        "image_path": datasets.Value("string"),
        "paraphrased_question": _TEXTS,
        "paraphrased_answer": datasets.Value("string"),
        "perturbed_answer": _TEXTS,
        "refusal": datasets.Value("string"),
    }
)


def perturbed_files(source: str) -> dict[str, list[str]]:
    """The parquet files of each split that has a perturbed partner; empty where the data set has none.

    Raises:
        RememError: no data set there.
    """
    load.available_splits(source)  # says clearly what is wrong with a source
    saved = Path(source, "dataset_dict.json").is_file()
    return {} if saved else load.data_files(source, CONFIG)


def load_perturbed(source: str | None, split: str) -> datasets.Dataset:
    """What stands beside the rows of a split, in their order.

    Returns:
        N rows: `question` and `image_path` of the row itself, `paraphrased_question` (list),
        `paraphrased_answer`, `perturbed_answer` (list of wrong answers in the form of the right
        one), `refusal`.

    Raises:
        RememError: the data set has none for this split, or they are not row by row those of the split.
    """
    source = load.resolve_source(source)
    files = perturbed_files(source).get(split)
    if not files:
        raise RememError(
            f"{source} has no config '{CONFIG}' for split '{split}' (paraphrases and wrong answers beside the rows)"
        )
    beside = read_parquet(source, split, files)
    if missing := [name for name in FEATURES if name not in beside.column_names]:
        raise RememError(
            f"{source}, config '{CONFIG}', split '{split}': missing column(s) {', '.join(missing)}"
        )
    rows = load.load_split(source, split, pictures=False)
    if len(rows) != len(beside):
        raise RememError(
            f"{source}, split '{split}': {len(rows)} rows, but {len(beside)} in config '{CONFIG}'"
        )
    for name in ("question", "image_path"):
        for index, (one, other) in enumerate(zip(rows[name][:], beside[name][:])):
            if one != other:
                raise RememError(
                    f"{source}, split '{split}', row {index}: config '{CONFIG}' has another {name} there"
                )
    return beside


def perturbed_faults(row: dict, phrases: list[str]) -> list[str]:
    """The kinds of fault in what stands beside a row.

    Args:
        row: of `load_perturbed`.
        phrases: the keyword phrases of the row itself.
    """
    wanted = [tokens(phrase) for phrase in phrases]
    gives = lambda text: any(occurs(phrase, tokens(text)) for phrase in wanted)  # noqa: E731
    questions = row["paraphrased_question"]
    faults = {
        "no paraphrased question": not questions,
        "paraphrase repeats the question": row["question"] in questions
        or len(set(questions)) < len(questions),
        "keyword in a paraphrased question": any(map(gives, questions)),
        "keyword missing from the paraphrased answer": not gives(row["paraphrased_answer"]),
        "no perturbed answer": not row["perturbed_answer"],
        "keyword in a perturbed answer": any(map(gives, row["perturbed_answer"])),
        "keyword in the refusal": gives(row["refusal"]),
    }
    return [kind for kind, found in faults.items() if found]
