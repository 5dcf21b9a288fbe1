"""Gradient ascent on the forget set beside descent on the retain set."""

from unlearning.trainer import UnlearnTrainer


class GradDiff(UnlearnTrainer):
    """Gradient difference: L = −γ · mean NLL(F) + α · mean NLL(R) (TOFU, arXiv 2401.06121; CLEAR)."""

    name = "grad_diff"

    def forget_loss(self, batch):
        return -batch.forget.token_nll
