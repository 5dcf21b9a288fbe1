"""Gradient ascent held to the model before unlearning on the retain set."""

from typing import ClassVar

from unlearning.trainer import UnlearnTrainer


class KL(UnlearnTrainer):
    """KL minimisation: L = −γ · mean NLL(F) + α · KL(p_ref ‖ p_θ) on R (TOFU, arXiv 2401.06121)."""

    name = "kl"
    defaults: ClassVar = {"retain_loss": "kl"}
    source = "TOFU, arXiv 2401.06121"
    upstream = "The mean is over answer tokens; TOFU's and open-unlearning's also over prompt and padding."

    def forget_loss(self, batch):
        return -batch.forget.token_nll
