"""The sweep: grids, rows of the two stages, what is chosen, what is lost, resuming, the table."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.scripted import run, value
from support.slow import others_slow
from support.trainers import trainer_of

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF
from unlearning.config import Arguments
from unlearning.experiments.sweep import runner
from unlearning.experiments.sweep import sweep as sweep_module
from unlearning.experiments.sweep import table as sweep_table
from unlearning.experiments.sweep.choice import choose
from unlearning.experiments.sweep.plan import FORGET_METHODS, SweepPlan, grid, label
from unlearning.experiments.sweep.runner import EvalAtSteps, SweepRunner, finished
from unlearning.experiments.sweep.stages import Stage, check_disjoint, split_per_person, stages
from unlearning.experiments.sweep.sweep import sweep
from unlearning.methods import METHODS
from unlearning.scoring import scores

PLAN = SweepPlan(data="d", base="b", gold="0.1", steps=(2, 4), batch=2)


# Grids


@pytest.mark.parametrize("name", FORGET_METHODS)
def test_every_method_has_a_grid_that_spends_the_budget(name):
    made = grid(name, PLAN)
    known = {one.name for one in fields(Arguments)}
    runs = (
        PLAN.budget if METHODS[name].trains or METHODS[name].swept() else 1
    )  # (guardrail has nothing to be tuned)
    assert len(made) == runs == len({label(settings) for settings in made})
    assert all(set(settings) <= known for settings in made)
    assert all(len(grid(name, replace(PLAN, budget=budget))) <= budget for budget in range(1, 9))
    # The method's own defaults are the first that are tried.
    own = {"learning_rate": 2e-5, "alpha": 1.0, **METHODS[name].defaults}
    own |= {flag: option.default for flag, option in METHODS[name].options.items()}
    assert grid(name, replace(PLAN, budget=1)) == [{key: own[key] for key in made[0]}]


def test_all_forget_methods_and_no_other_are_swept():
    assert {method.name for method in METHODS.values()} - set(FORGET_METHODS) == {"sft", "gold"}


def test_learning_rates_are_factors_of_three_around_the_methods_own():
    # grad_diff: 2e-5 · 5 = 1e-4; with two values of α a budget of 6 leaves three rates.
    made = grid("grad_diff", replace(PLAN, lr_scale=5.0))
    assert [(one["learning_rate"], one["alpha"]) for one in made] == [
        (1e-4, 1.0), (1e-4, 10.0), (3.3e-5, 1.0), (3.3e-5, 10.0), (3e-4, 1.0), (3e-4, 10.0),
    ]  # fmt: skip
    # ga has no other dimension, so all 6 are rates: 1e-5 · 3^k, k from −3 to 2.
    rates = [one["learning_rate"] for one in grid("ga", PLAN)]
    assert sorted(rates) == [3.7e-7, 1.1e-6, 3.3e-6, 1e-5, 3e-5, 9e-5] and rates[0] == 1e-5
    assert [set(one) for one in grid("manu", PLAN)] == [{"manu_share"}] * 6


def test_names_of_records_are_apart():
    assert label({"learning_rate": 1e-4, "alpha": 10.0}) == "learning_rate0.0001_alpha10"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"methods": ("npo", "gold")}, "--methods 'gold' is not a forget method"),
        ({"methods": ("npo", "npo")}, "--methods needs different values"),
        ({"seeds": ()}, "--seeds needs different values"),
        ({"steps": (0, 4)}, "--steps and --lr-scale are above 0"),
        ({"budget": 0}, "--budget 0 is out of range: at least 1"),
        ({"max_rows": -1}, "--max-rows -1 is out of range: at least 0"),
        ({"report": "forget1"}, "--tune and --report are both 'forget1'"),
        ({"match": "rows"}, "--match 'rows' unknown; choose from passes, steps"),
        ({"tolerance": 2.0}, "--tolerance is from 0 to 1"),
    ],
)
def test_what_is_out_of_range_is_named(bad, message, tmp_path):
    with pytest.raises(RememError, match=re.escape(message)):
        sweep(replace(PLAN, **bad), tmp_path / "s", str)
    assert not (tmp_path / "s").exists()


# Rows


def test_no_row_is_in_both_stages(data_dir):
    tuning, reporting = stages(replace(PLAN, data=str(data_dir)))
    assert (tuning.forget, reporting.forget) == ("forget1", "forget2")
    people = {name: set(rows["identity"][:]) for name, rows in reporting.tables.items()}
    assert set(tuning.tables["forget"]["identity"][:]) == {"ada_birch"}
    assert people["forget"] == people["test_forgotten"] == {"ben_crane"}
    assert people["retain"] == {"eve_farrow", "finn_gale"}
    assert people["test_kept"] == {"cleo_dunn", "dag_ember", "eve_farrow", "finn_gale"}
    assert len(tuning.tables["retain"]) == len(reporting.tables["retain"]) == 6
    all_rows = [
        (one["question"], one["image_path"])
        for stage in (tuning, reporting)
        for rows in stage.tables.values()
        for one in rows.remove_columns("image")
    ]
    assert len(all_rows) == len(set(all_rows)) == 6 + 6 + 6 + 6 + 24 + 6


def test_stages_that_share_a_row_or_a_person_are_refused(data_dir):
    tuning, reporting = stages(replace(PLAN, data=str(data_dir)))
    with pytest.raises(RememError, match="6 rows are scored in tuning .retain. and in reporting .test_kept."):
        check_disjoint(tuning, Stage("forget2", {**reporting.tables, "test_kept": tuning.tables["retain"]}))
    with pytest.raises(RememError, match="ada_birch would be judged by what chose the settings"):
        test = load_split(str(data_dir), "test")  # other pictures of the same person
        check_disjoint(tuning, Stage("forget2", {"forget": test.select(range(6))}))
    with pytest.raises(RememError, match="no rows 'forget' to score: split 'forget1' needs people"):
        stages(replace(PLAN, data=str(data_dir), tune="forget2", report="forget1"))
    with pytest.raises(RememError, match="has no split 'forget9'"):
        stages(replace(PLAN, data=str(data_dir), report="forget9"))


def test_a_row_that_comes_twice_is_in_one_half(data_dir):
    rows = load_split(str(data_dir), "retain")
    first, second = split_per_person(rows.select([0, 1, 0, 1, 1, 2, 3, 6, 7]))
    asked = [list(half["question"][:]) for half in (first, second)]
    assert not set(asked[0]) & set(asked[1]) and len(asked[0]) + len(asked[1]) == 9
    assert list(first["row_id"][:]) == [f"retain:{i}" for i in (0, 0, 2, 6)]


# Choosing


def run_of(points, settings=None, outcome="finished", seed=0, reason=""):
    made = [dict(zip(("step", "forget_em", "retain_em"), point)) for point in points]
    return {"settings": settings or {"learning_rate": 1.0}, "points": made, "outcome": outcome, "seed": seed,
            "reason": reason, "seconds": 1.0}  # fmt: skip


def test_the_highest_retain_em_within_golds_level_is_chosen():
    records = [
        run_of([(2, 0.50, 0.99), (4, 0.10, 0.80)], {"learning_rate": 1e-4}),
        run_of([(2, 0.10, 0.85), (4, 0.00, 0.20)], {"learning_rate": 3e-4}),
    ]
    choice = choose(records, 0.10)
    assert (choice.settings, choice.step, choice.reached) == ({"learning_rate": 3e-4}, 2, True)
    # Nothing at the level: .99 − .45 = .54, .80 − .05 = .75, .85 − .05 = .80, .20 − 0 (the level is −.0 short).
    choice = choose([run_of([(2, 0.5, 0.99), (4, 0.10, 0.80)]), run_of([(2, 0.1, 0.85)])], 0.05)
    assert (choice.step, choice.point["retain_em"], choice.reached) == (2, 0.85, False)
    # A tie goes to fewer steps, then to the earlier setting.
    tie = [run_of([(4, 0, 0.9)], {"a": 1}), run_of([(2, 0, 0.9)], {"a": 2}), run_of([(2, 0, 0.9)], {"a": 3})]
    assert (choose(tie, 0.1).settings, choose(tie, 0.1).step) == ({"a": 2}, 2)
    assert choose([run_of([], outcome="failed")], 0.1) is None


em = st.integers(0, 20).map(lambda n: n / 20)


@given(st.lists(st.lists(st.tuples(st.integers(1, 9), em, em), max_size=3), max_size=4), em)
def test_no_point_at_the_level_is_better_than_the_chosen_one(runs, level):
    records = [run_of(points, {"a": number}) for number, points in enumerate(runs)]
    choice = choose(records, level)
    points = [point for one in records for point in one["points"]]
    within = [point for point in points if point["forget_em"] <= level]
    assert (choice is None) == (not points)
    if choice:
        assert choice.point in points and choice.reached == bool(within)
        if within:
            assert choice.point["forget_em"] <= level
            assert choice.point["retain_em"] == max(point["retain_em"] for point in within)


# The table

START = {"tuning": {"forget_em": 1.0, "retain_em": 0.9}, "reporting": {"forget_em": 1.0, "retain_em": 0.9}}


def reported(forget, retain, seed, outcome="finished"):
    point = {"step": 8, "forget_em": forget, "retain_em": retain, "forget_exposure": 0.5, "test_kept_em": 0.8,
             "test_forgotten_em": 0.2}  # fmt: skip
    made = run_of(
        [], outcome=outcome, seed=seed, reason="" if outcome == "finished" else "step 3: the loss is nan"
    )
    return {**made, "points": [point] if outcome == "finished" else []}


def test_mean_and_deviation_are_those_of_the_seeds():
    tuned = [
        run_of([(2, 0.1, 0.8)]),
        run_of([(2, 0.0, 0.1)]),
        run_of([], outcome="non-finite", reason="step 1"),
    ]
    choice = choose(tuned, 0.1)
    found = sweep_table.line(
        "npo", (tuned, choice, [reported(0.0, 0.7, 0), reported(0.2, 0.8, 1)]), START, 0.1
    )
    # Means .1 and .75; deviations √(2·.1²/1) and √(2·.05²/1).
    assert found["figures"]["forget_em"]["mean"] == pytest.approx(0.1)
    assert found["figures"]["forget_em"]["sd"] == pytest.approx(0.1 * 2**0.5)
    assert found["figures"]["retain_em"]["sd"] == pytest.approx(0.05 * 2**0.5)
    assert found["trials"] == {"spent": 3, "non-finite": 1, "failed": 0, "collapsed": 1}
    assert found["outcome"] == sweep_table.AT_LEVEL and found["reasons"] == ["step 1"]
    assert sweep_table.shown_trials(found) == "3: 1 non-finite, 1 collapsed"
    assert sweep_table.mean_and_sd([0.3])["sd"] is None


def test_a_broken_run_is_neither_lost_nor_a_win():
    tuned = [run_of([(2, 0.0, 0.1)])]
    choice = choose(tuned, 0.1)
    silent = sweep_table.line("ga", (tuned, choice, [reported(0.0, 0.1, 0)]), START, 0.1)
    assert silent["outcome"] == sweep_table.COLLAPSED
    # .033333, .05 and .066667 have the mean .05 and a rest.
    three = [reported(value, 0.8, seed) for seed, value in enumerate((0.033333, 0.05, 0.066667))]
    assert sweep_table.line("kl", (tuned, choice, three), START, 0.05)["outcome"] == sweep_table.AT_LEVEL
    above = sweep_table.line("kl", (tuned, choice, [reported(0.3, 0.8, 0)]), START, 0.1)
    assert above["outcome"] == sweep_table.ABOVE
    lost = sweep_table.line(
        "kl", (tuned, choice, [reported(0, 0.8, 0), reported(0, 0, 1, "non-finite")]), START, 0.1
    )
    assert lost["figures"]["retain_em"]["values"] == [0.8]
    assert lost["seeds"] == {"finished": [0], "lost": {"1": "non-finite: step 3: the loss is nan"}}
    assert sweep_table.shown_outcome(lost) == "at gold's level; 1 of 2 seeds lost"
    far = choose([run_of([(2, 0.5, 0.9)])], 0.1)
    missed = sweep_table.line("kl", (tuned, far, [reported(0.3, 0.8, 0)]), START, 0.1)
    assert sweep_table.shown_outcome(missed) == "above gold's level; not reached in tuning"
    nothing = sweep_table.line(
        "npo", ([run_of([], outcome="failed", reason="no file")], None, []), START, 0.1
    )
    assert nothing["outcome"] == sweep_table.NOTHING
    assert sweep_table.shown_outcome(nothing) == "no run finished: no file"


# Whole sweeps


@pytest.fixture(scope="module")
def plan(data_dir, memorised):
    """Two methods at learning rates that suit the tiny model; 18 runs of 4 steps or 8."""
    return SweepPlan(
        data=str(data_dir), base=str(memorised), gold="0.1", methods=("grad_diff", "sku"), seeds=(0, 1), budget=2,
        steps=(2, 4), batch=3, lr_scale=50.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bench(plan):
    made = SweepRunner(plan)
    yield made
    made.close()


def test_a_longer_run_holds_the_shorter_one(bench):
    """The step dimension is read off one run: bit for bit what a run of so few steps gives."""
    for method, settings in (
        ("grad_diff", {"learning_rate": 1e-3}),
        ("sku", {"learning_rate": 1e-3, "sku_scale": 1.0}),
        ("dpo", {"learning_rate": 1e-3}),
    ):
        weights = {}
        for steps in ((2, 4), (2,)):
            trainer = bench.trainer(method, settings, "forget1", 0, max(steps))

            def look(step, steps=steps, trainer=trainer, weights=weights):
                with finished(trainer):
                    bench.evaluate(trainer.model, bench.tuning)
                    weights[steps, step] = {
                        n: p.detach().clone() for n, p in trainer.model.named_parameters()
                    }
                trainer.model.train()

            trainer.add_callback(EvalAtSteps(steps, look))
            trainer.train()
        short, long = weights[(2,), 2], weights[(2, 4), 2]
        assert all(torch.equal(short[name], long[name]) for name in short)
        assert any(not torch.equal(short[name], value) for name, value in weights[(2, 4), 4].items())


def test_what_a_method_does_at_the_end_is_undone_after_a_look(bench):
    trainer = bench.trainer("task_vector", {"learning_rate": 1e-3, "task_scale": 5.0}, "forget1", 0, 2)
    trainer.train()
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    start = dict(bench.base.named_parameters())
    with finished(trainer):
        for name, value in trainer.model.named_parameters():
            # θ_ref − 5 (θ − θ_ref)
            assert torch.allclose(value, start[name] - 5 * (before[name] - start[name]), atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_a_run_does_not_depend_on_those_before_it(bench, plan):
    settings = {"learning_rate": 1e-3, "alpha": 1.0}
    runs = [bench.run("grad_diff", settings, bench.tuning, 0, [2]) for _ in range(2)]
    bench.run("ga", {"learning_rate": 1.0}, bench.tuning, 1, [1])
    runs.append(bench.run("grad_diff", settings, bench.tuning, 0, [2]))
    assert runs[0]["points"] == runs[1]["points"] == runs[2]["points"] and runs[0]["outcome"] == "finished"
    assert bench.reported_steps(4) == 8 and bench.reported_steps(0) == 0  # 6 and 12 forget rows
    bench.plan = replace(plan, match="steps")
    assert bench.reported_steps(4) == 4
    bench.plan = plan


def test_a_run_that_is_not_finite_is_an_outcome(bench):
    found = bench.run("ga", {"learning_rate": 1e30}, bench.tuning, 0, [1, 4])
    assert found["outcome"] == "non-finite" and re.search("step|weights", found["reason"])
    assert all(torch.isfinite(value).all() for value in bench.base.parameters())
    found = bench.run("manu", {"manu_share": 2.0}, bench.tuning, 0, [1])
    assert (
        found["outcome"] == "failed"
        and "is out of range: at least 0, at most 1" in found["reason"]
        and not found["points"]
    )
    found = bench.run("manu", {"manu_share": 0.5}, bench.tuning, 0, [1])
    assert found["outcome"] == "finished" and [point["step"] for point in found["points"]] == [0]
    assert "neurons" in found["notes"]["pruned"]


def test_a_defect_is_raised_and_no_outcome(bench, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("a defect")

    monkeypatch.setattr(runner, "scores", broken)
    with pytest.raises(KeyError, match="a defect"):
        bench.run("grad_diff", {"learning_rate": 1e-4}, bench.tuning, 0, [1])


def without_seconds(out):
    found = json.loads((out / "results.json").read_text())
    for one in found["methods"]:
        del one["seconds"]
    return found


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory):
    """(folder, what the sweep returned, what it said) of a sweep that nothing stopped."""
    out, lines = tmp_path_factory.mktemp("whole") / "s", []
    return out, sweep(plan, out, lines.append), lines


def test_a_sweep_leaves_one_table(whole, plan):
    out, found, lines = whole
    assert {one["method"] for one in found["methods"]} == {"grad_diff", "sku"}
    assert found["rows"]["reporting"] == {"forget": 6, "retain": 6, "test_kept": 24, "test_forgotten": 6}
    for one in found["methods"]:
        assert one["trials"]["spent"] == 2 and one["seeds"] == {"finished": [0, 1], "lost": {}}
        assert one["steps"] == 2 * one["tuned_steps"] and one["tuned_steps"] in (2, 4)
        # Two seeds are two runs.
        values = one["figures"]["forget_exposure"]["values"]
        assert len(values) == 2 and all(0 <= value <= 1 for value in values)
    table = list(csv.DictReader((out / "results.csv").open()))
    assert [row["method"] for row in table] == ["start", *(one["method"] for one in found["methods"])]
    assert float(table[1]["retain_em"]) == found["methods"][0]["figures"]["retain_em"]["mean"]
    text = (out / "results.md").read_text()
    assert "none chose a setting" in text and text.count("\n| ") == 1 + 1 + 2
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(found))
    assert re.match(
        r"forget1: forget EM [01]\.\d\d at the start, 0\.10 of gold; the level is 0\.15", lines[0]
    )
    assert lines[1].startswith("[1/8] grad_diff learning_rate0.001_alpha1: step 2 forget ")
    assert lines[-1].startswith("[8/8] sku on forget2, seed 1: step ") and "to go" in lines[-1]
    assert (out / "results.png").read_bytes()[:4] == b"\x89PNG" and "(results.png)" in text
    assert not list(out.rglob("*.tmp"))


def test_a_finished_sweep_runs_nothing_again_and_grows(whole, plan, monkeypatch, tmp_path):
    out = tmp_path / "s"
    shutil.copytree(whole[0], out)
    ran, real, lines = [], SweepRunner.run, []
    monkeypatch.setattr(SweepRunner, "run", lambda *args: ran.append(args[1:]) or real(*args))
    sweep(plan, out, lines.append)
    assert not ran and without_seconds(out) == without_seconds(whole[0])
    assert all(line.endswith("(done before)") for line in lines[1:])
    grown = sweep(replace(plan, methods=("sku", "manu"), seeds=(0, 1, 2)), out, lines.append)
    asked = [("sku", 2), ("manu", 0), ("manu", 0), ("manu", 0), ("manu", 1), ("manu", 2)]
    assert [(args[0], args[3]) for args in ran] == asked
    assert {one["method"]: one["seeds"]["finished"] for one in grown["methods"]} == {
        "sku": [0, 1, 2],
        "manu": [0, 1, 2],
    }
    for changed, told in (({"batch": 2}, "batch 3, not 2"), ({"training": "--use_peft"}, "training '', not")):
        with pytest.raises(RememError, match=f"holds a sweep with {told}"):
            sweep(replace(plan, **changed), out, str)
    (tmp_path / "x").write_text("mine")
    with pytest.raises(RememError, match="is not empty and holds no sweep"):
        sweep(plan, tmp_path, str)


def test_a_bad_gold_or_start_is_named(plan, tmp_path, checkpoints, monkeypatch):
    gold = tmp_path / "gold"
    gold.mkdir()
    (gold / "run.json").write_text(json.dumps({"data": {"forget": "forget1"}}))
    with pytest.raises(
        RememError, match="was trained without 'forget1'; reporting needs one without 'forget2'"
    ):
        sweep(replace(plan, gold=str(gold)), tmp_path / "a", str)
    with pytest.raises(RememError, match="--gold 1.5: exact match is from 0 to 1"):
        sweep(replace(plan, gold="1.5"), tmp_path / "b", str)
    with pytest.raises(RememError, match="there is nothing to forget"):
        sweep(replace(plan, base=str(checkpoints["llava"])), tmp_path / "c", str)
    with pytest.raises(RememError, match="nonsense"):
        sweep(replace(plan, training="--nonsense 3"), tmp_path / "d", str)
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_lora_and_a_gold_checkpoint(plan, tmp_path, checkpoints):
    """An untrained checkpoint knows nothing, as gold does; a method that trains no adapter fails by name."""
    lora = replace(
        plan, methods=("npo", "manu"), seeds=(0,), budget=1, steps=(2,), gold=str(checkpoints["llava"]),
        training="--use_peft --lora_r 4",
    )  # fmt: skip
    found = sweep(lora, tmp_path / "s", str)
    assert found["gold"]["reporting"]["forget_em"] == 0.0 and found["gold_level"] == {
        "tuning": 0.0,
        "reporting": 0.0,
    }
    npo, manu = sorted(found["methods"], key=lambda one: one["method"] == "manu")
    assert npo["seeds"]["finished"] == [0]
    assert manu["outcome"] == sweep_table.NOTHING and "leave --use_peft out" in manu["reasons"][0]
    assert manu["trials"] == {"spent": 1, "non-finite": 0, "failed": 1, "collapsed": 0}
    # What failed is tried anew by a second call, all else is kept.
    (tried,) = (tmp_path / "s" / "tuning" / "manu").glob("*.json")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("npo/*.json")}
    tried.write_text(tried.read_text().replace("leave --use_peft out", "out of memory"))
    assert sweep(lora, tmp_path / "s", str)["methods"][-1] and "leave --use_peft out" in tried.read_text()
    assert kept and all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_the_command(tmp_path, capfd, monkeypatch):
    taken = {}

    def played(plan, out, say, engine):
        taken.update(plan=plan, out=out, engine=engine)
        return {"start": None, "gold": None, "methods": []}

    monkeypatch.setattr(sweep_module, "sweep", played)
    command = ["sweep", "--data", "d", "--base", "b", "--gold", "0.1", "--out", str(tmp_path / "s")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--methods", "npo, idk", "--seeds", "1,2", "--steps", "5", "--lr-scale", "5"])
    assert ended.value.code == 0 and taken["out"] == str(tmp_path / "s") and taken["engine"].name == "here"
    assert taken["plan"] == SweepPlan("d", "b", "0.1", ("npo", "idk"), (1, 2), steps=(5,), lr_scale=5.0)
    with pytest.raises(SystemExit):
        main([*command, "--methods", "all"])
    assert taken["plan"] == SweepPlan("d", "b", "0.1") and taken["plan"].methods == FORGET_METHODS
    with pytest.raises(SystemExit) as ended:
        main([*command, "--seeds", "1;2"])
    assert ended.value.code == 1 and "--seeds '1;2': whole numbers by commas" in capfd.readouterr().err


@pytest.mark.slow
def test_killed_at_any_run_and_started_again_it_gives_the_same_table(whole, plan, tmp_path):
    out = tmp_path / "s"
    command = [sys.executable, "-c", "from remem_tasks.cli import main; main()", "sweep", "--out", str(out)]
    command += ["--data", plan.data, "--base", plan.base, "--gold", plan.gold, "--methods", "grad_diff,sku"]
    command += ["--seeds", "0,1", "--budget", "2", "--steps", "2,4", "--batch", "3", "--lr-scale", "50"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while len(list(out.glob("*/*/*.json"))) < 3 and time.time() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.json")}
    assert 3 <= len(kept) < 8, "killed after some runs and before the last"
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert without_seconds(out) == without_seconds(whole[0])


@pytest.mark.parametrize("lora", others_slow([False, True], False), ids=["full", "lora"])
def test_scores_are_those_of_the_harness(plan, data_dir, memorised, tmp_path, monkeypatch, lora):
    """Of the trained model in memory, as TRL has wrapped it; the harness loads what it saves."""
    flags = ("--use_peft", "--lora_r", "4") if lora else ()
    trainer = trainer_of(
        data_dir,
        memorised,
        tmp_path / "run",
        "grad_diff",
        *flags,
        "--max_steps",
        "4",
        "--learning_rate",
        "1e-3",
    )
    trainer.train()
    trainer.model.eval()
    trainer.save_model(str(tmp_path / "run"))
    rows = load_split(plan.data, "forget2")
    ours = scores(trainer.model, trainer.processing_class, rows, ("em", "exposure"))
    monkeypatch.setenv("REMEM_DATA", plan.data)
    monkeypatch.setenv("REMEM_METRICS", "em,exposure")
    harness = run(RememHF(str(tmp_path / "run"), device="cpu"), "remem_forget2")
    assert (
        ours["em"] > 0 and ours["extraction_rate"] > 0
    )  # (how much is left is the training's: all of it, where another way computes)
    for name in ("em", "exposure", "extraction_rate", "rougel", "blank_rate"):
        assert ours[name] == pytest.approx(value(harness, "remem_forget2", f"remem_{name}"), abs=1e-6), name
