"""Building a data set: splits, reproducible bytes, stopped builds, bad knobs."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from remem_tasks.audit.pull import file_of, pull
from remem_tasks.benchmarks import remem as data
from remem_tasks.benchmarks.remem import forge as build
from remem_tasks.benchmarks.remem.check import check
from remem_tasks.benchmarks.remem.perturbed import load_perturbed, perturbed_faults, perturbed_files
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import decode_image
from remem_tasks.errors import RememError
from remem_tasks.forge import scenes
from remem_tasks.forge.faces import random_face

KNOBS = build.ForgeOptions(
    identities=6, qa=12, images=8, test_qa=5, retain_qa=4, single_hop_ratio=0.5, hops=3, image_size=48
)


def digest(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
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
        assert decode_image(row["image"], row_name(row)).size == (48, 48)


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
        ({"style": "baroque"}, "--style 'baroque' unknown; choose from colour, grey, sketch"),
        ({"images": 13}, "--images 13 is more than --qa 12"),
        ({"qa": 900}, "without repeats"),
    ],
)
def test_absurd_knobs_are_refused_and_leave_nothing(tmp_path, change, message):
    with pytest.raises(RememError, match=message):
        build.forge(tmp_path / "data", replace(KNOBS, **change))
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_is_complete_is_left_as_it_is(built, tmp_path, monkeypatch):
    folder, counts = built
    before = digest(folder)
    monkeypatch.setattr(build, "_build", None)  # it may not come that far
    # What a kill between the last two steps leaves.
    (folder.parent / "data.partial" / "parts").mkdir(parents=True)
    assert build.forge(folder, KNOBS) == counts
    assert digest(folder) == before and not (folder.parent / "data.partial").exists()
    with pytest.raises(RememError, match="not empty"):
        build.forge(folder, replace(KNOBS, seed=1))


def test_what_stands_beside_the_rows_fits_them(built):
    folder, counts = built
    for split in data.SPLITS:
        beside = load_perturbed(str(folder), split)
        rows = data.load_split(str(folder), split)
        assert len(beside) == counts[split]
        assert beside["question"][:] == rows["question"][:]
        for row, extra in zip(rows, beside):
            assert perturbed_faults(extra, [row["keywords"]]) == []
            assert len(extra["paraphrased_question"]) == 3 and len(set(extra["perturbed_answer"])) == 5
            # Right and wrong answers are the same sentence but for the value.
            frame = row["answer"].removesuffix(row["keywords"] + ".")
            assert all(wrong.startswith(frame) for wrong in extra["perturbed_answer"])
    asked = {q for split in data.SPLITS for q in data.load_split(str(folder), split)["question"][:]}
    for split in ("finetune", "test"):
        for texts in load_perturbed(str(folder), split)["paraphrased_question"][:]:
            assert not asked & set(texts)


def test_a_perturbed_partner_that_is_not_the_rows_own_is_refused(built, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(built[0], folder)
    shutil.copy(folder / file_of("perturbed", "test"), folder / file_of("perturbed", "retain"))
    with pytest.raises(RememError, match="split 'retain': 8 rows, but 30 in config 'perturbed'"):
        load_perturbed(str(folder), "retain")
    shutil.copy(folder / file_of("perturbed", "finetune"), folder / file_of("perturbed", "test"))
    table = pq.read_table(folder / file_of("perturbed", "test")).slice(0, 30)
    pq.write_table(table, folder / file_of("perturbed", "test"))
    with pytest.raises(RememError, match="split 'test', row 0: config 'perturbed' has another question"):
        load_perturbed(str(folder), "test")
    faults = check(str(folder), pictures=False).faults
    assert len(faults["perturbed rows cannot be used"]) == 2


def test_pull_takes_along_what_stands_beside_the_rows(built, tmp_path):
    assert pull(str(built[0]), ["forget1"], tmp_path / "kept") == {"forget1": 12}
    assert pull(str(built[0]), ["forget1", "test"], tmp_path / "kept") == {"test": 30}
    for split in ("forget1", "test"):
        kept = load_perturbed(str(tmp_path / "kept"), split)
        assert kept.to_list() == load_perturbed(str(built[0]), split).to_list()
    assert set(perturbed_files(str(tmp_path / "kept"))) == {"forget1", "test"}


def test_data_without_partners_says_so(data_dir):
    assert perturbed_files(str(data_dir)) == {}
    with pytest.raises(RememError, match="no config 'perturbed' for split 'forget1'"):
        load_perturbed(str(data_dir), "forget1")


@pytest.mark.parametrize("style", ["grey", "sketch"])
def test_a_style_changes_every_picture_and_no_word(built, tmp_path, style):
    build.forge(tmp_path / "data", replace(KNOBS, style=style))
    plain, drawn = (data.load_split(str(folder), "test") for folder in (built[0], tmp_path / "data"))
    assert data.fingerprint(plain) == data.fingerprint(drawn)
    for one, other in zip(plain, drawn):
        pixels = np.asarray(decode_image(other["image"], "row"))
        assert (pixels[..., 0] == pixels[..., 1]).all() and pixels.std() > 5
        assert not np.array_equal(pixels, np.asarray(decode_image(one["image"], "row")))


def test_output_folder_must_be_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RememError, match="not empty"):
        build.forge(tmp_path, KNOBS)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_disk_that_is_full_leaves_nothing_half_valid(built, tmp_path, monkeypatch):
    write, written = pq.write_table, []

    def full(table, target):
        written.append(target)
        if len(written) > 6:
            Path(target).write_bytes(b"PAR1 half a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, target)

    monkeypatch.setattr(build.pq, "write_table", full)
    with pytest.raises(
        RememError, match=r"No space left on device; what is done is kept in '.*data.partial'"
    ):
        build.forge(tmp_path / "data", KNOBS)
    assert not (tmp_path / "data").exists()
    monkeypatch.undo()
    build.forge(tmp_path / "data", KNOBS)  # room was made
    assert digest(tmp_path / "data") == digest(built[0])


FORGE = """
import resource, sys
from remem_tasks.cli import main
if __name__ == "__main__":
    if limit := int(sys.argv.pop(1)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    main()
"""


@pytest.fixture
def forge_process(tmp_path):
    """Starts `remem forge` with the knobs above and two workers; returns the process."""
    (tmp_path / "main.py").write_text(FORGE)
    options = build.option_line(KNOBS).split()

    def start(limit=0):
        return subprocess.Popen(
            [
                *(sys.executable, str(tmp_path / "main.py"), str(limit)),
                *("forge", "--out", str(tmp_path / "data"), *options, "--workers", "2"),
            ],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.mark.slow
def test_files_that_may_not_grow_are_one_clear_error(forge_process, tmp_path):
    process = forge_process(limit=4096)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 1
    assert "remem forge: error: cannot write" in said and "goes on from it" in said
    assert "Traceback" not in said and not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_killed_build_goes_on_to_the_same_bytes(built, forge_process, tmp_path):
    first = forge_process()
    parts = tmp_path / "data.partial" / "parts"
    deadline = time.monotonic() + 100
    while not list(parts.glob("*-finetune-default.parquet")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "data").exists()
    second = forge_process()
    said = second.communicate(timeout=100)[1]
    assert second.returncode == 0, said
    assert digest(tmp_path / "data") == digest(built[0])


@pytest.mark.slow
def test_a_worker_that_is_killed_is_an_error_not_a_wait(forge_process, tmp_path):
    process = forge_process()
    deadline = time.monotonic() + 100
    workers = []
    while not workers:
        assert process.poll() is None and time.monotonic() < deadline
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(0.02)
    workers[0].kill()
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 1 and "a worker was killed" in said
    assert not (tmp_path / "data").exists()


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RememError, match="cannot be written"):
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
    knobs = build.ForgeOptions()
    assert knobs.identities * knobs.qa == 2000
    assert [knobs.forgotten(k) * knobs.qa for k in range(1, 5)] == [100, 200, 300, 400]
    assert (knobs.identities - knobs.forgotten(4)) * knobs.retain_qa == 560
    assert knobs.identities * knobs.test_qa == 560
