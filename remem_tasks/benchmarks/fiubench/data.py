"""FIUBench (arXiv 2411.03554, Hub `gray311/FIUBench`): people of `full.json`, sets of `split.json`, pictures beside them.

A record is a person with a picture and questions; a row is one of these. Forget sets are disjoint, not nested.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

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
from remem_tasks.binding import parse_json, read_text
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.records import COLUMNS, JsonReader
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.data.source import known_configs, read_config, table_of
from remem_tasks.errors import RememError

PEOPLE = 400  # of full.json, the first; more are not used
SHARES = {"forget1": 4, "forget5": 20, "forget10": 40, "retain5": 20, "retain15": 60}  # of 400
FORGET = ("forget1", "forget5", "forget10")
SETS = ("full", *FORGET, "retain", "retain5", "retain15")
FEATURES = {"full": datasets.Features(COLUMNS)}
VARIABLE = "REMEM_FIUBENCH_DATA"
READER = JsonReader({"full": ("full.json", "full_data.json")}, ("image_path",), VARIABLE)
HOME = DatasetSource("FIUBench", "gray311/FIUBench", VARIABLE, ("full",), FEATURES, reader=READER)
KNOWN_BY = ("full",)
FINETUNE = "full"  # what a model memorises
CASING = "REMEM_FIUBENCH_CASING"
CASINGS = ("published", "own")

PERSON = {"unique_id", "image_path", "qa_list", "name", "gender", "caption"}
NEEDED = ("question", "answer", "paraphrased_question", "paraphrased_answer", "perturbed_answer", "keywords")
ASKED = datasets.Features(
    {
        **ROW,
        "paraphrases": datasets.List(TEXT),
        "paraphrase": TEXT,
        "wrong": datasets.List(TEXT),
        "keywords": datasets.List(TEXT),
    }
)


def published_casing(choice: str | None = None) -> bool:
    """Whether texts are cased by `str.capitalize`, as the released code does in training and evaluation.

    Args:
        choice: `published` or `own` (as the file has them); None for `$REMEM_FIUBENCH_CASING`, else published.

    Raises:
        RememError: another choice.
    """
    choice = choice or os.environ.get(CASING) or CASINGS[0]
    if choice not in CASINGS:
        raise RememError(f"{CASING} '{choice}' unknown; choose from {', '.join(CASINGS)}")
    return choice == CASINGS[0]


def _texts(cell: object, name: str, where: str) -> list[str]:
    cell = [cell] if isinstance(cell, str) else cell
    if not isinstance(cell, list) or not cell:
        raise RememError(f"{where}: '{name}' holds {str(cell)[:40]!r}, no list of texts")
    return [needed(one, f"{name} {number}", where) for number, one in enumerate(cell)]


def secret_of(answer: str, keywords: Sequence[str]) -> tuple[str, str]:
    """(what the answer says before its first keyword that is in it, that keyword); two empty texts if none is.

    >>> secret_of("Her blood type is ab+.", ["AB+"])
    ('Her blood type is ', 'ab+')
    """
    for keyword in keywords:
        if len(answer.lower()) == len(answer) and (at := answer.lower().find(keyword.lower())) >= 0:
            return answer[:at], answer[at : at + len(keyword)]
    return "", ""


def _question(one: object, allowed: set[str], where: str, cased: bool) -> dict:
    if not isinstance(one, dict):
        raise RememError(f"{where}: {str(one)[:40]!r} is not a record")
    refuse_unknown(one, allowed, where)
    if missing := [name for name in NEEDED if name not in one]:
        raise RememError(f"{where}: missing key '{missing[0]}'")
    change = str.capitalize if cased else str
    answer = change(needed(one["answer"], "answer", where))
    keywords = _texts(one["keywords"], "keywords", where)
    cloze, secret = secret_of(answer, keywords)
    return {
        "prompt": change(needed(one["question"], "question", where)),
        "answer": answer,
        "paraphrases": [
            change(text) for text in _texts(one["paraphrased_question"], "paraphrased_question", where)
        ],
        "paraphrase": change(_texts(one["paraphrased_answer"], "paraphrased_answer", where)[0]),
        # (The released code leaves answers that stand in a list as they are.)
        "wrong": _texts(one["perturbed_answer"], "perturbed_answer", where),
        "keywords": keywords,
        "cloze": cloze,
        "secret": secret,
    }


def _records(source: str) -> tuple[str, list[dict], datasets.Dataset]:
    table = read_config(source, "full", HOME)
    table = table.select(range(min(len(table), PEOPLE)))
    return READER.files(source, "full")[0], [json.loads(text) for text in table["record"][:]], table


def splits_of(source: str, people: Sequence[str]) -> dict[str, list[str]]:
    """The ids of each set of `split.json`.

    Raises:
        RememError: names the file, the set and the id where one is unknown, of the wrong size, or not disjoint.
    """
    place = READER.folder(source)
    file = os.path.join(os.path.dirname(READER.files(source, "full")[0]) or place, "split.json")
    found = parse_json(read_text(file), f"'{file}'")
    if not isinstance(found, dict):
        raise RememError(f"'{file}': an object of sets belongs there")
    sets: dict[str, list[str]] = {}
    for name, share in SHARES.items():
        ids = found.get(name)
        if not isinstance(ids, list):
            raise RememError(f"'{file}': no set '{name}'")
        sets[name] = [str(one) for one in ids]
        if unknown := [one for one in sets[name] if one not in set(people)]:
            raise RememError(f"'{file}', set '{name}': '{unknown[0]}' is nobody of full.json")
        if len(set(ids)) < len(ids):
            raise RememError(f"'{file}', set '{name}': an id comes twice")
        if len(ids) != (wanted := size_of(name, len(people))):
            raise RememError(
                f"'{file}', set '{name}': {len(ids)} people, where {share} of {PEOPLE} and so {wanted} of "
                f"{len(people)} belong"
            )
    for index, one in enumerate(SHARES):
        for other in list(SHARES)[index + 1 :]:
            both = set(sets[one]) & set(sets[other])
            if both and (one, other) != ("retain5", "retain15"):
                raise RememError(
                    f"'{file}': '{min(both)}' is in '{one}' and in '{other}', which are disjoint"
                )
    if lacking := set(sets["retain5"]) - set(sets["retain15"]):
        raise RememError(f"'{file}': '{min(lacking)}' of 'retain5' is not in 'retain15', which holds it")
    return sets


def size_of(name: str, people: int) -> int:
    """How many people a set of `split.json` holds: its share of all, at least one (retain15: more than retain5)."""
    size = max(1, round(SHARES[name] * people / PEOPLE))
    return max(size, size_of("retain5", people) + 1) if name == "retain15" else size


def people_of(source: str, name: str, ids: Sequence[str]) -> set[str]:
    """The ids of a set: of `split.json`, or `full` (everybody), or `retain` (everybody outside all three forget sets).

    Raises:
        RememError: no such set.
    """
    if name not in SETS:
        raise RememError(f"FIUBench has no set '{name}'; it has {', '.join(SETS)}")
    if name == "full":
        return set(ids)
    sets = splits_of(source, ids)
    if name == "retain":
        return set(ids) - {one for forget in FORGET for one in sets[forget]}
    return set(sets[name])


def questions_of(source: str, name: str, faults: list[str] | None = None) -> datasets.Dataset:
    """The questions of a set, person by person.

    Args:
        faults: gets the faults, and the questions they are in are left out; without it the first one is raised.

    Returns:
        Rows of `ROW` with `paraphrases` (of the question), `paraphrase` (of the answer), `wrong`, `keywords`.

    Raises:
        RememError: no such set; a `split.json` that cannot be used; a row that cannot be asked.
    """
    file, records, table = _records(source)
    cased = published_casing()
    ids = [str(record.get("unique_id") or "") for record in records]
    wanted = people_of(source, name, ids)
    keys = common_keys(records, PERSON)
    questions = [one for record in records for one in record.get("qa_list") or () if isinstance(one, dict)]
    allowed = common_keys(questions, set(NEEDED))
    there = [cell is not None for cell in table.select_columns(["image"])["image"][:]]
    asked: list[dict] = []

    def fault(error: RememError) -> None:
        if faults is None:
            raise error
        faults.append(str(error))

    for place, (person, record) in enumerate(zip(ids, records)):
        if person not in wanted:
            continue
        where = f"'{file}', row {place} ({person or 'no unique_id'})"
        pairs = record.get("qa_list")
        try:
            refuse_unknown(record, keys, where)
            needed(record.get("unique_id"), "unique_id", where)
            if ids.index(person) != place:
                raise RememError(f"{where}: its unique_id comes twice")
            if not isinstance(pairs, list) or not pairs:
                raise RememError(f"{where}: 'qa_list' holds no questions")
            if not there[place]:
                raise RememError(f"{where}: no one picture '{record.get('image_path')}' in the data set")
        except RememError as error:
            for _ in pairs if isinstance(pairs, list) and pairs else [None]:
                fault(error)
            continue
        for number, one in enumerate(pairs):
            try:
                made = _question(one, allowed, f"{where}, question {number}", cased)
            except RememError as error:
                fault(error)
                continue
            about = {
                "row_id": f"{name}/{person}/{number}:{place}",
                "identity": person,
                "kind": "",
                "modality": "image",
            }
            shown = {
                "image_path": str(record["image_path"]),
                "source": source,
                "config": "full",
                "place": place,
            }
            asked.append({**made, **about, **shown, "picture": 0})
    return table_of(asked, ASKED)


training_rows = training_of("FIUBench", HOME, questions_of)


FORGET_SETS = ForgetSets("FIUBench", dict.fromkeys(FORGET, "retain"))  # everybody outside all three
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
    _, records, table = _records(source)
    counts = distinct(people="identity")
    for _ in report.walk(SETS, source, questions_of, counts, told="full".__eq__, left_out=True):
        pass
    if extra := common_keys(records, PERSON) - PERSON:
        report.remarks["key that is not published"] = sorted(extra)
    if (beyond := len(read_config(source, "full", HOME)) - len(records)) > 0:
        report.remarks[f"people beyond the first {PEOPLE}, who are not used"] = [str(beyond)]
    if pictures:
        report.check_pictures(table, "full.json")
    return report
