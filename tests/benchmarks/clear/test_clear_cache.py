"""Kept replies are of the pictures that were shown: replaced ones, with the same texts, are asked anew."""

import pytest
from PIL import ImageOps
from support.forged import changed
from support.kept import counting, mirrored

TASK, CONFIG = "clear_forget01", "forget01"


@pytest.fixture
def asked(checkpoints, tmp_path, monkeypatch):
    """(data) → how many rows the model had to work on."""
    return counting(monkeypatch, checkpoints["llava"], tmp_path / "cache", "REMEM_CLEAR_DATA", TASK)


def test_replaced_pictures_are_asked_anew(asked, clear_data, tmp_path):
    rows = asked(clear_data)
    assert rows and asked(clear_data) == 0

    def replace(table):
        for row in table:
            row["image"] = mirrored(row["image"])

    assert asked(changed(clear_data, tmp_path / "other", CONFIG, replace)) == rows

    def replace_first(table):
        table[0]["image"] = mirrored(table[0]["image"])

    # All but the first are those of the data set before; the first is that of the other one.
    assert asked(changed(clear_data, tmp_path / "one", CONFIG, replace_first)) == 0

    def invert_first(table):
        table[0]["image"] = mirrored(table[0]["image"], ImageOps.invert)

    anew = asked(changed(clear_data, tmp_path / "third", CONFIG, invert_first))
    assert 0 < anew < rows


def test_pictures_replaced_in_place_while_a_process_goes_on_are_seen(asked, clear_data, tmp_path):
    """Tables are kept in memory until their files change."""
    place = changed(clear_data, tmp_path / "mine", CONFIG, lambda table: None)
    rows = asked(place)

    def replace(table):
        for row in table:
            row["image"] = mirrored(row["image"])

    other = changed(clear_data, tmp_path / "other", CONFIG, replace)
    (old,), (new,) = ((tmp_path / name / CONFIG).glob("*.parquet") for name in ("mine", "other"))
    old.write_bytes(new.read_bytes())
    assert asked(place) == rows and other
