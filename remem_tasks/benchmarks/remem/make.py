"""`remem data make`: a ReMem-shaped data set of photographs and a table of questions and answers of one's own."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import datasets
import pyarrow.parquet as pq
from PIL import Image

from remem_tasks.audit.pull import FOLDERS
from remem_tasks.benchmarks.remem.beside import beside
from remem_tasks.benchmarks.remem.perturbed import CONFIG as PERTURBED
from remem_tasks.benchmarks.remem.perturbed import FEATURES
from remem_tasks.benchmarks.remem.schema import COLUMNS
from remem_tasks.benchmarks.remem.wording import as_sentence, attribute_of, cloze_of, hop_of, keyword_of
from remem_tasks.data.card import PHOTOGRAPHS, by_split, card
from remem_tasks.data.cells import emptiness, text_of, texts_of
from remem_tasks.data.people import check_known, identity_key, look_alikes, nearest
from remem_tasks.data.pictures import to_rgb
from remem_tasks.errors import RememError
from remem_tasks.files import new_folder, write_whole

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
TEST_SHARE = 0.25  # of a person's pictures: shown in test only
MAX_SIDE = 1024  # pixels; larger photographs are made smaller
NAMES = {
    "picture": ("picture", "image", "photo", "file", "image_path"),
    "person": ("person", "name", "who", "identity"),
    "question": ("question",),
    "answer": ("answer",),
    "keyword": ("keyword", "keywords"),
    "cloze": ("cloze", "cloze_prompt"),
    "hop": ("hop", "hops", "question_type"),
    "attribute": ("attribute",),
    "category": ("category", "qa_category"),
    "paraphrase": ("paraphrase", "paraphrases", "paraphrased_question"),
}
"""Column of the table → the names it may have."""
HOP = re.compile(r"[1-9]\d?(\s*-?\s*hops?)?", re.IGNORECASE)
NEEDED = ("person", "question", "answer")
SPLITS = ("finetune", "forget1", "retain", "test")


@dataclass
class Made:
    """What was made.

    Attributes:
        rows: split → number of rows.
        keywords: (question, answer, keyword) of every keyword that was derived, to be looked at.
        sentences: how many answers were a value alone and were made a sentence.
        moved: how many rows are shown with another picture of the person, as theirs is kept for `test`.
    """

    rows: dict[str, int]
    keywords: list[tuple[str, str, str]]
    sentences: int = 0
    moved: int = 0


ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


def _text_of_file(path: Path) -> str:
    """A file of text in UTF-8 or, where it begins with a mark that says so, UTF-16 (as spreadsheets write it)."""
    raw = path.read_bytes()
    encoding = next((name for mark, name in ENCODINGS.items() if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        shown = raw[max(error.start - 15, 0) : error.start + 5].decode("latin-1").splitlines()[-1]
        raise RememError(
            f"'{path}', line {line} is not UTF-8 (near {shown!r}): save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8')"
        ) from None


def _csv_rows(path: Path) -> list[dict]:
    text = _text_of_file(path)
    first = text.splitlines()[0] if text.strip() else ""
    bare = re.sub(r'"[^"]*"', "", first)  # quoted names may hold any sign
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=bare.count), strict=True)
    rows, names, begun = [], None, 1
    try:
        for cells in reader:
            if names is None:
                names = [name.strip() for name in cells]
            elif any(cell.strip() for cell in cells):
                if any(cell.strip() for cell in cells[len(names) :]):
                    raise RememError(
                        f"'{path}', row {len(rows)}: more cells than columns; put texts with commas into quotes"
                    )
                rows.append(dict(zip_longest(names, cells[: len(names)])))
            begun = reader.line_num + 1
    except csv.Error as error:
        raise RememError(
            f"'{path}' cannot be read ({error}): the row that begins in line {begun} has a quotation mark that is not "
            'closed, or not doubled ("") inside a quoted text'
        ) from None
    twice = [name for name in names or [] if name and names.count(name) > 1]
    if twice:
        raise RememError(f"'{path}': column '{twice[0]}' comes twice")
    return rows


def _json_rows(path: Path) -> list:
    """The rows of a file with a JSON record a line, or with one list of records."""
    text = _text_of_file(path)
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise RememError(f"'{path}', line {number} is not a JSON record ({error})") from None
    return rows


def read_table(path: str | Path) -> list[dict]:
    """The rows of a CSV, JSON, JSONL or parquet file under the names of NAMES; NaN, as pandas writes gaps, is none.

    Raises:
        RememError: no such file or column, another format or encoding, a column that comes twice.
    """
    path = Path(path)
    kind = path.suffix.lower()
    try:
        if kind in (".csv", ".tsv"):
            rows = _csv_rows(path)
        elif kind in (".jsonl", ".ndjson", ".json"):
            rows = _json_rows(path)
        elif kind == ".parquet":
            rows = pq.read_table(path).to_pylist()
        else:
            raise RememError(f"'{path}' is no .csv, .jsonl or .parquet file")
    except OSError as error:
        raise RememError(f"'{path}' cannot be read ({error.strerror or error})") from error
    except RememError:
        raise
    except Exception as error:
        raise RememError(f"'{path}' cannot be read ({str(error).splitlines()[0]})") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise RememError(f"'{path}' has no rows")
    there = {str(name).strip().lower(): name for row in rows for name in row}
    columns = {
        ours: next((there[name] for name in names if name in there), None) for ours, names in NAMES.items()
    }
    if missing := [name for name in NEEDED if columns[name] is None]:
        raise RememError(
            f"'{path}': missing column(s) {', '.join(missing)}; found {', '.join(map(str, rows[0]))}"
        )
    return [{ours: _cell_of(row.get(name)) for ours, name in columns.items()} for row in rows]


def _cell_of(cell: object) -> object:
    """A cell; None for NaN, and a whole number for one that pandas made a fraction beside gaps."""
    if isinstance(cell, float):
        return None if math.isnan(cell) else int(cell) if cell.is_integer() else cell
    return cell


def _checked(rows: list[dict], path: str | Path) -> list[dict]:
    """The rows with texts in every cell, and the person's key."""
    found = []
    for index, row in enumerate(rows):
        where = f"'{path}', row {index}"
        texts: dict = {"where": where}
        for name, cell in row.items():
            try:
                if name in ("keyword", "paraphrase"):
                    texts[name] = texts_of(cell)
                    continue
                texts[name] = (text_of(cell) or "").strip()
            except RememError as error:
                raise RememError(f"{where}: column '{name}' {error}") from None
            if name in NEEDED and (why := emptiness(texts[name])):
                raise RememError(f"{where}: column '{name}' {why}")
        if texts["hop"] and not HOP.fullmatch(texts["hop"]):
            raise RememError(
                f"{where}: column 'hop' holds '{texts['hop']}', not a number of steps such as 1 or 2-hop"
            )
        texts["key"] = identity_key(texts["person"])
        found.append(texts)
    return found


def _files(place: Path) -> list[Path]:
    return sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _file_of(row: dict, photos: Path) -> Path:
    """The file that a row names; a path of another system (`ada\\1.png`) is read too."""
    name, root = row["picture"], photos.resolve()
    file = (photos / name).resolve()
    if not file.is_file() and "\\" in name:
        file = (photos / name.replace("\\", "/")).resolve()
    if not file.is_relative_to(root):
        raise RememError(f"{row['where']}: picture '{name}' is not inside '{photos}'")
    if not file.is_file():
        others = [str(path.relative_to(root)) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES]
        near = ", ".join(nearest(name, others)) or "it holds none"
        raise RememError(f"{row['where']}: there is no picture '{name}' in '{photos}' (nearest: {near})")
    return file


def _pictures(photos: Path, rows: list[dict]) -> dict[str, list[Path]]:
    """Each person's pictures: those of their rows, then those of folders that are theirs.

    A folder is a person's if it has their name, or if rows name pictures in it and all of those are this person's.
    """
    found: dict[str, dict[Path, None]] = defaultdict(dict)
    root = photos.resolve()
    keys = {row["key"] for row in rows}
    owners: dict[Path, set[str]] = {
        path: {key} for path in root.iterdir() if path.is_dir() and (key := identity_key(path.name)) in keys
    }
    named: dict[Path, set[str]] = defaultdict(set)
    for row in rows:
        if row["picture"]:
            row["file"] = file = _file_of(row, photos)
            named[file].add(row["key"])
            found[row["key"]][file] = None
            if file.parent != root:
                owners.setdefault(file.parent, set()).add(row["key"])
    for place in sorted(owners):
        if len(owners[place]) == 1:
            (key,) = owners[place]
            found[key].update((file, None) for file in _files(place) if named.get(file, {key}) == {key})
    return {key: list(files) for key, files in found.items()}


def _cell(file: Path, path: str) -> dict:
    """A picture upright, in RGB, at most MAX_SIDE large, and without the camera's notes (place, time, owner)."""
    try:
        with Image.open(file) as opened:
            photograph = opened.format in ("JPEG", "MPO")
            picture = to_rgb(opened)
    except Exception as error:
        reason = str(error).splitlines()[0].replace(f" '{file}'", "") if str(error) else type(error).__name__
        raise RememError(f"picture '{file}' cannot be read ({reason})") from error
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    clean = Image.new("RGB", picture.size)
    clean.paste(picture)
    buffer = io.BytesIO()
    clean.save(buffer, **({"format": "JPEG", "quality": 95} if photograph else {"format": "PNG"}))
    return {"bytes": buffer.getvalue(), "path": f"{path}.{'jpg' if photograph else 'png'}"}


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
        if keywords[0].casefold() not in answer.casefold():
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


def _splits(
    rows: list[dict], pictures: dict[str, list[Path]], forgotten: set[str], test: bool, made: Made
) -> dict[str, list[dict]]:
    """Split → rows, `test` with pictures that training never shows."""
    splits: dict[str, list[dict]] = {name: [] for name in SPLITS if test or name != "test"}
    for key in dict.fromkeys(row["key"] for row in rows):
        own = [row for row in rows if row["key"] == key]
        files = pictures.get(key, [])
        if not files:
            raise RememError(f"{own[0]['where']}: no picture of '{own[0]['person']}'")
        if test and len(files) < 2:
            raise RememError(
                f"'{own[0]['person']}' has one picture; test needs another one, --no-test leaves that split out"
            )
        asked = {row.get("file") for row in own}
        files = sorted(
            files, key=lambda file: file not in asked
        )  # pictures that no row asks about are kept for test
        held = max(1, round(TEST_SHARE * len(files))) if test else 0
        shown, unseen = files[: len(files) - held], files[len(files) - held :]
        cells = {
            file: _cell(file, f"images/{key}/{'test_' if file in unseen else ''}{number:04d}")
            for number, file in enumerate(files)
        }
        for number, row in enumerate(own):
            file = row.get("file")
            made.moved += file in unseen
            if file is None or file in unseen:
                file = shown[number % len(shown)]
            texts = _described(row, made)
            other = [said for said in row["paraphrase"] if said != texts["question"]]
            one = {"image": cells[file], **texts, "image_path": cells[file]["path"], "asked": other}
            splits["finetune"].append(one)
            splits["forget1" if key in forgotten else "retain"].append(one)
            if test:
                cell = cells[unseen[number % len(unseen)]]
                said, *more = [*other, texts["question"]]
                splits["test"].append(
                    {**one, "image": cell, "question": said, "image_path": cell["path"], "asked": more}
                )
    return splits


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
    from remem_tasks.audit.check import check

    if not Path(photos).is_dir():
        raise RememError(f"'{photos}' is not a folder of pictures")
    rows = _checked(read_table(table), table)
    keys = {identity_key(name): name for name in forget}
    known = {row["key"] for row in rows}
    check_known(keys, known, "--forget", f"'{table}'")
    if not known - set(keys):
        raise RememError(f"--forget names all {len(known)} people of '{table}': nobody is left to retain")
    if alike := look_alikes(known):
        raise RememError(f"'{table}': {' and '.join(alike[0])} look like one person written in several ways")
    made = Made({}, [])
    splits = _splits(rows, _pictures(Path(photos), rows), set(keys), test, made)
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
            raise RememError(
                f"'{table}' makes {sum(map(len, faults.values()))} faulty rows: {kind}: {places[0]}; mend the row, or give "
                f"its keyword and cloze prompt"
            )
    made.rows = {name: len(of_split) for name, of_split in splits.items()}
    return made


def lines_of(made: Made, shown: int = 10) -> Iterator[str]:
    """What a person is to look at."""
    yield ", ".join(f"{name} {rows} rows" for name, rows in made.rows.items())
    if made.sentences:
        yield f"{made.sentences} answers are a value alone; they were written as '{as_sentence('…')}'"
    if made.moved:
        yield f"{made.moved} rows are shown with another picture of the same person: theirs is kept for test"
    if made.keywords:
        yield f"{len(made.keywords)} keywords were derived; look at them (a column 'keyword' says otherwise):"
        yield from (f"  {keyword!r} in {answer!r}" for _, answer, keyword in made.keywords[:shown])
        if len(made.keywords) > shown:
            yield f"  and {len(made.keywords) - shown} more"
