"""Fixtures of trainings and what stands on them: runs in this process, a model that has memorised."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from filelock import FileLock

from support.trainers import tables
from unlearning.methods import METHODS
from unlearning.run import run


@pytest.fixture(scope="session")
def train_run(data_dir, training_seed):
    """(output folder, method, checkpoint, *flags) → the run's record, after a run in this process."""

    def known(*args, **kwargs):
        return replace(tables(*args, **kwargs))

    def go(output, method: str, model, *flags: str, data=data_dir) -> dict:
        argv = ["--method", method, "--model_name_or_path", str(model), "--data", str(data)]
        if METHODS[method].stage == 2 and "--gate_results" not in flags:
            argv.append("--no_gate")
        argv += ["--output_dir", str(output), "--disable_tqdm", "true", "--seed", training_seed, *flags]
        with pytest.MonkeyPatch.context() as patch:
            if data == data_dir:
                patch.setattr("unlearning.data.load_rows", known)
            run(argv)
        return json.loads((output / "run.json").read_text())

    return go


@pytest.fixture(scope="session")
def memorised(checkpoints, train_run, tmp_path_factory):
    """A llava that has learned the 36 rows (loss of the last step below 0.3 nats a token), made once for all workers."""
    base = tmp_path_factory.getbasetemp()
    # (Each worker of pytest-xdist has a folder of its own in one of them all.)
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "memorised"
    flags = "--max_steps 240 --per_device_train_batch_size 12 --learning_rate 4e-3 --lr_scheduler_type cosine"
    with FileLock(f"{folder}.lock"):
        if not (folder / "README.md").is_file():  # written last
            record = train_run(folder, "sft", checkpoints["llava"], *flags.split(), "--save_strategy", "no")
            assert record["figures"]["loss"] < 0.3, record["figures"]
    return folder
