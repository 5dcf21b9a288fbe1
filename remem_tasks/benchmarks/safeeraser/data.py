"""SafeEraser (arXiv 2502.12520): questions about pictures whose answers are unsafe, harmless ones beside them, and decoys.

A record of `all_train.json` or `all_val.json` is a picture (its folder is its category) with unsafe questions and answers, up to
four harmless ones, and a harmless picture; a decoy is an unsafe question that is asked of the harmless picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import datasets

from remem_tasks.benchmarks.asked import (
    ROW,
    TEXT,
    common_keys,
    needed,
    refuse_unknown,
    training_of,
)
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import identity_key
from remem_tasks.data.records import COLUMNS, JsonReader
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.data.source import has_config, known_configs, read_config, table_of
from remem_tasks.errors import RememError

CATEGORIES = ("Violence", "Weapon", "Privacy", "Sex", "HateSpeech", "IllegalActivity")
HARMLESS = ("UnharmPair_text1", "UnharmPair_text2", "UnharmPair_image1", "UnharmPair_image2")
ANSWERS = ("model_response", "model_response1")
"""The first that an unsafe pair has is its answer (the released code writes replies to the others)."""
VARIABLE = "REMEM_SAFEERASER_DATA"
CASING = "REMEM_SAFEERASER_CASING"
CASINGS = ("own", "published")
KEYS = {"image_path", "SDImage_path", "unsafe_pairs", *HARMLESS}
PAIR_KEYS = {
    "question",
    "sd_question",
    "sd_response",
    "model_response",
    *(f"model_response{n}" for n in (1, 2, 3)),
}
FILES = {
    name: (f"all_{name.partition('_')[0]}.json",) for name in ("train", "val", "train_decoys", "val_decoys")
}


@dataclass(frozen=True)
class PairReader(JsonReader):
    """Reads the records with their own pictures, or of `…_decoys` with the harmless ones."""

    def table(self, source: str, config: str, files: Sequence[str]) -> datasets.Dataset:
        keys = ("SDImage_path",) if config.endswith("_decoys") else ("image_path",)
        return JsonReader(self.names, keys, self.hub_variable).table(source, config, files)


READER = PairReader(FILES, (), VARIABLE)
FEATURES = {name: datasets.Features(COLUMNS) for name in FILES}
# (Published by a file-sharing link, on no Hub: a folder has to be named.)
HOME = DatasetSource("SafeEraser", "", VARIABLE, tuple(FILES), FEATURES, reader=READER)
KNOWN_BY = ("train",)
FINETUNE = (
    "full"  # what a model memorises (ours: the released code starts from a model that answers by itself)
)
SETS = {
    "full": ("train/unsafe", "train/harmless", "train/decoy"),
    "forget": ("train/unsafe",),
    "retain": ("train/harmless",),
    "decoys": ("train/decoy",),
    "forget_pd": ("train/unsafe",),
    "retain_pd": ("train/harmless", "train/decoy"),
    "forget_val": ("val/unsafe",),
    "retain_val": ("val/harmless",),
    "decoys_val": ("val/decoy",),
}
"""Set → the files and the kinds of questions in them that it asks."""
ASKED = datasets.Features({**ROW, "category": TEXT})


def published_casing(choice: str | None = None) -> bool:
    """Whether what is trained on is cased by `str.capitalize`, as the released code does, though not where it scores.

    Args:
        choice: `published` or `own` (as the file has it); None for `$REMEM_SAFEERASER_CASING`, else own.

    Raises:
        RememError: another choice.
    """
    choice = choice or os.environ.get(CASING) or CASINGS[0]
    if choice not in CASINGS:
        raise RememError(f"{CASING} '{choice}' unknown; choose from {', '.join(CASINGS)}")
    return choice == "published"


def category_of(path: str) -> str:
    """The category of a record: the folder of its picture.

    Raises:
        RememError: it is none of the six.

    >>> category_of("dataset/images/Weapon/12.png")
    'Weapon'
    """
    name = PurePosixPath(path.replace("\\", "/")).parent.name
    if name not in CATEGORIES:
        raise RememError(f"picture '{path}' lies in no folder of a category ({', '.join(CATEGORIES)})")
    return name


def _pairs(record: Mapping, allowed: set[str], where: str) -> Iterator[tuple[int, Mapping]]:
    pairs = record.get("unsafe_pairs")
    if not isinstance(pairs, list) or not pairs:
        raise RememError(f"{where}: 'unsafe_pairs' holds no questions")
    for number, one in enumerate(pairs):
        if not isinstance(one, dict):
            raise RememError(f"{where}: unsafe pair {number} is not a record")
        refuse_unknown(one, allowed, f"{where}, unsafe pair {number}")
        yield number, one


def _questions(
    record: Mapping, kind: str, allowed: set[str], needs_answer: bool, where: str
) -> Iterator[tuple[int, str, str]]:
    """(number, question, answer) of each question of a kind in a record.

    Args:
        needs_answer: whether an unsafe question without an answer is a fault; else its answer is "".
    """
    if kind == "harmless":
        for number, name in enumerate(HARMLESS):
            if name not in record:
                continue
            one = record[name]
            if not isinstance(one, dict):
                raise RememError(f"{where}: '{name}' is not a record")
            refuse_unknown(one, {"Question", "Prediction"}, f"{where}, {name}")
            asked, said = (needed(one.get(key), f"{name} {key}", where) for key in ("Question", "Prediction"))
            yield number, asked, said
        return
    for number, one in _pairs(record, allowed, where):
        question = needed(one.get("question"), f"question {number}", where)
        if kind == "unsafe":
            key = next((name for name in ANSWERS if name in one), ANSWERS[0])
            said = needed(one.get(key), f"{key} {number}", where) if needs_answer or key in one else ""
            yield number, question, said
        elif "sd_response" in one:  # (A pair without is no decoy.)
            yield number, question, needed(one["sd_response"], f"sd_response {number}", where)


def questions_of(source: str, name: str, faults: list[str] | None = None) -> datasets.Dataset:
    """The questions of a set, record by record.

    Args:
        faults: gets the faults, and the records they are in are left out; without it the first one is raised.

    Returns:
        Rows of `ROW` with `kind` unsafe, harmless or decoy, and the `category` of the record.

    Raises:
        RememError: no such set or file, or a record that cannot be asked.
    """
    if name not in SETS:
        raise RememError(f"SafeEraser has no set '{name}'; it has {', '.join(SETS)}")
    rows: list[dict] = []
    for part in SETS[name]:
        file_of, _, kind = part.partition("/")
        rows += _rows(source, name, file_of, kind, faults)
    return table_of(rows, ASKED)


def _rows(source: str, name: str, part: str, kind: str, faults: list[str] | None) -> Iterator[dict]:
    config = f"{part}_decoys" if kind == "decoy" else part
    table = read_config(source, config, HOME)
    (file,) = READER.files(source, config)
    records = [json.loads(text) for text in table["record"][:]]
    keys = common_keys(records, KEYS)
    pairs = [one for record in records for one in record.get("unsafe_pairs") or () if isinstance(one, dict)]
    allowed = common_keys(pairs, PAIR_KEYS)
    there = [cell is not None for cell in table.select_columns(["image"])["image"][:]]
    first: dict[tuple[str, str], int] = {}
    for place, (record, path) in enumerate(zip(records, table["picture_path"][:])):
        where = f"'{file}', row {place}"
        found = []
        try:
            refuse_unknown(record, keys, where)
            try:
                own = needed(record.get("image_path"), "image_path", where)
                category = category_of(own)
            except RememError as error:
                raise error if str(error).startswith(where) else RememError(f"{where}: {error}") from error
            for number, question, said in _questions(record, kind, allowed, part == "train", where):
                if not there[place]:
                    what = "SDImage_path" if kind == "decoy" else "image_path"
                    raise RememError(f"{where}: no one picture '{path or what}' in the data set")
                if (path, question) in first:
                    raise RememError(
                        f"{where}: asks what row {first[path, question]} asks of the same picture"
                    )
                first[path, question] = place
                found.append(
                    {
                        **dict.fromkeys(("cloze", "secret"), ""),
                        "row_id": f"{name}/{config}/{kind}/{number}:{place}",
                        "identity": identity_key(f"{category} {PurePosixPath(own).stem}"),
                        "kind": kind,
                        "category": category,
                        "modality": "image",
                        "prompt": question,
                        "answer": said,
                        "image_path": path,
                        "source": source,
                        "config": config,
                        "place": place,
                        "picture": 0,
                    }
                )
        except RememError as error:
            if faults is None:
                raise
            faults.append(str(error))
            continue
        yield from found


def _cased(rows: Sequence[dict]) -> list[dict]:
    """Rows as training reads them; see `published_casing`."""
    if not published_casing():
        return list(rows)
    return [
        {**row, "prompt": row["prompt"].capitalize(), "answer": row["answer"].capitalize()} for row in rows
    ]


training_rows = training_of("SafeEraser", HOME, questions_of, _cased)


# `forget_pd` asks what `forget` asks; what is kept beside it has the decoys in it, as the PD losses have.
FORGET_SETS = ForgetSets(
    "SafeEraser", {"forget": "retain", "forget_pd": "retain_pd"}, beside={"forget_pd": ("forget",)}
)
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read both files and report on them.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    report = ConfigReport()
    there = known_configs(source, HOME)
    before: set[str] = set()

    def lacking(name: str) -> str:
        there = all(has_config(source, part.partition("/")[0], HOME) for part in SETS[name])
        return "" if there else "set that cannot be asked, as its file is not there"

    def told(name: str) -> bool:
        new = set(SETS[name]) - before
        before.update(new)
        return bool(new)

    counts = distinct(records="identity")
    for _ in report.walk(SETS, source, questions_of, counts, lacking=lacking, told=told, left_out=True):
        pass
    for config in there:
        report.check_filled(read_config(source, config, HOME), FILES[config][0])
    seen: set[str] = set()
    for config in there if pictures else ():
        report.check_pictures(read_config(source, config, HOME), f"pictures '{config}'", seen)
    return report
