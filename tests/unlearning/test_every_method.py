"""Every method from its command to its score: what it saves is what lmms-eval loads, unchanged.

(`bench/methods.py` does the same with `accelerate launch` and `lmms_eval` as processes, at 20 s a method.)
"""

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
from support.scripted import run, value
from support.trainers import FEW, own

from remem_tasks.harness.remem_hf import RememHF
from unlearning.mechanisms import alternatives
from unlearning.methods import NAMES

QUICK = ("--max_steps", "1", "--per_device_train_batch_size", "2", "--save_strategy", "no")


@pytest.mark.slow
@pytest.mark.parametrize("method", NAMES)
def test_what_a_method_saves_is_scored_by_the_harness(
    method, memorised, data_dir, train_run, tmp_path, monkeypatch
):
    # (The data has no other answers, and the tiny model repeats the true ones.)
    monkeypatch.setattr(alternatives, "invented", lambda *asked: ["Nobody knows."])
    record = train_run(tmp_path / "run", method, memorised, *QUICK, *own(method, *FEW))
    assert record["status"] == "finished" and record["method"] == method
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    monkeypatch.setenv("REMEM_METRICS", "em,exposure")
    monkeypatch.setenv("REMEM_ROLLOUTS", "4")
    results = run(RememHF(str(tmp_path / "run"), device="cpu"), "remem_forget1", limit=2)
    assert value(results, "remem_forget1", "remem_rows") == 2
    assert value(results, "remem_forget1", "remem_failed_rate") == 0
    assert 0 <= value(results, "remem_forget1", "remem_em") <= 1
    assert 0 <= value(results, "remem_forget1", "remem_exposure") <= 1
