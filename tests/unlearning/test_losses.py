"""Each loss against a value worked out by hand, and its gradient against finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearning import losses

LOG_PROBS = torch.tensor([[-1.0, -2.0, -4.0], [-3.0, -5.0, -7.0]])
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_token_nll_is_a_mean_over_answer_tokens():
    assert losses.token_nll(LOG_PROBS, MASK).item() == pytest.approx((1 + 2 + 3) / 3)


def test_token_nll_without_answer_tokens_is_zero_with_a_gradient():
    log_probs = LOG_PROBS.clone().requires_grad_()
    loss = losses.token_nll(log_probs, torch.zeros_like(MASK))
    loss.backward()
    assert loss.item() == 0 and log_probs.grad.abs().sum() == 0


def test_sequence_nll_is_a_sum_per_example():
    assert losses.sequence_nll(LOG_PROBS, MASK).tolist() == [3.0, 3.0]


def test_npo_by_hand():
    # β (N_θ − N_ref) = 1 and 0; ln σ(1) = −0.3132617, ln σ(0) = −0.6931472; −(2/0.5) · their mean
    value = losses.npo(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]), beta=0.5)
    assert value.item() == pytest.approx(4 * (0.3132617 + 0.6931472) / 2, abs=1e-6)


def test_npo_falls_as_the_forget_answer_gets_less_likely():
    reference = torch.tensor([5.0])
    values = [losses.npo(torch.tensor([n]), reference, 0.1).item() for n in (1.0, 5.0, 20.0, 500.0)]
    assert values == sorted(values, reverse=True) and values[-1] < 1e-6
    assert values[1] == pytest.approx(20 * math.log(2), rel=1e-6)


def test_npo_at_the_reference_has_the_gradient_of_gradient_ascent_on_sequences():
    nll = torch.tensor([4.0, 9.0], requires_grad=True)
    losses.npo(nll, nll.detach().clone(), beta=0.3).backward()
    assert nll.grad.tolist() == pytest.approx([-0.5, -0.5])


def test_kl_by_hand():
    # p_ref = (1/2, 1/2), p_θ = (1/4, 3/4): ½ ln 2 + ½ ln ⅔; the second token agrees and adds nothing
    reference = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    theta = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2
    assert losses.kl_to_reference(reference, theta).item() == pytest.approx(expected, abs=1e-6)


def test_kl_is_zero_at_the_reference_and_not_symmetric():
    a, b = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).split([1, 4])
    assert losses.kl_to_reference(b, b + 3.0).item() == pytest.approx(0, abs=1e-6)
    forth, back = losses.kl_to_reference(a, b[:1]), losses.kl_to_reference(b[:1], a)
    assert abs(forth - back) > 1e-3


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.token_nll(
            x.log_softmax(-1), torch.tensor([[True, True, False], [False, True, True]])
        ),
        lambda x: losses.sequence_nll(
            x.log_softmax(-1), torch.tensor([[True, True, False], [False, True, True]])
        ),
        lambda x: losses.npo(x.sum(1), torch.tensor([0.3, -0.2], dtype=x.dtype), 0.7),
        lambda x: losses.kl_to_reference(torch.tensor([[0.1, 0.9, -1.0]] * 2, dtype=x.dtype), x),
    ],
    ids=["token_nll", "sequence_nll", "npo", "kl"],
)
def test_gradients_match_finite_differences(loss):
    x = torch.tensor([[0.2, -0.5, 1.1], [0.7, 0.1, -0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, x)


TABLE = st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=1, max_size=3)


@given(TABLE, TABLE)
def test_a_masked_kl_without_masks_is_the_kl(one, two):
    rows = min(len(one), len(two))
    before, now = (torch.tensor(side[:rows], dtype=torch.float64) for side in (one, two))
    tokens, words = torch.ones(rows, dtype=torch.bool), torch.ones(rows, 4, dtype=torch.bool)
    whole = losses.kl_to_reference(before, now).item()
    assert losses.dual_masked_kl(before, now, tokens, words).item() == pytest.approx(whole, abs=1e-9)
    # Words left out take their own terms away, tokens left out all of theirs.
    words[:, 2] = False
    terms = before.softmax(-1) * (before.log_softmax(-1) - now.log_softmax(-1))
    left = losses.dual_masked_kl(before, now, tokens, words).item()
    assert left == pytest.approx(whole - terms[:, 2].mean().item(), abs=1e-9)
    assert losses.dual_masked_kl(before, now, ~tokens, words).item() == 0


@given(TABLE, st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_a_cycle_of_one_label_is_that_label(logits, cycle):
    table = torch.tensor(logits, dtype=torch.float64)
    position = torch.arange(len(table))
    found = losses.js_to_cycle(table, position, cycle).item()
    assert 0 <= found <= math.log(2) + 1e-12
    labels = torch.tensor([cycle[place % len(cycle)] for place in range(len(table))])
    log_probs = table.log_softmax(-1).gather(1, labels[:, None])
    naive = losses.js_to_label(log_probs, torch.ones_like(log_probs, dtype=torch.bool)).item()
    assert found == pytest.approx(naive)


@given(TABLE, TABLE, st.floats(0.5, 8))
def test_a_tempered_kl_is_that_of_tempered_logits(one, two, temperature):
    rows = min(len(one), len(two))
    before, now = (torch.tensor(side[:rows], dtype=torch.float64) for side in (one, two))
    found = losses.kl_to_reference(before, now, temperature=temperature).item()
    plain = losses.kl_to_reference(before / temperature, now / temperature).item()
    assert found == pytest.approx(temperature**2 * plain, abs=1e-9) and found >= -1e-9
