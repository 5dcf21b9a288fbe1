"""Forget and retain losses: pure functions of log-probabilities and logits.

Shapes: B rows, T positions, N answer tokens of a batch, V vocabulary. `mask` is true on answer tokens
only, so that prompt, picture and padding positions never count. Nothing here knows a model.

A mean divides by `count`: None is the number of its values, a number what the caller knows of a step that is cut
into micro-batches (see `forward.counts`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F

Count: TypeAlias = torch.Tensor | float | None


def mean(values: torch.Tensor, count: Count = None) -> torch.Tensor:
    """Σ values / count, a scalar; 0 (with a gradient of 0) where there are no values.

    Args:
        values: one for each row or answer token, [B] or [N].
        count: what to divide by; None: the number of values.
    """
    return values.sum() / (max(values.numel(), 1) if count is None else count)


def token_nll(log_probs: torch.Tensor, mask: torch.Tensor, count: Count = None) -> torch.Tensor:
    """Mean negative log-likelihood of the answer tokens: −Σ_M ln p(y_t) / |M|.

    Args:
        log_probs: [B, T], ln p of each label.
        mask: [B, T] bool, answer tokens.

    Returns:
        A scalar in nats; 0 (with a gradient of 0) if no token is an answer token.
    """
    return -mean(log_probs[mask], count)


def sequence_nll(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """N = −Σ_t ln p(y_t) of each answer, [B, T] → [B], in nats."""
    return -(log_probs * mask).sum(dim=1)


def npo(nll: torch.Tensor, reference_nll: torch.Tensor, beta: float, count: Count = None) -> torch.Tensor:
    """Negative preference optimisation: −(2/β) · mean_B ln σ(β (N_θ − N_ref)).

    Zhang et al. 2024, arXiv 2404.05868, eq. 3: the log-ratio ln(p_θ/p_ref) of whole answers is
    N_ref − N_θ. At θ = ref the loss is (2/β) ln 2; as N_θ grows it goes to 0 and its gradient fades.

    Args:
        nll: [B], N_θ, sums over the answer tokens (not means).
        reference_nll: [B], the same of the model before unlearning.
        beta: inverse temperature, > 0.
    """
    return -(2.0 / beta) * mean(F.logsigmoid(beta * (nll - reference_nll)), count)


def kl_to_reference(
    reference_logits: torch.Tensor, logits: torch.Tensor, count: Count = None, temperature: float = 1.0
) -> torch.Tensor:
    """KL(p_ref ‖ p_θ) = mean over answer tokens of Σ_v p_ref ln(p_ref / p_θ), [N, V] twice → scalar.

    The retain term of TOFU's KL baseline (arXiv 2401.06121, section 4); zero where both agree.

    Args:
        temperature: T; the KL is that of softmax(z / T), times T² (Hinton et al. 2015, arXiv 1503.02531).
    """
    now, before = ((side / temperature).log_softmax(dim=-1) for side in (logits, reference_logits))
    summed = temperature**2 * F.kl_div(now, before, reduction="sum", log_target=True)
    return summed / (max(len(logits), 1) if count is None else count)


def dpo(
    preferred_nll: torch.Tensor,
    preferred_reference_nll: torch.Tensor,
    nll: torch.Tensor,
    reference_nll: torch.Tensor,
    beta: float,
    factor: float,
    count: Count = None,
) -> torch.Tensor:
    """Direct preference optimisation: −factor · mean_B ln σ(β [ln-ratio of the preferred answer − ln-ratio of y]).

    Rafailov et al. 2023, arXiv 2305.18290, eq. 7, where the factor is 1; with 2/β it tends to NPO. A log-ratio
    ln(p_θ/p_ref) is N_ref − N_θ. All four are [B], sums over the answer tokens.
    """
    ratio = (preferred_reference_nll - preferred_nll) - (reference_nll - nll)
    return -factor * mean(F.logsigmoid(beta * ratio), count)


def simnpo(
    nll: torch.Tensor, tokens: torch.Tensor, beta: float, delta: float, count: Count = None
) -> torch.Tensor:
    """Reference-free NPO on length-normalised answers: −(2/β) · mean_B ln σ(β N/n − δ).

    Fan et al. 2024, arXiv 2410.07163. N, n: [B], sums in nats and numbers of answer tokens.
    """
    return -(2.0 / beta) * mean(F.logsigmoid(beta * nll / tokens - delta), count)


def weighted_ascent(
    log_probs: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor, count: Count = None
) -> torch.Tensor:
    """Gradient ascent with a weight for each token: Σ_M w_t ln p_t / |M| = −Σ_M w_t l_t / |M|.

    The weights are constants (no gradient flows through them). [B, T] three times → scalar.
    """
    return mean((weights.detach() * log_probs)[mask], count)


def wga_weights(log_probs: torch.Tensor, beta: float) -> torch.Tensor:
    """p^β: tokens that are already unlikely are left alone (Wang et al. 2025, arXiv 2502.19301)."""
    return (beta * log_probs).exp()


def satimp_weights(log_probs: torch.Tensor, beta1: float, beta2: float) -> torch.Tensor:
    """p^β₁ (1 − p)^β₂: saturation times importance (Yang et al. 2025, arXiv 2505.11953)."""
    p = log_probs.exp()
    return p**beta1 * (1 - p) ** beta2


def soft_cross_entropy(
    logits: torch.Tensor, target_logits: torch.Tensor, count: Count = None
) -> torch.Tensor:
    """Mean over answer tokens of −Σ_v q_v ln p_v with q = softmax(target logits), a constant. [N, V] twice."""
    return mean(F.cross_entropy(logits, target_logits.detach().softmax(dim=-1), reduction="none"), count)


def undial(
    logits: torch.Tensor,
    reference_logits: torch.Tensor,
    labels: torch.Tensor,
    beta: float,
    count: Count = None,
) -> torch.Tensor:
    """CE(p_θ, softmax(z_ref − β · onehot(y))): the reference with its answer token pressed down.

    Dong et al. 2024, arXiv 2402.10052. [N, V] twice and [N] label ids.
    """
    lowered = reference_logits.scatter_add(
        1, labels[:, None], reference_logits.new_full((len(labels), 1), -beta)
    )
    return soft_cross_entropy(logits, lowered, count)


def ceu(logits: torch.Tensor, labels: torch.Tensor, count: Count = None) -> torch.Tensor:
    """CE(p_θ, softmax(z with z_y = −∞)), the target a constant: all mass on what is no answer.

    Yang 2025, arXiv 2503.01224. [N, V] and [N] label ids.
    """
    target = logits.detach().scatter(1, labels[:, None], float("-inf"))
    return soft_cross_entropy(logits, target, count)


def logit_margin(logits: torch.Tensor, count: Count = None) -> torch.Tensor:
    """Mean over answer tokens of (max_v z − mean_v z)²; 0 where p is uniform.

    Entesari et al. 2025, arXiv 2506.05314, the flattening loss of PDU. [N, V] → scalar.
    """
    return mean((logits.amax(dim=-1) - logits.mean(dim=-1)).square(), count)


def hidden_distance(hidden: torch.Tensor, target: torch.Tensor, count: Count = None) -> torch.Tensor:
    """Mean over answer tokens of ‖h − h′‖² / d, [N, d] twice → scalar.

    RMU's forget term with h′ = c·u, its retain term with h′ of the model before (arXiv 2403.03218).
    """
    return mean((hidden - target).square().mean(dim=-1), count)


def js_to_label(log_probs: torch.Tensor, mask: torch.Tensor, count: Count = None) -> torch.Tensor:
    """Mean over answer tokens of JSD(p_θ ‖ onehot(y)), in nats, between 0 and ln 2.

    The forget term of JensUn (arXiv 2509.02820). With p the probability of the label it is
    ln 2 + ½ [p ln p − (1 + p) ln(1 + p)], so that no other probability is needed. [B, T] twice.
    """
    p = log_probs.exp()
    values = math.log(2) + 0.5 * (p * log_probs - (1 + p) * p.log1p())
    return mean(values[mask], count)


def js_to_cycle(
    logits: torch.Tensor, position: torch.Tensor, cycle: Sequence[int], count: Count = None
) -> torch.Tensor:
    """`js_to_label` where the label of an answer's token t is entry t mod m of a cycle of m ids. [N, V], [N]."""
    target = position.new_tensor(cycle)[position % len(cycle)]
    found = logits.log_softmax(dim=-1).gather(1, target[:, None])
    return js_to_label(found, torch.ones_like(found, dtype=torch.bool), count)


def js_to_reference(
    reference_logits: torch.Tensor, logits: torch.Tensor, count: Count = None
) -> torch.Tensor:
    """Mean over answer tokens of JSD(p_ref ‖ p_θ), in nats, [N, V] twice; the retain term of JensUn."""
    first, second = reference_logits.log_softmax(dim=-1), logits.log_softmax(dim=-1)
    middle = torch.logaddexp(first, second) - math.log(2)
    summed = sum(F.kl_div(middle, side, reduction="sum", log_target=True) for side in (first, second))
    return 0.5 * summed / (max(len(logits), 1) if count is None else count)


def dual_masked_kl(
    reference_logits: torch.Tensor,
    logits: torch.Tensor,
    tokens: torch.Tensor,
    words: torch.Tensor,
    count: Count = None,
) -> torch.Tensor:
    """Mean over answer tokens of K_S Σ_v K_V(v) p_ref ln(p_ref / p_θ), the masked KL of SIU (arXiv 2405.12523).

    Args:
        reference_logits, logits: [N, V].
        tokens: [N] bool, K_S: false where a new answer departs from the old one.
        words: [N, V] bool, K_V: false at the words of what is forgotten. (What is left of a KL can be below 0.)
    """
    before, now = reference_logits.log_softmax(dim=-1), logits.log_softmax(dim=-1)
    return mean((before.exp() * (before - now) * words).sum(dim=-1) * tokens, count)


def mean_probability(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """P = mean probability of the tokens of each answer, [B, T] → [B], between 0 and 1."""
    return (log_probs.exp() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


# By divergence: g*(v), the optimal variational function, and f*(g*(v)), its conjugate (Nowozin et al. 2016).
DIVERGENCES: dict[
    str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]
] = {
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "tv": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "js": (
        lambda v: math.log(2) - F.softplus(-v),
        lambda v: v + F.softplus(-v) - math.log(2),
    ),
    "pearson": (lambda v: v, lambda v: v.square() / 4 + v),
}


def flat(template: torch.Tensor, forget: torch.Tensor, divergence: str, count: Count = None) -> torch.Tensor:
    """−mean_B g*(P_template) + mean_B f*(g*(P_forget)): as far apart as the divergence can tell.

    Wang et al. 2024 (FLAT), arXiv 2410.11143, table 2. P: [B], mean token probabilities.
    """
    optimal, conjugate = DIVERGENCES[divergence]
    return mean(conjugate(forget), count) - mean(optimal(template), count)


def l1(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Σ|θ_i| over all values of some matrices, a scalar; CLEAR's penalty on the LoRA matrices."""
    return torch.stack([weight.abs().sum() for weight in weights]).sum()
