"""Columns of pictures in every form that a table may give them."""

import base64

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.rows import people_splits, picture, write_parquet

from remem_tasks.benchmarks.remem.check import check
from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.data.pictures import decode_image
from remem_tasks.data.tables import PICTURE, picture_column, pictures_column, with_columns
from remem_tasks.errors import RememError
from unlearning.data import check_pictures, load_rows

RAW = picture("gold", 1)
CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def column(*values, kind=None):
    return pa.chunked_array([pa.array(list(values), kind)])


@pytest.mark.parametrize(
    "given",
    [
        column(RAW),
        column([RAW]),
        column({"bytes": RAW, "path": None, "width": 56}),
        column(RAW, kind=pa.large_binary()),
        pa.chunked_array([pa.array([RAW]).dictionary_encode()]),
    ],
)
def test_a_picture_is_read_in_every_form(given):
    assert picture_column(given, "image", "x").to_pylist() == [{"bytes": RAW, "path": None}]


@pytest.mark.parametrize(
    "given",
    [
        column([1, 2, 3]),
        column(7),
        column({"data": RAW}),
        column([["a"]]),
        column({"bytes": [1, 2], "path": ""}),
    ],
)
def test_what_holds_no_pictures_is_said_to_hold_none(given):
    with pytest.raises(RememError, match="x, row 4: column 'image' holds .*no pictures"):
        picture_column(given, "image", "x", first=4)


@pytest.mark.parametrize("form", ["paths", "records", "lists"])
def test_paths_are_those_of_the_data_set_wherever_the_command_runs(tmp_path, form, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(RAW)
    monkeypatch.chdir("/")
    here = str(tmp_path)
    if form == "paths":
        found = picture_column(column("images/a.png"), "image", "x", root=here).to_pylist()
    elif form == "records":
        table = pa.table({"image": column({"bytes": None, "path": "images/a.png"}, kind=CELL)})
        rows = datasets.Dataset(table).cast_column("image", PICTURE)
        found = [row["image"] for row in with_columns(rows, {"image": PICTURE}, "x", root=here)]
    else:
        given = column(["images/a.png"], None, kind=pa.list_(pa.string()))
        found, none = pictures_column(given, "images", "x", root=here).to_pylist()
        assert none is None
    assert decode_image(found[0], "row").size == (56, 56)


def test_a_path_that_leads_nowhere_stays_as_it_is_written():
    given = column("no/where.png", base64.b64encode(RAW).decode())
    found = picture_column(given, "image", "x", root="/").to_pylist()
    for cell in found:
        with pytest.raises(RememError, match="row 1: column 'image' cannot be read") as stop:
            decode_image(cell, "row 1")
        assert len(str(stop.value)) < 300


def _answers(rows, texts):
    return pa.array([[row["answer"]] * texts for row in rows])


DAMAGE = {
    "a list as answer": lambda rows: ("answer", _answers(rows, 1)),
    "two texts as answer": lambda rows: ("answer", _answers(rows, 2)),
    "a list written as text": lambda rows: ("answer", pa.array([str([row["answer"]]) for row in rows])),
    "numbers as question": lambda rows: ("question", pa.array([1.5] * len(rows))),
    "no questions": lambda rows: ("question", pa.nulls(len(rows))),
    "keywords as lists": lambda rows: ("keywords", pa.array([[row["keywords"]] for row in rows])),
    "keywords as records": lambda rows: ("keywords", pa.array([{"a": row["keywords"]} for row in rows])),
    "paths that lead nowhere": lambda rows: ("image", pa.array([row["image_path"] for row in rows])),
    "pictures in lists": lambda rows: ("image", pa.array([[row["image"]["bytes"]] for row in rows])),
    "half a picture": lambda rows: ("image", pa.array([row["image"]["bytes"][:60] for row in rows])),
    "numbers as pictures": lambda rows: ("image", pa.array([[1, 2]] * len(rows))),
    "two pictures": lambda rows: ("image", pa.array([[row["image"]["bytes"]] * 2 for row in rows])),
}


@pytest.mark.parametrize(
    ("damage", "shards"),
    [
        *(
            pytest.param(damage, 2, id=name, marks=[pytest.mark.slow] if turn % 3 else [])
            for turn, (name, damage) in enumerate(DAMAGE.items())
        ),
        *(
            pytest.param(DAMAGE[name], 1, id=f"{name}, one file")
            for name in ("no questions", "half a picture")
        ),
    ],
)
def test_check_and_training_agree_about_every_damage(tmp_path, damage, shards):
    """Damage to all files of two splits, or to the second file of each."""
    write_parquet(tmp_path, people_splits())
    for split in ("forget1", "finetune"):
        file = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        table = pq.read_table(file).replace_schema_metadata(None)
        sound, rest = (table.slice(0, 3), table.slice(3)) if shards == 2 else (None, table)
        name, cells = damage(rest.to_pylist())
        rest = rest.set_column(rest.column_names.index(name), name, cells)
        file.unlink()
        for number, part in enumerate(filter(None, [sound, rest])):
            pq.write_table(part, tmp_path / "data" / f"{split}-{number:05d}-of-{shards:05d}.parquet")
    faults = check(str(tmp_path)).faults
    places = [place for found in faults.values() for place in found if "split" in place]
    try:
        check_pictures(load_rows(str(tmp_path), "pairs", "forget1").tables)
    except RememError as error:
        assert faults and len(str(error).splitlines()) == 1
        assert all(f"row {0 if shards == 1 else 3}" in places[0] for _ in places[:1])
    else:
        assert not faults
        rows = load_split(str(tmp_path), "forget1")
        assert rows["answer"][0] == "The city of Ada Birch is Oslo Bay."
