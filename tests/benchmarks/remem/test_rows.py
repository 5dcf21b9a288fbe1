"""Rows: schema, identity rule, loading, split algebra."""

import doctest
import re

import datasets
import pytest
from support.rows import people_splits, rows_of, write_parquet

from remem_tasks.benchmarks import remem as data
from remem_tasks.benchmarks.remem import identity, schema
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import decode_image
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
    assert decode_image(rows[0]["image"], "row").size == (56, 56)


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
        decode_image(
            {"bytes": b"no picture", "path": None},
            row_name({"row_id": "test:4", "image_path": "x/1.png"}),
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


# Who is who


def renamed(rows, old, new):
    return [{**row, "image_path": row["image_path"].replace(old, new)} for row in rows]


@pytest.mark.parametrize(
    "spelling", ["Ada Birch", "ADA_BIRCH", "ada-birch", "ada\u00a0birch", "ada\u200b_birch"]
)
def test_one_person_in_two_spellings_is_one_person(tmp_path, spelling):
    splits = people_splits()
    splits["finetune"] = renamed(splits["finetune"], "images/ada_birch", f"photos 2/{spelling}")
    write_parquet(tmp_path, splits)
    finetune, forget = (data.load_split(str(tmp_path), name) for name in ("finetune", "forget1"))
    kept = data.retain_rows(finetune, forget)
    assert len(kept) == len(finetune) - 6 and "ada_birch" not in kept["identity"][:]


def test_somebody_who_was_never_memorised_is_an_error_that_names_the_nearest(tmp_path):
    splits = people_splits()
    splits["forget1"] = renamed(splits["forget1"], "ada_birch", "ada_birsh")
    write_parquet(tmp_path, splits)
    finetune, forget = (data.load_split(str(tmp_path), name) for name in ("finetune", "forget1"))
    with pytest.raises(
        RememError, match=r"'forget1' is about .* not in 'finetune': 'ada_birsh' \(nearest: ada_birch"
    ):
        data.retain_rows(finetune, forget)


def test_a_forget_row_under_another_name_is_found_by_its_picture(tmp_path):
    splits = people_splits()
    other = renamed(splits["finetune"][:1], "ada_birch", "somebody")
    splits["finetune"] = [*splits["finetune"], *other]
    write_parquet(tmp_path, splits)
    finetune, forget = (data.load_split(str(tmp_path), name) for name in ("finetune", "forget1"))
    with pytest.raises(
        RememError, match="split 'forget1', row 0 .* is also split 'finetune', row 36 .*'somebody'"
    ):
        data.retain_rows(finetune, forget)


@pytest.mark.parametrize("folder", ["Images_2", "batch 03", "part-1", "train2"])
def test_folders_that_say_nothing_about_a_person(folder):
    assert data.identity_of(f"{folder}/mara_quill_07.png") == "mara_quill"


# Tables of other hands


def write_columns(folder, change, splits=("forget1",)):
    """The rows as parquet files without `datasets`' notes; `change` turns the table of each file into another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_parquet(folder, {name: people_splits()[name] for name in splits})
    for name in splits:
        file = folder / "data" / f"{name}-00000-of-00001.parquet"
        table = pq.read_table(file).replace_schema_metadata(None)
        halves = [table.slice(0, 3), table.slice(3)]
        file.unlink()
        for number, half in enumerate(halves):
            pq.write_table(
                change(pa, half, number), folder / "data" / f"{name}-{number:05d}-of-00002.parquet"
            )
    return str(folder)


def column(pa, table, name, values, kind=None):
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind))


def keywords_as_lists(pa, table, number):
    cells = table["keywords"].to_pylist()
    return column(pa, table, "keywords", [[cell] for cell in cells]) if number else table


def categories(pa, table, number):
    return (
        column(pa, table, "attribute", table["attribute"].combine_chunks().dictionary_encode())
        if number
        else table
    )


def no_attribute(pa, table, number):
    return column(pa, table, "qa_category", [None] * len(table)) if number else table


def bytes_alone(pa, table, number):
    return (
        column(pa, table, "image", [cell["bytes"] for cell in table["image"].to_pylist()])
        if number
        else table
    )


def lists_of_pictures(pa, table, number):
    return column(pa, table, "image", [[cell] for cell in table["image"].to_pylist()]) if number else table


@pytest.mark.parametrize(
    "change", [keywords_as_lists, categories, no_attribute, bytes_alone, lists_of_pictures]
)
def test_files_of_a_split_may_differ_in_their_types(tmp_path, data_dir, change):
    source = write_columns(tmp_path / "set", change)
    usual = data.load_split(str(data_dir), "forget1")
    for pictures in (True, False):
        rows = data.load_split(source, "forget1", pictures=pictures)
        assert [data.parse_keywords(cell) for cell in rows["keywords"]] == [
            [cell] for cell in usual["keywords"]
        ]
        for name in ("question", "answer", "attribute", "image_path", "row_id", "identity"):
            assert rows[name][:] == usual[name][:], name
    rows = data.load_split(source, "forget1")
    shown = lambda table: [decode_image(row["image"], "row").tobytes() for row in table]  # noqa: E731
    assert shown(rows) == shown(usual)


def numbers(pa, table, number):
    return column(pa, table, "answer", [1.5] * len(table)) if number else table


def two_pictures(pa, table, number):
    cells = table["image"].to_pylist()
    return column(pa, table, "image", [[cell, cell] for cell in cells]) if number else table


def integers_for_pictures(pa, table, number):
    return column(pa, table, "image", [7] * len(table)) if number else table


def null_pictures(pa, table, number):
    return column(pa, table, "image", [None] * len(table), table["image"].type) if number else table


def lists_in_lists(pa, table, number):
    return column(pa, table, "keywords", ['[["a"]]'] * len(table)) if number else table


def invisible(pa, table, number):
    return column(pa, table, "question", ["\u200b\u3164"] * len(table)) if number else table


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (numbers, "row 3: column 'answer' holds a number (1.5), not a text"),
        (two_pictures, "row 3: column 'image' holds 2 pictures, not one"),
        (integers_for_pictures, "row 3: column 'image' holds int64, no pictures"),
        (null_pictures, "row 3: column 'image' is null"),
        (lists_in_lists, "row 3: column 'keywords' holds a list in a list"),
        (invisible, "row 3: column 'question' holds only characters that show nothing"),
    ],
)
def test_what_cannot_be_read_is_named_by_loader_and_check_alike(tmp_path, change, said):
    from remem_tasks.benchmarks.remem.check import check

    source = write_columns(tmp_path, change, ("forget1", "finetune"))
    with pytest.raises(RememError, match=re.escape(said)):
        data.load_split(source, "forget1")
    faults = check(source).faults["split cannot be used"]
    assert f"split 'forget1', {said}" in faults
    assert "is empty" not in " ".join(faults)


def test_a_set_without_its_card_is_read_by_the_names_of_its_files(tmp_path, data_dir):
    import shutil

    shutil.copytree(data_dir, tmp_path / "bare")
    (tmp_path / "bare" / "README.md").unlink()
    assert data.available_splits(str(tmp_path / "bare")) == data.available_splits(str(data_dir))
    rows = [data.load_split(str(place), "test") for place in (tmp_path / "bare", data_dir)]
    assert data.fingerprint(rows[0]) == data.fingerprint(rows[1])
