"""Gradient ascent on the forget set, alone or beside the retain set."""

from typing import ClassVar

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class GA(UnlearnTrainer):
    """Gradient ascent: L = −mean NLL(F), no retain term. Unbounded: use few steps and a low learning rate."""

    name = "ga"
    roles = (Role.FORGET, Role.RETAIN)
    defaults: ClassVar = {"alpha": 0.0, "learning_rate": 1e-5}

    def forget_loss(self, batch):
        return -batch.forget.token_nll


class GradDiff(GA):
    """Gradient difference: L = −γ · mean NLL(F) + α · mean NLL(R) (TOFU, arXiv 2401.06121; CLEAR)."""

    name = "grad_diff"
    defaults: ClassVar = {}


class KL(GA):
    """L = −γ · mean NLL(F) + α · KL(p_ref ‖ p_θ) on R (TOFU, arXiv 2401.06121)."""

    name = "kl"
    defaults: ClassVar = {"retain_loss": "kl"}
