"""FSDP2 on two CPU processes does what one process does; what it cannot do is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
import torch
from safetensors.torch import load_file
from support import trainers
from support.scripted import run, value

import unlearning
from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF
from unlearning import sharding

CONFIG = Path(unlearning.__file__).parent / "configs" / "accelerate" / "cpu2_fsdp2.yaml"
FLAGS = ("--per_device_train_batch_size", "1", "--learning_rate", "1e-3")
# Every other one trains an adapter (see `support.trainers`).
METHODS = ["npo", "dpo", "kl", "task_vector", "rmu", "llmu", "pdu"]


def launched(*arguments):
    argv = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    return subprocess.run(
        [*argv, "--main_process_port", "0", *map(str, arguments)], capture_output=True, text=True
    )


def command(method, data_dir, model, output, *flags):
    return ("-m", "unlearning.train", "--method", method, "--data", data_dir, "--model_name_or_path", model,
            "--output_dir", output, "--disable_tqdm", "true", "--no_gate", *FLAGS, *flags)  # fmt: skip


@pytest.mark.slow
def test_sharded_training_is_that_of_one_process(checkpoints, data_dir, tmp_path):
    data = [str(data_dir), str(checkpoints["llava"])]
    two, one = tmp_path / "two", tmp_path / "one"
    flags = ["--max_steps", "2", *FLAGS]
    done = launched(trainers.__file__, *data, two, ",".join(METHODS), *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    trainers.main(*data, str(one), ",".join(METHODS), *flags, "--gradient_accumulation_steps", "2")
    far = {}
    for name in METHODS:
        first, second = (torch.load(folder / f"{name}.pt") for folder in (two, one))
        assert (first["processes"], second["processes"]) == (2, 1)
        weights = first["weights"], second["weights"]
        assert weights[0].keys() == weights[1].keys()
        far[name] = max((weights[0][key] - weights[1][key]).abs().max().item() for key in weights[0])
    assert max(far.values()) < 1e-4, far


@pytest.mark.slow
def test_a_sharded_run_saves_what_the_harness_scores_and_resumes_to_the_same_bits(
    checkpoints, data_dir, train_run, tmp_path, monkeypatch
):
    steps = ("--max_steps", "3", "--save_steps", "1", "--save_total_limit", "5", "--logging_steps", "1",
             "--eval_strategy", "steps", "--eval_steps", "3")  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = launched(*command("npo", data_dir, checkpoints["llava"], whole, *steps))
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((whole / "run.json").read_text())
    assert record["processes"] == 2 and record["status"] == "finished"
    alone = train_run(tmp_path / "alone", "npo", checkpoints["llava"], *FLAGS, *steps, "--eval_em", "false",
                      "--gradient_accumulation_steps", "2")  # fmt: skip
    for name in ("loss", "forget_loss", "retain_nll", "eval_forget_nll", "eval_retain_nll"):
        assert record["figures"][name] == pytest.approx(alone["figures"][name], rel=1e-5), name
    tables = [json.loads((folder / "reference.json").read_text()) for folder in (whole, tmp_path / "alone")]
    assert tables[0]["nll"] == pytest.approx(tables[1]["nll"], rel=1e-6) and len(tables[0]["nll"]) == 6

    # Without the table of N_ref: it is made of the model before unlearning, before the checkpoint is loaded.
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoint-3")
    for name in ("reference.json", "model.safetensors"):
        (cut / name).unlink()
    (cut / "run.json").write_text(json.dumps({**record, "status": "running"}))
    again = ("--resume_from_checkpoint", "true")
    done = launched(*command("npo", data_dir, checkpoints["llava"], cut, *steps, *again))
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((cut / "reference.json").read_text()) == tables[0]

    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    monkeypatch.setenv("REMEM_METRICS", "em")
    results = run(RememHF(str(cut), device="cpu"), "remem_forget1", limit=2)
    assert value(results, "remem_forget1", "remem_failed_rate") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "flags", "why"),
    [
        ("mmunlearner", (), "mmunlearner needs whole weights"),
        ("npo", ("--eval_strategy", "steps", "--eval_steps", "1", "--stop_on", "forget_em=.1"), "forget_nll"),
    ],
)
def test_what_sharded_weights_cannot_do_is_refused_in_one_line(
    checkpoints, data_dir, tmp_path, method, flags, why
):
    done = launched(*command(method, data_dir, checkpoints["llava"], tmp_path / "run", *flags))
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("unlearning: error: ")]
    assert len(told) == 1 and why in told[0]
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed, which is not installed"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version: 2"),
        (
            {
                "ACCELERATE_USE_FSDP": "true",
                "FSDP_VERSION": "2",
                "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
            },
            "FULL_STATE_DICT",
        ),
    ],
)
def test_launches_that_cannot_run_are_refused(monkeypatch, environment, why):
    for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "FSDP_VERSION", "FSDP_STATE_DICT_TYPE"):
        monkeypatch.delenv(name, raising=False)
    sharding.check_launch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, given in environment.items():
        monkeypatch.setenv(name, given)
    with pytest.raises(RememError, match=why):
        sharding.check_launch()
