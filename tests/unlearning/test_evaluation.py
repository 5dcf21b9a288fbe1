"""Evaluation during training: what is measured, what is written, what ends a run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.slow import others_slow
from support.trainers import FEW, own

from remem_tasks.errors import RememError
from unlearning import evaluation, forward
from unlearning.data import Examples, Role
from unlearning.evaluation import StopRule

LORA = ("--use_peft", "--lora_r", "4")


def test_figures_are_exact_match_of_replies_and_mean_nll(make_trainer, memorised, mean_nll):
    trainer = make_trainer("grad_diff", "llava", "--per_device_eval_batch_size", "5", model=memorised)
    examples = Examples(trainer.rows.retain, Role.PLAIN, trainer.encoder)
    trainer.model.eval()
    found = evaluation.figures(trainer.forward, examples, trainer.accelerator, 5)
    assert found["nll"] == pytest.approx(mean_nll(trainer, trainer.rows.retain), abs=1e-5)
    # Where every token of the answer is the likeliest, greedy decoding gives the answer.
    inputs = trainer.data_collator([examples[index] for index in range(len(examples))])
    with torch.no_grad():
        answers = forward.answers(trainer.model, inputs, logits=True)
    right = torch.zeros_like(answers.mask).masked_scatter(
        answers.mask, answers.logits.argmax(-1) == answers.labels
    )
    known = (right | ~answers.mask).all(1)
    assert known.sum() > 5
    assert int(known.sum()) <= round(found["em"] * len(examples)) <= len(examples)
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight.zero_()
    broken = evaluation.figures(trainer.forward, examples, trainer.accelerator, 5)
    vocabulary = trainer.model.get_output_embeddings().weight.shape[0]
    assert broken["em"] == 0 and broken["nll"] == pytest.approx(
        torch.tensor(vocabulary).log().item(), abs=1e-4
    )
    assert set(evaluation.figures(trainer.forward, examples, trainer.accelerator, 5, replies=False)) == {
        "nll"
    }


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_replies_do_not_depend_on_the_rows_beside(make_trainer, arch):
    trainer = make_trainer("grad_diff", arch)
    trainer.model.eval()
    examples = [trainer.train_dataset.forget.example(index) for index in range(4)]
    assert len({example.prompt["input_ids"].shape[1] for example in examples}) > 1, "some are padded"
    together = evaluation.greedy(trainer.forward, trainer.encoder, examples, 6)
    assert together == [
        evaluation.greedy(trainer.forward, trainer.encoder, [example], 6)[0] for example in examples
    ]


def test_the_course_of_a_run_is_written(checkpoints, train_run, tmp_path):
    record = train_run(
        tmp_path / "run", "grad_diff", checkpoints["llava"], "--max_steps", "4", "--learning_rate", "1e-3", "--eval_strategy",
        "steps", "--eval_steps", "2", "--eval_on_start", "true", "--eval_rows", "4", "--save_strategy", "no",
    )  # fmt: skip
    points = json.loads((tmp_path / "run" / "trajectory.json").read_text())
    assert [point["step"] for point in points] == [0, 2, 4]
    assert all(set(evaluation.FIGURES) <= set(point) for point in points)
    assert points[2]["forget_nll"] > points[0]["forget_nll"]
    assert record["figures"]["eval_forget_nll"] == points[2]["forget_nll"]
    assert (tmp_path / "run" / "trajectory.png").read_bytes().startswith(b"\x89PNG")
    assert record["stopped"] == "max_steps reached"


def test_weights_that_are_edited_at_the_end_are_evaluated_again(checkpoints, train_run, tmp_path):
    flags = (
        "--max_steps",
        "2",
        "--learning_rate",
        "2e-3",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "2",
        "--eval_rows",
        "4",
    )
    record = train_run(tmp_path / "run", "task_vector", checkpoints["llava"], *flags, "--save_strategy", "no")
    figures = record["figures"]
    assert figures["final_forget_nll"] > figures["eval_forget_nll"] + 0.01, (
        "forgotten in the end, learned on the way"
    )


def test_a_cut_run_writes_the_same_course(checkpoints, train_run, tmp_path):
    flags = ("--max_steps", "6", "--learning_rate", "1e-3", "--eval_strategy", "steps", "--eval_steps", "2", "--save_steps", "2",
             "--save_total_limit", "5", "--eval_em", "false", *LORA, "--lora_dropout", "0.1")  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_run(whole, "llmu", checkpoints["llava"], *flags)
    shutil.copytree(whole, cut)
    for path in ("checkpoint-4", "checkpoint-6"):
        shutil.rmtree(cut / path)
    for path in ("trajectory.json", "adapter_model.safetensors"):
        (cut / path).unlink()
    train_run(cut, "llmu", checkpoints["llava"], *flags, "--resume_from_checkpoint", "true")
    first, second = (json.loads((folder / "trajectory.json").read_text()) for folder in (whole, cut))
    assert first == second and len(first) == 3


@pytest.mark.parametrize("method", others_slow(["pdu", "mmunlearner", "sku", "altpo"], "pdu", "altpo"))
def test_a_method_with_a_memory_of_its_own_resumes_to_the_bit(checkpoints, train_run, tmp_path, method):
    """A dual variable, masks, a task vector, answers that were drawn once."""
    flags = ("--max_steps", "6", "--per_device_train_batch_size", "2", "--learning_rate", "2e-3", "--save_steps", "4", "--save_total_limit",
             "5", *own(method, *FEW))  # fmt: skip
    if method == "altpo":
        flags += ("--alternatives_each", "1", "--alternatives_tokens", "4")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_run(whole, method, checkpoints["llava"], *flags)
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoint-6")
    (cut / "model.safetensors").unlink()
    train_run(cut, method, checkpoints["llava"], *flags, "--resume_from_checkpoint", "true")
    first, second = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    if method == "pdu":
        states = [
            json.loads((whole / f"checkpoint-{step}" / "method_state.json").read_text()) for step in (4, 6)
        ]
        assert states[0] != states[1] and states[0]["dual"] != 100.0


def test_a_run_that_diverges_keeps_its_last_finite_checkpoint(checkpoints, train_run, tmp_path):
    """Non-finite loss: the step is named, what was saved before stays, and the record says where."""
    flags = ("--max_steps", "20", "--learning_rate", "1e30", "--save_steps", "1", "--warmup_steps", "2")
    with pytest.raises(RememError, match=r"step \d+: the (loss|gradient norm) is"):
        train_run(tmp_path / "run", "grad_diff", checkpoints["llava"], *flags)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed" and "step" in record["stopped"]
    kept = load_file(record["last_checkpoint"] + "/model.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_rules_by_hand():
    nll, em = StopRule.parse("forget_nll=2.5"), StopRule.parse(" forget_em = .1")
    assert [nll.reached(value) for value in (2.4, 2.5, 3.0)] == [False, True, True]
    assert [em.reached(value) for value in (0.2, 0.1, 0.0)] == [False, True, True]
    assert not nll.reached(float("nan")) and not em.reached(float("nan"))
    for wrong in ("forget_nll", "retain_em=1", "forget_em=", "forget_em>0.1"):
        with pytest.raises(RememError, match="--stop_on"):
            StopRule.parse(wrong)


def test_a_course_by_hand():
    history = [
        {"step": 2, "epoch": 0.5, "eval_forget_em": 0.5, "eval_forget_loss": 1.0},
        {"step": 2, "epoch": 0.5, "eval_retain_em": 0.9},
        {"step": 1, "epoch": 0.2, "loss": 3.0},
        {"step": 4, "epoch": 1.0, "eval_forget_em": 0.25, "eval_forget_nll": 2.0},
    ]
    assert evaluation.trajectory(history) == [
        {"step": 2, "epoch": 0.5, "forget_em": 0.5, "retain_em": 0.9},
        {"step": 4, "epoch": 1.0, "forget_em": 0.25, "forget_nll": 2.0},
    ]


@pytest.mark.parametrize(("rows", "world", "size"), [(33, 4, 8), (32, 4, 8), (1, 3, 2), (7, 2, 3)])
def test_every_process_makes_the_same_number_of_forwards_over_all_rows(rows, world, size):
    """33 rows on 4 processes with batches of 8: the first has 9 of them, so all make two forwards."""
    shared = evaluation.shares(rows, world, size)
    assert len({len(batches) for batches in shared}) == 1 and len(shared) == world
    assert all(len(batch) <= size for batches in shared for batch in batches)
    assert sorted(row for batches in shared for batch in batches for row in batch) == list(range(rows))
    if rows == 33:
        assert [len(batches) for batches in shared] == [2] * 4 and shared[1][1] == []
