"""Noise: Gumbel variables with a given maximum against their definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from remem_tasks.engine.draw import generator, gumbels, gumbels_with_maximum, uniforms


def test_gumbels_are_gumbel_distributed_and_uniforms_uniform():
    assert stats.kstest(gumbels(generator(1), 5000).numpy(), "gumbel_r").pvalue > 0.01
    assert stats.kstest(uniforms(generator(1), 5000).numpy(), "uniform").pvalue > 0.01


def test_with_maximum_golden():
    # φ = (0, 0), noise (1, 0), so Z = 1; with T = 2 the first becomes 2. For the second
    # v = 2 − 0 + ln(1 − e^(0 − 1)) = 2 + ln 0.632121 = 1.541325; G̃ = 2 − v − ln(1 + e^−v) = 0.264674
    v = 2 + math.log(1 - math.exp(-1))
    phi, noise = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    given_two = gumbels_with_maximum(phi, noise, torch.tensor(2.0, dtype=torch.float64))
    assert given_two.tolist() == pytest.approx([2, 2 - v - math.log1p(math.exp(-v))])
    # the definition: −ln(e^−T − e^−Z + e^−G)
    assert given_two[1] == pytest.approx(-math.log(math.exp(-2) - math.exp(-1) + math.exp(0)))


@given(
    st.lists(st.floats(-700, 0), min_size=1, max_size=6),
    st.floats(-700, 50),
    st.integers(0, 2**32),
)
def test_the_maximum_is_the_maximum_and_order_is_kept(phi, maximum, seed):
    phi = torch.tensor([*phi, -math.inf], dtype=torch.float64)
    noise = gumbels(generator(seed), len(phi))
    out = gumbels_with_maximum(phi, noise, torch.tensor(maximum, dtype=torch.float64))
    assert not out.isnan().any()
    assert out.max().item() == maximum and out[-1] == -math.inf
    free = phi + noise
    order = free[:-1].argsort()
    assert (out[order].diff() >= 0).all()


def test_conditional_on_its_own_maximum_the_law_is_the_unconditional_one():
    """G drawn freely and G̃ drawn given a maximum from Gumbel(ln Σ e^φ) have the same law."""
    phi = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    count = 4000
    noise = gumbels(generator(0), count, 3)
    maximum = gumbels(generator(1), count)  # Σ e^φ = 1, so the maximum is a standard Gumbel
    out = gumbels_with_maximum(phi.expand(count, 3), noise, maximum).numpy()
    for column, location in enumerate(phi.tolist()):
        assert stats.kstest(out[:, column], stats.gumbel_r(loc=location).cdf).pvalue > 0.01
    assert np.corrcoef(out.T)[0, 1] == pytest.approx(0, abs=0.05)


def test_nothing_below_gives_nothing():
    phi = torch.full((2, 3), -math.inf, dtype=torch.float64)
    out = gumbels_with_maximum(phi, gumbels(generator(0), 2, 3), torch.tensor([0.0, -math.inf]).double())
    assert (out == -math.inf).all()
