"""VLM-UnBench (arXiv 2604.03114, code zhangyun04/ULBench): questions with options about pictures of concepts, in four files of items.

Every item has a concept, the unit of forgetting: an object, a scene, a person or a logo, or the value of an attribute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import datasets

from remem_tasks.benchmarks.asked import (
    ROW,
    TEXT,
    needed,
    refuse_unknown,
    rows_of_file,
    training_of,
)
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import identity_key
from remem_tasks.data.records import COLUMNS, JsonReader
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.data.source import known_configs, read_config, table_of
from remem_tasks.errors import RememError

FILES = {
    "forget": ("train_forget.jsonl",),
    "retain": ("train_retain.jsonl",),
    "forget_test": ("test_forget.jsonl",),
    "retain_test": ("test_retain.jsonl",),
}
VARIABLE = "REMEM_VLMUNBENCH_DATA"
READER = JsonReader(FILES, ("image",), VARIABLE)
FEATURES = {name: datasets.Features(COLUMNS) for name in FILES}
# (Made from other data sets by the released code, and published on no Hub: a folder has to be named.)
HOME = DatasetSource("VLM-UnBench", "", VARIABLE, tuple(FILES), FEATURES, reader=READER)
KNOWN_BY = ("forget", "forget_test")
FINETUNE = "full"  # what a model memorises (ours: the paper asks models that know the concepts)
PARTS = {"full": ("forget", "retain")}
SETS = (*FILES, *PARTS)
KEYS = {
    "id",
    "image",
    "question",
    "choices",
    "answer_index",
    "forgetting_level",
    "concept_axis",
    "target_split",
    "meta",
}
CONCEPT = ("forget_concept", "synset", "class_name")
"""The first that `meta` has is the concept of an item; the last two are of older files."""
MOST = 4  # options: the prompt knows the digits 0 to 3
ASKED = datasets.Features({**ROW, "concept": TEXT, "level": TEXT, "options": datasets.List(TEXT)})


def prompt_of(question: str, options: list[str]) -> str:
    """A question with its options, as the released code asks it without an instruction to forget.

    >>> prompt_of("Which?", ["a", "b"]).splitlines()[:4]
    ['Q: Which?', '', '0) a', '1) b']
    """
    lines = [f"Q: {question}", "", *(f"{place}) {text}" for place, text in enumerate(options)), ""]
    return "\n".join([*lines, "Reply with a single digit 0, 1, 2, or 3 — nothing else.", "Answer:"])


def _item(record: Mapping, where: str) -> dict:
    refuse_unknown(record, KEYS, where)
    cells, right = record.get("choices"), record.get("answer_index")
    if not isinstance(cells, list) or not 2 <= len(cells) <= MOST:
        raise RememError(f"{where}: 'choices' are not 2 to {MOST} options")
    options = [needed(one, f"choices {number}", where) for number, one in enumerate(cells)]
    if len({one.lower() for one in options}) < len(options):
        raise RememError(f"{where}: two of 'choices' are the same")
    if not isinstance(right, int) or isinstance(right, bool) or not 0 <= right < len(options):
        raise RememError(f"{where}: answer_index {str(right)[:20]!r} is the place of no option")
    meta = record.get("meta")
    if not isinstance(meta, dict):
        raise RememError(f"{where}: 'meta' is not a record")
    key = next((name for name in CONCEPT if name in meta), CONCEPT[0])
    concept = needed(meta.get(key), f"meta {key}", where)
    return {
        "prompt": prompt_of(needed(record.get("question"), "question", where), options),
        "answer": str(right),
        "identity": identity_key(concept),
        "concept": concept,
        "kind": needed(record.get("concept_axis"), "concept_axis", where),
        "level": needed(record.get("forgetting_level"), "forgetting_level", where),
        "options": options,
    }


def questions_of(source: str, name: str, faults: list[str] | None = None) -> datasets.Dataset:
    """The questions of a set.

    Args:
        faults: gets the faults, and the items they are in are left out; without it the first one is raised.

    Returns:
        Rows of `ROW` with the `concept`, its `level`, and the `options`; `answer` is the right one's digit, `kind` the axis.

    Raises:
        RememError: no such set or file, or an item that cannot be asked.
    """
    if name not in SETS:
        raise RememError(f"VLM-UnBench has no set '{name}'; it has {', '.join(SETS)}")
    rows = [
        one
        for config in PARTS.get(name, (name,))
        for one in rows_of_file(source, config, name, HOME, READER, _item, lambda path: {}, faults)
    ]
    return table_of(rows, ASKED)


training_rows = training_of("VLM-UnBench", HOME, questions_of)


FORGET_SETS = ForgetSets("VLM-UnBench", {"forget": "retain"})
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
    concepts: dict[str, set[str]] = {}
    first: dict[str, str] = {}
    seen: set[str] = set()
    tables = {config: read_config(source, config, HOME) for config in known_configs(source, HOME)}
    counts = distinct(concepts="identity", pictures="image_path")
    for config, rows, _ in report.walk(tables, source, questions_of, counts, what="file", left_out=True):
        concepts[config] = set(rows["identity"][:])
        if pictures:
            report.check_pictures(tables[config], f"file of '{config}'", seen)
    for config, table in tables.items():  # those too that cannot be used
        report.check_filled(table, FILES[config][0])
        for place, text in enumerate(table["record"][:]):
            one = str(json.loads(text).get("id") or "")
            if one and first.setdefault(one, config) != config:
                report.fault("id of two files", f"'{one}' in '{first[one]}' and in '{config}', row {place}")
    for name in sorted(set(FILES) - set(tables)):
        report.fault("file that is missing", f"'{FILES[name][0]}'")
    for gone in ("forget", "forget_test"):
        for kept in ("retain", "retain_test"):
            if both := concepts.get(gone, set()) & concepts.get(kept, set()):
                report.fault("concept to forget and to retain", f"'{min(both)}' in '{gone}' and in '{kept}'")
    return report
