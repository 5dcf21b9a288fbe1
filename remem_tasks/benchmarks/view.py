"""How gate and report read each benchmark's samples: what makes a row, and which score says that it was answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image

from remem_tasks.data.home import DatasetSource
from remem_tasks.data.source import picture_of

RIGHT = 0.8
"""From which main score on a row counts as answered: EM and accuracy are 0 or 1, ROUGE-L lies between."""
KNOWN = 0.5
"""From which exposure a secret counts as known: among about the first √(M + 1) of M guesses."""
RATES = ("blank_rate", "failed_rate", "refusal_rate", "coverage", "unpaired_rate", "unlettered_rate")
"""Scores that say how a run fared, not what the model knows."""

Pictures = Iterator[tuple[str, Callable[[], Image.Image]]]


@dataclass(frozen=True)
class BenchmarkView:
    """One benchmark.

    Attributes:
        name: the first part of its metrics' names; the values of `<name>_rows` say which row a sample is of.
        main: the scores that say whether the answer was given; of a row the first that it has.
        word: what tables call the main score.
        pictures: data and split to (path as in the samples, what opens the picture).
        trained: kinds of questions that training asks in the same words, as the gate asks nothing else;
            none where it asks all.
        parts: metrics that are parts of others.
        kinds: keys of a row that say what kind of question it is; metrics carry such values after the name.
        hops: whether every row says how many hops its question takes.
        judged: what the gate wants to know of a set beside the main score.
        of_set: scores that only a whole set has, to what the papers call them.
        numbers: those of them that are no shares, so that no table shows them in per cent.
    """

    name: str
    main: tuple[str, ...]
    word: str
    pictures: Callable[[str, str], Pictures]
    trained: tuple[str, ...] = ()
    parts: re.Pattern[str] | None = None
    kinds: tuple[str, ...] = ()
    hops: bool = False
    judged: tuple[str, ...] = ()
    of_set: Mapping[str, str] = field(default_factory=dict, hash=False)
    numbers: frozenset[str] = frozenset()

    @property
    def rows(self) -> str:
        return f"{self.name}_rows"

    @property
    def column(self) -> str:
        """The name of the main score of all rows."""
        return self.main[0] if len(self.main) == 1 else "answered"

    def kind_of(self, values: Mapping[str, Any]) -> str:
        """`cloze, image`: the kind of question that a row is; "" where there are no kinds."""
        return ", ".join(str(values[key]) for key in self.kinds if values.get(key))

    def score_name(self, metric: str, values: Mapping[str, Any]) -> str | None:
        """`rouge` for `clear_caption_rouge` of a caption; None for what is not a score of its own.

        Args:
            values: of `<name>_rows`.
        """
        before, _, name = metric.partition(f"{self.name}_")
        if before or not name or name == "rows" or (self.parts and self.parts.match(name)):
            return None
        for key in self.kinds:
            name = name.removeprefix(f"{values.get(key)}_")
        return name


def _first_picture(row: dict[str, Any], home: DatasetSource) -> Image.Image:
    return picture_of(row, home)[0]


def pictures_of_questions(
    home: DatasetSource, questions: Callable[..., Any]
) -> Callable[[str, str], Pictures]:
    """The pictures of a data set of configs, by the questions that are asked of a split."""

    def found(source: str, split: str) -> Pictures:
        faults: list[str] = []  # the run that was scored has counted and named them
        for row in questions(source, split, faults):
            if row["picture"] >= 0:
                yield row["image_path"], partial(_first_picture, row, home)

    return found


def label_of(task: str) -> str:
    """A task's name as tables show it: ReMem's without the benchmark."""
    return task.removeprefix("remem_").replace("_", " ")
