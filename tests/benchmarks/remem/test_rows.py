"""Rows: schema, identity rule, loading, split algebra."""

import doctest

import datasets
import pytest
from support.rows import people_splits, rows_of, write_parquet

from remem_tasks.benchmarks import remem as data
from remem_tasks.benchmarks.remem import identity, schema
from remem_tasks.errors import RememError


def test_doctests():
    for module in (identity, schema):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("cell", "phrases"),
    [
        ("Oslo Bay", ["Oslo Bay"]),
        ('["a", " b "]', ["a", "b"]),
        ("[not json", ["[not json"]),
        ("  ", []),
        ("[]", []),
        (None, []),
    ],
)
def test_keywords_are_one_phrase_or_a_json_list(cell, phrases):
    assert data.parse_keywords(cell) == phrases


@pytest.mark.parametrize(("kind", "hop"), [("1-hop", 1), ("2-hop", 2), ("3 hop", 3), ("Multi", 0), ("", 0)])
def test_hop_is_read_from_question_type(kind, hop):
    assert data.parse_hop(kind) == hop


@pytest.mark.parametrize(
    ("path", "rule", "expected"),
    [
        ("images/mara_quill/0007.png", "auto", "mara_quill"),
        ("images/mara_quill_07.png", "auto", "mara_quill"),
        ("mara_quill_07.png", "auto", "mara_quill"),
        ("finetune/id_3/img_12.png", "auto", "id_3"),
        ("a/b/mara-7.png", "stem", "mara"),
        ("a/b/mara-7.png", "folder", "b"),
        ("x/p03-mara-7.png", r"(p\d+)-", "p03"),
        (r"images\mara_quill\7.png", "auto", "mara_quill"),
    ],
)
def test_identity_rules(path, rule, expected):
    assert data.identity_of(path, rule) == expected


@pytest.mark.parametrize(
    ("path", "rule"),
    [("images/0007.png", "auto"), ("img_1.png", "auto"), ("a/b.png", "(x)"), ("a/b.png", "(")],
)
def test_no_identity_is_an_error_not_a_guess(path, rule):
    with pytest.raises(RememError, match=r"REMEM_IDENTITY"):
        data.identity_of(path, rule)


def test_load_split_adds_row_id_identity_and_hop(data_dir):
    rows = data.load_split(str(data_dir), "forget1")
    assert set(data.COLUMNS) < set(rows.column_names)
    assert rows["row_id"][:2] == ["forget1:0", "forget1:1"]
    assert set(rows["identity"][:]) == {"ada_birch"}
    assert rows["hop"][:] == [1, 2] * 3
    assert data.decode_image(rows[0]["image"], "row").size == (56, 56)


def test_saved_folder_loads_like_parquet(data_dir, tmp_path):
    datasets.DatasetDict({"forget1": datasets.load_dataset(str(data_dir), split="forget1")}).save_to_disk(
        tmp_path / "saved"
    )
    saved = data.load_split(str(tmp_path / "saved"), "forget1")
    parquet = data.load_split(str(data_dir), "forget1")
    assert data.fingerprint(saved) == data.fingerprint(parquet)
    assert saved["identity"][:] == parquet["identity"][:]


def test_environment_names_the_source(data_dir, monkeypatch):
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    assert data.resolve_source() == str(data_dir)
    monkeypatch.delenv("REMEM_DATA")
    assert data.resolve_source() == "herbwood27/Remem"


def test_unreachable_hub_says_both_ways():
    with pytest.raises(RememError, match=r"REMEM_DATA=<folder>.*REMEM_DATA=<Hub id>"):
        data.load_split(None, "forget1")


def test_missing_split_lists_those_there(data_dir):
    with pytest.raises(RememError, match=r"no split 'forget9'.*forget1"):
        data.load_split(str(data_dir), "forget9")


@pytest.mark.parametrize("column", ["keywords", "question", "answer"])
def test_empty_cell_names_split_row_and_column(tmp_path, column):
    rows = rows_of("ada_birch")
    rows[3][column] = " "
    write_parquet(tmp_path, {"forget1": rows})
    with pytest.raises(RememError, match=rf"split 'forget1', row 3: column '{column}'"):
        data.load_split(str(tmp_path), "forget1")


def test_missing_column_is_named(tmp_path):
    rows = rows_of("ada_birch")
    for row in rows:
        del row["cloze_prompt"]
    write_parquet(tmp_path, {"forget1": rows})
    with pytest.raises(RememError, match="missing column.*cloze_prompt"):
        data.load_split(str(tmp_path), "forget1")


def test_unreadable_picture_is_named():
    with pytest.raises(RememError, match=r"split 'test', row 4 .*column 'image' cannot be read"):
        data.decode_image(
            {"bytes": b"no picture", "path": None},
            data.row_name({"row_id": "test:4", "image_path": "x/1.png"}),
        )


def test_retain_rows_are_those_of_other_identities(data_dir):
    finetune, forget = (data.load_split(str(data_dir), split) for split in ("finetune", "forget2"))
    retain = data.retain_rows(finetune, forget)
    assert set(retain["identity"][:]) == set(finetune["identity"][:]) - {"ada_birch", "ben_crane"}
    assert len(retain) + len(forget) == len(finetune)


def test_forget_set_that_leaves_nothing_is_an_error(data_dir):
    forget = data.load_split(str(data_dir), "forget2")
    with pytest.raises(RememError, match="leaves no retain set"):
        data.retain_rows(forget, forget)


def test_nested_forget_sets(data_dir, tmp_path):
    sets = [data.load_split(str(data_dir), f"forget{k}") for k in range(1, 5)]
    data.check_nested(sets)
    with pytest.raises(RememError, match="not nested"):
        data.check_nested(sets[::-1])


def test_fingerprint_changes_with_any_cell(tmp_path):
    splits = people_splits()
    write_parquet(tmp_path / "a", {"test": splits["test"]})
    splits["test"][5]["answer"] += "!"
    write_parquet(tmp_path / "b", {"test": splits["test"]})
    a, b = (data.fingerprint(data.load_split(str(tmp_path / name), "test")) for name in "ab")
    assert a != b
