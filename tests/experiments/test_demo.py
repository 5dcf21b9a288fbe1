"""The demo: its steps, what it does again and what not, its verdict, and the whole of it once in small."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remem_tasks.errors import RememError
from remem_tasks.report.results import newest_results, read_scores
from remem_tasks.training import program
from unlearning.arguments import parse
from unlearning.experiments import demo
from unlearning.experiments.steps import Step

GOOD = {
    "memorised": {"remem_forget1": (0.98, 1.0), "remem_retain": (1.0, 1.0), "remem_test": (0.95, 0.9)},
    "gold": {"remem_forget1": (0.05, 0.04), "remem_retain": (1.0, 1.0), "remem_test": (0.9, 0.9)},
    "grad_diff": {"remem_forget1": (0.0, 0.0), "remem_retain": (0.95, 0.9), "remem_test": (0.9, 0.9)},
    "npo": {"remem_forget1": (0.15, 0.2), "remem_retain": (0.9, 0.9), "remem_test": (0.9, 0.9)},
    "idk": {"remem_forget1": (0.0, 0.97), "remem_retain": (1.0, 1.0), "remem_test": (0.9, 0.9)},
}
NEEDS = {"a": (), "b": ("a",), "c": ("b",)}
METRICS = {metric for _, metric, _ in demo.SHOWN} | {metric for _, _, metric, _, _ in demo.EXPECTED}


def scores(table):
    """Model → task → every metric, from (all that ends in em, all else)."""
    return {
        name: {
            task: {metric: em if metric.endswith("em") else other for metric in METRICS}
            for task, (em, other) in tasks.items()
        }
        for name, tasks in table.items()
    }


@pytest.mark.parametrize("size", [demo.FULL, demo.LARGE, demo.QUICK], ids=["full", "large", "quick"])
@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_training_commands_are_what_the_script_takes(arch, size):
    steps = {step.name: step for step in demo.steps(Path("runs/x"), arch, 2, size)}
    assert list(steps)[:5] == ["forge", "base", "memorised", "score_memorised", next(iter(size.methods))]
    for name in ("memorised", "gold", *size.methods):
        _, args, model = parse(steps[name].training)
        assert args.method == ("sft" if name == "memorised" else name)
        start = "base" if name in ("memorised", "gold") else "memorised"
        assert model.model_name_or_path == f"runs/x/models/{start}"
        gated = start == "memorised" and size.gated
        assert args.gate_results == ("runs/x/results/memorised" if gated else None)
        assert args.no_gate == (start == "memorised" and not size.gated)
        assert args.output_dir == f"runs/x/{steps[name].folder}" == f"runs/x/models/{name}"
    assert all(
        (step.training is None) == (step.folder.split("/")[0] != "models" or name == "base")
        for name, step in steps.items()
    )
    assert f"--arch {arch}" in " ".join(steps["base"].command)
    scored = ["score_memorised", "score_gold", *(f"score_{name}" for name in size.methods)]
    assert [name for name in steps if name.startswith("score_")] == scored


def test_expectations_name_what_went_wrong():
    assert demo.unexpected(scores(GOOD)) == []
    bad = json.loads(json.dumps(GOOD))
    bad["gold"]["remem_forget1"] = (0.2, 0.04)
    bad["npo"]["remem_retain"] = (0.7, 0.9)
    bad["idk"]["remem_forget1"] = (0.0, 0.2)
    assert demo.unexpected(scores(bad)) == [
        "gold: remem_em on remem_forget1 is 0.200, expected <= 0.15: off by 0.050",
        "npo: remem_em on remem_retain is 0.700, expected >= 0.75: off by 0.050",
        "idk: remem_reference_exposure on remem_forget1 is 0.200, expected >= 0.8: off by 0.600",
    ]
    assert demo.unexpected(scores({**GOOD, "gold": {**GOOD["gold"], "remem_forget1": (float("nan"), 0.0)}}))


def test_expectations_of_attacks_name_what_went_wrong():
    good = {
        "idk": {"relearn_rest": {"em": 0.7}},
        "gold": {"relearn_rest": {"em": 0.02}},
    }
    assert demo.unexpected_of_attacks(good) == []
    bad = json.loads(json.dumps(good))
    bad["idk"]["relearn_rest"] = {"not_available": "one fact"}
    bad["gold"]["relearn_rest"]["em"] = 0.5
    assert demo.unexpected_of_attacks(bad) == [
        "idk: em under relearn_rest is not there, expected >= 0.3",
        "gold: em under relearn_rest is 0.500, expected <= 0.15",
    ]


def test_a_miss_says_what_is_there_and_what_it_means(tmp_path):
    stage2 = demo.missed(tmp_path, ["npo: remem_em on remem_retain is 0.850, expected >= 0.9: off by 0.050"])
    assert (
        "missed 1 of its 15 expectations" in stage2 and "off by 0.050" in stage2 and str(tmp_path) in stage2
    )
    assert "installation works" in stage2 and "did not memorise" not in stage2
    assert "did not memorise" in demo.missed(tmp_path, ["gold: remem_em on remem_forget1 is 0.2 …"])


def test_every_forgetting_ends_by_rule_within_bounded_steps():
    for step in demo.steps(Path("runs/x"), "llava", 2, demo.FULL, 7):
        if step.name in demo.FULL.methods:
            _, args, _ = parse(step.training)
            assert args.stop_rules and args.eval_rows >= 30 and 0 < args.max_steps <= 150 and args.seed == 7


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Three steps, each of which needs the one before; returns (run the demo's loop, and what they leave)."""
    log = tmp_path / "log"
    out = tmp_path / "out"

    def step(name, *, fails=False):
        code = (
            f"import pathlib; pathlib.Path({str(out)!r}, {name!r}).mkdir(); open({str(log)!r}, 'a').write({name!r} + ' ')"
            + ("; raise SystemExit(3)" if fails else "")
        )
        return Step(name, [sys.executable, "-c", code], name, NEEDS[name])

    todo = [step("a"), step("b"), step("c")]
    monkeypatch.setattr(demo, "steps", lambda *args: todo)
    monkeypatch.setattr(demo, "newest_results", lambda folder: folder.name)
    monkeypatch.setattr(demo, "read_scores", lambda name: scores(GOOD)[name])
    monkeypatch.setattr(demo, "draw_summary", lambda *args: None)
    monkeypatch.setattr(demo, "ended", lambda out, names: [f"{name}: by rule" for name in names])
    monkeypatch.setattr(demo, "_report", lambda out: out / "report" / "report.html")

    def run(until=None):
        before = log.read_text() if log.exists() else ""
        try:
            demo.demo(out, until=until)
        finally:
            ran.append((log.read_text() if log.exists() else "")[len(before) :].split())
        return ran[-1]

    ran: list = []
    return run, todo, step, out, ran


def test_done_steps_are_kept_and_what_follows_a_new_one_is_done_again(counted):
    run, todo, step, out, _ = counted
    assert run() == ["a", "b", "c"]
    assert run() == []
    shutil.rmtree(out / "b")
    assert run() == ["b", "c"]
    todo[1] = Step("b", [*step("b").command, "--other"], "b", NEEDS["b"])
    assert run() == ["b", "c"]
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary) == {"models", "seconds"} and set(summary["seconds"]) == {"a", "b", "c"}
    assert summary["models"]["gold"]["remem_forget1"]["remem_em"] == 0.05


def test_until_a_step(counted):
    run, _, _, out, _ = counted
    assert run("b") == ["a", "b"] and not (out / "summary.json").exists()
    assert run() == ["c"] and (out / "summary.json").exists()
    with pytest.raises(RememError, match="there is no step 'd': a, b, c"):
        run("d")


def test_a_failed_step_stops_the_demo_and_is_done_again(counted):
    run, todo, step, out, ran = counted
    todo[1] = step("b", fails=True)
    with pytest.raises(RememError, match=r"step 'b' ended with status 3"):
        run()
    assert ran[-1] == ["a", "b"] and not (out / "summary.json").exists()
    todo[1] = step("b")
    assert run() == ["b", "c"]


def test_a_demo_that_did_not_come_out_right_says_so_and_keeps_its_scores(counted, monkeypatch, capsys):
    run, _, _, out, _ = counted
    bad = json.loads(json.dumps(GOOD))
    bad["memorised"]["remem_test"] = (0.3, 0.3)
    monkeypatch.setattr(demo, "read_scores", lambda name: scores(bad)[name])
    with pytest.raises(
        RememError, match=r"missed 1 of 15 expectations: memorised: remem_em on remem_test is 0.300"
    ):
        run()
    assert (out / "summary.json").is_file()
    said = capsys.readouterr().out
    assert "Stage 1 did not memorise" in said and f"is in {out}" in said and "npo: by rule" in said


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(RememError, match="holds no demo"):
        demo.demo(tmp_path)


@pytest.mark.slow
def test_the_whole_demo_runs_in_small(quick_demo):
    summary = json.loads((quick_demo / "summary.json").read_text())
    assert set(summary["models"]) == {"memorised", "gold", "npo"}
    for tasks in summary["models"].values():
        assert set(demo.TASKS) <= set(tasks)
        assert all(tasks[task]["remem_failed_rate"] == 0 for task in demo.TASKS)
        assert tasks["remem_forget1"]["remem_rows"] == 12
    for name in summary["models"]:
        assert (quick_demo / "models" / name / "model.safetensors").is_file()
        assert list((quick_demo / "results" / name).rglob("*_samples_remem_forget1.jsonl"))
    assert (quick_demo / "summary.png").stat().st_size > 10_000
    assert "DOCTYPE" in (quick_demo / "report" / "report.html").read_text().upper()
    attacks = json.loads((quick_demo / "attacks.json").read_text())
    assert set(attacks) == {"gold", "npo"} and "em" in attacks["npo"]["relearn_rest"]
    assert demo.demo(quick_demo, workers=1, size=demo.QUICK) == summary


@pytest.mark.slow
def test_a_step_repeated_by_hand_gives_what_its_fork_gave(quick_demo, tmp_path):
    """The same command as a process of its own: the weights to the last bit, the replies to the last digit."""
    shutil.copytree(quick_demo, tmp_path / "demo")
    step = json.loads((quick_demo / "steps" / "npo.json").read_text())["command"]
    model = tmp_path / "demo" / "models" / "npo"
    shutil.rmtree(model)
    command = [word.replace(str(quick_demo), str(tmp_path / "demo")) for word in step]
    command[: len(program("remem"))] = program("remem")
    environment = {"OMP_NUM_THREADS": str(os.cpu_count()), **os.environ, **demo.ENVIRONMENT}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    made, weights = (folder / "models" / "npo" for folder in (quick_demo, tmp_path / "demo"))
    assert (made / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
    scored = json.loads((quick_demo / "steps" / "score_npo.json").read_text())["command"]
    command = [word.replace(str(quick_demo), str(tmp_path / "demo")) for word in scored]
    command[: len(program("lmms_eval"))] = program("lmms_eval")
    shutil.rmtree(tmp_path / "demo" / "results" / "npo")
    environment["REMEM_DATA"] = str(quick_demo / "data")
    subprocess.run(command, env=environment, check=False, capture_output=True)
    by_hand = read_scores(newest_results(tmp_path / "demo" / "results" / "npo"))
    assert by_hand == json.loads((quick_demo / "summary.json").read_text())["models"]["npo"]
