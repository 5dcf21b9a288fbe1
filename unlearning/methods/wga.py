"""Weighted gradient ascent."""

from typing import ClassVar

from unlearning import losses
from unlearning.trainer import Option, UnlearnTrainer


class WGA(UnlearnTrainer):
    """L_forget = −Σ_M p^β l / |M|, the weights p^β constants."""

    name = "wga"
    options: ClassVar = {"wga_beta": Option(1.0, "exponent β of the weight p^β; 0 is grad_diff")}
    source = "Wang et al. 2025, arXiv 2502.19301"

    def forget_loss(self, batch):
        rows = batch.forget
        weights = losses.wga_weights(rows.log_probs, self.args.wga_beta)
        return losses.weighted_ascent(rows.log_probs, weights, rows.mask, rows.token_count)
