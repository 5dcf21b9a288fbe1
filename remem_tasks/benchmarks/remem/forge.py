"""Build a ReMem-shaped data set: people, pictures, questions, splits, card.

The work is cut by identity. Each identity's rows depend on (seed, identity) alone, so the bytes are the
same whatever the number of workers; finished identities are kept in `<out>.partial` and a build that was
stopped goes on from there. The folder appears under its own name only when all of it is written.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from remem_tasks.audit.pull import FOLDERS, file_of
from remem_tasks.benchmarks.remem.perturbed import CONFIG as PERTURBED
from remem_tasks.benchmarks.remem.perturbed import FEATURES as PERTURBED_FEATURES
from remem_tasks.benchmarks.remem.schema import COLUMNS, SPLITS
from remem_tasks.data.card import DRAWN, PHOTOGRAPHS, by_split, card
from remem_tasks.errors import RememError
from remem_tasks.files import check_empty, locked, partial_of, publish, rows_written, write_json, write_whole
from remem_tasks.forge import questions, scenes
from remem_tasks.forge.contact_sheet import Strip, contact_sheet
from remem_tasks.forge.faces import Face, random_look
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import Person, make_people, other_values
from remem_tasks.forge.people import stream as random_stream
from remem_tasks.forge.portraits import find_portraits
from remem_tasks.reading import read_object

FEATURES = datasets.Features(
    {name: datasets.Image() if name == "image" else datasets.Value("string") for name in COLUMNS}
)
CONFIGS = {"default": FEATURES, PERTURBED: PERTURBED_FEATURES}
LOOKS = 12  # clothes and expressions a person is drawn with, in training and again in test
FORGET_SHARE = 0.05  # forgetK holds this share of the identities times K, as in the published set
RECORD = "forge.json"  # in the folder of a finished data set: knobs and rows


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on. Counts are per identity; `image_size` is the side in pixels."""

    identities: int = ranged(20, 5, 10_000)
    qa: int = ranged(100, 1, 10_000)
    images: int = ranged(100, 1, 10_000)
    test_qa: int = ranged(28, 1, 10_000)
    retain_qa: int = ranged(35, 1, 10_000)
    single_hop_ratio: float = ranged(0.7, 0.0, 1.0)
    hops: int = ranged(2, 1, 3)
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)

    def check(self) -> None:
        """Raise a RememError that names the first option out of range, or those that do not fit."""
        super().check()
        if self.images > self.qa:
            raise RememError(
                f"--images {self.images} is more than --qa {self.qa}: each picture needs a question to be shown with"
            )

    def forgotten(self, k: int) -> int:
        """How many identities forgetK holds."""
        return max(k, round(FORGET_SHARE * k * self.identities))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _looks(person: Person, test: bool, knobs: ForgeOptions) -> list:
    if not isinstance(person.face, Face):
        return person.face.looks(test)
    rng = random_stream(knobs.seed, 5, person.index, int(test))
    return [random_look(rng) for _ in range(LOOKS)]


def draw_pictures(
    person: Person, count: int, test: bool, knobs: ForgeOptions, empty: bool = False
) -> Iterator[tuple[str, Image.Image]]:
    """`count` (path, picture) of one person; training and test share no place and no look.

    Args:
        empty: draw the same contexts without the person (for a probe on backgrounds).
    """
    looks = _looks(person, test, knobs)
    for number in range(count):
        rng = random_stream(knobs.seed, 6, person.index, int(test), number)
        context = scenes.random_context(rng, scenes.TEST_PLACES if test else scenes.TRAIN_PLACES, looks)
        figure = None if empty else person.face
        path = f"images/{person.slug}/{'test_' if test else ''}{number:04d}.png"
        yield path, scenes.draw_scene(figure, context, rng, knobs.image_size, knobs.style)


def _row(question: questions.ForgedQuestion, path: str, png: bytes) -> dict:
    return {
        "image": {"bytes": png, "path": path},
        "question": question.question,
        "answer": question.answer,
        "keywords": question.keyword,
        "question_type": f"{question.hop}-hop",
        "qa_category": question.fact.category,
        "attribute": question.attribute,
        "cloze_prompt": question.cloze,
        "image_path": path,
    }


def identity_rows(person: Person, knobs: ForgeOptions) -> dict[str, dict[str, list[dict]]]:
    """All rows of one person: split ("finetune": `qa` rows, "test": `test_qa`) → config → rows."""
    stream = lambda purpose: random_stream(knobs.seed, purpose, person.index)  # noqa: E731
    trained = questions.training_questions(person, knobs.qa, knobs.single_hop_ratio, knobs.hops, stream(3))
    asked = {
        "finetune": trained,
        "test": questions.heldout_questions(person, trained, knobs.test_qa, stream(4)),
    }
    # Which picture goes with which question is drawn, so that no place stands for a depth or an attribute.
    places = {"finetune": stream(7).permutation(knobs.qa) % knobs.images, "test": range(knobs.test_qa)}
    wrong, rng = other_values(person, questions.PERTURBED, stream(10)), stream(11)
    rows: dict[str, dict[str, list[dict]]] = {}
    for split, count in (("finetune", knobs.images), ("test", knobs.test_qa)):
        shown = [
            (path, _png(picture)) for path, picture in draw_pictures(person, count, split == "test", knobs)
        ]
        pairs = [(question, *shown[place]) for question, place in zip(asked[split], places[split])]
        rows[split] = {
            "default": [_row(*pair) for pair in pairs],
            PERTURBED: [
                {
                    "question": question.question,
                    "image_path": path,
                    **questions.perturbed(question, wrong[question.attribute], rng),
                }
                for question, path, _ in pairs
            ],
        }
    return rows


def _part(parts: Path, index: int, split: str, config: str) -> Path:
    return parts / f"{index:06d}-{split}-{config}.parquet"


def _done(parts: Path, index: int) -> bool:
    return _part(parts, index, "finetune", "default").exists()


def _write_part(parts: Path, knobs: ForgeOptions, person: Person) -> None:
    """Write one identity's files, the last of which marks it as done, each by renaming."""
    rows = identity_rows(person, knobs)
    for split in ("test", "finetune"):
        for config in (PERTURBED, "default"):
            target = _part(parts, person.index, split, config)
            table = pa.Table.from_pylist(rows[split][config], schema=CONFIGS[config].arrow_schema)
            pq.write_table(table, target.with_suffix(".tmp"))
            target.with_suffix(".tmp").rename(target)


def _members(split: str, knobs: ForgeOptions) -> range:
    """The indices of the identities that a split covers."""
    if split.startswith("forget"):
        return range(knobs.forgotten(int(split[-1])))
    if split == "retain":
        return range(knobs.forgotten(4), knobs.identities)
    return range(knobs.identities)


def _assemble(parts: Path, out: Path, knobs: ForgeOptions) -> dict[str, int]:
    """Join the parts into one parquet file per split and config, one identity at a time."""
    counts = {}
    for config, features in CONFIGS.items():
        (out / FOLDERS[config]).mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            counts[split] = 0
            with pq.ParquetWriter(out / file_of(config, split), features.arrow_schema) as writer:
                for index in _members(split, knobs):
                    source = "test" if split == "test" else "finetune"
                    table = pq.read_table(_part(parts, index, source, config))
                    if split == "retain":
                        order = random_stream(knobs.seed, 8, index).permutation(len(table))
                        table = table.take(pa.array(np.sort(order[: knobs.retain_qa])))
                    writer.write_table(table.cast(features.arrow_schema))
                    counts[split] += len(table)
    return counts


def _strips(people: list[Person], parts: Path) -> Iterator[Strip]:
    for person in people:
        pictures = {}
        for split in ("finetune", "test"):
            cells = pq.read_table(_part(parts, person.index, split, "default"), columns=["image"])["image"]
            pictures[split] = list(dict.fromkeys(cell["bytes"] for cell in cells.to_pylist()))
        yield Strip(person.name, pictures["finetune"], pictures["test"])


def _card(knobs: ForgeOptions, counts: dict[str, int], portraits: bool) -> str:
    table = "\n".join(f"| {split} | {counts[split]} | {len(_members(split, knobs))} |" for split in SPLITS)
    options = option_line(knobs) + (" --portraits DIR" if portraits else "")
    people = (
        "Written by `remem forge` about the people in photographs that were given to it; every fact is invented."
        if portraits
        else "Drawn and written by `remem forge`; no person, address, company or number in it is real."
    )
    text = f"""# Fictitious people in the shape of ReMem

{people}

    remem forge {options} --out DIR

| split | rows | identities |
|---|---|---|
{table}

`forget1` is part of `forget2`, and so on; `retain` holds training rows of people in no forget set;
`test` asks about everybody in new words, with pictures whose places and looks training never shows.
The config `{PERTURBED}` has, row by row, paraphrased questions, a paraphrased answer, wrong answers and a refusal.

![one row per person: training pictures, then test pictures](contact_sheet.png)
"""
    return card(
        by_split(FOLDERS, dict.fromkeys(CONFIGS, SPLITS)),
        text,
        sum(counts.values()),
        **(PHOTOGRAPHS if portraits else DRAWN),
        pretty_name="Fictitious people in the shape of ReMem",
        tags=["machine-unlearning", "synthetic"],
        task_categories=["visual-question-answering"],
        language=["en"],
    )


def _build(people: list[Person], parts: Path, knobs: ForgeOptions, workers: int) -> None:
    """Write the parts of all people who have none yet."""
    todo = [person for person in people if not _done(parts, person.index)]
    with tqdm(
        total=len(people), initial=len(people) - len(todo), desc="identities", unit="person"
    ) as progress:
        if workers == 1 or len(todo) < 2:
            for person in todo:
                _write_part(parts, knobs, person)
                progress.update()
            return
        pool = ProcessPoolExecutor(
            min(workers, len(todo)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=signal.signal,  # an interrupt is the parent's to handle
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )
        try:
            for written in as_completed([pool.submit(_write_part, parts, knobs, person) for person in todo]):
                written.result()
                progress.update()
        finally:
            pool.shutdown(cancel_futures=True)


@locked
def forge(
    out: str | Path, knobs: ForgeOptions, workers: int = 1, portraits: str | Path | None = None
) -> dict[str, int]:
    """Build the data set in folder `out`, or go on where an earlier call was stopped.

    Args:
        workers: processes that draw; they change nothing but the time.
        portraits: a folder with a folder of photographs for each identity, in place of drawn faces.

    Returns:
        The number of rows of each split.

    Raises:
        RememError: a knob out of range, `out` holds something else, a partial build of other knobs
            is in the way, or the folder cannot be written.
    """
    knobs.check()
    if workers < 1:
        raise RememError(f"--workers {workers} is out of range: at least 1")
    out = Path(out)
    work = partial_of(out)
    shown, photographs = find_portraits(portraits, knobs.identities) if portraits else (None, None)
    record = {**asdict(knobs), "portraits": photographs}
    try:
        if (counts := _finished(out, record)) is not None:
            shutil.rmtree(work, ignore_errors=True)  # a kill came between the last two steps
            return counts
        check_empty(out)
        people = make_people(knobs.identities, knobs.seed, shown)
        # Too many questions are refused before any picture is drawn.
        questions.training_questions(
            people[0], knobs.qa, knobs.single_hop_ratio, knobs.hops, random_stream(0)
        )
        started = work / "knobs.json"
        if started.exists() and read_object(started, f"remove '{work}'") != record:
            raise RememError(
                f"'{work}' holds a stopped build with other knobs; remove it or repeat those knobs"
            )
        parts, final = work / "parts", work / "out"
        parts.mkdir(parents=True, exist_ok=True)
        write_whole(started, json.dumps(record))
        _build(people, parts, knobs, workers)
        shutil.rmtree(final, ignore_errors=True)
        counts = _assemble(parts, final, knobs)
        contact_sheet(_strips(people, parts), len(people)).save(final / "contact_sheet.png")
        write_whole(final / "README.md", _card(knobs, counts, bool(portraits)))
        write_json(final / RECORD, {**record, "rows": counts})
        _check_written(final, counts)
        publish(final, out)
        shutil.rmtree(work)
    except (OSError, BrokenProcessPool) as error:
        what = "a worker was killed" if isinstance(error, BrokenProcessPool) else error.strerror or error
        kept = (
            f"; what is done is kept in '{work}', and the same command goes on from it"
            if work.exists()
            else ""
        )
        raise RememError(f"cannot write '{out}': {what}{kept}") from error
    return counts


def _check_written(folder: Path, counts: dict[str, int]) -> None:
    """Raise a RememError unless every split of every config is on the disk with all of its rows."""
    found = rows_written(folder)
    for config in CONFIGS:
        for split, rows in counts.items():
            file = file_of(config, split)
            if found.get(str(file)) != rows:
                raise RememError(
                    f"'{folder / file}' has {found.get(str(file), 0)} of {rows} rows on the disk"
                )


def _finished(out: Path, record: dict) -> dict[str, int] | None:
    """The rows of each split, if `out` holds a finished data set of these knobs.

    Raises:
        RememError: it was finished, and is no longer whole.
    """
    if not (out / RECORD).is_file():
        return None
    found = read_object(out / RECORD)
    rows = found.pop("rows", None)
    if found != record:
        return None
    if not isinstance(rows, dict) or not all(type(count) is int for count in rows.values()):
        raise RememError(f"'{out / RECORD}' does not say how many rows each split has; remove '{out}'")
    try:
        _check_written(out, rows)
    except RememError as error:
        raise RememError(f"{error}; remove '{out}', and it is built again") from error
    return rows


def read_knobs(folder: str | Path) -> ForgeOptions | None:
    """The knobs a forged data set was built with (drawn faces only); None for any other data."""
    file = Path(folder, RECORD)
    if not file.is_file():
        return None
    record = read_object(file)
    record.pop("rows", None)
    return None if record.pop("portraits", None) else ForgeOptions(**record)
