"""A leaderboard filled from a sweep: which models, what an entry holds, and that a second call adds nothing."""

import json
from dataclasses import asdict

import pytest

from remem_tasks.errors import RememError
from remem_tasks.report.leaderboard import read_board
from unlearning.experiments.leaderboard import BoardPlan, fill, jobs, read_sweep, told_apart
from unlearning.experiments.sweep.plan import SweepPlan

PLAN = SweepPlan("data", "base", "gold", methods=("npo", "ga", "manu"), seeds=(0, 1))
LINES = [
    {"method": "npo", "settings": {"learning_rate": 1e-4, "alpha": 10.0}, "steps": 80},
    {"method": "ga", "settings": None, "steps": None},
    {"method": "manu", "settings": {"manu_share": 0.1}, "steps": 0},
]


def test_each_method_has_its_seeds_and_what_does_not_train_one():
    found = jobs(BoardPlan("s", "f"), PLAN, LINES)
    assert [one.name for one in found] == ["npo-seed0", "npo-seed1", "manu-seed0"]
    assert found[0].settings == LINES[0]["settings"] and found[0].steps == 80
    few = jobs(BoardPlan("s", "f", methods=("npo",), seeds=(7,)), PLAN, LINES)
    assert [one.name for one in few] == ["npo-seed7"]
    with pytest.raises(RememError, match="--methods ga: the sweep has no settings of it"):
        jobs(BoardPlan("s", "f", methods=("ga",)), PLAN, LINES)


def test_a_model_that_is_another_ones_twin_is_entered_once():
    made = [{"name": name, "samples": samples} for name, samples in (("a", "1"), ("b", "2"), ("c", "1"))]
    assert told_apart(made) == (made[:2], {"c": "a"})


def swept(folder, plan, gold):
    folder.mkdir()
    found = {"plan": asdict(plan), "gold": gold, "methods": LINES}
    (folder / "results.json").write_text(json.dumps(found))
    return str(folder)


def test_a_sweeps_plan_is_read_back(tmp_path):
    assert read_sweep(swept(tmp_path / "s", PLAN, {"reporting": {}})) == (PLAN, LINES)
    with pytest.raises(RememError, match="its gold is a number; attacks need a checkpoint"):
        read_sweep(swept(tmp_path / "t", PLAN, None))
    with pytest.raises(RememError, match=r"results\.json"):
        read_sweep(str(tmp_path))


@pytest.mark.slow
def test_a_board_is_filled_once_and_holds_what_made_it(memorised, checkpoints, data_dir, tmp_path):
    plan = SweepPlan(str(data_dir), str(memorised), str(checkpoints["llava"]), ("grad_diff",), (0,), batch=2)
    lines = [{"method": "grad_diff", "settings": {"learning_rate": 1e-4, "alpha": 1.0}, "steps": 1}]
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "results.json").write_text(
        json.dumps({"plan": asdict(plan), "gold": {"reporting": {}}, "methods": lines})
    )
    board = BoardPlan(
        str(tmp_path / "s"), str(tmp_path / "board.jsonl"), attacks=("relearn_rest",), share=0.5, no_gate=True,
        relearn="--max_steps 1 --learning_rate 1e-4",
    )  # fmt: skip
    said = []
    (entry,) = fill(board, tmp_path / "out", said.append)
    assert entry["name"] == "grad_diff-seed0" and entry["method"] == "grad_diff"
    assert set(entry["scores"]) == {"remem_forget2", "remem_retain", "remem_test"}
    assert {"none", "relearn_rest", "worst_weights"} <= set(entry["attacks"])
    assert len(entry["made"]["commands"]) == 3 and "torch" in entry["made"]["versions"]
    assert not list((tmp_path / "out" / "models").rglob("*.safetensors"))
    assert fill(board, tmp_path / "out", said.append) == [entry] == read_board(board.file)
    assert "done before" in said[-1]
    changed = {**entry, "attacks": {"none": {"em": 2.0}}}
    (tmp_path / "board.jsonl").write_text(json.dumps(changed) + "\n")
    with pytest.raises(RememError, match="none em: 2.0 is outside"):
        fill(board, tmp_path / "out", said.append)
