"""Gradient ascent on the forget set."""

from typing import ClassVar

from unlearning.trainer import UnlearnTrainer


class GA(UnlearnTrainer):
    """Gradient ascent: L = −mean NLL(F), no retain term. Unbounded: use few steps and a low learning rate."""

    name = "ga"
    defaults: ClassVar = {"alpha": 0.0, "learning_rate": 1e-5}
    source = "Jang et al. 2022, arXiv 2210.01504; TOFU, arXiv 2401.06121"
    upstream = "Upstream baselines stop it by hand at some loss; here `--stop_on` is a rule, and recorded."

    def forget_loss(self, batch):
        return -batch.forget.token_nll
