"""Full fine-tuning in bfloat16 keeps what it learns: the weights stay in float32, the forward alone is in bfloat16."""

import pytest
import torch

from remem_tasks.errors import RememError
from unlearning.catalogue import gigabytes
from unlearning.methods import METHODS
from unlearning.weights import check_precision

STEPS = ("--max_steps", "3", "--per_device_train_batch_size", "3", "--learning_rate", "2e-5")


def moved(make_trainer, *flags):
    """The share of the weights that three steps at the default learning rate have moved."""
    trainer = make_trainer("npo", "llava", *STEPS, *flags)
    before = [value.detach().clone() for value in trainer.model.parameters()]
    trainer.train()
    assert {value.dtype for value in trainer.model.parameters()} == {torch.float32}
    changed = sum(int((old != new).sum()) for old, new in zip(before, trainer.model.parameters()))
    return changed / sum(value.numel() for value in before)


def test_as_many_weights_move_under_bfloat16_as_under_float32(make_trainer):
    single, half = moved(make_trainer), moved(make_trainer, "--bf16", "true")
    assert single > 0.5 and half == pytest.approx(single, abs=1e-3)


def test_in_weights_of_bfloat16_most_of_them_would_not_move(make_trainer):
    """Why they are refused: the same update, rounded to bfloat16, is lost near 1."""
    model = make_trainer("npo", "llava").model
    kept = [value.detach().bfloat16() for value in model.parameters()]
    # AdamW's first steps are of the learning rate's size.
    stayed = sum(int((value + 2e-5 == value).sum()) for value in kept)
    assert stayed / sum(value.numel() for value in kept) > 0.5
    with pytest.raises(RememError, match="full fine-tuning of weights in bfloat16"):
        check_precision(model.bfloat16())


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("npo", 113),  # 16 bytes for each of 7.063 billion
        ("kl", 141),  # and 4 of a frozen model
        ("mmunlearner", 148),  # and 5 of masks and what they hold
        ("manu", 28),  # weights alone
        ("rmu", 64),  # 4 + 4 of all, 12 of three layers of .2024 billion
    ],
)
def test_memory_of_seven_billion_weights_by_hand(method, expected):
    assert gigabytes(METHODS[method]) == expected


def test_an_adapter_is_trained_in_single_precision_on_a_base_in_half(make_trainer):
    trainer = make_trainer("npo", "llava", "--use_peft", "--lora_r", "4", "--dtype", "bfloat16")
    kinds = {value.requires_grad: value.dtype for value in trainer.model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
