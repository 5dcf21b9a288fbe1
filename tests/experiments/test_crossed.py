"""A checkpoint that is diagnosed: what it is scored on, and the rows with words and pictures crossed."""

import shutil

import pytest
from support.made import row, write_run
from support.rows import PEOPLE, people_splits, write_parquet

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.errors import RememError
from unlearning.experiments import crossed as module
from unlearning.experiments.crossed import cross


def test_crossed_rows_take_words_from_one_and_pictures_from_the_other(data_dir, tmp_path):
    folders = cross(str(data_dir), tmp_path)
    finetune, test = load_split(str(data_dir), "finetune"), load_split(str(data_dir), "test")
    words = load_split(str(folders["new_words"]), "test")
    pictures = load_split(str(folders["new_pictures"]), "test")
    assert len(words) == len(pictures) == len(test)
    assert words["question"][:] == test["question"][:] and pictures["image_path"][:] == test["image_path"][:]
    assert set(words["image_path"][:]) <= set(finetune["image_path"][:])
    assert set(pictures["question"][:]) <= set(finetune["question"][:])
    assert words["identity"][:] == pictures["identity"][:] == test["identity"][:] and len(
        set(words["identity"][:])
    ) == len(PEOPLE)
    assert (
        words[0]["image"]["bytes"]
        == next(r for r in finetune if r["image_path"] == words[0]["image_path"])["image"]["bytes"]
    )
    assert len(set(pictures["question"][:])) == len(set(finetune["question"][:]))
    assert load_split(str(folders["new_words"]), "forget1")["identity"][0] == "ada_birch"
    before = {folder: folder.stat().st_mtime_ns for folder in folders.values()}
    assert cross(str(data_dir), tmp_path) == folders and {f: f.stat().st_mtime_ns for f in before} == before


def test_a_checkpoint_is_scored_on_all_that_diagnosis_needs(data_dir, tmp_path, monkeypatch):
    scored = []

    def score(checkpoint, data, tasks, out, device="cpu", contents=None):
        scored.append((checkpoint, tuple(tasks), device))
        rows = {
            task.removeprefix("remem_"): [
                row(
                    i,
                    task.removeprefix("remem_"),
                    em=float(i < 2),
                    identity="ada_birch",
                    attribute="city",
                    answer="Ada Birch's city is x.",
                    question=f"1 city ada_birch {i}",
                    picture=f"ada_birch/{i}.png",
                    forgotten=False,
                )
                for i in range(3)
            ]
            for task in tasks
        }
        write_run(out, rows, "c")

    monkeypatch.setattr(module, "score_once", score)
    found = module.diagnose_checkpoint("models/x", str(data_dir), tmp_path / "d", "cuda")
    assert scored == [
        ("models/x", ("remem_finetune", "remem_test"), "cuda"),
        ("models/x", ("remem_test",), "cuda"),
        ("models/x", ("remem_test",), "cuda"),
    ]
    assert found.model == "x" and [one.rows for one in found.contexts] == [3, 3, 3, 3]


def test_what_is_scored_is_not_scored_again(tmp_path, monkeypatch):
    ran = []

    def score(checkpoint, tasks, out, variables, device, batch_size, metrics):
        ran.append((variables["REMEM_DATA"], metrics))

    monkeypatch.setattr(module, "score", score)
    for data in ("d", "d", "other"):
        module.score_once("m", data, ["remem_test"], tmp_path / "s")
    assert ran == [("d", "em"), ("other", "em")]


def test_another_checkpoint_or_other_rows_at_the_same_place_are_scored_anew(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(module, "score", lambda *args, **kwargs: ran.append(args[0]))
    model, data = tmp_path / "m", tmp_path / "d"
    (data / "data").mkdir(parents=True)
    model.mkdir()
    changes = [
        (model / "model.safetensors", "a", 1), (model / "run.json", "x", 1), (model / "run.json", "y", 1),
        (model / "model.safetensors", "b", 2), (data / "data" / "test.parquet", "a", 3), (data / "README.md", "a", 4),
        (data / "data" / "test.parquet.lock", "a", 4), (model / "chat_template.jinja", "a", 5),
    ]  # fmt: skip
    for file, text, runs in changes:
        file.write_text(text)
        module.score_once(str(model), str(data), ["remem_test"], tmp_path / "s")
        assert len(ran) == runs, file


def test_sets_are_crossed_anew_where_the_data_changed(data_dir, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(data_dir, data)
    folder = cross(str(data), tmp_path / "out")["new_words"]
    before = load_split(str(folder), "test")["question"][:]
    people = people_splits()
    for number, one in enumerate(people["test"]):
        one["question"] = f"{number}: {one['question']}"
    write_parquet(data, people)
    after = load_split(str(cross(str(data), tmp_path / "out")["new_words"]), "test")["question"][:]
    assert after == [f"{number}: {question}" for number, question in enumerate(before)]


def test_a_scoring_that_fails_is_not_taken_for_done(tmp_path, monkeypatch):
    def score(*args, **kwargs):
        raise RememError("no such thing")

    monkeypatch.setattr(module, "score", score)
    with pytest.raises(RememError, match="no such thing"):
        module.score_once("m", "d", ["remem_test"], tmp_path / "s")
    assert not (tmp_path / "s" / "scored.json").exists()
