"""The scale study: its grid, its resuming, what it writes; once whole and tiny."""

import json

import pytest
from support.made import row, write_run

from remem_tasks.cli import main
from remem_tasks.errors import RememError
from unlearning.experiments import scale as module
from unlearning.experiments.scale import ScaleStudy, study

TINY = {"identities": 5, "test_qa": 4, "image_size": 16, "hops": 2, "steps": 1, "base": "some/base"}


def test_cells_are_the_grid_without_more_pictures_than_questions():
    scale = ScaleStudy(qa=(5, 20), ratios=(0.5, 1.0), images=(5, 10))
    assert scale.cells() == [
        (5, 0.5, 5),
        (5, 1.0, 5),
        (20, 0.5, 5),
        (20, 0.5, 10),
        (20, 1.0, 5),
        (20, 1.0, 10),
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"qa": ()}, "--qa needs different values"),
        ({"ratios": (0.5, 0.5)}, "--ratios needs different values"),
        ({"images": (500,)}, "no cell"),
        ({"ratios": (1.5,)}, "--single-hop-ratio 1.5 is out of range"),
        ({"steps": 0}, "--steps 0 is out of range"),
    ],
)
def test_what_is_out_of_range_is_named(bad, message, tmp_path):
    with pytest.raises(RememError, match=message):
        study(ScaleStudy(**bad), tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.fixture
def played(monkeypatch):
    """Training and scoring that only write what they would; returns the cells that were trained."""
    trained = []

    def train(base, data, out, scale):
        assert (data / "forge.json").is_file() and str(base) == "some/base"
        trained.append(out.parent.name)
        out.mkdir(parents=True)

    def score(checkpoint, data, tasks, out, device="cpu"):
        split = tasks[0].removeprefix("remem_")
        single = float(checkpoint.split("single")[1].split("_")[0])
        rows = [
            row(i, split, em=float(i % 2 == 0 and (i < 4 or single < 1)), hop=1 + i // 4, question=str(i), forgotten=False)
            for i in range(8)
        ]  # fmt: skip
        write_run(out, {split: rows}, "c")

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "score_once", score)
    return trained


def test_a_study_is_resumed_and_grows(played, tmp_path):
    out, lines = tmp_path / "s", []
    scale = ScaleStudy(qa=(6,), ratios=(0.5, 1.0), images=(2,), **TINY)
    results = study(scale, out, lines.append)
    assert played == ["qa6_single0.5_pictures2", "qa6_single1_pictures2"]
    assert [
        one["em"]["2"]["value"] if "2" in one["em"] else one["em"]["2-hop"]["value"] for one in results
    ] == [0.5, 0.0]
    assert lines[-1].startswith("[2/2] qa6_single1_pictures2: EM 1-hop 0.50, 2-hop 0.00")
    (out / "cells" / "qa6_single1_pictures2" / "cell.json").unlink()  # stopped in the second cell
    played.clear()
    assert [{**one, "seconds": 0} for one in study(scale, out, lines.append)] == [
        {**one, "seconds": 0} for one in results
    ]
    assert played == ["qa6_single1_pictures2"] and "done before" in lines[-2]
    played.clear()
    more = study(ScaleStudy(qa=(6,), ratios=(0.5, 1.0), images=(2, 4), **TINY), out, lines.append)
    assert len(more) == 4 and played == ["qa6_single0.5_pictures4", "qa6_single1_pictures4"]
    table = (out / "scale.csv").read_text().splitlines()
    assert table[0].startswith("qa,single_hop_ratio,images,hop,em,low,high,rows") and len(table) == 1 + 4 * 2
    assert "6,1.0,2,2,0.0,0.0," in "\n".join(table)
    assert results[0]["taught"] == results[0]["em"]  # all made-up rows are about one fact
    assert (out / "scale.png").read_bytes()[:4] == b"\x89PNG" and "scale.png" in (
        out / "scale.md"
    ).read_text()
    assert not list(out.glob("cells/*/model")) and not list(out.glob("cells/*/data"))


def test_another_study_is_not_mixed_in(played, tmp_path):
    study(ScaleStudy(qa=(6,), ratios=(0.5,), images=(2,), **TINY), tmp_path / "s", str)
    with pytest.raises(RememError, match="holds a study with steps 1, not 2; its records"):
        study(ScaleStudy(qa=(6,), ratios=(0.5,), images=(2,), **{**TINY, "steps": 2}), tmp_path / "s", str)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("")
    with pytest.raises(RememError, match="is not empty and holds no study"):
        study(ScaleStudy(qa=(6,), ratios=(0.5,), images=(2,), **TINY), tmp_path / "mine", str)


def test_all_cells_are_asked_about_the_same_people_in_all_hops(played, tmp_path):
    from remem_tasks.benchmarks.remem.data import load_split

    scale = ScaleStudy(qa=(6,), ratios=(1.0,), images=(2,), **{**TINY, "test_qa": 6})
    study(scale, tmp_path / "s", str)
    asked = load_split(str(tmp_path / "s" / "asked"), "test", pictures=False)
    assert set(asked["hop"][:]) == {1, 2}
    module.forge(tmp_path / "cell", scale.knobs(6, 1.0, 2))
    own = load_split(str(tmp_path / "cell"), "finetune", pictures=False)
    assert set(own["hop"][:]) == {1} and set(own["identity"][:]) == set(asked["identity"][:])


def test_a_training_that_fails_is_told_in_one_line(tmp_path, monkeypatch):
    def failing(command, environment, output):
        assert command[1].endswith("unlearning/train.py") and "--max_steps" in command
        output.write("Traceback\ntrain: error: no such checkpoint\n")
        return 1

    monkeypatch.setattr(module, "run", failing)
    with pytest.raises(
        RememError, match="training 'model' ended with status 1: train: error: no such checkpoint"
    ):
        module.train(tmp_path / "nothing", tmp_path / "nothing", tmp_path / "c" / "model", ScaleStudy(**TINY))


@pytest.mark.slow
def test_the_whole_study_in_small(checkpoints, tmp_path, capfd):
    options = "--qa 6 --ratios 0.5 --images 2 --identities 5 --hops 2 --test-qa 4 --image-size 32 --steps 1"
    command = [
        "study",
        "scale",
        "--out",
        str(tmp_path / "s"),
        "--base",
        str(checkpoints["llava"]),
        *options.split(),
    ]
    with pytest.raises(SystemExit) as ended:
        main(command)
    said = capfd.readouterr()
    assert ended.value.code == 0, said.err
    cell = json.loads((tmp_path / "s" / "cells" / "qa6_single0.5_pictures2" / "cell.json").read_text())
    assert (
        sum(one["rows"] for one in cell["em"].values()) == 20
        and sum(one["rows"] for one in cell["trained_em"].values()) == 30
    )
    assert "[1/1] qa6_single0.5_pictures2: EM 1-hop" in said.out


def test_facts_that_training_never_asked_are_counted_apart(tmp_path):
    asked = [
        row(i, "test", em=float(i), attribute=name, forgotten=False) for i, name in enumerate(("pet", "city"))
    ]
    write_run(tmp_path / "asked", {"test": asked}, "c")
    write_run(
        tmp_path / "trained",
        {"finetune": [row(0, "finetune", em=1.0, attribute="city", forgotten=False)]},
        "c",
    )
    found = module.counted((6, 0.5, 2), tmp_path)
    assert (
        found["em"]["1"]["value"] == 0.5
        and found["taught"]["1"]["value"] == 1
        and found["taught"]["1"]["rows"] == 1
    )
