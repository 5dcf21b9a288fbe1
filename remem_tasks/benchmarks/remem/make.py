"""`remem data make`: a ReMem-shaped data set of photographs and a table of questions and answers of one's own."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from remem_tasks.audit.pull import FOLDERS
from remem_tasks.benchmarks.remem.beside import beside
from remem_tasks.benchmarks.remem.identity import says_nothing
from remem_tasks.benchmarks.remem.own_photos import Photo, Photographs, cell
from remem_tasks.benchmarks.remem.own_table import checked, read_table
from remem_tasks.benchmarks.remem.perturbed import CONFIG as PERTURBED
from remem_tasks.benchmarks.remem.perturbed import FEATURES
from remem_tasks.benchmarks.remem.schema import COLUMNS
from remem_tasks.benchmarks.remem.wording import as_sentence, attribute_of, cloze_of, hop_of, keyword_of
from remem_tasks.data.card import PHOTOGRAPHS, by_split, card
from remem_tasks.data.people import check_known, identity_key, look_alikes
from remem_tasks.errors import RememError
from remem_tasks.files import new_folder, write_whole
from remem_tasks.metrics.words import occurs, tokens

TEST_SHARE = 0.25  # of a person's pictures: shown in test only
SPLITS = ("finetune", "forget1", "retain", "test")
PLACE = re.compile(r"split '(\w+)', row (\d+)(?: \([^)]*\))?")
SHOWN = 3  # pictures that a line names


@dataclass
class Made:
    """What was made.

    Attributes:
        rows: split → number of rows.
        keywords: (question, answer, keyword) of every keyword that was derived, to be looked at.
        sentences: how many answers were a value alone and were made a sentence.
        moved: how many rows are shown with another picture of the person, as theirs is kept for `test`.
        left: how many rows `test` leaves out, as it asks their question of every picture that it has of the person.
        shared: pictures of several people, as `ada/1.png (Ada Birch, Ben Crane)`.
        unused: pictures of the folder that are nobody's.
    """

    rows: dict[str, int]
    keywords: list[tuple[str, str, str]]
    sentences: int = 0
    moved: int = 0
    left: int = 0
    shared: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def _described(row: dict, made: Made) -> dict:
    """The texts of a row in ReMem's columns, given or derived."""
    question, answer, person = row["question"], row["answer"], row["person"]
    keywords = row["keyword"]
    if not keywords:
        keyword = keyword_of(question, answer, person)
        if not keyword:
            raise RememError(
                f"{row['where']}: no keyword could be derived from the answer '{answer}'; give it in a column 'keyword'"
            )
        keywords = [keyword]
        made.keywords.append((question, answer, keyword))
    cloze = row["cloze"]
    if not cloze and len(keywords) == 1 and not cloze_of(answer, keywords[0]):
        if not occurs(tokens(keywords[0]), tokens(answer)):
            raise RememError(f"{row['where']}: keyword '{keywords[0]}' is not in the answer '{answer}'")
        answer = as_sentence(answer)
        made.sentences += 1
    hop = row["hop"] or str(hop_of(question, person))
    return {
        "question": question,
        "answer": answer,
        "keywords": keywords[0] if len(keywords) == 1 else json.dumps(keywords, ensure_ascii=False),
        "question_type": f"{re.match(r'[0-9]+', hop)[0]}-hop",
        "qa_category": row["category"] or "personal_information",
        "attribute": row["attribute"] or attribute_of(question, person),
        "cloze_prompt": cloze or cloze_of(answer, keywords[0]),
    }


def _in_turn(photos: Sequence[Photo], number: int, question: str, asked: set) -> Photo | None:
    """The first picture from `number` on of which a question is not asked yet, which it then is; None if it is of all."""
    question = " ".join(question.split())
    for place in range(len(photos)):
        one = photos[(number + place) % len(photos)]
        if (question, one) not in asked:
            asked.add((question, one))
            return one
    return None


def _names_person(row: dict) -> bool:
    return hop_of(row["question"], row["person"]) == 1


def _nobody_could_tell(row: dict, one: Photo, whose: str) -> RememError:
    return RememError(
        f"{row['where']}: picture '{one.name}' is {whose} too, and the question does not name '{row['person']}', so that "
        "nobody could tell who is meant"
    )


def _of_several(rows: list[dict], photos: dict[str, list[Photo]], made: Made) -> set[Photo]:
    """The pictures of several people.

    Raises:
        RememError: a row shows one and does not say in words who is meant.
    """
    people: dict[Photo, dict[str, None]] = defaultdict(dict)
    names = {row["key"]: row["person"] for row in reversed(rows)}
    for key, own in photos.items():
        for one in own:
            people[one][names[key]] = None
    shared = {one: list(who) for one, who in people.items() if len(who) > 1}
    for row in rows:
        if row.get("photo") in shared and not _names_person(row):
            others = [name for name in shared[row["photo"]] if name != names[row["key"]]]
            raise _nobody_could_tell(row, row["photo"], f"{', '.join(others)}'s")
    made.shared = [f"{one.name} ({', '.join(who)})" for one, who in shared.items()]
    return set(shared)


def _splits(
    rows: list[dict], pictures: dict[str, list[Photo]], forgotten: set[str], test: bool, made: Made
) -> tuple[dict[str, list[dict]], dict[str, list[int]]]:
    """(split → rows, split → each one's number in the table), `test` with pictures that training never shows."""
    splits: dict[str, list[dict]] = {name: [] for name in SPLITS if test or name != "test"}
    numbers: dict[str, list[int]] = {name: [] for name in splits}
    shared = _of_several(rows, pictures, made)

    def add(split: str, row: dict, one: dict) -> None:
        splits[split].append(one)
        numbers[split].append(row["number"])

    for key in dict.fromkeys(row["key"] for row in rows):
        own = [row for row in rows if row["key"] == key]
        named = {row.get("photo") for row in own}
        # Pictures that no row asks about are kept for test, those of several people never.
        photos = sorted(pictures[key], key=lambda one: (one not in shared, one not in named))
        alone = sum(one not in shared for one in photos)
        if test and (len(photos) < 2 or not alone):
            raise RememError(
                f"'{own[0]['person']}' has {'one picture' if len(photos) == 1 else 'no picture that shows nobody else'}; test needs "
                "another one, --no-test leaves that split out"
            )
        held = min(max(1, round(TEST_SHARE * len(photos))), alone) if test else 0
        shown, unseen = photos[: len(photos) - held], photos[len(photos) - held :]
        place = f"person_{key}" if says_nothing(key) else key
        cells = {
            one: cell(one, f"images/{place}/{'test_' if one in unseen else ''}{number:04d}")
            for number, one in enumerate(photos)
        }
        asked = {(" ".join(row["question"].split()), row.get("photo")) for row in own}
        tested: set = set()
        for number, row in enumerate(own):
            chosen = row.get("photo")
            made.moved += chosen in unseen
            if chosen is None or chosen in unseen:
                pool = [one for one in shown if one not in shared or _names_person(row)]
                if not pool:
                    raise _nobody_could_tell(row, shown[0], "somebody else's")
                chosen = _in_turn(pool, number, row["question"], asked) or pool[number % len(pool)]
            texts = _described(row, made)
            other = [said for said in row["paraphrase"] if said != texts["question"]]
            picture = cells[chosen]
            one = {"image": picture, **texts, "image_path": picture["path"], "asked": other}
            add("finetune", row, one)
            add("forget1" if key in forgotten else "retain", row, one)
            if test:
                said, *more = [*other, texts["question"]]
                chosen = _in_turn(unseen, number, said, tested)
                if chosen is None:
                    made.left += 1
                    continue
                picture = cells[chosen]
                add(
                    "test",
                    row,
                    {**one, "image": picture, "question": said, "image_path": picture["path"], "asked": more},
                )
    return splits, numbers


def _card(
    splits: dict[str, list[dict]],
    configs: dict[str, dict[str, str]],
    people: int,
    forgotten: Sequence[str],
    consent: str,
) -> str:
    table = "\n".join(f"| {name} | {len(rows)} |" for name, rows in splits.items())
    said = consent or "not stated. Do not pass this data set on before everybody in it has agreed."
    text = f"""# Own people in the shape of ReMem

**Personal data.** This data set holds photographs of {people} people and facts about them. Whoever holds it answers for it:
keep it where only those have access who need it, and delete it, with every model that memorised it, when somebody withdraws.

**Consent:** {said}

To be forgotten (`forget1`): {", ".join(forgotten)}. Made by `remem data make`; the camera's notes (place, time, owner) were
taken out of the pictures.

| split | rows |
|---|---|
{table}
"""
    return card(
        configs,
        text,
        sum(map(len, splits.values())),
        **PHOTOGRAPHS,
        pretty_name="Own people in the shape of ReMem",
        tags=["machine-unlearning", "personal-data"],
        task_categories=["visual-question-answering"],
    )


def _write(folder: Path, splits: dict[str, list[dict]], card_of: Callable[[dict], str]) -> None:
    """The rows, what stands beside those of splits that have paraphrases, and the card."""
    everybody = splits[SPLITS[0]]
    configs = {"default": list(splits)}
    plain = {name: datasets.Image() if name == "image" else datasets.Value("string") for name in COLUMNS}

    def save(config: str, name: str, rows: list[dict], features: datasets.Features) -> None:
        file = folder / FOLDERS[config] / f"{name}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = [{column: row[column] for column in features} for row in rows]
        datasets.Dataset.from_list(table, features=features).to_parquet(file)

    for name, rows in splits.items():
        save("default", name, rows, datasets.Features(plain))
        if rows and (found := beside(rows, everybody)):
            save(PERTURBED, name, found, FEATURES)
            configs.setdefault(PERTURBED, []).append(name)
    write_whole(folder / "README.md", card_of(by_split(FOLDERS, configs)))


def make(
    photos: str | Path,
    table: str | Path,
    out: str | Path,
    forget: Sequence[str],
    consent: str = "",
    test: bool = True,
) -> Made:
    """Make a data set of photographs and a table.

    Args:
        photos: folder of pictures; `picture` of the table is relative to it. Pictures in a folder named as a
            person are theirs too.
        table: CSV, JSONL or parquet, see NAMES.
        out: folder to make; empty or absent.
        forget: the people of `forget1`, as the table names them.
        consent: what the card says of it.
        test: make a split `test` with pictures that training never shows (the last quarter of each person's).

    Raises:
        RememError: a cell or picture that cannot be used, a person to be forgotten who is not there, nobody
            left to retain, a faulty row (see `remem data check`).
    """
    from remem_tasks.benchmarks.remem.check import check

    if not forget:
        raise RememError("--forget names nobody: who is to be forgotten?")
    folder_of = Photographs(photos, table)
    rows = checked(read_table(table), table)
    keys = {identity_key(name): name for name in forget}
    known = {row["key"] for row in rows}
    check_known(keys, known, "--forget", f"'{table}'")
    if not known - set(keys):
        raise RememError(f"--forget names all {len(known)} people of '{table}': nobody is left to retain")
    if alike := look_alikes(known):
        raise RememError(f"'{table}': {' and '.join(alike[0])} look like one person written in several ways")
    made = Made({}, [])
    pictures = folder_of.of_people(rows)
    if without := next((row for row in rows if not pictures.get(row["key"])), None):
        raise RememError(f"{without['where']}: {folder_of.none_of(without['person'])}")
    made.unused = folder_of.unused(pictures)
    splits, numbers = _splits(rows, pictures, set(keys), test, made)
    names = [next(row["person"] for row in rows if row["key"] == key) for key in keys]
    with new_folder(out) as folder:
        try:
            _write(folder, splits, lambda configs: _card(splits, configs, len(known), names, consent))
            faults = check(str(folder)).faults
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # photographs of people are not left behind
            raise
        if faults:
            shutil.rmtree(folder, ignore_errors=True)
            kind, places = next(iter(faults.items()))
            where = PLACE.sub(lambda place: f"row {numbers[place[1]][int(place[2])]}", places[0])
            raise RememError(f"'{table}' cannot be used: {kind}: {where}")
    made.rows = {name: len(of_split) for name, of_split in splits.items()}
    return made


def lines_of(made: Made, shown: int = 10) -> Iterator[str]:
    """What a person is to look at."""
    yield ", ".join(f"{name} {rows} rows" for name, rows in made.rows.items())
    if made.sentences:
        yield f"{made.sentences} answers are a value alone; they were written as '{as_sentence('…')}'"
    if made.moved:
        yield f"{made.moved} rows are shown with another picture of the same person: theirs is kept for test"
    if made.left:
        yield f"{made.left} rows are not asked in test, which has their question with each of its pictures of the person"
    for pictures, said in ((made.shared, "are of several people"), (made.unused, "are used for nobody")):
        if pictures:
            more = f" and {len(pictures) - SHOWN} more" if len(pictures) > SHOWN else ""
            yield f"{len(pictures)} pictures {said}: {', '.join(pictures[:SHOWN])}{more}"
    if made.keywords:
        yield f"{len(made.keywords)} keywords were derived; look at them (a column 'keyword' says otherwise):"
        yield from (f"  {keyword!r} in {answer!r}" for _, answer, keyword in made.keywords[:shown])
        if len(made.keywords) > shown:
            yield f"  and {len(made.keywords) - shown} more"
