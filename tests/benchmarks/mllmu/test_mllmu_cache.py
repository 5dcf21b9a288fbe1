"""Kept replies are of the pictures that were shown: replaced ones, with the same texts, are asked anew."""

import io

import pytest
from PIL import Image, ImageOps
from support.forged import changed
from support.scripted import run

from remem_tasks.harness.remem_hf import RememHF

TASK, CONFIG = "mllmu_forget_5", "forget_5"


def mirrored(cell):
    buffer = io.BytesIO()
    ImageOps.flip(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")).save(buffer, "PNG")
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
        monkeypatch.setenv("REMEM_MLLMU_DATA", str(data))
        model = RememHF(str(checkpoints["llava"]), device="cpu", cache=str(tmp_path / "cache"))
        run(model, TASK, gen_kwargs="max_new_tokens=2")
        return sum(worked)

    return call


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
