"""A retain loss as a constraint: its weight is a dual variable that grows while the constraint is broken."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from unlearning.forward import Batch
from unlearning.trainer import UnlearnTrainer


class Constrained(UnlearnTrainer):
    """L = γ · L_forget + λ · (L_retain − ε), with λ = α at first and λ ← max(0, λ + s (L_retain − ε)) after a step.

    λ moves once an optimizer step, by the mean over its micro-batches and processes, so that it does
    not depend on how a batch is cut up; a checkpoint holds it.

    Class attributes:
        eps, step: names of the options that hold ε and s.
    """

    eps: ClassVar[str]
    step: ClassVar[str]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dual = float(self.args.alpha)
        self._seen: list[torch.Tensor] = []

    def retain_loss(self, batch: Batch) -> torch.Tensor:
        excess = super().retain_loss(batch) - getattr(self.args, self.eps)
        self._seen.append(excess.detach())
        return excess

    def weights(self) -> tuple[float, float]:
        return self.args.gamma, self.dual

    def after_step(self) -> None:
        if not self._seen:
            return
        excess = torch.stack(self._seen).mean()
        self._seen = []
        if self.accelerator.num_processes > 1:
            excess = self.accelerator.reduce(excess, reduction="mean")
        self.dual = max(0.0, self.dual + getattr(self.args, self.step) * float(excess))
        self._metrics["train"]["dual"].append(torch.tensor(self.dual))

    def method_state(self) -> dict[str, Any]:
        return {"dual": self.dual}

    def load_method_state(self, state: dict[str, Any]) -> None:
        self.dual = state["dual"]
