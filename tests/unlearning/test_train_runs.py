"""Whole runs in this process: what is saved, what is recorded, what is refused."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.slow import one_in, others_slow
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.checkpoints import base_of_adapter
from remem_tasks.errors import RememError
from unlearning import weights as checkpoint

QUICK = ("--max_steps", "2", "--per_device_train_batch_size", "3", "--learning_rate", "1e-3")
ARCHS = ("llava", "qwen2_5_vl")


@pytest.fixture(scope="module", params=[(arch, peft) for arch in ARCHS for peft in (False, True)])
def finished(request, checkpoints, train_run, tmp_path_factory):
    """(arch, is adapter, output folder, record) of a short npo run."""
    arch, peft = request.param
    folder = tmp_path_factory.mktemp("finished") / "run"
    flags = ("--use_peft", "--lora_r", "4") if peft else ()
    return arch, peft, folder, train_run(folder, "npo", checkpoints[arch], *QUICK, *flags)


def sample(processor, row_picture):
    message = {
        "role": "user",
        "content": [{"type": "image", "image": row_picture}, {"type": "text", "text": "Who?"}],
    }
    return processor.apply_chat_template(
        [message], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )


def test_a_saved_model_loads_as_the_harness_loads_it(finished, checkpoints):
    from peft import PeftModel
    from PIL import Image

    arch, peft, folder, _ = finished
    processor = AutoProcessor.from_pretrained(folder)
    x = sample(processor, Image.new("RGB", (56, 56), "crimson"))
    loaded = AutoModelForImageTextToText.from_pretrained(folder).eval()
    start = AutoModelForImageTextToText.from_pretrained(checkpoints[arch]).eval()
    with torch.no_grad():
        found = loaded(**x).logits
        assert (found - start(**x).logits).abs().max() > 1e-3, "training changed the model"
        if peft:
            adapted = PeftModel.from_pretrained(start, folder).eval()
            assert torch.allclose(found, adapted(**x).logits, atol=1e-5)
        else:
            again = checkpoint.load_model(str(folder)).eval()
            assert torch.equal(found, again(**x).logits)
    assert loaded.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    assert processor.chat_template == AutoProcessor.from_pretrained(checkpoints[arch]).chat_template
    assert (folder / "adapter_config.json").exists() == peft
    assert (folder / "model.safetensors").exists() != peft


def test_the_record_says_what_made_the_run(finished):
    _, peft, folder, record = finished
    assert record == json.loads((folder / "run.json").read_text())
    assert (record["status"], record["stopped"], record["steps"]) == ("finished", "max_steps reached", 2)
    assert record["method"] == "npo" and record["options"] == {"npo_beta": 0.1}
    assert record["rows"] == {"train": 6, "retain": 30} and record["processes"] == 1
    assert (record["trained"] == "adapter") == peft
    assert 0 < record["parameters"]["trainable"] <= record["parameters"]["all"]
    assert {"forget_nll", "retain_nll", "forget_loss", "retain_loss"} <= set(record["figures"])
    assert len(record["data"]["fingerprint"]) == 16 and record["versions"]["trl"]
    assert not list(folder.glob("*.tmp"))


def test_an_adapter_names_its_base_by_the_way_there(finished, checkpoints, tmp_path, monkeypatch):
    """No folder of this machine stands in it, and it is found from anywhere; moved alone, it says what it misses."""
    arch, peft, folder, _ = finished
    if not peft:
        return
    named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert not os.path.isabs(named) and Path(named).resolve() == checkpoints[arch].resolve()
    assert base_of_adapter(str(folder)) == named
    monkeypatch.chdir(tmp_path)
    assert base_of_adapter(str(folder)) == str(checkpoints[arch]), "by the run's record"
    alone = tmp_path / "runs" / "alone"
    shutil.copytree(folder, alone)
    (alone / "run.json").unlink()
    (alone / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "runs/base/it"}))
    (tmp_path / "runs" / "base" / "it").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert base_of_adapter(str(alone)) == str(tmp_path.resolve() / "runs" / "base" / "it"), (
        "below a folder above"
    )
    (alone / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../../gone/it"}))
    with pytest.raises(RememError, match="which is not there; give it: pretrained=<base>"):
        base_of_adapter(str(alone))


def test_an_adapter_as_starting_point_is_merged_and_no_second_one_is_put_on_it(
    checkpoints, train_run, tmp_path
):
    train_run(tmp_path / "a", "sft", checkpoints["llava"], *QUICK, "--use_peft")
    with pytest.raises(RememError, match="is an adapter"):
        train_run(tmp_path / "b", "npo", tmp_path / "a", *QUICK, "--use_peft")
    train_run(tmp_path / "c", "retain_ft", tmp_path / "a", *QUICK[2:], "--max_steps", "1", "--gamma", "0",
              "--alpha", "0")  # fmt: skip
    merged = checkpoint.load_model(str(tmp_path / "a")).state_dict()
    saved = checkpoint.load_model(str(tmp_path / "c")).state_dict()
    assert all(torch.equal(merged[name], saved[name]) for name in merged), "α = 0 moves nothing"
    assert not (tmp_path / "c" / "adapter_config.json").exists()


def test_parts_left_out_stay_as_they_were(checkpoints, train_run, tmp_path):
    record = train_run(
        tmp_path / "run", "sft", checkpoints["llava"], *QUICK, "--train", "language_model,projector"
    )
    assert record["trained"]["vision_tower"] == 0 and record["trained"]["projector"] > 0
    before = checkpoint.load_model(str(checkpoints["llava"])).state_dict()
    after = checkpoint.load_model(str(tmp_path / "run")).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any("vision_tower" in name for name in moved)
    assert any("projector" in name for name in moved)


def test_an_earlier_run_is_kept_unless_it_may_be_overwritten(checkpoints, train_run, tmp_path):
    out = tmp_path / "run"
    train_run(out, "sft", checkpoints["llava"], *QUICK, "--use_peft")
    with pytest.raises(RememError, match="is not empty"):
        train_run(out, "sft", checkpoints["llava"], *QUICK)
    assert (out / "adapter_config.json").exists()
    train_run(out, "sft", checkpoints["llava"], *QUICK, "--overwrite_output_dir", "true")
    assert (out / "model.safetensors").exists() and not (out / "adapter_config.json").exists()


def test_a_folder_that_no_run_made_is_never_overwritten(checkpoints, train_run, tmp_path):
    (tmp_path / "thesis.tex").write_text("five years")
    for flag in ("--overwrite_output_dir", "--resume_from_checkpoint"):
        with pytest.raises(RememError, match="run.json"):
            train_run(tmp_path, "sft", checkpoints["llava"], *QUICK, flag, "true")
    assert (tmp_path / "thesis.tex").read_text() == "five years"


def test_evaluation_during_a_run_is_recorded(checkpoints, train_run, tmp_path):
    record = train_run(
        tmp_path / "run",
        "grad_diff",
        checkpoints["llava"],
        *QUICK,
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "1",
    )
    assert {"eval_forget_loss", "eval_retain_loss"} <= set(record["figures"])


@pytest.fixture
def without_processor(checkpoints, tmp_path):
    folder = tmp_path / "bare"
    AutoModelForImageTextToText.from_pretrained(checkpoints["llava"]).save_pretrained(folder)
    return folder


def broken_data(folder, change):
    spec = importlib.util.spec_from_file_location(
        "shared_fixtures", Path(__file__).parents[1] / "conftest.py"
    )
    shared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shared)
    splits = shared.people_splits()
    change(splits)
    shared.write_parquet(folder, splits)
    return folder


def no_keywords(splits):
    splits["forget1"][2] = {**splits["forget1"][2], "keywords": " "}


def bad_picture(splits):
    splits["forget1"][3]["image"]["bytes"] = b"\x89PNG no picture"


def empty(splits):
    splits["forget1"] = []


def forget_all(splits):
    splits["forget4"] = splits["finetune"]


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    one_in(
        2,
        [
            (None, ("--forget", "forget9"), r"no split 'forget9'; it has .*forget1"),
            (None, ("--data", "/no/such/folder"), r"/no/such/folder"),
            (no_keywords, (), r"split 'forget1', row 2: column 'keywords' holds only blanks"),
            (bad_picture, (), r"split 'forget1', row 3 \(images/ada_birch/0003.png\): column 'image'"),
            (forget_all, ("--forget", "forget4"), r"leaves no retain set"),
            (None, ("--use_peft", "--lora_target_modules", "q_proj", "lm_head"), r"lm_head"),
            (None, ("--use_peft", "--lora_target_modules", "no_such_layer"), r"no_such_layer"),
            (None, ("--train", "nothing"), r"--train 'nothing' leaves nothing"),
            (None, ("--train", "projector", "--vision_lr", "1e-4"), r"--vision_lr"),
            (None, ("--use_peft", "--train", "projector"), r"--train and --vision_lr"),
            (empty, (), r"split 'forget1'.* no "),
            (None, ("--model_name_or_path", "./no/such/ckpt"), r"'./no/such/ckpt': no such folder"),
            (None, ("--resume_from_checkpoint", "/no/checkpoint"), r"/no/checkpoint"),
        ],
    ),
)
def test_bad_input_is_one_line_and_writes_nothing(
    checkpoints, train_run, data_dir, tmp_path, change, flags, said
):
    data = broken_data(tmp_path / "data", change) if change else data_dir
    with pytest.raises(RememError, match=said) as error:
        train_run(tmp_path / "run", "npo", checkpoints["llava"], *QUICK, *flags, data=data)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_processor_is_refused(without_processor, train_run, tmp_path):
    with pytest.raises(RememError, match="no processor"):
        train_run(tmp_path / "run", "npo", without_processor, *QUICK)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_with_a_missing_weight_is_refused(checkpoints, train_run, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "ckpt"
    shutil.copytree(checkpoints["llava"], folder)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "q_proj" in name and "language" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RememError, match=r"1 missing keys.*q_proj"):
        train_run(tmp_path / "run", "npo", folder, *QUICK)
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_fails_and_says_so(checkpoints, train_run, tmp_path):
    with pytest.raises(RememError, match=r"step [23]"):
        train_run(tmp_path / "run", "ga", checkpoints["llava"], "--max_steps", "5", "--learning_rate", "1e30")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed" and "step" in record["stopped"]
    assert not list((tmp_path / "run").glob("**/*.safetensors"))


@pytest.mark.slow
def test_the_command_line_answers_with_one_line_and_a_status(checkpoints, data_dir, tmp_path):
    argv = [sys.executable, "-m", "unlearning.train", "--method", "npo", "--data", str(data_dir)]
    argv += ["--model_name_or_path", str(checkpoints["llava"]), "--output_dir", str(tmp_path / "run")]
    done = subprocess.run([*argv, "--forget", "forget9"], capture_output=True, text=True, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("unlearning: error: ")
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize("peft", [(), ("--use_peft", "--dtype", "bfloat16")], ids=["full", "lora-bfloat16"])
@pytest.mark.parametrize("arch", others_slow(ARCHS, "llava"))
def test_activation_checkpointing_trains_the_same(checkpoints, train_run, tmp_path, arch, peft):
    figures = [
        train_run(tmp_path / value, "kl", checkpoints[arch], *QUICK, *peft, *(("--lora_dropout", "0") if peft else ()),
                  "--logging_steps", "1", "--activation_checkpointing", value)["figures"]
        for value in ("true", "false")
    ]  # fmt: skip
    for name in ("loss", "forget_nll", "retain_loss"):
        assert figures[0][name] == pytest.approx(figures[1][name], rel=2e-2 if peft else 1e-4, abs=1e-4)


def test_full_fine_tuning_in_bfloat16_is_refused_since_it_would_lose_most_updates(
    checkpoints, train_run, tmp_path
):
    """At learning rate 1e-5 a weight of .02 moves by less than half a step of bfloat16, and stays."""
    weight = torch.full((1,), 0.02, dtype=torch.bfloat16)
    assert torch.equal(weight - 1e-5, weight)
    with pytest.raises(RememError, match=r"bfloat16 would round most updates away.*--use_peft"):
        train_run(tmp_path / "run", "npo", checkpoints["llava"], "--dtype", "bfloat16")
    assert not (tmp_path / "run").exists()
