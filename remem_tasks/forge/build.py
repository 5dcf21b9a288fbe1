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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from tqdm import tqdm

from remem_tasks.data import COLUMNS, SPLITS
from remem_tasks.errors import RememError
from remem_tasks.folders import check_empty, partial_of, publish
from remem_tasks.forge import questions, scenes
from remem_tasks.forge.faces import random_look
from remem_tasks.forge.people import Person, make_people
from remem_tasks.forge.people import stream as random_stream

FEATURES = datasets.Features(
    {name: datasets.Image() if name == "image" else datasets.Value("string") for name in COLUMNS}
)
LOOKS = 12  # clothes and expressions a person is drawn with, in training and again in test
FORGET_SHARE = 0.05  # forgetK holds this share of the identities times K, as in the published set


@dataclass(frozen=True)
class Knobs:
    """What a build depends on. Counts are per identity; `image_size` is the side in pixels."""

    identities: int = 20
    qa: int = 100
    images: int = 100
    test_qa: int = 28
    retain_qa: int = 35
    single_hop_ratio: float = 0.7
    hops: int = 2
    image_size: int = 336
    seed: int = 0

    def check(self) -> None:
        """Raise a RememError that names the first knob out of range."""
        for name, low, high in (
            ("identities", 5, 100_000),
            ("qa", 1, 10_000),
            ("images", 1, 10_000),
            ("test_qa", 1, 10_000),
            ("retain_qa", 1, 10_000),
            ("single_hop_ratio", 0.0, 1.0),
            ("hops", 1, 3),
            ("image_size", 16, 4096),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise RememError(f"--{name.replace('_', '-')} {value} is out of range: {low} to {high}")
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


def _pictures(person: Person, count: int, test: bool, knobs: Knobs) -> Iterator[tuple[str, bytes]]:
    """`count` (path, PNG bytes) of one person; training and test share no place and no look."""
    looks_rng = random_stream(knobs.seed, 5, person.index, int(test))
    looks = [random_look(looks_rng) for _ in range(LOOKS)]
    for number in range(count):
        rng = random_stream(knobs.seed, 6, person.index, int(test), number)
        context = scenes.random_context(rng, scenes.TEST_PLACES if test else scenes.TRAIN_PLACES, looks)
        path = f"images/{person.slug}/{'test_' if test else ''}{number:04d}.png"
        yield path, _png(scenes.draw_scene(person.face, context, rng, knobs.image_size))


def _row(question: questions.Question, path: str, png: bytes) -> dict:
    return {
        "image": {"bytes": png, "path": path},
        "question": question.question,
        "answer": question.answer,
        "keywords": question.keyword,
        "question_type": f"{question.hop}-hop",
        "qa_category": question.category,
        "attribute": question.attribute,
        "cloze_prompt": question.cloze,
        "image_path": path,
    }


def identity_rows(person: Person, knobs: Knobs) -> dict[str, list[dict]]:
    """All rows of one person: {"finetune": `qa` rows, "test": `test_qa` rows}."""
    trained = questions.training_questions(
        person, knobs.qa, knobs.single_hop_ratio, knobs.hops, random_stream(knobs.seed, 3, person.index)
    )
    asked = questions.heldout_questions(
        person, trained, knobs.test_qa, random_stream(knobs.seed, 4, person.index)
    )
    shown = list(_pictures(person, knobs.images, False, knobs))
    # Which picture goes with which question is drawn, so that no place stands for a depth or an attribute.
    order = random_stream(knobs.seed, 7, person.index).permutation(knobs.qa) % knobs.images
    return {
        "finetune": [_row(question, *shown[place]) for question, place in zip(trained, order)],
        "test": [
            _row(question, *picture)
            for question, picture in zip(asked, _pictures(person, knobs.test_qa, True, knobs))
        ],
    }


def _table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema)


def _write_part(folder: Path, knobs: Knobs, person: Person) -> int:
    """Write one identity's two files, the second (which marks it as done) by renaming."""
    rows = identity_rows(person, knobs)
    for name in ("test", "finetune"):
        target = folder / f"{person.index:06d}-{name}.parquet"
        pq.write_table(_table(rows[name]), target.with_suffix(".tmp"))
        target.with_suffix(".tmp").rename(target)
    return person.index


def _members(split: str, knobs: Knobs) -> range:
    """The indices of the identities that a split covers."""
    if split.startswith("forget"):
        return range(knobs.forgotten(int(split[-1])))
    if split == "retain":
        return range(knobs.forgotten(4), knobs.identities)
    return range(knobs.identities)


def _assemble(parts: Path, out: Path, knobs: Knobs) -> dict[str, int]:
    """Join the parts into one parquet file a split, one identity at a time."""
    (out / "data").mkdir(parents=True, exist_ok=True)
    counts = {}
    for split in SPLITS:
        counts[split] = 0
        with pq.ParquetWriter(
            out / "data" / f"{split}-00000-of-00001.parquet", FEATURES.arrow_schema
        ) as writer:
            for index in _members(split, knobs):
                table = pq.read_table(
                    parts / f"{index:06d}-{'test' if split == 'test' else 'finetune'}.parquet"
                )
                if split == "retain":
                    chosen = random_stream(knobs.seed, 8, index).permutation(len(table))[: knobs.retain_qa]
                    table = table.take(pa.array(np.sort(chosen)))
                writer.write_table(table.cast(FEATURES.arrow_schema))
                counts[split] += len(table)
    return counts


def contact_sheet(
    people: list[Person], parts: Path, people_shown: int = 20, train: int = 6, test: int = 3, side: int = 96
) -> Image.Image:
    """One row a person: training pictures, then (after a gap) test pictures, with the name below."""
    gap, line = 12, 16
    people = people[:people_shown]
    sheet = Image.new("RGB", ((train + test) * side + gap, len(people) * (side + line)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, person in enumerate(people):
        for name, count, left in (("finetune", train, 0), ("test", test, train * side + gap)):
            table = pq.read_table(parts / f"{person.index:06d}-{name}.parquet", columns=["image"])
            for column, cell in enumerate(table["image"].to_pylist()[:count]):
                with Image.open(io.BytesIO(cell["bytes"])) as picture:
                    sheet.paste(picture.resize((side, side)), (left + column * side, row * (side + line)))
        draw.text((4, row * (side + line) + side + 1), person.name, fill="black")
        draw.text(
            (train * side + gap + 4, row * (side + line) + side + 1), "unseen contexts (test)", fill="dimgray"
        )
    return sheet


def _card(knobs: Knobs, counts: dict[str, int]) -> str:
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*" for split in SPLITS)
    table = "\n".join(f"| {split} | {counts[split]} | {len(_members(split, knobs))} |" for split in SPLITS)
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in asdict(knobs).items())
    return f"""---
configs:
- config_name: default
  data_files:
{files}
tags:
- machine-unlearning
- synthetic
---
# Fictitious people in the shape of ReMem

Drawn and written by `remem forge`; no person, address, company or number in it is real.

    remem forge {options} --out DIR

| split | rows | identities |
|---|---|---|
{table}

`forget1` is part of `forget2`, and so on; `retain` holds training rows of people in no forget set;
`test` asks about everybody in new words, with pictures whose places and clothes training never shows.

![one row a person: training pictures, then test pictures](contact_sheet.png)
"""


def forge(out: str | Path, knobs: Knobs, workers: int = 1) -> dict[str, int]:
    """Build the data set in folder `out`.

    Returns:
        The number of rows of each split.

    Raises:
        RememError: a knob out of range, `out` not empty, or a partial build of other knobs in the way.
    """
    knobs.check()
    out = check_empty(out)
    work = partial_of(out)
    record = json.dumps(asdict(knobs), indent=1)
    try:
        people = make_people(knobs.identities, knobs.seed)
        # Too many questions are refused before any picture is drawn.
        questions.training_questions(
            people[0], knobs.qa, knobs.single_hop_ratio, knobs.hops, random_stream(0)
        )
        if (work / "knobs.json").exists() and (work / "knobs.json").read_text() != record:
            raise RememError(
                f"'{work}' holds a stopped build with other knobs; remove it or repeat those knobs"
            )
        parts = work / "parts"
        parts.mkdir(parents=True, exist_ok=True)
        (work / "knobs.json").write_text(record)
        todo = [person for person in people if not (parts / f"{person.index:06d}-finetune.parquet").exists()]
        write = partial(_write_part, parts, knobs)
        progress = tqdm(total=len(people), initial=len(people) - len(todo), desc="identities", unit="person")
        if workers > 1 and len(todo) > 1:
            with multiprocessing.get_context("spawn").Pool(min(workers, len(todo))) as pool:
                for _ in pool.imap_unordered(write, todo):
                    progress.update()
        else:
            for person in todo:
                write(person)
                progress.update()
        progress.close()
        final = work / "out"
        shutil.rmtree(final, ignore_errors=True)
        counts = _assemble(parts, final, knobs)
        contact_sheet(people, parts).save(final / "contact_sheet.png")
        (final / "README.md").write_text(_card(knobs, counts))
        (final / "forge.json").write_text(record + "\n")
        publish(final, out)
        shutil.rmtree(work)
    except OSError as error:
        raise RememError(f"cannot write to '{out}': {error.strerror or error}") from error
    return counts
