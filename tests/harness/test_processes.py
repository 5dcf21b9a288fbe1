"""The commands as a user calls them, each in a process of its own (a start takes a quarter of a minute)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.engine.prompts import text_tokens

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def call(command, data, **environment):
    """(exit status, stdout and stderr) of a command, run where no project file can be seen."""
    variables = {**os.environ, "REMEM_DATA": str(data), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [str(part) for part in command], env=variables, cwd="/", capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def results_under(folder):
    (file,) = Path(folder).rglob("*_results.json")
    return json.loads(file.read_text())["results"]


def replies_under(folder, task):
    (file,) = Path(folder).rglob(f"*_samples_{task}.jsonl")
    samples = sorted(map(json.loads, file.read_text().splitlines()), key=lambda sample: sample["doc_id"])
    said = [sample["filtered_resps"] for sample in samples]
    return [(first if isinstance(first, str) else first[0]).strip() for first in said]


def arguments(checkpoint, out, model="remem_hf", more="device=cpu"):
    return [
        *("--model", model, "--model_args", f"pretrained={checkpoint},{more}"),
        *("--tasks", "remem_forget1,remem_retain", "--gen_kwargs", "max_new_tokens=6"),
        *("--output_path", out, "--log_samples"),
    ]


def without_placeholders(checkpoint, folder):
    """A copy that says no placeholder of a picture; at random weights upstream's classes do, and hide it."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    processor = AutoProcessor.from_pretrained(checkpoint)
    banned, _ = text_tokens(model, processor, model.config.get_text_config().vocab_size)
    head = model.lm_head.weight.data
    head[banned] = 0.5 * head[~banned][0]  # less than a token that is text, or below 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("command", [["lmms_eval"], ["lmms-eval"], [sys.executable, "-m", "lmms_eval"]])
def test_every_command_runs_our_task_on_our_model(data_dir, checkpoints, tmp_path, command):
    command = [BIN / command[0], *command[1:]]
    status, said = call([*command, *arguments(checkpoints["llava"], tmp_path)], data_dir)
    assert status == 0, said
    assert results_under(tmp_path)["remem_retain"]["remem_rows,none"] == 12


@pytest.mark.parametrize("command", [["lmms_eval"], ["lmms-eval"], [sys.executable, "-m", "lmms_eval"]])
def test_every_command_says_in_one_line_what_is_wrong(checkpoints, tmp_path, command):
    command = [BIN / command[0], *command[1:]]
    status, said = call([*command, *arguments(checkpoints["llava"], tmp_path / "out")], "/no/where")
    assert status == 1
    assert "error: data '/no/where' is not a folder here" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_two_ranks_stop_when_one_fails(checkpoints, tmp_path):
    launcher = [BIN / "torchrun", "--standalone", "--nproc_per_node=2", "-m", "lmms_eval"]
    status, said = call([*launcher, *arguments(checkpoints["llava"], tmp_path / "bad")], "/no/where")
    assert status != 0 and "'/no/where' is not a folder here" in said


@pytest.mark.parametrize(("arch", "model"), [("llava", "llava_hf"), ("qwen2_5_vl", "qwen2_5_vl")])
def test_upstreams_own_backends_give_the_same_replies(data_dir, checkpoints, tmp_path, arch, model):
    """In float32 both backends are greedy on the same prompt; lmms-eval's classes import `decord`."""
    pytest.importorskip("decord")
    checkpoints = {arch: without_placeholders(checkpoints[arch], tmp_path / "checkpoint")}
    status, said = call(
        [
            BIN / "lmms-eval",
            *arguments(checkpoints[arch], tmp_path / "theirs", model, "device_map=cpu,device=cpu"),
        ],
        data_dir,
    )
    assert status == 0, said
    assert results_under(tmp_path / "theirs")["remem_retain"]["remem_failed_rate,none"] == 0
    if arch == "llava":  # the other class loads in bfloat16 and puts a system prompt of its own
        ours = [BIN / "lmms_eval", *arguments(checkpoints[arch], tmp_path / "ours"), "--metrics", "em"]
        assert call(ours, data_dir)[0] == 0
        replies = [replies_under(tmp_path / who, "remem_retain") for who in ("theirs", "ours")]
        assert replies[0] == replies[1] and len(replies[0]) == 12
