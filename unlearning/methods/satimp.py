"""Saturation- and importance-weighted gradient ascent."""

from typing import ClassVar

from unlearning import losses
from unlearning.trainer import Option, UnlearnTrainer


class SatImp(UnlearnTrainer):
    """L_forget = −Σ_M p^β₁ (1−p)^β₂ l / |M|, the weights constants."""

    name = "satimp"
    options: ClassVar = {
        "satimp_beta1": Option(5.0, "exponent β₁ of p (saturation)"),
        "satimp_beta2": Option(1.0, "exponent β₂ of 1 − p (importance)"),
    }
    defaults: ClassVar = {"gamma": 0.1}
    source = "Yang et al. 2025, arXiv 2505.11953"
    upstream = "open-unlearning's class has γ 1 and α .1, its configuration (and this one) γ .1 and α 1. On a model that has memorised, p is near 1 and the weights p^β₁ (1−p)^β₂ near 0: the loss is nearly inert there."

    def forget_loss(self, batch):
        rows = batch.forget
        weights = losses.satimp_weights(rows.log_probs, self.args.satimp_beta1, self.args.satimp_beta2)
        return losses.weighted_ascent(rows.log_probs, weights, rows.mask, rows.token_count)
