"""Gradient ascent on the forget set beside descent on the retain set."""

from unlearning.trainer import UnlearnTrainer


class GradDiff(UnlearnTrainer):
    """Gradient difference: L = −γ · mean NLL(F) + α · mean NLL(R) (TOFU, arXiv 2401.06121; CLEAR)."""

    name = "grad_diff"
    source = "TOFU, arXiv 2401.06121; CLEAR, arXiv 2410.18057"
    upstream = "MMUnlearner's released baselines take steps on F and on R in turn; the loss is joint here."

    def forget_loss(self, batch):
        return -batch.forget.token_nll
