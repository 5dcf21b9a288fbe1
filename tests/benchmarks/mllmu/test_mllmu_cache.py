"""Kept replies are of the pictures that were shown: replaced ones, with the same texts, are asked anew."""

import pytest
from support.forged import changed
from support.kept import counting, mirrored

TASK, CONFIG = "mllmu_forget_5", "forget_5"


@pytest.fixture
def asked(checkpoints, tmp_path, monkeypatch):
    """(data) → how many rows the model had to work on."""
    return counting(monkeypatch, checkpoints["llava"], tmp_path / "cache", "REMEM_MLLMU_DATA", TASK)


def test_replaced_pictures_are_asked_anew(asked, mllmu_data, tmp_path):
    rows = asked(mllmu_data)
    assert rows and asked(mllmu_data) == 0

    def replace(table):
        for row in table:
            row["image"] = mirrored(row["image"])

    anew = asked(changed(mllmu_data, tmp_path / "other", CONFIG, replace))
    assert anew == rows // 2  # the other half are questions of text alone


def test_pictures_replaced_in_place_while_a_process_goes_on_are_seen(asked, mllmu_data, tmp_path):
    """Tables are kept in memory until their files change."""
    place = changed(mllmu_data, tmp_path / "mine", CONFIG, lambda table: None)
    rows = asked(place)

    def replace(table):
        for row in table:
            row["image"] = mirrored(row["image"])

    other = changed(mllmu_data, tmp_path / "other", CONFIG, replace)
    (old,), (new,) = ((tmp_path / name / CONFIG).glob("*.parquet") for name in ("mine", "other"))
    old.write_bytes(new.read_bytes())
    assert asked(place) == rows // 2 and other
