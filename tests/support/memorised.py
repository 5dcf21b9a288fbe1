"""Fixtures of trainings and what stands on them: runs in this process, a model that has memorised."""

from __future__ import annotations

import json

import pytest

from unlearning.methods import METHODS
from unlearning.run import run


@pytest.fixture(scope="session")
def train_run(data_dir):
    """(output folder, method, checkpoint, *flags) → the run's record, after a run in this process."""

    def go(output, method: str, model, *flags: str, data=data_dir) -> dict:
        argv = ["--method", method, "--model_name_or_path", str(model), "--data", str(data)]
        if METHODS[method].stage == 2 and "--gate_results" not in flags:
            argv.append("--no_gate")
        run([*argv, "--output_dir", str(output), "--disable_tqdm", "true", *flags])
        return json.loads((output / "run.json").read_text())

    return go


@pytest.fixture(scope="session")
def memorised(checkpoints, train_run, tmp_path_factory):
    """A llava that has learned the 36 rows (mean NLL below 0.3 nats a token)."""
    folder = tmp_path_factory.mktemp("memorised") / "model"
    flags = "--max_steps 240 --per_device_train_batch_size 12 --learning_rate 4e-3 --lr_scheduler_type cosine"
    record = train_run(folder, "sft", checkpoints["llava"], *flags.split(), "--save_strategy", "no")
    assert record["figures"]["loss"] < 0.3, record["figures"]
    return folder
