"""`--wrap`: two gradients of a step, worked out by hand, and the same however the step is cut up."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.slow import one_in
from support.trainers import FEW, own

from remem_tasks.errors import RememError
from unlearning.data import Role
from unlearning.forward import answers
from unlearning.mechanisms import gradients
from unlearning.methods import METHODS, NAMES

ONE = ("--optim", "sgd", "--lr_scheduler_type", "constant", "--max_steps", "1", "--max_grad_norm", "0")


def of(*values):
    """Two parameters of one value each, so that inner products are taken over all of them."""
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def test_each_combination_by_hand():
    """f = (1, 0), r = (−1, 1): ⟨f, r⟩ = −1, ‖f‖² = 1, ‖r‖² = 2."""
    f, r = of(1, 0), of(-1, 1)
    # f − (−1/2) r = (1/2, 1/2); with r beside it (−1/2, 3/2).
    assert torch.cat(gradients.without_conflict(f, r)).tolist() == [0.5, 0.5]
    assert torch.cat(gradients.gru(f, r)).tolist() == [-0.5, 1.5]
    # r − (−1/1) f = (0, 1); with f beside it (1, 1).
    assert torch.cat(gradients.blur(f, r)).tolist() == [1, 1]
    # Without a conflict both are the sum.
    for combine in gradients.COMBINED.values():
        assert torch.cat(combine(of(1, 0), of(1, 1))).tolist() == [2, 1]
    # ρ (3, 4) / 5.
    assert torch.cat(gradients.ascent(of(3, 4), 0.01)).tolist() == pytest.approx([0.006, 0.008])


def test_a_gradient_of_zero_is_no_division():
    for combine in gradients.COMBINED.values():
        assert torch.cat(combine(of(0, 0), of(1, 2))).tolist() == [1, 2]
        assert torch.cat(combine(of(1, 2), of(0, 0))).tolist() == [1, 2]
    assert torch.cat(gradients.ascent(of(0, 0), 1.0)).tolist() == [0, 0]


NUMBERS = st.lists(st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=3, max_size=3)


@given(NUMBERS, NUMBERS)
def test_what_is_left_does_not_conflict(first, second):
    f, r = of(*first), of(*second)
    assert float(gradients.dot(gradients.without_conflict(f, r), r)) >= -1e-9
    # Forgetting goes first: along blur's step the forget loss falls at least as fast as along its own gradient.
    assert float(gradients.dot(gradients.blur(f, r), f)) >= float(gradients.dot(f, f)) - 1e-9


def gradient(trainer, batch, roles):
    """∇ of α or γ times the loss of some roles of a batch, by the definition of grad_diff."""
    model = trainer.model.train()
    found = answers(model, batch)
    total = sum(
        sign * found.of(batch["roles"] == int(role)).token_nll
        for role, sign in ((Role.FORGET, -1), (Role.RETAIN, 1))
        if role in roles
    )
    trained = [value for value in model.parameters() if value.requires_grad]
    grads = torch.autograd.grad(total, trained, allow_unused=True)
    return [torch.zeros_like(value) if g is None else g for value, g in zip(trained, grads)]


def weights(trainer):
    return [value.detach().clone() for value in trainer.model.parameters() if value.requires_grad]


@pytest.mark.parametrize(
    "lora", [(), ("--use_peft", "--lora_r", "4", "--lora_dropout", "0")], ids=["full", "lora"]
)
@pytest.mark.parametrize("wrap", ["sam", "gru", "blur"])
def test_a_step_is_that_of_the_definition_however_it_is_cut_up(make_trainer, first_batch, wrap, lora):
    rate = (
        "--learning_rate",
        "0.1",
        *ONE,
        *lora,
        "--wrap",
        wrap,
        *(("--sam_rho", "0.5") if wrap == "sam" else ()),
    )
    cuts = [("4", "1"), ("1", "4")]
    after = []
    for size, times in cuts:
        torch.manual_seed(0)  # of LoRA's A
        trainer = make_trainer(
            "grad_diff",
            "llava",
            *rate,
            "--per_device_train_batch_size",
            size,
            "--gradient_accumulation_steps",
            times,
        )
        if lora:  # as after some steps: with B = 0 no gradient reaches A
            draw = torch.Generator().manual_seed(0)
            for name, value in trainer.model.named_parameters():
                if "lora_B" in name:
                    value.data = 0.02 * torch.randn(value.shape, generator=draw)
        before = weights(trainer)
        if not after:
            batch = first_batch(trainer, 4)
            forget, retain = (gradient(trainer, batch, roles) for roles in ([Role.FORGET], [Role.RETAIN]))
            if wrap == "sam":
                with torch.no_grad():
                    trained = [value for value in trainer.model.parameters() if value.requires_grad]
                    for value, step in zip(trained, gradients.ascent(forget, 0.5)):
                        value += step
                forget = gradient(trainer, batch, [Role.FORGET])
                with torch.no_grad():
                    for value, old in zip(trained, before):
                        value.copy_(old)
            wanted = [old - 0.1 * g for old, g in zip(before, gradients.COMBINED[wrap](forget, retain))]
        trainer.train()
        after.append(weights(trainer))
        far = max((one - two).abs().max().item() for one, two in zip(after[-1], wanted))
        assert far < 1e-5, (size, far)
    assert max((one - two).abs().max().item() for one, two in zip(after[0], before)) > 1e-4


@pytest.mark.parametrize("wrap", ["sam", "gru", "blur"])
def test_the_rows_that_go_first_get_what_they_want(make_trainer, mean_nll, wrap):
    """A model that knows nobody: what it learns of the retain rows it learns of the forget rows, a conflict throughout."""
    flags = (
        "--wrap",
        wrap,
        "--max_steps",
        "6",
        "--per_device_train_batch_size",
        "3",
        "--learning_rate",
        "2e-3",
    )
    trainer = make_trainer("grad_diff", "llava", *flags)
    tables = trainer.rows.forget, trainer.rows.retain
    before = [mean_nll(trainer, table) for table in tables]
    trainer.train()
    forget, retain = (mean_nll(trainer, table) - old for table, old in zip(tables, before))
    if wrap == "gru":
        assert retain < -0.05, "forgetting takes nothing from what is kept"
    else:
        assert forget > 0.05, "what is kept takes nothing from forgetting"


@pytest.mark.parametrize("method", one_in(2, (name for name in NAMES if METHODS[name].trains)))
def test_every_method_takes_a_wrap_or_says_why_not(make_trainer, method):
    flags = ("--wrap", "gru", "--max_steps", "1", "--per_device_train_batch_size", "2", *own(method, *FEW))
    args = METHODS[method]
    if args.rows_from != "pairs":
        with pytest.raises(RememError, match="--wrap gru: .* has no forget loss"):
            make_trainer(method, "llava", *flags)
        return
    if args.defaults.get("alpha") == 0.0 or Role.RETAIN not in args.roles:
        with pytest.raises(RememError, match="--wrap gru sets the forget"):
            make_trainer(method, "llava", *flags)
        flags += ("--wrap", "sam")
    trainer = make_trainer(method, "llava", *flags)
    before = weights(trainer)
    trainer.train()
    assert any(not torch.equal(one, two) for one, two in zip(before, weights(trainer)))


@pytest.mark.parametrize(
    ("method", "flags", "why"),
    [
        ("manu", ("--wrap", "gru"), "manu has no forget loss"),
        ("npo", ("--wrap", "sum"), "unknown --wrap 'sum'"),
        ("npo", ("--wrap", "gru", "--sam_rho", "0.1"), "--sam_rho is for --wrap sam"),
        ("npo", ("--wrap", "sam", "--sam_rho", "0"), "--sam_rho 0.0: above 0"),
        ("npo", ("--wrap", "blur", "--alpha", "0"), "--alpha must not be 0"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(make_trainer, method, flags, why):
    with pytest.raises(RememError, match=why):
        make_trainer(method, "llava", *flags)
