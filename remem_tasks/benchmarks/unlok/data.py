"""UnLOK-VQA (arXiv 2505.01456, Hub `vaidehi99/UnLOK-VQA`): facts about pictures that are to be deleted, with what is asked beside them.

A record is a fact: a question about a picture of COCO, its answer, questions of its neighbourhood, other answers. The
pictures are not in the data set: those of COCO and the changed ones are looked for in folders, by number and by id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from remem_tasks.data.records import COLUMNS, DEPTHS, PICTURE_SUFFIXES, JsonReader, Pictures, read_records
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.data.source import has_config, known_configs, read_config, table_of
from remem_tasks.errors import RememError

PUBLISHED = "zsre_mend_eval.json"  # as the released code calls it
VARIABLE = "REMEM_UNLOK_DATA"
PICTURES = "REMEM_UNLOK_PICTURES"
CHOSEN = "REMEM_UNLOK_FACTS"
SHARE = 0.05  # of the facts, the first ones, that are to be forgotten where none are chosen (ours)
NEEDED = ("id", "src", "pred", "image_id")
KNOWN = {
    *NEEDED,
    "loc",
    "loc_ans",
    "subject",
    "answers",
    "alt_ans",
    "rephrase",
    "neigh_idx",
    "objects_edit",
}
MARK = "nq question: "
PROMPT = "Answer the question in one word:\n Question: {} Answer:"  # as published
OWN = "facts"
CHANGED = {"easy": "parap_images", "medium": "parap_images_medium", "hard": "paraphrase_images_hard"}
"""Config → the folder of changed pictures, `<id>.jpg` somewhere in it."""
NEAR = {"near_easy": "neigh_easy", "near_hard": "neighborhood_images_hard"}
"""Config → the folder of neighbouring pictures, `<id>_<number of another answer>.jpg` somewhere in it."""
FOLDERS = {**CHANGED, **NEAR}
CONFIGS = (OWN, *FOLDERS)


@dataclass(frozen=True)
class Set:
    """What a set asks.

    Attributes:
        kinds: fact, rephrased (its question in other words), neighbour (other questions about its picture), picture (its
            question about a changed picture) or neighbour_picture (its question where another answer is right).
        of: of the facts that are `forgotten`, the `others`, or `all`.
        config: whose pictures are shown.
    """

    kinds: tuple[str, ...]
    of: str = "forgotten"
    config: str = OWN


SETS = {
    "full": Set(("fact", "neighbour"), "all"),
    "forget": Set(("fact",)),
    "forget_rephrased": Set(("rephrased",)),
    **{f"forget_{name}": Set(("picture",), config=name) for name in CHANGED},
    "neighbours": Set(("neighbour",)),
    **{f"neighbours_{name.removeprefix('near_')}": Set(("neighbour_picture",), config=name) for name in NEAR},
    "retain": Set(("fact", "neighbour"), "others"),
}


def _head_is_ours(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            head = opened.read(2**17)
    except OSError:
        return False
    return all(f'"{key}"'.encode() in head for key in ("src", "pred", "image_id"))


def _folders(place: str, name: str) -> list[Path]:
    return [one for depth in DEPTHS for one in sorted(Path(place).glob(depth + name)) if one.is_dir()]


@dataclass(frozen=True)
class FactReader(JsonReader):
    """Reads the one JSON file of facts, whatever its name, with the pictures of each config."""

    def files(self, source: str, config: str) -> list[str]:
        """The file of facts; none where there is none, or where the pictures of a config are not to be had.

        Raises:
            RememError: several files hold facts, and none has the published name.
        """
        folder = self.folder(source)
        if config != OWN and not _folders(_place(folder), FOLDERS[config]):
            return []
        found = [
            file
            for depth in DEPTHS
            for suffix in ("*.json", "*.jsonl")
            for file in sorted(Path(folder).glob(depth + suffix))
            if _head_is_ours(file)
        ]
        named = [file for file in found if file.name == PUBLISHED] or found
        if len(named) > 1:
            raise RememError(
                f"{source}: {len(named)} files hold facts of UnLOK-VQA: {', '.join(map(str, named[:3]))}"
            )
        return list(map(str, named))

    def table(self, source: str, config: str, files: Sequence[str]) -> datasets.Dataset:
        """The facts, each with its picture of COCO or its changed one; or a row a neighbouring picture.

        Raises:
            RememError: the file is not a list of records.
        """
        cells: dict[str, list] = {name: [] for name in COLUMNS}
        place = _place(self.folder(source))
        find = Pictures(place).find if config == OWN else _in_folder(place, FOLDERS[config])
        for record in read_records(files[0]):
            for path in _paths(record, config):
                file = find(path) if path else None
                cells["image"].append({"bytes": None, "path": file} if file else None)
                cells["record"].append(json.dumps(record))
                cells["picture_path"].append(path)
        return datasets.Dataset.from_dict(cells, features=datasets.Features(COLUMNS))


def _place(folder: str) -> str:
    """Where pictures lie: the folder that the variable names, else beside the facts."""
    place = os.environ.get(PICTURES) or folder
    if not os.path.isdir(place):
        raise RememError(f"{PICTURES}='{place}' is not a folder here")
    return place


def _in_folder(place: str, name: str) -> Callable[[str], str | None]:
    """Finds `<name>/<stem>.jpg` by its stem, in any depth of the folders of that name."""
    found: dict[str, list[str]] = {}
    for folder in _folders(place, name):
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in PICTURE_SUFFIXES:
                found.setdefault(file.stem, []).append(str(file))

    def find(path: str) -> str | None:
        files = found.get(Path(path).stem, [])
        return files[0] if len(files) == 1 else None

    return find


def _paths(record: Mapping, config: str) -> Iterator[str]:
    """The pictures of a record, as they are called; "" for one that it does not name."""
    one = record.get("id")
    if config == OWN:
        number = str(record.get("image_id") or "")
        yield f"{int(number):012d}.jpg" if number.isdecimal() else ""
    elif config in CHANGED:
        yield f"{CHANGED[config]}/{one}.jpg"
    else:
        numbers = record.get("neigh_idx")
        for number in numbers if isinstance(numbers, list) else ():
            yield f"{NEAR[config]}/{one}_{number}.jpg"


READER = FactReader(dict.fromkeys(CONFIGS, (PUBLISHED,)), (), VARIABLE)
FEATURES = {name: datasets.Features(COLUMNS) for name in CONFIGS}
HOME = DatasetSource("UnLOK-VQA", "vaidehi99/UnLOK-VQA", VARIABLE, CONFIGS, FEATURES, reader=READER)
KNOWN_BY = (OWN,)
FINETUNE = "full"  # what a model memorises (ours: the paper deletes what a published model knows)
ASKED = datasets.Features({**ROW, "rephrased": datasets.List(TEXT), "wrong": datasets.List(TEXT)})


def _texts(record: Mapping, key: str, where: str, blank: bool = False) -> list[str]:
    """A list of texts; a text alone is a list of one, and a key that is missing an empty one.

    Args:
        blank: whether it may hold empty texts, which are kept.
    """
    cell = record.get(key, [])
    cell = [cell] if isinstance(cell, str) else cell
    if not isinstance(cell, list):
        raise RememError(f"{where}: '{key}' holds {str(cell)[:40]!r}, no list of texts")
    return [
        "" if blank and isinstance(one, str) and not one.strip() else needed(one, f"{key} {number}", where)
        for number, one in enumerate(cell)
    ]


def _pairs(record: Mapping, kind: str, path: str, where: str) -> list[tuple[str, str]]:
    """(question, answer) of each question of a kind that is asked of a record."""
    question, answer = needed(record["src"], "src", where), needed(record["pred"], "pred", where)
    if kind in ("fact", "picture"):
        return [(question, answer)]
    if kind == "rephrased":
        return [(one, answer) for one in _texts(record, "rephrase", where)]
    if kind == "neighbour":
        asked, told = _texts(record, "loc", where), _texts(record, "loc_ans", where)
        if len(asked) < len(told):
            raise RememError(f"{where}: {len(told)} answers in 'loc_ans' to {len(asked)} questions in 'loc'")
        # (As published: of an answer its first word, of the questions those that have an answer.)
        return [(one.removeprefix(MARK).strip(), said.split(" ")[0]) for one, said in zip(asked, told)]
    others, number = _texts(record, "alt_ans", where, blank=True), Path(path).stem.rpartition("_")[2]
    if not number.isdecimal() or int(number) >= len(others) or not others[int(number)]:
        raise RememError(f"{where}: neigh_idx '{number}' is the place of no answer in 'alt_ans'")
    return [(question, others[int(number)])]


def chosen(source: str, ids: Sequence[str]) -> set[str]:
    """The ids of the facts that are to be forgotten: of `$REMEM_UNLOK_FACTS`, else the first `SHARE` of all.

    Raises:
        RememError: an id that no fact has, or all facts are chosen.
    """
    listed = [one.strip() for one in os.environ.get(CHOSEN, "").split(",") if one.strip()]
    if unknown := [one for one in listed if one not in ids]:
        raise RememError(f"{CHOSEN}: '{unknown[0]}' is the id of no fact in {source}")
    found = set(listed or ids[: max(1, round(SHARE * len(ids)))])
    if found >= set(ids):
        raise RememError(f"{source}: all {len(ids)} facts are to be forgotten, so none is left to retain")
    return found


def questions_of(source: str, name: str, faults: list[str] | None = None) -> datasets.Dataset:
    """The questions of a set, fact by fact.

    Args:
        faults: gets the faults, and what they are in is left out; without it the first one is raised.

    Returns:
        Rows of `ROW` with `rephrased` (the fact's question in other words) and `wrong` (other answers).

    Raises:
        RememError: no such set, or no pictures of it; a fact that cannot be asked.
    """
    if name not in SETS:
        raise RememError(f"UnLOK-VQA has no set '{name}'; it has {', '.join(SETS)}")
    made = SETS[name]
    own = read_config(source, OWN, HOME)
    (file,) = READER.files(source, OWN)
    facts = [json.loads(text) for text in own["record"][:]]
    ids = ["" if one.get("id") is None else str(one["id"]) for one in facts]
    keys = common_keys(facts, KNOWN)
    gone = chosen(source, list(dict.fromkeys(filter(None, ids))))
    if not has_config(source, made.config, HOME):
        raise RememError(
            f"{source}: no folder '{FOLDERS[made.config]}' with the pictures of '{name}' in it or in {PICTURES}"
        )
    table = own if made.config == OWN else read_config(source, made.config, HOME)
    there = [cell is not None for cell in table.select_columns(["image"])["image"][:]]
    first = {one: place for place, one in reversed(list(enumerate(ids)))}
    asked: list[dict] = []
    for place, (text, path) in enumerate(zip(table["record"][:], table["picture_path"][:])):
        record = json.loads(text)
        one = "" if record.get("id") is None else str(record["id"])
        # (A fact without an id belongs to no set: it is a fault of each.)
        if one and made.of != "all" and (one in gone) != (made.of == "forgotten"):
            continue
        where = (
            f"'{file}', row {place if made.config == OWN else first.get(one, place)} (id {one or 'missing'})"
        )
        try:
            refuse_unknown(record, keys, where)
            if missing := [key for key in NEEDED if record.get(key) is None]:
                raise RememError(f"{where}: missing key '{missing[0]}'")
            needed(one, "id", where)
            if made.config == OWN and first[one] != place:
                raise RememError(f"{where}: its id comes twice")
            if not there[place]:
                raise RememError(
                    f"{where}: no one picture '{path or record['image_id']}' in {PICTURES} or beside the facts"
                )
            others = _texts(record, "alt_ans", where, blank=True)
            right = needed(record["pred"], "pred", where)
            about = {
                "identity": f"fact {one}",
                "modality": "image",
                "rephrased": [PROMPT.format(text) for text in _texts(record, "rephrase", where)],
                "image_path": path,
                "source": source,
                "config": made.config,
                "place": place,
                "picture": 0,
            }
            rows = [
                {
                    **about,
                    "row_id": f"{name}/{kind}/{number}:{place}",
                    "kind": kind,
                    "prompt": PROMPT.format(question),
                    "answer": said,
                    "cloze": "",
                    "secret": said,
                    "wrong": []
                    if kind == "neighbour"
                    else [one for one in dict.fromkeys([right, *others]) if one not in ("", said)],
                }
                for kind in made.kinds
                for number, (question, said) in enumerate(_pairs(record, kind, path, where))
            ]
        except RememError as error:
            if faults is None:
                raise
            faults.append(str(error))
            continue
        asked += rows
    return table_of(asked, ASKED)


training_rows = training_of("UnLOK-VQA", HOME, questions_of)


FORGET_SETS = ForgetSets("UnLOK-VQA", {"forget": "retain"})
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every set and report on it.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    known_configs(source, HOME)
    report = ConfigReport()

    def lacking(name: str) -> str:
        there = has_config(source, SETS[name].config, HOME)
        return "" if there else "set that cannot be asked, as its pictures are not there"

    def told(name: str) -> bool:
        return name == FINETUNE or SETS[name].config != OWN

    counts = distinct(facts="identity")
    for _ in report.walk(SETS, source, questions_of, counts, lacking=lacking, told=told, left_out=True):
        pass
    facts = [json.loads(text) for text in read_config(source, OWN, HOME)["record"][:]]
    if extra := common_keys(facts, KNOWN) - KNOWN:
        report.remarks["key that is not published"] = sorted(extra)
    for key, what in (("loc", "question of their neighbourhood"), ("rephrase", "question in other words")):
        if bare := [f"id {one.get('id')}" for one in facts if not one.get(key)]:
            report.remarks[f"facts without a {what}"] = bare
    if pictures:
        for config in known_configs(source, HOME):
            report.check_pictures(read_config(source, config, HOME), f"pictures '{config}'", set())
    return report
