"""How gate and report read each benchmark's samples: what makes a row, and which score says that it was answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from PIL import Image

from remem_tasks.data import clear, decode_image, load_split, mllmu
from remem_tasks.data.configs import Home, picture_of

RIGHT = 0.8
"""From which main score on a row counts as answered: EM and accuracy are 0 or 1, ROUGE-L lies between."""
RATES = ("blank_rate", "failed_rate", "unpaired_rate", "unlettered_rate")
"""Scores that say how a run fared, not what the model knows."""

Pictures = Iterator[tuple[str, Callable[[], Image.Image]]]


@dataclass(frozen=True)
class Reading:
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
        judged: what the gate wants to know of a set beside the main score.
    """

    name: str
    main: tuple[str, ...]
    word: str
    pictures: Callable[[str, str], Pictures]
    trained: tuple[str, ...] = ()
    parts: re.Pattern | None = None
    kinds: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()

    @property
    def rows(self) -> str:
        return f"{self.name}_rows"

    @property
    def column(self) -> str:
        """The name of the main score of all rows."""
        return self.main[0] if len(self.main) == 1 else "answered"

    def kind_of(self, values: Mapping) -> str:
        """`cloze, image`: the kind of question that a row is; "" where there are no kinds."""
        return ", ".join(str(values[key]) for key in self.kinds if values.get(key))

    def score_name(self, metric: str, values: Mapping) -> str | None:
        """`rouge` for `clear_caption_rouge` of a caption; None for what is no score of its own.

        Args:
            values: of `<name>_rows`.
        """
        before, _, name = metric.partition(f"{self.name}_")
        if before or not name or name == "rows" or (self.parts and self.parts.match(name)):
            return None
        for key in self.kinds:
            name = name.removeprefix(f"{values.get(key)}_")
        return name


def _of_remem(source: str, split: str) -> Pictures:
    rows = load_split(source, split)
    for index, path in enumerate(rows["image_path"][:]):
        yield path, lambda index=index: decode_image(rows[index]["image"], "picture")


def _of_questions(home: Home, questions: Callable) -> Callable[[str, str], Pictures]:
    def found(source: str, split: str) -> Pictures:
        faults: list[str] = []  # the run that was scored has counted and named them
        for row in questions(source, split, faults):
            if row["picture"] >= 0:
                yield row["image_path"], lambda row=row: picture_of(row, home)[0]

    return found


READINGS: dict[str, Reading] = {
    one.name: one
    for one in (
        Reading(
            "remem",
            ("em",),
            "EM",
            _of_remem,
            parts=re.compile(r"(\d+hop|forgotten|kept)_"),
            judged=("memo", "exposure"),
        ),
        Reading(
            "clear",
            ("rouge",),
            "ROUGE-L recall",
            _of_questions(clear.HOME, lambda *of: clear.questions_of(*of)[0]),
            trained=("caption", "text"),
            kinds=("kind",),
        ),
        Reading(
            "mllmu",
            ("accuracy", "cloze", "rougel"),
            "answered",
            _of_questions(mllmu.HOME, mllmu.questions_of),
            trained=("generation",),
            kinds=("kind", "modality"),
        ),
    )
}
MAINS = {one.column: one.word for one in READINGS.values()}
"""The main scores, and what tables call them."""
OF_SET = {
    "forget_metric": "Forget",
    "retain_metric": "Retain",
    "real_metric": "Real",
    "ks_quality": "log FQ",
    "js_quality": "1 − JSD",
}
"""Scores that only a whole set has, and what the papers call them."""


def reading_of(metrics: Mapping) -> Reading | None:
    """The reading of a task by its metrics; None where no benchmark here has them."""
    return next((one for one in READINGS.values() if one.rows in metrics), None)


def label_of(task: str) -> str:
    """A task's name as tables show it: ReMem's without the benchmark."""
    return task.removeprefix("remem_").replace("_", " ")
