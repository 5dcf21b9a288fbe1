"""The benches that measure how far results depend on seeds and processors: their arithmetic, jobs, ways."""

import json
import subprocess
import sys
from pathlib import Path

import numeric
import pytest
import spread

from remem_tasks.errors import RememError
from unlearning.experiments import demo

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = (("npo", "remem_forget1", "remem_em", "<=", 0.2), ("npo", "remem_retain", "remem_em", ">=", 0.9))


def record(forget, retain):
    return {"models": {"npo": {"remem_forget1": {"remem_em": forget}, "remem_retain": {"remem_em": retain}}}}


def test_the_spread_by_hand(monkeypatch):
    """Forget .0 .1 .2: mean .1, sd .1, one sd from .2. Retain .9 .95 1.0: mean .95, sd .05, one sd from .9."""
    monkeypatch.setattr(spread, "EXPECTED", EXPECTED)
    found = spread.summary([record(0.0, 1.0), record(0.1, 0.95), record(0.2, 0.9)])
    assert (found["runs"], found["held"]) == (3, 3) and found["nearest_sd"] == pytest.approx(1.0)
    assert [row["worst"] for row in found["expectations"]] == [0.2, 0.9]
    assert [row["sd"] for row in found["expectations"]] == pytest.approx([0.1, 0.05])
    missed = spread.summary([record(0.0, 1.0), record(0.3, 0.8)])
    assert (missed["runs"], missed["held"]) == (2, 1)
    assert [row["held"] for row in missed["expectations"]] == [1, 1]
    assert "| npo | remem_forget1 | remem_em | <= 0.2 | 2 | 0.150 |" in spread.table(missed)


def test_what_never_varies_is_near_only_where_it_misses(monkeypatch):
    monkeypatch.setattr(spread, "EXPECTED", EXPECTED)
    assert spread.summary([record(0.0, 1.0)] * 3)["nearest_sd"] is None
    assert spread.summary([record(0.0, 0.5)] * 3)["nearest_sd"] == 0.0


def test_a_run_is_the_demos_own_commands(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    jobs = spread.jobs(3, 8, ["plain", "native"])
    assert len(jobs) == len({job.name for job in jobs}) == 3 + 16
    assert [job.seed for job in jobs[:8]] == [0, 1, 2, 3] * 2, "a part of the runs is of all ways"
    steps = {step.name: step.command for step in spread.commands(jobs[0], tmp_path)}
    assert set(steps) == {*demo.FULL.methods, *(f"score_{name}" for name in demo.FULL.methods), "attack"}
    whole = {step.name: step.command for step in demo.steps(tmp_path / jobs[0].name, "llava", 1, seed=0)}
    assert all(steps[name] == whole[name] for name in demo.FULL.methods)
    asked = steps["score_npo"]
    assert asked[asked.index("--tasks") + 1] == "remem_forget1,remem_retain"
    attack = " ".join(steps["attack"])
    assert (
        "models/idk --gold" in attack and "models/npo" not in attack and "--attacks relearn_rest --" in attack
    )
    assert {step.name for step in spread.commands(jobs[-1], tmp_path)} == set(spread.STAGE1)


def test_what_an_attack_recovers_is_expected_too():
    """idk is expected to say .3 again at least: .5 in one run, .2 in another."""
    good = {
        "models": {},
        "attacked": {"idk": {"relearn_rest": {"em": 0.5}}, "gold": {"relearn_rest": {"em": 0.0}}},
    }
    bad = {"models": {}, "attacked": {"idk": {"relearn_rest": {"em": 0.2}}}}
    found = spread.summary([good, bad])
    assert (found["runs"], found["held"]) == (2, 1)
    rows = [
        (row["model"], row["task"], row["runs"], row["mean"], row["held"]) for row in found["expectations"]
    ]
    assert rows == [("idk", "relearn_rest", 2, pytest.approx(0.35), 1), ("gold", "relearn_rest", 1, 0.0, 1)]


def test_a_run_of_other_commands_is_made_anew(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    job = spread.Job(2, "plain", 0)
    assert spread.done(job, tmp_path) is None
    commands = [step.command for step in spread.commands(job, tmp_path)]
    made = {"commands": commands, "code": spread.code(), "models": {}}
    (tmp_path / f"{job.name}.json").write_text(json.dumps(made))
    assert spread.done(job, tmp_path) == made
    for changed in ({"code": "another"}, {"commands": [*commands[:-1], [*commands[-1], "--limit", "1"]]}):
        (tmp_path / f"{job.name}.json").write_text(json.dumps({**made, **changed}))
        assert spread.done(job, tmp_path) is None


def test_a_demo_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["spread.py", "--table", "--out", str(tmp_path), "--demos", str(tmp_path / "no")]
    )
    with pytest.raises(RememError, match="no finished demo"):
        spread.main()


def test_a_way_sets_its_own_and_nothing_of_another(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    plain, native = numeric.environment("plain"), numeric.environment("native-two")
    assert (plain["ATEN_CPU_CAPABILITY"], plain["MKL_CBWR"], plain["OMP_NUM_THREADS"]) == (
        "default",
        "COMPATIBLE",
        "1",
    )
    assert not set(numeric.SETS) & set(native) and native["OMP_NUM_THREADS"] == "2"
    assert {"plain", "native", "native-two", "plain-two"} <= set(numeric.usable(tuple(numeric.WAYS)))


@pytest.mark.parametrize(
    ("here", "ways"),
    [
        ("DEFAULT", ["plain", "native-two"]),
        ("AVX2", ["plain", "avx2", "native-two", "plain-two"]),
        ("AVX512", ["plain", "avx2", "avx512", "native-two", "plain-two"]),
    ],
)
def test_what_the_machine_does_by_itself_is_no_way_of_its_own(monkeypatch, here, ways):
    """A run in its own instructions and one that names them are the same run to the last bit: they count once."""
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: here)
    assert numeric.distinct(tuple(numeric.WAYS)) == ways
    assert numeric.distinct(("native", "avx2")) == (["native"] if here != "AVX512" else ["native", "avx2"])


@pytest.mark.slow
def test_another_way_reaches_the_library():
    code = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    command = [sys.executable, str(ROOT / "bench" / "numeric.py")]
    found = subprocess.run(
        [*command, "plain", sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["DEFAULT", "1"]
    wrong = subprocess.run([*command, "abacus", "true"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and "'abacus' is not a way of computing: plain" in wrong.stderr
