"""Forget and retain losses: pure functions of log-probabilities and logits.

Shapes: B rows, T positions, N answer tokens of a batch, V vocabulary. `mask` is true on answer tokens
only, so that prompt, picture and padding positions never count. Nothing here knows a model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def token_nll(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of the answer tokens: −Σ_M ln p(y_t) / |M|.

    Args:
        log_probs: [B, T], ln p of each label.
        mask: [B, T] bool, answer tokens.

    Returns:
        A scalar in nats; 0 (with a gradient of 0) if no token is an answer token.
    """
    return -(log_probs * mask).sum() / mask.sum().clamp(min=1)


def sequence_nll(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """N = −Σ_t ln p(y_t) of each answer, [B, T] → [B], in nats."""
    return -(log_probs * mask).sum(dim=1)


def npo(nll: torch.Tensor, reference_nll: torch.Tensor, beta: float) -> torch.Tensor:
    """Negative preference optimisation: −(2/β) · mean_B ln σ(β (N_θ − N_ref)).

    Zhang et al. 2024, arXiv 2404.05868, eq. 3: the log-ratio ln(p_θ/p_ref) of whole answers is
    N_ref − N_θ. At θ = ref the loss is (2/β) ln 2; as N_θ grows it goes to 0 and its gradient fades.

    Args:
        nll: [B], N_θ, sums over the answer tokens (not means).
        reference_nll: [B], the same of the model before unlearning.
        beta: inverse temperature, > 0.
    """
    return -(2.0 / beta) * F.logsigmoid(beta * (nll - reference_nll)).mean()


def kl_to_reference(reference_logits: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL(p_ref ‖ p_θ) = mean over answer tokens of Σ_v p_ref ln(p_ref / p_θ), [N, V] twice → scalar.

    The retain term of TOFU's KL baseline (arXiv 2401.06121, section 4); zero where both agree.
    """
    return F.kl_div(
        logits.log_softmax(dim=-1),
        reference_logits.log_softmax(dim=-1),
        reduction="batchmean",
        log_target=True,
    )
