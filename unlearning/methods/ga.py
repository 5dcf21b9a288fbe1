"""Gradient ascent on the forget set."""

from typing import ClassVar

from unlearning.trainer import UnlearnTrainer


class GA(UnlearnTrainer):
    """Gradient ascent: L = −mean NLL(F), no retain term. Unbounded: use few steps and a low learning rate."""

    name = "ga"
    defaults: ClassVar = {"alpha": 0.0, "learning_rate": 1e-5}

    def forget_loss(self, batch):
        return -batch.forget.token_nll
