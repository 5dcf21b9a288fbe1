"""OFFSIDE (Hub `zh1218001/OFFSIDE`): footballers' pictures with facts as messages, in JSON files beside folders of pictures.

A record is one question and its answer, or a question with options. By its number a picture belongs to one set: number
mod 5 is 4 for what is to be forgotten, 1 to 3 for what is kept, 0 for what an attack relearns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import datasets

from remem_tasks.benchmarks.asked import (
    ROW,
    TEXT,
    needed,
    refuse_unknown,
    rows_of_file,
    tell_few,
    training_tables,
)
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.faults import REFUSE
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import identity_key
from remem_tasks.data.records import COLUMNS, JsonReader
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.data.source import has_config, known_configs, read_config, table_of
from remem_tasks.errors import RememError

FILES = {
    "forget": ("forget_set.json",),
    "retain": ("retain_set.json",),
    "test": ("test_set.json",),
    "relearn": ("relearn_set_enhanced.json", "relearn_set.json"),
    **{f"{name}_choice": (f"classification_{name}_set.json",) for name in ("forget", "retain", "test")},
}
VARIABLE = "REMEM_OFFSIDE_DATA"
READER = JsonReader(FILES, ("images", "image"), VARIABLE)
FEATURES = {name: datasets.Features(COLUMNS) for name in FILES}
HOME = DatasetSource("OFFSIDE", "zh1218001/OFFSIDE", VARIABLE, tuple(FILES), FEATURES, reader=READER)
KNOWN_BY = ("forget", "forget_choice")
FINETUNE = "full"
RELEARN = "relearn"  # what a model that forgot learns again; no picture of it is in another set
PARTS = {
    "full": ("forget", "retain"),  # what a model memorises
    "forget_private": ("forget",),
    "retain_private": ("retain", "forget"),
}
"""Sets that are made of files: all that is memorised; and of the selective setting what is forgotten, what is kept."""
SETS = (*FILES, *PARTS)
REST = {"forget": (4,), "retain": (1, 2, 3), "relearn": (0,)}
"""The number of a picture mod 5, by set."""
PRIVATE = re.compile(
    r"\b(club|team|transfer\w*|fee|market value|worth|troph\w+|honou?rs?|titles?)\b", re.IGNORECASE
)
"""In a question about one of the six private facts (ours: the data name no fact)."""
LETTERS = ("A", "B", "C", "D")
KEYS = {"messages", "images", "image", "id"}
CHOICE_KEYS = {"Question", "Options", "Correct_Answer", "images", "image", "id"}
CHOOSE = (
    "Please look at this image and answer the question by selecting the correct option from the choices below.\n\n"
    "Please respond with only the letter of the correct answer (e.g., 'The answer is A' or just 'A').\n\nOptions:\n"
)  # as published
ASKED = datasets.Features({**ROW, "letter": TEXT, "options": datasets.List(TEXT)})


def _told(record: Mapping, where: str) -> dict:
    refuse_unknown(record, KEYS, where)
    messages = record.get("messages")
    roles = (
        [one.get("role") if isinstance(one, dict) else None for one in messages]
        if isinstance(messages, list)
        else []
    )
    if roles != ["user", "assistant"]:
        raise RememError(f"{where}: 'messages' are not one of a user and one of an assistant")
    asked, told = (one.get("content") for one in messages)
    asked = asked.replace("<image>", "") if isinstance(asked, str) else asked
    return {
        "prompt": needed(asked, "content of user", where),
        "answer": needed(told, "content of assistant", where),
        "kind": "generation",
    }


def _choice(record: Mapping, where: str) -> dict:
    refuse_unknown(record, CHOICE_KEYS, where)
    options = record.get("Options")
    if not isinstance(options, dict) or len(options) < 2 or not set(options) <= set(LETTERS):
        raise RememError(f"{where}: 'Options' are not by the letters {', '.join(LETTERS)}")
    if gap := [letter for letter in LETTERS[: len(options)] if letter not in options]:
        raise RememError(f"{where}: 'Options' lack {gap[0]}, and have {max(options)}")
    texts = {letter: needed(text, f"option {letter}", where) for letter, text in options.items()}
    letter = needed(record.get("Correct_Answer"), "Correct_Answer", where)
    if letter not in texts:
        raise RememError(f"{where}: Correct_Answer '{letter[:40]}' is not an option")
    lines = "".join(f"{key}: {text}\n" for key, text in texts.items())
    return {
        "prompt": f"{needed(record.get('Question'), 'Question', where)}\n\n{CHOOSE}{lines}",
        "answer": texts[letter],
        "letter": letter,
        "options": list(texts.values()),
        "kind": "choice",
    }


def person_of(path: str) -> str:
    """Who is shown: the folder of the picture, where it is one of a person; else its name without number."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    folder = parts[-2] if len(parts) > 1 else ""
    name = (
        folder
        if re.search(r"[A-Za-z]", folder)
        and not re.fullmatch(r"(?i)(images?|data|\w*_?set|\w*_images?)", folder)
        else ""
    )
    stem = PurePosixPath(parts[-1]).stem if parts else ""
    return identity_key(name or re.sub(r"[\W_]*\d+$", "", stem) or stem)


def number_of(path: str) -> int | None:
    """The number of a picture: the last one in its name; None if there is none."""
    found = re.findall(r"\d+", PurePosixPath(path.replace("\\", "/")).stem)
    return int(found[-1]) if found else None


def _shown(path: str) -> dict:
    return {"identity": person_of(path), "letter": "", "options": []}


def questions_of(source: str, name: str, faults: list[str] | None = None) -> datasets.Dataset:
    """The questions of a set.

    Args:
        faults: gets the faults, and the rows they are in are left out; without it the first one is raised.

    Returns:
        Rows of `ROW` with `kind` generation or choice, and of a choice `letter` and `options`.

    Raises:
        RememError: no such set or file, or a row that cannot be asked.
    """
    if name not in SETS:
        raise RememError(f"OFFSIDE has no set '{name}'; it has {', '.join(SETS)}")
    rows = [
        one
        for config in PARTS.get(name, (name,))
        for one in rows_of_file(
            source,
            config,
            name,
            HOME,
            READER,
            _choice if config.endswith("_choice") else _told,
            _shown,
            faults,
        )
    ]
    if name.endswith("_private"):
        kept = name.startswith("retain")
        rows = [
            one for one in rows if (one["config"] == "retain" or not PRIVATE.search(one["prompt"])) == kept
        ]
    return table_of(rows, ASKED)


def training_rows(
    source: str, name: str, modality: str = "joint", choice: str = REFUSE, told: list[str] | None = None
) -> datasets.Dataset:
    """A set in the columns that training reads.

    Args:
        modality: `joint` or `image`; `text`, the unimodal setting: the same questions without their pictures.
        choice: whether more than a few faulty rows are to `refuse` or `allow`.
        told: gets what is to be told of rows that are left out.
    """
    faults: list[str] = []
    rows = questions_of(source, name, faults)
    tell_few(rows, faults, choice, source, told)
    return training_tables(
        [{**row, "picture": -1} if modality == "text" else row for row in rows], source, HOME
    )


# Of the selective setting `retain_private`, where the shared facts of forgotten pictures are kept.
FORGET_SETS = ForgetSets("OFFSIDE", {"forget": "retain", "forget_private": "retain_private"})
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every file and report on it.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    report = ConfigReport()
    counts = distinct(people="identity", pictures="image_path")
    for config, rows, _ in report.walk(
        known_configs(source, HOME), source, questions_of, counts, what="file"
    ):
        report.check_filled(read_config(source, config, HOME), FILES[config][0])
        set_name = config.removesuffix("_choice")
        numbers = {path: number_of(path) for path in rows["image_path"][:]}
        strange = [
            path
            for path, number in numbers.items()
            if number is None or number % 5 not in REST.get(set_name, range(5))
        ]
        if strange and len(strange) <= max(1, len(numbers) // 100):
            report.fault("picture of another set, by its number mod 5", f"'{config}': {strange[0]}")
        elif strange:
            report.remarks.setdefault("pictures not numbered as published (mod 5)", []).append(f"'{config}'")
        if pictures:
            report.check_pictures(read_config(source, config, HOME), f"file of '{config}'", set())
    if all(has_config(source, config, HOME) for config in ("forget", "retain")):
        shown = [
            set(read_config(source, config, HOME)["picture_path"][:]) - {""}
            for config in ("forget", "retain")
        ]
        if both := shown[0] & shown[1]:
            report.fault("retain shows forgotten pictures", f"{len(both)}, such as '{min(both)}'")
    return report
