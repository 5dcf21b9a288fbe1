"""`remem reproduce clear`: the plan, the table, and a small run that is stopped and goes on."""

import csv
import json
from dataclasses import replace

import pytest

from remem_tasks import cli
from remem_tasks.errors import RememError
from unlearning.arguments import parse
from unlearning.experiments import clear_table as module
from unlearning.experiments.clear_table import (
    HEADS,
    METHODS,
    PUBLISHED,
    QUICK,
    Job,
    TableSize,
    findings,
    jobs,
    reproduce,
    write,
)
from unlearning.methods import METHODS as REGISTERED

FORGE = {**QUICK.forge, "qa": 1, "images": 1, "world": 1}
SMALL = replace(
    QUICK,
    forge=FORGE,
    memorise="--max_steps 1",
    forget="--max_steps 1 --per_device_train_batch_size 2 --learning_rate 1e-3",
    sweep=("grad_diff", (0.1,)),
)


def test_plan():
    found = jobs(METHODS, TableSize(), l1=True)
    assert len(METHODS) == 10 and set(METHODS) <= set(REGISTERED) and set(METHODS) <= set(PUBLISHED)
    assert len({job.name for job in found}) == len(found) == 10 + 10 + 6
    assert [job.l1 for job in found] == [0.0] * 10 + [0.01] * 10 + [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3]
    assert jobs(["npo"], TableSize(), l1=False) == [Job("npo", "npo", 0.0)]
    with pytest.raises(RememError, match="'sku' is none of CLEAR's methods"):
        jobs(["npo", "sku"], TableSize(), l1=True)


@pytest.mark.parametrize(
    "job", [Job("original", "sft"), Job("gold", "gold"), *jobs(METHODS, TableSize(), l1=True)]
)
def test_every_command_parses(tmp_path, job):
    data, args, model = parse(module.training(job, tmp_path, TableSize(), "BASE", "cpu"))
    assert (data.data, data.forget, data.modality) == (str(tmp_path / "data"), "forget10", "joint")
    assert (
        args.method == job.method and args.l1_lora == (job.l1 or 0) and model.use_peft == (job.l1 is not None)
    )
    if model.use_peft:
        assert (model.lora_r, model.lora_alpha) == (8, 32) and model.model_name_or_path.endswith("original")
    else:
        assert data.finetune_split == "full,real_faces,real_world" and model.model_name_or_path == "BASE"


def record(forget, retain, **more):
    numbers = {"real": 0.5, "retain": retain, "forget": forget, "ks": -1.0, "js": 0.9, "exposure": 0.25}
    return {"job": {"method": "m", "l1": 0.0}, "numbers": numbers, "seconds": 2.0, **more}


def test_table_and_findings(tmp_path):
    found = {
        "original": record(0.40, 0.50),
        "gold": record(0.20, 0.50),
        "ga": record(0.0, 0.0),
        "idk": record(0.36, 0.48),
        "npo": {"job": {"method": "npo", "l1": 0.0}, "failed": "loss is NaN", "seconds": 1.0},
        "ga_l1_0.01": record(0.39, 0.51),
        "idk_l1_0.01": record(0.30, 0.50),
        "grad_diff_l1_0.01": record(0.39, 0.40),
        "grad_diff_l1_0.001": record(0.40, 0.50),
    }
    write(found, tmp_path, TableSize())
    text = (tmp_path / "clear.md").read_text()
    lines = text.splitlines()
    assert "| ga | 0.50 | 0.00 | 0.00 | -1.00 | 0.90 | 0.25 | 0.32 | 0.00 | 0.00 | -13.04 |" in lines
    assert "| npo | failed |  |  |  |  |  | 0.49 | 0.51 | 0.36 | -63.15 |" in lines
    assert "| idk + L1 | 0.50 | 0.50 | 0.30 | -1.00 | 0.90 | 0.25 | .48–.50 | .49–.51 | .35–.37 |  |" in lines
    assert "| 0.001 | 0.50 | 0.50 | 0.40 | -1.00 | 0.90 | 0.25 |" in lines and "9 models, 17 s" in text
    assert all(line.count("|") == 11 + 1 for line in lines if line.startswith("| ga"))
    first, plain, l1 = findings(found, TableSize())
    assert "differ in Forget by 0.20" in first and "in Retain by 0.00" in first
    assert "1 of 2 lower Forget by more than 0.05 (ga)" in plain
    assert "1 pay with more than 0.05 of Retain (ga)" in plain
    # Retain .51, .50, .40 beside .50; Forget .39, .30, .39 beside .40
    assert "for 2 of 3 (published: all), and so does Forget for 2 of 3" in l1
    table = (tmp_path / "clear.csv").read_text().splitlines()
    assert table[0] == "model,method,l1,real,retain,forget,ks,js,exposure,failed,seconds" and len(table) == 10
    assert json.loads((tmp_path / "clear.json").read_text()) == found
    assert set(HEADS) == set(module.NUMBERS)


def test_command(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(module, "reproduce", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(module, "report", lambda out: f"{out}/report/report.html")
    for line, says in {
        f"--out {tmp_path}/a": ((*METHODS,), TableSize(), True, None, "cpu"),
        f"--out {tmp_path}/a --quick --no-l1 --methods npo,idk --base B": (
            ("npo", "idk"),
            QUICK,
            False,
            "B",
            "cpu",
        ),
        f"--out {tmp_path}/a --seed 3 --device cuda": ((*METHODS,), TableSize(seed=3), True, None, "cuda"),
    }.items():
        with pytest.raises(SystemExit) as left:
            cli.main(["reproduce", "clear", *line.split()])
        out, methods, *rest, _ = asked.pop()
        assert not left.value.code and out == f"{tmp_path}/a" and (tuple(methods), *rest) == says
    told = capsys.readouterr().out
    assert "the table: " in told and f"{tmp_path}/a/report/report.html" in told


@pytest.mark.slow
def test_a_small_run_goes_on_where_it_was_stopped(tmp_path, checkpoints, monkeypatch):
    out, base, said = tmp_path / "out", str(checkpoints["llava"]), []
    go = {"methods": ["grad_diff"], "size": SMALL, "base": base, "say": said.append}
    whole = module._do

    def stop(job, *rest):
        if job.name == "grad_diff":
            raise KeyboardInterrupt
        return whole(job, *rest)

    monkeypatch.setattr(module, "_do", stop)
    with pytest.raises(KeyboardInterrupt):
        reproduce(out, **go)
    done = {path.stem: path.read_text() for path in (out / "rows").glob("*.json")}
    assert set(done) == {"gold", "original"}

    def failing(job, *rest):
        if job.l1 == 0.01:
            return whole(job, *rest)
        return {"job": job.__dict__, "failed": "step 3: the loss is nan", "seconds": 0.1}

    monkeypatch.setattr(module, "_do", failing)
    found = reproduce(out, **go)
    assert list(found) == ["gold", "original", "grad_diff", "grad_diff_l1_0.01", "grad_diff_l1_0.1"]
    assert {path.stem: path.read_text() for path in (out / "rows").glob("*.json")}.items() >= done.items()
    assert sum("(done before)" in line for line in said) == 2
    numbers = found["grad_diff_l1_0.01"]["numbers"]
    assert numbers["clear_forget10_perturbed.clear_name_exposure"] >= 0
    assert set(module.NUMBERS) <= set(numbers) and numbers["ks"] <= 0 < numbers["js"] <= 1
    assert found["grad_diff"]["failed"] == "step 3: the loss is nan"
    text = (out / "clear.md").read_text()
    assert "| 0.1 | failed |" in text and "| grad_diff + L1 |" in text
    page = module.report(out)
    assert page == out / "report" / "report.html" and page.is_file()
    with (page.parent / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["run"] for line in lines} == {"gold", "original", "grad_diff_l1_0.01"}
    for number, (task, metric) in module.NUMBERS.items():
        told = {
            line["run"]: float(line["value"])
            for line in lines
            if (line["task"], line["part"]) == (task, "all")
            and line["metric"] == metric.removeprefix("clear_").removeprefix("name_")
        }
        assert told["grad_diff_l1_0.01"] == pytest.approx(numbers[number], rel=1e-5)
    assert {line["role"] for line in lines if line["run"] == "original"} == {"start"}
    asked = json.loads((out / "models" / "grad_diff_l1_0.01" / "run.json").read_text())["gate"]
    assert asked["passed"] is False and "rouge" in asked["reasons"][0]
    with pytest.raises(RememError, match="holds a reproduction with seed 0"):
        reproduce(out, **{**go, "size": replace(SMALL, seed=1)})
    with pytest.raises(RememError, match="is not empty and holds no reproduction"):
        reproduce(tmp_path, **go)
