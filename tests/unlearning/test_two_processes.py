"""Two processes do what one process does with two accumulation steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import trainers

import unlearning
from unlearning.methods import METHODS, NAMES

CONFIG = Path(unlearning.__file__).parent / "configs" / "accelerate" / "cpu2.yaml"
# 6 forget rows, 1 a micro-batch: three optimizer steps an epoch, all of them full.
FLAGS = ("--num_train_epochs", "3", "--per_device_train_batch_size", "1", "--learning_rate", "1e-3",
         "--logging_steps", "1", "--save_strategy", "no")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npo"])
def test_two_processes_equal_two_accumulation_steps(checkpoints, data_dir, train_run, tmp_path, method):
    two = tmp_path / "two"
    argv = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--main_process_port",
            "0", "-m", "unlearning.train", "--method", method, "--data", str(data_dir), "--model_name_or_path",
            str(checkpoints["llava"]), "--output_dir", str(two), "--disable_tqdm", "true", "--no_gate", *FLAGS]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((two / "run.json").read_text())
    one = train_run(
        tmp_path / "one", method, checkpoints["llava"], *FLAGS, "--gradient_accumulation_steps", "2"
    )
    assert record["processes"] == 2 and one["processes"] == 1
    assert record["steps"] == one["steps"] == 9
    first, second = load_file(two / "model.safetensors"), load_file(tmp_path / "one" / "model.safetensors")
    assert first.keys() == second.keys()
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-5
    start = load_file(checkpoints["llava"] / "model.safetensors")
    assert max((first[name] - start[name]).abs().max().item() for name in first) > 1e-3
    # Logged figures are means over the processes, not those of the first one.
    assert record["figures"]["forget_nll"] == pytest.approx(one["figures"]["forget_nll"], rel=1e-4)
    assert record["figures"]["retain_nll"] == pytest.approx(one["figures"]["retain_nll"], rel=1e-4)
    if method == "npo":
        tables = [
            json.loads((folder / "reference.json").read_text())["nll"] for folder in (two, tmp_path / "one")
        ]
        assert tables[0] == pytest.approx(tables[1], rel=1e-6) and len(tables[0]) == 6


@pytest.mark.slow
def test_bad_input_ends_both_processes_with_one_message(checkpoints, data_dir, tmp_path):
    argv = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--main_process_port",
            "0", "-m", "unlearning.train", "--method", "npo", "--data", str(data_dir), "--forget", "forget9",
            "--model_name_or_path", str(checkpoints["llava"]), "--output_dir", str(tmp_path / "run")]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.count("unlearning: error: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_equal_two_accumulation_steps_for_every_method(checkpoints, data_dir, tmp_path):
    """One launch trains them all, every other one with LoRA: dual variables, masks, task vectors, references."""
    names = [name for name in NAMES if METHODS[name].trains and METHODS[name].rows_from == "pairs"]
    data = [str(data_dir), str(checkpoints["llava"])]
    flags = [
        "--max_steps",
        "2",
        "--per_device_train_batch_size",
        "1",
        "--learning_rate",
        "1e-3",
    ]
    two, one = tmp_path / "two", tmp_path / "one"
    argv = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--main_process_port", "0",
            trainers.__file__, *data, str(two), ",".join(names), *flags]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    trainers.main(*data, str(one), ",".join(names), *flags, "--gradient_accumulation_steps", "2")
    far, adapters = {}, 0
    for name in names:
        first, second = (torch.load(folder / f"{name}.pt") for folder in (two, one))
        assert (first["processes"], second["processes"]) == (2, 1)
        weights = first["weights"], second["weights"]
        assert weights[0].keys() == weights[1].keys()
        adapters += any("lora_" in key for key in weights[0])
        far[name] = max((weights[0][key] - weights[1][key]).abs().max().item() for key in weights[0])
    assert max(far.values()) < 1e-4, far
    assert 0 < adapters < len(names)
