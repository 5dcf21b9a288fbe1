"""UMU-Bench (Hub `linbojunzi/UMU-bench`): a person a row, with questions as Python literals, with the picture and in text alone.

Literals are parsed, never evaluated. `muitimodal` is how the data spell it; `multimodal` is read too.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import datasets

from remem_tasks.benchmarks.asked import ROW, TEXT, tell_few, training_tables
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.cells import emptiness, oddity
from remem_tasks.data.faults import REFUSE
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import check_known, identity_key
from remem_tasks.data.report import ConfigReport
from remem_tasks.data.source import (
    check_columns,
    count_images,
    has_config,
    known_configs,
    non_empty,
    read_config,
    table_of,
)
from remem_tasks.errors import RememError

CELLS = ("MM_QA", "UM_QA", "Classify", "Cloze", "Generation")
SIZES = (5, 10, 15)
FORGET = tuple(f"forget_{size}" for size in SIZES)
RETAIN = tuple(f"retain_{100 - size}" for size in SIZES)
REAL = ("Real_Person_Set", "real_person")  # as configured, and as the released evaluation calls its folder
CONFIGS = ("Full_Set", *REAL, *FORGET, *RETAIN)
FEATURES = {
    name: datasets.Features({"image": datasets.Image(), **dict.fromkeys(("ID", "Biography", *CELLS), TEXT)})
    for name in CONFIGS
}
HOME = DatasetSource(
    "UMU-Bench",
    "linbojunzi/UMU-bench",
    "REMEM_UMU_DATA",
    CONFIGS,
    FEATURES,
    also=("chengyewang/UMU-bench",),
)
KNOWN_BY = CONFIGS
KNOWN_COLUMNS = ("MM_QA", "UM_QA", "Classify", "Cloze")
FINETUNE = "Full_Set"  # what a model memorises
SETS = {**{name: (name,) for name in (*FORGET, *RETAIN)}, "real": REAL, "full": ("Full_Set",)}
"""What is asked: name → the configs, the first that is there counts."""

MODALITIES = {"unimodal": "text", "muitimodal": "image", "multimodal": "image"}
LETTERS = ("A", "B", "C", "D")
KINDS = {"Classify": "choice", "Cloze": "cloze", "Generation": "generation"}
# As published.
CHOOSE = "Select answer in {options}"
FILL = "Please **ONLY** provide the correct answer without any explanation"
SAY = "Answer the question based on your trained knowledge in one sentence accurately in ENGLISH."
BLANK = re.compile(r"_{2,}|\[[Bb]lank\]")
LONGEST = 1_000_000  # characters of a literal
ASKED = datasets.Features({**ROW, "fact": TEXT, "options": datasets.List(TEXT)})


def literal(text: str, where: str) -> dict:
    """A record that is written as a Python literal (or as JSON): parsed, nothing in it is run.

    Raises:
        RememError: it is neither, or no record.
    """
    try:
        if len(text) > LONGEST:
            raise ValueError(f"{len(text)} characters")
        try:
            found = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            found = json.loads(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise RememError(f"{where}: no literal ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise RememError(f"{where}: {str(found)[:40]!r} is not a record")
    return found


def _need(cell: object, name: str, where: str) -> str:
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        cell = str(cell)
    if why := emptiness(cell) or oddity(cell):
        raise RememError(f"{where}: '{name}' {why}")
    if not isinstance(cell, str):
        raise RememError(f"{where}: '{name}' holds {str(cell)[:40]!r}, no text")
    return cell.strip()


def _keys(record: object, allowed: tuple[str, ...], where: str) -> Mapping:
    if not isinstance(record, dict):
        raise RememError(f"{where}: {str(record)[:40]!r} is not a record")
    if unknown := [key for key in record if key not in allowed]:
        raise RememError(f"{where}: unknown key '{unknown[0]}'")
    return record


def _choice(one: Mapping, where: str) -> dict:
    options = _keys(one.get("options"), LETTERS, f"{where}, options")
    texts = [_need(options.get(letter), f"option {letter}", where) for letter in LETTERS]
    said = _need(one.get("answer"), "answer", where)
    letter = said.split(".")[0].strip()
    if letter not in LETTERS:
        same = [letter for letter, text in zip(LETTERS, texts) if text == said]
        if len(same) != 1:
            raise RememError(f"{where}: answer '{said[:40]}' is none of {', '.join(LETTERS)}, and no option")
        letter = same[0]
    question = _need(one.get("question"), "question", where)
    prompt = f"{question}\n{CHOOSE.format(options=texts)}"
    return {"prompt": prompt, "answer": texts[LETTERS.index(letter)], "options": texts}


def _cloze(one: Mapping, where: str) -> dict:
    question = _need(one.get("question"), "question", where)
    answer = _need(one.get("answer"), "answer", where).split(".")[0].strip()
    if not answer:
        raise RememError(f"{where}: answer begins with a full stop, so that every reply would hold it")
    found = {"prompt": f"{question}\n{FILL}", "answer": answer}
    if BLANK.search(question):
        found |= {"cloze": BLANK.split(question)[0].lstrip(), "secret": answer}
    return found


def _sentence(one: Mapping, where: str) -> dict:
    question = _need(one.get("question"), "question", where)
    return {"prompt": f"{question}\n{SAY}", "answer": _need(one.get("answer"), "answer", where)}


MAKE = {"Classify": _choice, "Cloze": _cloze, "Generation": _sentence}


def _of_cell(column: str, text: object, where: str) -> Iterator[dict | RememError]:
    """The questions of a cell, or what is wrong with one of them."""
    where = f"{where}, column '{column}'"
    try:
        cell = literal(_need(text, column, where), where)
        _keys(cell, ("question", "answer") if column.endswith("_QA") else tuple(MODALITIES), where)
    except RememError as error:
        yield error
        return
    if column.endswith("_QA"):
        questions, answers = cell.get("question"), cell.get("answer")
        if not isinstance(questions, dict) or not isinstance(answers, dict):
            yield RememError(f"{where}: 'question' and 'answer' are records by number")
            return
        for key in dict.fromkeys([*questions, *answers]):
            try:
                pair = {"prompt": questions.get(key), "answer": answers.get(key)}
                told = {name: _need(value, f"{name} {key}", where) for name, value in pair.items()}
                yield {
                    **told,
                    "kind": "qa",
                    "fact": str(key),
                    "modality": "image" if column == "MM_QA" else "text",
                }
            except RememError as error:
                yield error
        return
    for name, modality in MODALITIES.items():
        questions = cell.get(name)
        if questions is None:
            if name != "multimodal" and not (name == "muitimodal" and "multimodal" in cell):
                yield RememError(f"{where}: no '{name}'")
            continue
        if not isinstance(questions, dict):
            yield RememError(f"{where}: '{name}' holds {str(questions)[:40]!r}, no record")
            continue
        for key, one in questions.items():
            here = f"{where}, {name} {key}"
            try:
                _keys(one, ("question", "answer", "options"), here)
                yield {
                    **MAKE[column](one, here),
                    "kind": KINDS[column],
                    "fact": str(key),
                    "modality": modality,
                }
            except RememError as error:
                yield error


def config_of(source: str, name: str) -> str:
    """The config of a set.

    Raises:
        RememError: no such set.
    """
    configs = SETS.get(name, (name,))
    if configs[0] not in CONFIGS:
        raise RememError(f"UMU-Bench has no set '{name}'; it has {', '.join(SETS)}")
    return next((config for config in configs if has_config(source, config, HOME)), configs[0])


def people_of(source: str, config: str) -> set[str]:
    """The IDs of a config's rows, as keys of `people.identity_key`."""
    table = read_config(source, config, HOME)
    check_columns(table, ("ID",), source, config)
    return {identity_key(one) for one in table["ID"][:] if non_empty(one)}


def questions_of(
    source: str, name: str, faults: list[str] | None = None, columns: tuple[str, ...] = CELLS
) -> datasets.Dataset:
    """The questions of one of `SETS` or of a config, person by person.

    Args:
        faults: gets the faults, and the questions they are in are left out; without it the first one is raised.
        columns: whose questions.

    Returns:
        Rows of `ROW` with `kind` qa (in the words of training), choice, cloze or generation, `fact` (its number: the
        two questions of a fact are alike but for the modality) and `options`.

    Raises:
        RememError: no such set or column.
    """
    config = config_of(source, name)
    table = read_config(source, config, HOME)
    check_columns(table, ("image", "ID", *columns), source, config)
    _check_size(source, config)
    pictures, asked, seen = count_images(table), [], set()
    for place, row in enumerate(table.remove_columns("image")):
        person = identity_key(row["ID"]) if non_empty(row["ID"]) else ""
        where = f"{source}, config '{config}', row {place} ({row['ID']})"
        problem = "" if person else f"column 'ID' {emptiness(row['ID'])}"
        problem = problem or ("its ID comes twice" if person in seen else "")
        seen.add(person)
        for column in columns:
            for number, one in enumerate(_of_cell(column, row[column], where)):
                if problem:
                    one = RememError(f"{where}: {problem}")
                elif isinstance(one, dict) and one["modality"] == "image" and not pictures[place]:
                    one = RememError(f"{where}: no picture, but column '{column}' asks about one")
                if isinstance(one, RememError):
                    if faults is None:
                        raise one
                    faults.append(str(one))
                    continue
                about = {
                    "row_id": f"{config}/{column}/{one['modality']}{number}:{place}",
                    "fact": f"{person}/{one['kind']}/{one['fact']}",
                    "identity": person,
                    "image_path": f"{config}/{person}",
                    "source": source,
                    "config": config,
                    "place": place,
                    "picture": 0 if one["modality"] == "image" else -1,
                }
                asked.append({"cloze": "", "secret": "", "options": [], **one, **about})
    return table_of(asked, ASKED)


def sizes_of(people: int) -> dict[str, int]:
    """How many people each forget and retain set holds: their share of all, each forget set more than the last.

    >>> sizes_of(500)["forget_10"], sizes_of(500)["retain_90"], sizes_of(6)["forget_15"]
    (50, 450, 3)
    """
    found: dict[str, int] = {}
    last = 0
    for size, forget, retain in zip(SIZES, FORGET, RETAIN):
        last = max(round(size * people / 100), last + 1)
        found |= {forget: last, retain: people - last}
    return found


def _check_size(source: str, config: str) -> None:
    """Raise a RememError for a forget or retain set that is not its share of the people, where all are there."""
    if config not in (*FORGET, *RETAIN) or not has_config(source, FINETUNE, HOME):
        return
    rows, people = len(read_config(source, config, HOME)), len(read_config(source, FINETUNE, HOME))
    if abs(rows - (wanted := sizes_of(people)[config])) > people / 100:
        raise RememError(
            f"{source}, config '{config}': {rows} rows, where {wanted} of the {people} of '{FINETUNE}' belong"
        )


def check_people(source: str, forget: str) -> None:
    """Raise a RememError if people of a forget set were never memorised, or are retained."""
    forgotten, retain = people_of(source, forget), retain_of(forget)
    if has_config(source, FINETUNE, HOME):
        check_known(forgotten, people_of(source, FINETUNE), f"'{forget}'", f"'{FINETUNE}'")
    if both := forgotten & people_of(source, retain):
        raise RememError(
            f"{source}: {len(both)} people are in '{forget}' and in '{retain}', such as '{min(both)}'"
        )


def training_rows(
    source: str, name: str, modality: str = "joint", choice: str = REFUSE, told: list[str] | None = None
) -> datasets.Dataset:
    """A set in the columns that training reads: `MM_QA` with the picture, `UM_QA` without.

    Args:
        modality: `joint`, `image` or `text`.
        choice: whether more than a few faulty rows are to `refuse` or `allow`.
        told: gets what is to be told of rows that are left out.

    Raises:
        RememError: as `questions_of`, or nothing of that modality.
    """
    faults: list[str] = []
    rows = questions_of(source, name, faults, ("MM_QA", "UM_QA"))
    tell_few(rows, faults, choice, source, told)
    asked = [row for row in rows if modality in ("joint", row["modality"])]
    if not asked:
        raise RememError(f"{source}, config '{name}': no {modality} rows")
    return training_tables(asked, source, HOME)


FORGET_SETS = ForgetSets("UMU-Bench", dict(zip(FORGET, RETAIN)))
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every config and report on it.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    report = ConfigReport()
    there = known_configs(source, HOME)

    def counts(config: str, asked: datasets.Dataset) -> Counter[str]:
        kinds = Counter(
            f"{kind} {modality}" for kind, modality in zip(asked["kind"][:], asked["modality"][:])
        )
        return Counter(rows=len(read_config(source, config, HOME))) + kinds

    for config, _, _ in report.walk(there, source, questions_of, counts, what="config"):
        if pictures:
            report.check_pictures(read_config(source, config, HOME), f"config '{config}'")
    for forget, retain in zip(FORGET, RETAIN):
        if (forget in there) != (retain in there):
            report.fault("config without its partner", f"'{forget}' and '{retain}'")
        elif forget in there:
            try:
                check_people(source, forget)
            except RememError as error:
                report.fault("people of a forget set", str(error))
    return report
