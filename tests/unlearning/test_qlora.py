"""QLoRA: an adapter on a base in 4 bits trains, and what cannot be is refused in one line."""

import importlib.util

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
import torch
from safetensors.torch import load_file
from support.rows import PEOPLE, rows_of
from support.scripted import run, value

from remem_tasks.checkpoints import save
from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.tiny.build import build
from unlearning import qlora
from unlearning.arguments import parse
from unlearning.weights import part_of

FOUR = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0", "--load_in_4bit", "true")
STEPS = (
    "--max_steps",
    "3",
    "--per_device_train_batch_size",
    "3",
    "--learning_rate",
    "1e-2",
    "--logging_steps",
    "1",
)


def parsed(*flags):
    return parse(["--method", "npo", "--model_name_or_path", "m", "--output_dir", "never_written", *flags])[2]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A llava whose linear maps are all whole blocks of 64 weights."""
    texts = [row["question"] + " " + row["answer"] for slug in PEOPLE for row in rows_of(slug)]
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    save(*build("llava", texts, width=192, layers=2, vocab_size=400), folder)
    return folder


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--load_in_4bit", "true"), r"an adapter on them is \(--use_peft\)"),
        (("--use_peft", "--use_bnb_nested_quant", "true"), "are for --load_in_4bit"),
        (("--use_peft", "--bnb_4bit_quant_type", "fp4"), "are for --load_in_4bit"),
    ],
)
def test_flags_of_four_bits_that_make_no_sense_are_refused(flags, why):
    with pytest.raises(RememError, match=why):
        qlora.loading(parsed(*flags))


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RememError, match="pip install 'remem-unlearning\\[qlora\\]'"):
        qlora.loading(parsed(*FOUR))


def test_without_the_flag_nothing_is_asked_of_the_loader():
    assert qlora.loading(parsed("--use_peft")) == {}


def lora_gradients(trainer, inputs) -> dict[str, torch.Tensor]:
    """∇ of the loss of a batch in training, by name."""
    trainer.model.train()
    named = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
    loss = trainer.compute_loss(trainer.model, inputs)
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()))))


@pytest.mark.parametrize("flags", [(), ("--use_bnb_nested_quant", "true", "--bnb_4bit_quant_type", "fp4")])
def test_the_language_model_is_in_four_bits_and_the_gradient_passes_through_it(
    make_trainer, first_batch, base, flags
):
    """bitsandbytes packs maps anew in eval mode, on some processors: products with those have no gradient."""
    trainer = make_trainer("kl", "llava", *FOUR, *flags, model=base)
    held = [name for name, value in trainer.model.named_parameters() if type(value).__name__ == "Params4bit"]
    assert len(held) == len(qlora.linear_maps(trainer.model)) == 2 * 7
    assert {part_of(name) for name in held} == {"language_model"} and not any(
        "lm_head" in name for name in held
    )
    trained = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert {value.dtype for value in trained.values()} == {torch.float32} and all(
        "lora_" in n for n in trained
    )
    inputs = first_batch(trainer)
    before = lora_gradients(trainer, inputs)  # the reference, the adapter off, is a forward in eval mode
    again = lora_gradients(trainer, inputs)
    first = [name for name in before if ".layers.0." in name and "lora_B" in name]
    assert first and all(before[name].abs().max() > 0 for name in first)
    assert all(torch.equal(before[name], again[name]) for name in before)


@pytest.mark.parametrize("method", ["npo", "rmu"])
def test_an_adapter_on_four_bits_trains_and_is_scored_on_the_whole_base(
    base, data_dir, train_run, tmp_path, monkeypatch, method
):
    record = train_run(tmp_path / "run", method, base, *FOUR, *STEPS)
    assert record["matrices_in_4_bits"] == 2 * 7 and record["status"] == "finished"
    assert "scores are of the adapter on the base as it is stored" in record["notes"]["base"]
    weights = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in weights.values())
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    monkeypatch.setenv("REMEM_METRICS", "em")
    results = run(RememHF(str(tmp_path / "run"), device="cpu"), "remem_forget1", limit=2)
    assert value(results, "remem_forget1", "remem_failed_rate") == 0


def test_a_run_on_four_bits_is_resumed_as_if_it_had_not_stopped(base, train_run, tmp_path):
    flags = (*FOUR, "--max_steps", "4", "--per_device_train_batch_size", "3", "--save_strategy", "steps")
    flags += ("--save_steps", "2", "--save_total_limit", "2", "--learning_rate", "1e-2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_run(whole, "npo", base, *flags)
    train_run(cut, "npo", base, *flags)
    train_run(cut, "npo", base, *flags, "--resume_from_checkpoint", str(cut / "checkpoint-2"))
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)
