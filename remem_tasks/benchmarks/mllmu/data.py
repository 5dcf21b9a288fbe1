"""MLLMU-Bench (arXiv 2410.22108, Hub `MLLMMU/MLLMU-Bench`): its configs, and the questions nested in their rows.

A row is a person with a picture (`Test_Set`: several others), questions with four options, questions
for a sentence, and sentences with a blank; each kind about the picture and in text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import datasets

from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.cells import emptiness, oddity
from remem_tasks.data.faults import REFUSE
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import check_known, identity_key
from remem_tasks.data.report import ConfigReport
from remem_tasks.data.source import (
    check_columns,
    check_fault_rate,
    count_images,
    digest,
    has_config,
    non_empty,
    read_config,
    some_left,
    table_of,
    training_table,
)
from remem_tasks.errors import RememError
from remem_tasks.metrics.words import tokens
from remem_tasks.seeds import stable_choice

TEXT = datasets.Value("string")
LETTERS = ("A", "B", "C", "D")
CHOICES = datasets.List({"Correct_Answer": TEXT, "Options": dict.fromkeys(LETTERS, TEXT), "Question": TEXT})
OPEN = datasets.List({"Ground_Truth": TEXT, "Question": TEXT, "Type": TEXT})
TASKS = {
    "Classification_Task": {"Image_Textual_Questions": CHOICES, "Pure_Text_Questions": CHOICES},
    "Generation_Task": OPEN,
    "Mask_Task": OPEN,
}
TOLD = datasets.List({"Answer": TEXT, "Question": TEXT})  # `metadata`: a list, published as JSON
PERSON = {"biography": TEXT, "question": TEXT, "answer": TEXT, **TASKS}
SIZES = (5, 10, 15)
FORGET = tuple(f"forget_{size}" for size in SIZES)
RETAIN = tuple(f"retain_{100 - size}" for size in SIZES)
FEATURES: dict[str, datasets.Features] = {
    name: datasets.Features(columns)
    for name, columns in {
        "Full_Set": {"image": datasets.Image(), "ID": TEXT, "Directory": TEXT, **PERSON},
        "Test_Set": {"images": datasets.List(datasets.Image()), "ID": TEXT, **PERSON},
        **{
            name: {"image": datasets.Image(), "ID": TEXT, **PERSON}
            for name in ("Retain_Set", *FORGET, *RETAIN)
        },
        # As published an image and `metadata` alone; copies with the columns of the other configs are read too.
        "ft_Data": {"image": datasets.Image(), "metadata": TOLD, "ID": TEXT, **PERSON},
    }.items()
}
HOME = DatasetSource("MLLMU-Bench", "MLLMMU/MLLMU-Bench", "REMEM_MLLMU_DATA", tuple(FEATURES), FEATURES)
KNOWN_BY = ("ft_Data", "forget_5", "Test_Set")  # configs; a data set with one of them is of this benchmark
FINETUNE = "ft_Data"  # what a model memorises
SETS: dict[str, tuple[str, str | None]] = {
    **{name: (name, None) for name in (*FORGET, *RETAIN)},
    **{f"test_{size}": ("Test_Set", f"forget_{size}") for size in SIZES},
    "test": ("Test_Set", None),
    "celebrities": ("Retain_Set", None),
    "full": ("Full_Set", None),
}
"""What is asked: name → (config, the config whose people alone are asked about)."""

MODALITIES = {"Image_Textual": "image", "Pure_Text": "text"}
BLANK = re.compile(r"_{2,}")
# Ours, as are the words of the prompts.
CHOOSE = "Answer with the letter of the right option only."
FILL = "Write only what belongs in place of [Blank]."
SAY = "Answer in one English sentence."
COLUMNS = ("row_id", "prompt", "answer", "letter")
ASKED = datasets.Features(
    {
        **dict.fromkeys(
            ("row_id", "kind", "modality", "prompt", "answer", "letter", "cloze", "question", "identity"),
            TEXT,
        ),
        "options": datasets.List(TEXT),
        **dict.fromkeys(("image_path", "source", "config"), TEXT),
        **dict.fromkeys(("place", "picture"), datasets.Value("int64")),
    }
)
Faults = list[str] | None  # where faults are collected; without it the first one is raised


def _need(cell: object, name: str, where: str) -> str:
    if why := emptiness(cell) or oddity(cell):
        raise RememError(f"{where}: {name} {why}")
    return cell.strip()


def option_lines(question: str, options: Sequence[str]) -> str:
    """A question with its options, in the published order, a line each."""
    return "\n".join([question, *(f"{letter}: {text}" for letter, text in zip(LETTERS, options))])


def _chosen(said: str, options: Sequence[str]) -> str:
    """The letter of a Correct_Answer: a letter, `B. text`, or the text of an option; else ""."""
    letter = said.split(".")[0].split(":")[0].strip().upper()
    if letter in LETTERS:
        return letter
    same = [letter for letter, text in zip(LETTERS, options) if tokens(text) == tokens(said)]
    return same[0] if len(same) == 1 else ""


def _choice(one: dict, where: str) -> dict:
    question = _need(one["Question"], "Question", where)
    options = [_need((one["Options"] or {}).get(letter), f"option {letter}", where) for letter in LETTERS]
    said = _need(one["Correct_Answer"], "Correct_Answer", where)
    letter = _chosen(said, options)
    if not letter:
        raise RememError(f"{where}: Correct_Answer '{said}' is none of {', '.join(LETTERS)}, and no option")
    return {
        "kind": "classification",
        "question": question,
        "prompt": f"{option_lines(question, options)}\n{CHOOSE}",
        "answer": options[LETTERS.index(letter)],
        "letter": letter,
        "options": options,
    }


def _sentence(one: dict, where: str) -> dict:
    question = _need(one["Question"], "Question", where)
    answer = _need(one["Ground_Truth"], "Ground_Truth", where)
    return {"kind": "generation", "question": question, "answer": answer, "prompt": f"{question}\n{SAY}"}


def _blank(one: dict, where: str) -> dict:
    made = _sentence(one, where)
    if not BLANK.search(made["question"]):
        raise RememError(f"{where}: Question has no blank ('__')")
    if not tokens(made["answer"]):
        raise RememError(f"{where}: Ground_Truth '{made['answer']}' has no letter or digit")
    prompt = f"{BLANK.sub('[Blank]', made['question'])}\n{FILL}"
    return {**made, "kind": "cloze", "prompt": prompt, "cloze": BLANK.split(made["question"])[0].lstrip()}


def _lists(row: dict) -> dict[str, list | None]:
    """What a row asks, column by column; None for one that it lacks."""
    choices = row.get("Classification_Task") or {}
    return {
        **{name: choices.get(name) for name in ("Image_Textual_Questions", "Pure_Text_Questions")},
        **{name: row.get(name) for name in ("Generation_Task", "Mask_Task")},
    }


def kinds_asked(rows: Iterable[dict]) -> set[str]:
    """The columns of questions that any of the rows fills."""
    return {name for row in rows for name, told in _lists(row).items() if told}


def _nested(row: dict) -> Iterator[tuple[str, int, str, dict, Callable[[dict, str], dict]]]:
    """(column, number, Type, question, how it is asked) of all questions of a row."""
    lists = _lists(row)
    for name, kind in (("Image_Textual_Questions", "Image_Textual"), ("Pure_Text_Questions", "Pure_Text")):
        for number, one in enumerate(lists[name] or []):
            yield name, number, kind, one, _choice
    for name, make in (("Generation_Task", _sentence), ("Mask_Task", _blank)):
        for number, one in enumerate(lists[name] or []):
            yield name, number, (one or {}).get("Type") or "", one, make


def _asked(row: dict, where: str, faults: Faults, kinds: Collection[str]) -> list[dict]:
    """The sound questions of a row, with `modality` and their `number` in the column.

    Args:
        kinds: the columns of questions that other rows fill, see `kinds_asked`: a row without one is a fault.
    """
    asked = []
    for name, told in _lists(row).items():
        if name in kinds and not told:
            lacks = f"{where}: {name} {'is null' if told is None else 'holds an empty list'}, and other rows have questions there"
            if faults is None:
                raise RememError(lacks)
            faults.append(lacks)
    for name, number, kind, one, make in _nested(row):
        here = f"{where}, {name} {number}"
        try:
            if one is None:
                raise RememError(f"{here} is null")
            if kind not in MODALITIES:
                raise RememError(f"{here}: Type '{kind}' is none of {', '.join(MODALITIES)}")
            asked.append({**make(one, here), "modality": MODALITIES[kind], "number": number})
        except RememError as error:
            if faults is None:
                raise
            faults.append(str(error))
    return asked


def _of_row(
    row: dict, place: int, pictures: int, source: str, config: str, faults: Faults, kinds: Collection[str]
) -> list[dict]:
    where = f"config '{config}', row {place}"
    person = _need(row["ID"], "column 'ID'", where)
    where += f" ({person})"
    before = len(faults or ())
    asked = _asked(row, where, faults, kinds)
    if not asked and len(faults or ()) == before:
        raise RememError(f"{where}: it asks nothing")
    if not pictures and any(one["modality"] == "image" for one in asked):
        raise RememError(f"{where}: no picture, but questions about one")
    shown = stable_choice(pictures, "picture", person) if pictures else -1
    return [
        {
            **dict.fromkeys(("letter", "cloze"), ""),
            "options": [],
            **{name: value for name, value in one.items() if name != "number"},
            "row_id": f"{config}/{one['kind']}/{one['modality']}{one['number']}:{place}",
            "identity": person,
            "image_path": f"{config}/{person}",
            "source": source,
            "config": config,
            "place": place,
            "picture": shown if one["modality"] == "image" else -1,
        }
        for one in asked
    ]


def rows_of_config(source: str, config: str) -> tuple[list[dict], list[int]]:
    """(rows without their pictures, how many each has) of a config, the columns that questions need checked."""
    table = read_config(source, config, HOME)
    if "metadata" not in table.column_names:
        check_columns(
            table,
            ("metadata",) if config == FINETUNE and "ID" not in table.column_names else ("ID",),
            source,
            config,
        )
        if not set(TASKS) & set(table.column_names):
            raise RememError(f"{source}, config '{config}': none of the columns {', '.join(TASKS)}")
    check_columns(table, [name for name in ("image", "images") if name in FEATURES[config]], source, config)
    texts = table.remove_columns([name for name in ("image", "images") if name in table.column_names])
    rows = [
        {**row, "ID": identity_key(row["ID"]) if non_empty(row.get("ID")) else row.get("ID")}
        for row in texts.to_list()
    ]
    return rows, count_images(table)


def people_of(source: str, config: str) -> set[str]:
    """The IDs of a config's rows, as keys of `people.identity_key`; none of a config whose rows have none."""
    return {row["ID"] for row in rows_of_config(source, config)[0] if non_empty(row["ID"])}


def check_people(source: str, forget: str) -> None:
    """Raise a RememError if people of a forget set were never memorised, or are retained, as far as rows have IDs."""
    forgotten, retain = people_of(source, forget), retain_of(forget)
    for memorised in (FINETUNE, "Full_Set"):
        known = people_of(source, memorised) if has_config(source, memorised, HOME) else set()
        if known:
            check_known(forgotten, known, f"'{forget}'", f"'{memorised}'")
            break
    if both := forgotten & people_of(source, retain):
        raise RememError(
            f"{source}: {len(both)} people are in '{forget}' and in '{retain}', such as '{min(both)}'"
        )


def questions_of(source: str, name: str, faults: Faults = None) -> datasets.Dataset:
    """The questions of one of `SETS` or of a config, person by person.

    Args:
        faults: gets the faults, and the questions they are in are left out; without it the first one is raised.

    Returns:
        N questions with `row_id`, `kind` (classification, cloze, generation), `modality` (image, text),
        `prompt`, `answer`, `letter` and `options` (of classification), `cloze` (what stands before the
        blank), `identity`, and where the picture lies (`source`, `config`, `place`, `picture`: −1 for none).

    Raises:
        RememError: no such set or column, or a row that cannot be asked.
    """
    config, only = SETS.get(name, (name, None))
    if config not in FEATURES:
        raise RememError(f"MLLMU-Bench has no set '{name}'; it has {', '.join(SETS)}")
    rows, counts = rows_of_config(source, config)
    people = people_of(source, only) if only else None
    if people and (lacking := people - {row["ID"] for row in rows}):
        raise RememError(
            f"{source}: config '{config}' has no row of {', '.join(sorted(lacking)[:3])} of '{only}'"
        )
    asked, seen, kinds = [], set(), kinds_asked(rows)
    if rows and "metadata" in rows[0] and not set(TASKS) & set(rows[0]):
        raise RememError(f"{source}: config '{config}' is for training and asks nothing that is scored")
    for place, (row, count) in enumerate(zip(rows, counts)):
        if people is None or row["ID"] in people:
            try:
                if row["ID"] in seen:
                    raise RememError(f"config '{config}', row {place} ({row['ID']}): its ID comes twice")
                seen.add(row["ID"])
                asked += _of_row(row, place, count, source, config, faults, kinds)
            except RememError as error:
                if faults is None:
                    raise
                faults.append(str(error))
    return table_of(asked, ASKED)


def kept_questions(source: str, name: str) -> list[dict]:
    """Text-only classification questions about people whom the set's forget set does not hold, for demonstrations.

    Of sets that belong to no forget set: about people in none of them.
    """
    size = re.search(r"_(\d+)$", name)
    number = int(size.group(1)) if size else 0
    number = 100 - number if name.startswith("retain") else number
    forgets = [f"forget_{number}"] if number in SIZES else list(FORGET)
    forgotten = set().union(*(people_of(source, forget) for forget in forgets))
    pool = questions_of(source, f"retain_{100 - int(forgets[-1].split('_')[1])}")
    return [
        one
        for one in pool
        if one["kind"] == "classification" and one["modality"] == "text" and one["identity"] not in forgotten
    ]


def fingerprint(rows: datasets.Dataset) -> str:
    """16 hex digits that change when any text that is asked or scored does."""
    return digest(rows, COLUMNS)


def training_rows(
    source: str, name: str, modality: str = "joint", choice: str = REFUSE, told: list[str] | None = None
) -> datasets.Dataset:
    """The rows of a config for training: the biography question (with the picture) and the generation questions.

    Args:
        name: `ft_Data`, `forget_5`, `retain_95`, …
        modality: `joint`, `text` (the questions without a picture) or `image`.
        choice: whether faulty rows are to `refuse` or `allow`, which leaves them out.
        told: gets what is to be told of rows that are left out.

    Raises:
        RememError: as `questions_of`, or nothing of that modality.
    """
    rows, counts = rows_of_config(source, name)
    asked: list[dict] = []
    faults: list[str] = []
    kinds = kinds_asked(rows) & {"Generation_Task"}
    for place, row in enumerate(rows):
        where = f"config '{name}', row {place}" + (f" ({row['ID']})" if row["ID"] else "")
        about = {"place": place, "identity": row["ID"] or "", "image_path": f"{name}/{row['ID'] or place}"}
        if "metadata" in row:
            asked += told_rows(row["metadata"], where, name, about, faults)
        elif "question" in row and "answer" in row:
            told_of = {
                column: _need(row[column], f"column '{column}'", where) for column in ("question", "answer")
            }
            asked.append({**about, **told_of, "row_id": f"{name}/biography:{place}", "modality": "image"})
        for one in _asked({"Generation_Task": row.get("Generation_Task")}, where, faults, kinds):
            row_id = f"{name}/generation/{one['modality']}{one['number']}:{place}"
            asked.append({**about, **one, "question": one["prompt"], "row_id": row_id})
        if not counts[place] and modality != "text":
            raise RememError(f"{where}: no picture")
    if let_pass := check_fault_rate(faults, choice, source):
        (told if told is not None else []).append(let_pass)
    some_left(asked, faults)
    kept = [
        {**one, "picture": 0 if one["modality"] == "image" else -1}
        for one in asked
        if modality in ("joint", one["modality"])
    ]
    if not kept:
        raise RememError(f"{source}, config '{name}': no {modality} rows")
    return training_table(kept, read_config(source, name, HOME))


def told_rows(metadata: list | None, where: str, name: str, about: dict, faults: list[str]) -> list[dict]:
    """The questions of a `metadata` cell, asked with the picture and in its own words, as the released readers do."""
    told = []
    if not metadata:
        faults.append(
            f"{where}: column 'metadata' {'is null' if metadata is None else 'holds an empty list'}"
        )
    for number, one in enumerate(metadata or []):
        here = f"{where}, metadata {number}"
        try:
            if one is None:
                raise RememError(f"{here} is null")
            pair = {column.lower(): _need(one[column], column, here) for column in ("Question", "Answer")}
            row_id = f"{name}/metadata{number}:{about['place']}"
            told.append({**about, **pair, "row_id": row_id, "modality": "image"})
        except RememError as error:
            faults.append(str(error))
    return told


FORGET_SETS = ForgetSets("MLLMU-Bench", dict(zip(FORGET, RETAIN)))
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every config and report on it; see `check.check`."""
    from remem_tasks.benchmarks.mllmu.check import check as check_configs

    return check_configs(source, pictures)
