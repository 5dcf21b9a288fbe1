"""Building a data set: splits, reproducible bytes, stopped builds, bad knobs."""

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from remem_tasks import data
from remem_tasks.data.check import check
from remem_tasks.errors import RememError
from remem_tasks.forge import build, scenes
from remem_tasks.forge.faces import random_face

KNOBS = build.Knobs(
    identities=6, qa=12, images=8, test_qa=5, retain_qa=4, single_hop_ratio=0.5, hops=3, image_size=48
)


def digest(folder):
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((folder / "data").iterdir())
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forge") / "data"
    counts = build.forge(folder, KNOBS)
    return folder, counts


def test_splits_have_the_sizes_of_the_knobs(built):
    _, counts = built
    assert counts == {
        "finetune": 72,
        "forget1": 12,
        "forget2": 24,
        "forget3": 36,
        "forget4": 48,
        "retain": 8,
        "test": 30,
    }


def test_rows_pass_the_loader_and_forget_sets_are_nested(built):
    folder, counts = built
    splits = {split: data.load_split(str(folder), split) for split in data.SPLITS}
    assert {name: len(rows) for name, rows in splits.items()} == counts
    data.check_nested([splits[f"forget{k}"] for k in range(1, 5)])
    assert len(data.retain_rows(splits["finetune"], splits["forget1"])) == 60
    assert not set(splits["retain"]["identity"][:]) & set(splits["forget4"]["identity"][:])
    assert len(set(splits["test"]["identity"][:])) == 6
    assert Counter(splits["forget1"]["hop"][:]) == {1: 6, 2: 3, 3: 3}


def test_a_build_has_no_fault(built):
    assert check(str(built[0])).faults == {}


def test_forget_and_retain_rows_are_finetune_rows_and_test_pictures_are_new(built):
    folder, _ = built
    splits = {split: data.load_split(str(folder), split) for split in data.SPLITS}
    finetune = {(r["question"], r["image"]["bytes"]) for r in splits["finetune"]}
    for name in ("forget1", "forget4", "retain"):
        assert {(r["question"], r["image"]["bytes"]) for r in splits[name]} <= finetune
    assert not {r["image"]["bytes"] for r in splits["test"]} & {png for _, png in finetune}
    assert len({r["image"]["bytes"] for r in splits["finetune"]}) == 6 * 8


def test_pictures_are_readable_and_of_the_size_asked_for(built):
    folder, _ = built
    for row in data.load_split(str(folder), "test"):
        assert data.decode_image(row["image"], data.row_name(row)).size == (48, 48)


def test_same_seed_same_bytes_whatever_the_workers(built, tmp_path):
    build.forge(tmp_path / "two", KNOBS, workers=2)
    assert digest(tmp_path / "two") == digest(built[0])
    build.forge(tmp_path / "other", replace(KNOBS, seed=1))
    assert digest(tmp_path / "other") != digest(built[0])


def test_a_stopped_build_goes_on_to_the_same_bytes(built, tmp_path, monkeypatch):
    calls = []
    whole = build.identity_rows

    def stops(person, knobs):
        calls.append(person.index)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(person, knobs)

    monkeypatch.setattr(build, "identity_rows", stops)
    with pytest.raises(KeyboardInterrupt):
        build.forge(tmp_path / "data", KNOBS)
    assert not (tmp_path / "data").exists()
    with pytest.raises(RememError, match="other knobs"):
        build.forge(tmp_path / "data", replace(KNOBS, seed=9))
    calls.clear()
    monkeypatch.setattr(
        build, "identity_rows", lambda person, knobs: calls.append(person.index) or whole(person, knobs)
    )
    build.forge(tmp_path / "data", KNOBS)
    assert calls == [3, 4, 5]
    assert digest(tmp_path / "data") == digest(built[0])
    assert not (tmp_path / "data.partial").exists()


def test_card_and_knobs_are_beside_the_data(built):
    folder, _ = built
    card = (folder / "README.md").read_text()
    assert "| forget2 | 24 | 2 |" in card and "--identities 6 --qa 12" in card
    assert json.loads((folder / "forge.json").read_text())["image_size"] == 48
    assert (folder / "contact_sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identities": 0}, "--identities 0"),
        ({"single_hop_ratio": 1.5}, "--single-hop-ratio 1.5"),
        ({"hops": 4}, "--hops 4"),
        ({"image_size": 1}, "--image-size 1"),
        ({"images": 13}, "--images 13 is more than --qa 12"),
        ({"qa": 900}, "without repeats"),
    ],
)
def test_absurd_knobs_are_refused_and_leave_nothing(tmp_path, change, message):
    with pytest.raises(RememError, match=message):
        build.forge(tmp_path / "data", replace(KNOBS, **change))
    assert list(tmp_path.iterdir()) == []


def test_output_folder_must_be_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RememError, match="not empty"):
        build.forge(tmp_path, KNOBS)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RememError, match="cannot write"):
        build.forge(tmp_path / "file" / "data", KNOBS)


@pytest.mark.parametrize(
    "place", [*scenes.TRAIN_PLACES, *scenes.TEST_PLACES], ids=lambda place: place.__name__
)
def test_every_place_draws_a_full_picture(place):
    picture = np.asarray(place(np.random.default_rng(0), 40))
    assert picture.shape == (40, 40, 3)
    assert picture.std() > 1


def test_training_and_test_share_no_place():
    assert not set(scenes.TRAIN_PLACES) & set(scenes.TEST_PLACES)


def test_the_face_changes_the_picture_and_the_context_alone_does_not_show_it():
    rng = np.random.default_rng(0)
    context = scenes.random_context(rng, scenes.TRAIN_PLACES)
    one, other = random_face(np.random.default_rng(1)), random_face(np.random.default_rng(2))
    draw = lambda face: np.asarray(scenes.draw_scene(face, context, np.random.default_rng(7), 64))  # noqa: E731
    assert np.abs(draw(one).astype(int) - draw(other)).sum() > 0
    assert np.array_equal(draw(None), draw(None))


def test_default_knobs_give_the_published_sizes():
    knobs = build.Knobs()
    assert knobs.identities * knobs.qa == 2000
    assert [knobs.forgotten(k) * knobs.qa for k in range(1, 5)] == [100, 200, 300, 400]
    assert (knobs.identities - knobs.forgotten(4)) * knobs.retain_qa == 560
    assert knobs.identities * knobs.test_qa == 560
