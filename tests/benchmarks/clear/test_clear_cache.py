"""Kept replies are of the pictures that were shown: replaced ones, with the same texts, are asked anew."""

import io

import pytest
from PIL import Image, ImageOps
from support.forged import changed
from support.scripted import run

from remem_tasks.harness.remem_hf import RememHF

TASK, CONFIG = "clear_forget01", "forget01"


def mirrored(cell, change=ImageOps.flip):
    buffer = io.BytesIO()
    change(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": cell["path"]}


@pytest.fixture
def asked(checkpoints, tmp_path, monkeypatch):
    """(data) → how many rows the model had to work on."""
    worked, work = [], RememHF._work

    def counted(self, state, chats, *others):
        worked.append(len(chats))
        return work(self, state, chats, *others)

    monkeypatch.setattr(RememHF, "_work", counted)
    monkeypatch.setenv("REMEM_METRICS", "em")

    def call(data):
        worked.clear()
        monkeypatch.setenv("REMEM_CLEAR_DATA", str(data))
        model = RememHF(str(checkpoints["llava"]), device="cpu", cache=str(tmp_path / "cache"))
        run(model, TASK, gen_kwargs="max_new_tokens=2")
        return sum(worked)

    return call


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
