"""A run that is killed and resumed ends where the uninterrupted run ends, to the last bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from support.rows import people_splits, write_parquet
from support.slow import others_slow

from remem_tasks import checksums
from remem_tasks.errors import RememError, Terminated
from unlearning import weights as checkpoint
from unlearning.record import other_settings
from unlearning.trainer import UnlearnTrainer

# 6 forget rows in batches of 2: three steps an epoch, so checkpoint-4 lies inside an epoch.
FLAGS = ("--max_steps", "8", "--per_device_train_batch_size", "2", "--learning_rate", "2e-3", "--save_steps", "4",
         "--save_total_limit", "5", "--logging_steps", "1")  # fmt: skip
RESUME = ("--resume_from_checkpoint", "true")


def weights(folder):
    name = "adapter_model.safetensors" if (folder / "adapter_config.json").exists() else "model.safetensors"
    return load_file(folder / name)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def killed_after(step: int, whole, folder):
    """The folder as a kill after that checkpoint would have left it."""
    shutil.copytree(whole, folder)
    for path in folder.iterdir():
        if path.name.startswith("checkpoint-"):
            if int(path.name.split("-")[1]) > step:
                shutil.rmtree(path)
        elif path.name not in ("run.json", "reference.json"):
            path.unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    return folder


ADAPTER = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0.1")
CUT = [
    (arch, peft, method)
    for arch in ("llava", "qwen2_5_vl")
    for peft in ((), ADAPTER)
    for method in ("npo", "idk")
]


@pytest.mark.parametrize(
    ("arch", "peft", "method"),
    others_slow(CUT, ("llava", (), "npo"), ("qwen2_5_vl", ADAPTER, "npo")),
    ids=[f"{arch}-{'lora' if peft else 'full'}-{method}" for arch, peft, method in CUT],
)
def test_resuming_in_mid_epoch_is_exact(checkpoints, train_run, tmp_path, arch, peft, method):
    whole = tmp_path / "whole"
    through = train_run(whole, method, checkpoints[arch], *FLAGS, *peft)
    cut = killed_after(4, whole, tmp_path / "cut")
    at_four = weights(cut / "checkpoint-4")
    resumed = train_run(cut, method, checkpoints[arch], *FLAGS, *peft, *RESUME)
    assert equal(weights(cut), weights(whole))
    assert not equal(weights(cut), at_four), "steps were taken after the checkpoint"
    assert resumed["steps"] == through["steps"] == 8 and resumed["status"] == "finished"
    same = ("loss", "forget_loss", "retain_loss", "retain_nll")
    assert all(resumed["figures"][name] == through["figures"][name] for name in same)


def test_a_half_written_checkpoint_is_passed_over(checkpoints, train_run, tmp_path):
    whole = tmp_path / "whole"
    train_run(whole, "grad_diff", checkpoints["llava"], *FLAGS)
    cut = killed_after(8, whole, tmp_path / "cut")
    (cut / "checkpoint-8" / "trainer_state.json").write_text('{"epoch": 1')
    (cut / "checkpoint-8" / "model.safetensors").write_bytes(b"half")
    assert checkpoint.last_checkpoint(cut) == str(cut / "checkpoint-4")
    train_run(cut, "grad_diff", checkpoints["llava"], *FLAGS, *RESUME)
    assert equal(weights(cut), weights(whole))


def test_a_run_killed_before_its_first_checkpoint_starts_again(checkpoints, train_run, tmp_path):
    whole = tmp_path / "whole"
    train_run(whole, "npo", checkpoints["llava"], *FLAGS)
    cut = killed_after(0, whole, tmp_path / "cut")
    assert not list(cut.glob("checkpoint-*"))
    train_run(cut, "npo", checkpoints["llava"], *FLAGS, *RESUME)
    assert equal(weights(cut), weights(whole))


def test_a_run_killed_in_its_last_save_only_saves_again(checkpoints, train_run, tmp_path):
    whole = tmp_path / "whole"
    train_run(whole, "npo", checkpoints["llava"], *FLAGS)
    cut = killed_after(8, whole, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes(b"half")
    train_run(cut, "npo", checkpoints["llava"], *FLAGS, *RESUME)
    assert equal(weights(cut), weights(whole))


def test_another_run_is_not_resumed(checkpoints, train_run, tmp_path):
    train_run(tmp_path / "run", "npo", checkpoints["llava"], *FLAGS)
    for method, flags, said in (
        ("grad_diff", (), "method = npo, not grad_diff"),
        ("npo", ("--forget", "forget2"), "data|forget"),
        ("npo", ("--use_peft",), "use_peft"),
        ("npo", ("--seed", "7"), "seed = 42, not 7"),
    ):
        with pytest.raises(RememError, match=said):
            train_run(tmp_path / "run", method, checkpoints["llava"], *FLAGS, *flags, *RESUME)


def other_pictures(data, start):
    """The same texts; of one row another picture."""
    splits = people_splits()
    splits["finetune"][2]["image"] = splits["test"][0]["image"]
    write_parquet(data, splits)


def other_template(data, start):
    file = start / "chat_template.jinja"
    file.write_text(file.read_text().replace(".upper()", ".title()"))


def other_scale(data, start):
    [file] = [one for one in start.glob("*processor_config.json") if "image_mean" in one.read_text()]
    file.write_text(file.read_text().replace('"resample": 3', '"resample": 0'))


@pytest.mark.parametrize(
    ("change", "said"),
    [(other_pictures, "pictures = "), (other_template, "processor = "), (other_scale, "processor = ")],
)
def test_a_run_is_not_resumed_with_other_pictures_or_prompts(checkpoints, train_run, tmp_path, change, said):
    """Weights and texts are the same, so nothing else would tell."""
    data, start = tmp_path / "data", tmp_path / "start"
    write_parquet(data, people_splits())
    shutil.copytree(checkpoints["llava"], start)
    flags = (*FLAGS, "--max_steps", "4")
    train_run(tmp_path / "run", "sft", start, *flags, data=data)
    before = weights(tmp_path / "run")
    change(data, start)
    with pytest.raises(RememError, match=f"holds a run with {said}.*it cannot be resumed"):
        train_run(tmp_path / "run", "sft", start, *flags, *RESUME, data=data)
    assert equal(weights(tmp_path / "run"), before)


def test_other_releases_do_not_go_on_unless_told():
    record = {"versions": {"torch": "2.0", "python": "3.10", "datasets": "1"}}
    now = {"versions": {"torch": "2.1", "python": "3.11", "datasets": "2"}}
    assert other_settings(record, now) == ["torch 2.0, not 2.1"]
    assert other_settings({}, now) == other_settings(record, record) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    others_slow(
        [
            (("--learning_rate", "1e-3"), "learning_rate 0.002, not 0.001"),
            (("--per_device_train_batch_size", "3"), "per_device_train_batch_size 2, not 3"),
            (("--max_steps", "9"), "max_steps 8, not 9"),
            (("--gamma", "2"), "gamma 1.0, not 2.0"),
            (("--npo_beta", "0.5"), r"options {'npo_beta': 0.1}, not {'npo_beta': 0.5}"),
        ],
        (("--gamma", "2"), "gamma 1.0, not 2.0"),
    ),
)
def test_other_settings_do_not_go_on_unless_told(checkpoints, train_run, tmp_path, flags, said):
    folder = tmp_path / "run"
    train_run(folder, "npo", checkpoints["llava"], *FLAGS)
    killed = killed_after(4, folder, tmp_path / "cut")
    with pytest.raises(RememError, match=f"holds a run with {said}.*--resume_without_state"):
        train_run(killed, "npo", checkpoints["llava"], *FLAGS, *flags, *RESUME)
    assert json.loads((killed / "run.json").read_text())["status"] == "running"
    record = train_run(
        killed, "npo", checkpoints["llava"], *FLAGS, *flags, *RESUME, "--resume_without_state", "true"
    )
    assert "resumed with other settings" in record["notes"]["resumed"]
    assert record["resumed_from"]["checkpoint"].endswith("checkpoint-4")


def test_a_run_whose_start_was_trained_again_is_not_resumed(checkpoints, train_run, tmp_path):
    shutil.copytree(checkpoints["llava"], tmp_path / "start")
    train_run(tmp_path / "run", "npo", tmp_path / "start", *FLAGS)
    train_run(tmp_path / "other", "sft", checkpoints["llava"], *FLAGS)
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "start" / "model.safetensors")
    with pytest.raises(RememError, match="weights"):
        train_run(tmp_path / "run", "npo", tmp_path / "start", *FLAGS, *RESUME)


def test_a_finished_run_without_checkpoints_is_left_alone(checkpoints, train_run, tmp_path):
    train_run(tmp_path / "run", "sft", checkpoints["llava"], *FLAGS, "--save_strategy", "no")
    before = weights(tmp_path / "run")
    with pytest.raises(RememError, match="finished"):
        train_run(tmp_path / "run", "sft", checkpoints["llava"], *FLAGS, *RESUME)
    assert equal(weights(tmp_path / "run"), before)


def test_the_plain_loader_of_the_base_class_would_not_do(checkpoints, make_trainer, tmp_path):
    """Why `_load_from_checkpoint` is ours: saved names are not the names in memory (transformers 43701)."""
    trainer = make_trainer("sft", "llava")
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.5)
    trainer.model.save_pretrained(tmp_path / "saved")
    fresh = make_trainer("sft", "llava").model
    checkpoint.load_weights(fresh, tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), trainer.model.parameters()))
    with pytest.raises(RememError):
        checkpoint.load_weights(fresh, checkpoints["qwen2_5_vl"])


def test_the_best_checkpoint_is_loaded_at_the_end(checkpoints, train_run, tmp_path):
    """Gradient ascent gets worse on the retain rows with every step: the first checkpoint is the best."""
    train_run(
        tmp_path / "run", "ga", checkpoints["llava"], "--max_steps", "4", "--learning_rate", "1e-2",
        "--save_steps", "2", "--eval_strategy", "steps", "--eval_steps", "2", "--load_best_model_at_end", "true",
        "--metric_for_best_model", "eval_retain_loss", "--save_total_limit", "3",
    )  # fmt: skip
    run = tmp_path / "run"
    assert equal(weights(run), weights(run / "checkpoint-2"))
    assert not equal(weights(run), weights(run / "checkpoint-4"))


@pytest.mark.slow
@pytest.mark.parametrize("peft", [(), ("--use_peft", "--lora_r", "4")], ids=["full", "lora"])
@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_kill_minus_nine_and_resume(checkpoints, data_dir, train_run, tmp_path, arch, peft):
    """A process that is killed at any step, and then this one, end with the bits of this one alone."""
    flags = ("--max_steps", "40", "--per_device_train_batch_size", "2", "--learning_rate", "5e-4", "--save_steps", "3",
             "--logging_steps", "1", *peft)  # fmt: skip
    train_run(tmp_path / "whole", "npo", checkpoints[arch], *flags)
    cut = tmp_path / "cut"
    argv = [sys.executable, "-m", "unlearning.train", "--method", "npo", "--data", str(data_dir), "--no_gate"]
    argv += [
        "--model_name_or_path",
        str(checkpoints[arch]),
        "--output_dir",
        str(cut),
        "--disable_tqdm",
        "true",
        *flags,
    ]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not list(cut.glob("checkpoint-*/checksums.json")) and time.time() < deadline:  # a whole one
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads((cut / "run.json").read_text())["status"] == "running", "killed before the end"
    assert checkpoint.last_checkpoint(cut), "killed after a checkpoint"
    train_run(cut, "npo", checkpoints[arch], *flags, *RESUME)
    assert equal(weights(cut), weights(tmp_path / "whole"))


def test_a_checkpoint_that_lost_its_state_is_refused_unless_told(checkpoints, train_run, tmp_path):
    train_run(tmp_path / "whole", "npo", checkpoints["llava"], *FLAGS)
    cut = killed_after(4, tmp_path / "whole", tmp_path / "cut")
    (cut / "checkpoint-4" / "optimizer.pt").unlink()
    with pytest.raises(RememError, match=r"has lost optimizer\.pt: .*--resume_without_state true"):
        train_run(cut, "npo", checkpoints["llava"], *FLAGS, *RESUME)
    record = train_run(cut, "npo", checkpoints["llava"], *FLAGS, *RESUME, "--resume_without_state", "true")
    assert record["resumed_from"] == {"checkpoint": str(cut / "checkpoint-4"), "lost": ["optimizer.pt"]}
    assert not equal(weights(cut), weights(tmp_path / "whole"))


@pytest.mark.parametrize(("error", "said"), [(KeyboardInterrupt, "interrupted"), (Terminated, "terminated")])
def test_the_record_says_that_a_run_was_interrupted(
    checkpoints, train_run, tmp_path, monkeypatch, error, said
):
    def stops(self, *arguments, **options):
        if self.state.global_step == 5:
            raise error
        return step(self, *arguments, **options)

    step = UnlearnTrainer.training_step
    monkeypatch.setattr(UnlearnTrainer, "training_step", stops)
    with pytest.raises(error):
        train_run(tmp_path / "run", "npo", checkpoints["llava"], *FLAGS)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["stopped"]) == ("interrupted", said)
    assert record["last_checkpoint"] == str(tmp_path / "run" / "checkpoint-4")


def test_a_rate_that_is_given_to_a_resumed_run_is_the_one_it_has(checkpoints, train_run, tmp_path):
    """Optimizer and scheduler bring the rate they were saved with; linear decay: an eighth of it is left at step 8."""
    whole = train_run(tmp_path / "whole", "npo", checkpoints["llava"], *FLAGS)
    killed = killed_after(4, tmp_path / "whole", tmp_path / "cut")
    flags = (
        *FLAGS,
        "--learning_rate",
        "1e-3",
        "--weight_decay",
        "0.5",
        *RESUME,
        "--resume_without_state",
        "true",
    )
    record = train_run(killed, "npo", checkpoints["llava"], *flags)
    assert whole["figures"]["learning_rate"] == pytest.approx(2e-3 / 8)
    assert record["figures"]["learning_rate"] == pytest.approx(1e-3 / 8)
    saved = torch.load(killed / "checkpoint-8" / "optimizer.pt", weights_only=True)
    assert max(group["weight_decay"] for group in saved["param_groups"]) == 0.5


def test_older_checkpoints_go_when_the_new_one_has_its_checksums(
    checkpoints, train_run, tmp_path, monkeypatch
):
    """A kill while they are made leaves the checkpoint before, from which the run goes on."""
    made = checksums.write

    def dies(folder, identity=None):
        if str(folder).endswith("checkpoint-8"):
            raise Terminated
        made(folder, identity)

    flags = [flag if flag != "5" else "1" for flag in FLAGS]
    assert flags[flags.index("--save_total_limit") + 1] == "1"
    train_run(tmp_path / "whole", "npo", checkpoints["llava"], *flags)
    monkeypatch.setattr(checksums, "write", dies)
    with pytest.raises(Terminated):
        train_run(tmp_path / "cut", "npo", checkpoints["llava"], *flags)
    monkeypatch.undo()
    assert checkpoint.last_checkpoint(tmp_path / "cut") == str(tmp_path / "cut" / "checkpoint-4")
    train_run(tmp_path / "cut", "npo", checkpoints["llava"], *flags, *RESUME)
    assert equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert [path.name for path in (tmp_path / "cut").glob("checkpoint-*")] == ["checkpoint-8"]


def test_a_checkpoint_of_an_older_version_is_gone_on_from_when_told(checkpoints, train_run, tmp_path):
    train_run(tmp_path / "whole", "npo", checkpoints["llava"], *FLAGS)
    cut = killed_after(4, tmp_path / "whole", tmp_path / "cut")
    (cut / "checkpoint-4" / checksums.FILE).unlink()
    with pytest.raises(RememError, match=r"has lost checksums\.json"):
        train_run(cut, "npo", checkpoints["llava"], *FLAGS, *RESUME)
    train_run(cut, "npo", checkpoints["llava"], *FLAGS, *RESUME, "--resume_without_state", "true")
    assert equal(weights(cut), weights(tmp_path / "whole"))
