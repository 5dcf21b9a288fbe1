"""Random numbers of a seed, and Gumbel variables with a given maximum: what sampling is made of.

Noise is drawn on the CPU in float64 from one generator per row, so that a row's numbers depend on its
seed alone: not on the batch it is in, nor on the device.
"""

from __future__ import annotations

import math

import torch


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(int(seed))


def uniforms(source: torch.Generator, *shape: int) -> torch.Tensor:
    """Float64 in [0, 1)."""
    return torch.rand(shape, generator=source, dtype=torch.float64)


def gumbels(source: torch.Generator, *shape: int) -> torch.Tensor:
    """Standard Gumbel variables, −ln E with E exponential, in float64."""
    drawn = torch.empty(shape, dtype=torch.float64).exponential_(generator=source)
    return drawn.clamp_min_(torch.finfo(torch.float64).tiny).log_().neg_()


def _log1mexp(x: torch.Tensor) -> torch.Tensor:
    """ln(1 − e^−x) for x ≥ 0, accurate at both ends."""
    return torch.where(x < math.log(2), torch.log(-torch.expm1(-x)), torch.log1p(-torch.exp(-x)))


def gumbels_with_maximum(phi: torch.Tensor, noise: torch.Tensor, maximum: torch.Tensor) -> torch.Tensor:
    """Gumbel variables with locations φ, given that the largest of them is `maximum`.

    G = φ + noise, Z = max G; then with T the wanted maximum and v = T − G + ln(1 − e^(G − Z)),
    G̃ = T − max(0, v) − ln(1 + e^−|v|) (Kool et al. 2019, arXiv 1903.06059, appendix B.3).

    Args:
        phi: (…, n) log-probabilities; −inf where there is nothing.
        noise: (…, n) standard Gumbel variables.
        maximum: (…).

    Returns:
        (…, n); −inf where φ is.
    """
    g = phi + noise
    largest = g.amax(-1, keepdim=True)
    top = maximum.unsqueeze(-1)
    v = top - g + _log1mexp(largest - g)
    shifted = top - v.clamp_min(0) - torch.log1p(torch.exp(-v.abs()))
    return torch.where(phi == -torch.inf, -torch.inf, shifted)
