"""Stage 2 starts only from a model that is shown to have memorised, unless told to go on."""

import json

import pytest
from support.made import row, write_run

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.errors import RememError
from remem_tasks.files import write_json
from remem_tasks.report.runs import read_runs
from unlearning.arguments import parse
from unlearning.methods import METHODS, NAMES
from unlearning.preflight import _same
from unlearning.run import run

QUICK = ("--max_steps", "1", "--per_device_train_batch_size", "2", "--save_strategy", "no")


@pytest.fixture
def scored(checkpoints, data_dir, tmp_path):
    """(share of right answers, **options) → results of the tiny llava on 30 rows with the answers of a split."""

    def write(em: float, split="forget1", answers=None, model=None):
        known = answers or load_split(str(data_dir), split)["answer"][:]
        rows = [
            row(i, split, em=float(i < 30 * em), exposure=float(i < 30 * em), answer=known[i % len(known)])
            for i in range(30)
        ]
        return write_run(tmp_path / "results", {split: rows}, str(model or checkpoints["llava"])).parent

    return write


def test_only_what_starts_from_nothing_is_not_asked():
    assert {name for name in NAMES if METHODS[name].stage == 1} == {"sft", "gold"}
    with pytest.raises(RememError, match="sft is stage 1, which no gate stands before"):
        parse(["--method", "sft", "--output_dir", "x", "--no_gate"])


def test_a_model_that_had_memorised_is_let_through(train_run, checkpoints, scored, tmp_path, capsys):
    results = scored(1.0)
    record = train_run(tmp_path / "run", "npo", checkpoints["llava"], *QUICK, "--gate_results", str(results))
    assert record["gate"]["passed"] and not record["gate"]["overridden"]
    assert record["gate"]["results"] == str(results) and record["gate"]["thresholds"]["em"] == 0.8
    assert "gate: passed" in capsys.readouterr().out


def test_one_that_had_not_is_stopped_before_anything_is_written(train_run, checkpoints, scored, tmp_path):
    gate = ("--gate_results", str(scored(0.5)))
    with pytest.raises(RememError, match=r"had not memorised .*em 0\.50 .*--no_gate continues anyway"):
        train_run(tmp_path / "run", "npo", checkpoints["llava"], *QUICK, *gate)
    assert not (tmp_path / "run").exists()
    record = train_run(tmp_path / "run", "npo", checkpoints["llava"], *QUICK, *gate, "--no_gate")
    assert record["gate"]["passed"] is False and record["gate"]["overridden"]
    assert "em 0.50" in record["gate"]["reasons"][0]
    # The report says so of every score of that model.
    results = write_run(tmp_path / "after", {"forget1": [row(0)]}, str(tmp_path / "run"))
    (run,) = read_runs([str(results)])
    assert any("trained with --no_gate: remem_forget1, all: not memorised" in note for note in run.notes)


def test_without_results_nobody_knows(checkpoints, data_dir, train_run, tmp_path, capsys):
    argv = [
        "--method",
        "retain_ft",
        "--model_name_or_path",
        str(checkpoints["llava"]),
        "--data",
        str(data_dir),
    ]
    argv += ["--output_dir", str(tmp_path / "run"), "--disable_tqdm", "true", *QUICK]
    with pytest.raises(
        RememError, match=r"no scores of .* were given.* --tasks remem_forget1,remem_retain --log_samples"
    ):
        run(argv)
    assert not (tmp_path / "run").exists()
    assert run([*argv, "--no_gate"]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["gate"] == {
        "passed": None,
        "overridden": True,
        "reasons": ["the starting model was not scored"],
    }
    assert "gate: NOT passed" in capsys.readouterr().out


def test_one_folder_has_several_names(tmp_path, monkeypatch):
    start = tmp_path / "runs" / "a_start"
    start.mkdir(parents=True)
    file = tmp_path / "scores" / "results.json"
    away = tmp_path.with_name("away") / "results.json"  # nothing above these is the checkpoint
    for scored in (str(start), "runs/a_start", "a_start"):  # the latter two as called in other folders
        assert _same(scored, file, str(start)) and _same(scored, away, str(start))
    monkeypatch.chdir(tmp_path)
    for results in (file, away):
        assert _same("runs/../runs/a_start", results, str(start)) and _same("org/name", results, "org/name")
        for other in ("runs/gold", "elsewhere/a_start", "", str(tmp_path), "runs"):
            assert not _same(other, results, str(start)), other
    assert not _same("", start / "results.json", str(start))  # nameless, and beside the weights


def test_of_two_demos_each_has_its_own_checkpoints(tmp_path, monkeypatch):
    """Folders of the same names, and a command that is called in one of them about the other."""
    for name, method in (("a", "npo"), ("b", "idk")):
        made = tmp_path / name / "models" / "start"
        made.mkdir(parents=True)
        write_json(made / "run.json", {"method": method, "status": "finished"})
        write_run(tmp_path / name / "results", {"forget1": [row(0)]}, "models/start")
    monkeypatch.chdir(tmp_path / "b")
    for name, method in (("a", "npo"), ("b", "idk")):
        (run,) = read_runs([str(tmp_path / name / "results")])
        assert run.method == method
        own, other = (str(tmp_path / one / "models" / "start") for one in (name, "ab".replace(name, "")))
        assert _same(run.checkpoint, run.file, own) and not _same(run.checkpoint, run.file, other)


def test_results_of_something_else_do_not_count(train_run, checkpoints, scored, tmp_path):
    def start(results):
        train_run(tmp_path / "run", "npo", checkpoints["llava"], *QUICK, "--gate_results", str(results))

    with pytest.raises(RememError, match="holds no results of '.*', which is to forget"):
        start(scored(1.0, model=checkpoints["qwen2_5_vl"]))
    with pytest.raises(RememError, match="'forget1', which is to be forgotten, was not scored"):
        start(scored(1.0, split="retain"))
    with pytest.raises(RememError, match="are of other data: row forget1:0 is not among those to forget"):
        start(scored(1.0, answers=["Zoe lives in Rome."]))
    assert not (tmp_path / "run").exists()
