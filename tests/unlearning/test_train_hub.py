"""`--push_to_hub` and `--report_to`, as users of TRL know them."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from support.hub_mirror import TOKEN, HubMirror

from unlearning import run

QUICK = [
    "--max_steps",
    "2",
    "--per_device_train_batch_size",
    "2",
    "--save_strategy",
    "no",
    "--logging_steps",
    "1",
]


def train(environment, checkpoints, data_dir, out, *flags):
    argv = [sys.executable, "-m", "unlearning.train", "--method", "ga", "--data", str(data_dir), "--no_gate"]
    argv += ["--model_name_or_path", str(checkpoints["llava"]), "--output_dir", str(out), *QUICK, *flags]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_pushed_run_is_the_run(checkpoints, data_dir, tmp_path):
    (tmp_path / "repos").mkdir()
    with HubMirror(tmp_path / "repos") as mirror:
        environment = {**mirror.environment(tmp_path / "cache"), "HF_TOKEN": TOKEN}
        push = ("--push_to_hub", "true", "--hub_model_id", "tester/forgot")
        done = train(environment, checkpoints, data_dir, tmp_path / "run", *push)
        assert done.returncode == 0, done.stderr[-3000:]
        repo = tmp_path / "repos" / "tester" / "forgot"
        ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", repo))
        assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
        assert (repo / "processor_config.json").is_file() or (repo / "preprocessor_config.json").is_file()
        assert json.loads((repo / "run.json").read_text())["status"] == "finished"
        said = (repo / "README.md").read_text()
        assert said.startswith("---\nlibrary_name: transformers\n") and "- ga\n" in said
        assert "| to forget | `forget1` |" in said and "not scored (`--no_gate`)" in said
        assert str(tmp_path) not in said  # no path of this machine
        # What was pushed is a checkpoint by its id.
        loads = "from remem_tasks.checkpoints import load_model; print(type(load_model('tester/forgot')).__name__)"
        done = subprocess.run([sys.executable, "-c", loads], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "LlavaForConditionalGeneration", done.stderr[-2000:]


@pytest.mark.slow
def test_a_push_that_is_refused_says_why(checkpoints, data_dir, tmp_path):
    (tmp_path / "repos").mkdir()
    with HubMirror(tmp_path / "repos") as mirror:
        environment = {**mirror.environment(tmp_path / "cache"), "HF_TOKEN": TOKEN}
        push = ("--push_to_hub", "true", "--hub_model_id", "somebody/else")
        done = train(environment, checkpoints, data_dir, tmp_path / "run", *push)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("unlearning: error: ")], done.stderr[
        -2000:
    ]


def test_report_to_gets_the_figures(train_run, checkpoints, tmp_path, monkeypatch):
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    logged = []

    class Watcher(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged.append(logs)

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Watcher)
    monkeypatch.setitem(run.TRACKERS, "tensorboard", ("json",))  # as if it were installed
    train_run(tmp_path / "run", "grad_diff", checkpoints["llava"], *QUICK, "--report_to", "tensorboard")
    assert {"loss", "forget_nll", "retain_nll", "grad_norm"} <= set(logged[0])
