"""Two gradients of one step, of the forget and of the retain loss, and ways to make one update of them (`--wrap`).

Each micro-batch is two forwards, of its forget rows (with refusals and other answers) and of its retain rows, each
with its own gradient; both are summed over the micro-batches and averaged over the processes of a step before anything
is made of them. Forward and backward go past data parallel's wrapper, whose hooks know one backward a forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from remem_tasks.errors import RememError
from unlearning.data import Collator, Example, Role

if TYPE_CHECKING:
    from unlearning.trainer import UnlearnTrainer

Gradient = list[torch.Tensor]
FORGET, RETAIN = "forget_rows", "retain_rows"


def dot(first: Gradient, second: Gradient) -> torch.Tensor:
    """Inner product over all parameters, a scalar."""
    return torch.stack([(one * other).sum() for one, other in zip(first, second)]).sum()


def without_conflict(gradient: Gradient, kept: Gradient) -> Gradient:
    """g − (min(⟨g, k⟩, 0) / ‖k‖²) k: a step along −g then raises the loss of k's gradient no more, to first order."""
    square = dot(kept, kept)
    share = torch.where(square > 0, dot(gradient, kept).clamp(max=0) / square, torch.zeros_like(square))
    return [one - share * other for one, other in zip(gradient, kept)]


def gru(forget: Gradient, retain: Gradient) -> Gradient:
    """The forget gradient without what conflicts with the retain gradient, and the retain gradient beside it."""
    return [one + other for one, other in zip(without_conflict(forget, retain), retain)]


def blur(forget: Gradient, retain: Gradient) -> Gradient:
    """The forget gradient, and the retain gradient without what conflicts with it: forgetting goes first."""
    return [one + other for one, other in zip(forget, without_conflict(retain, forget))]


def ascent(gradient: Gradient, radius: float) -> Gradient:
    """ρ g / ‖g‖, the worst perturbation of length ρ to first order; 0 where g is."""
    length = dot(gradient, gradient).sqrt()
    scale = torch.where(length > 0, radius / length, torch.zeros_like(length))
    return [scale * value for value in gradient]


# By name: what is made of γ ∇L_forget and α ∇L_retain. (sam's forget gradient is that of perturbed weights.)
COMBINED: Mapping[str, Callable[[Gradient, Gradient], Gradient]] = {
    "sam": lambda forget, retain: [one + other for one, other in zip(forget, retain)],
    "gru": gru,
    "blur": blur,
}
NAMES = ("none", *COMBINED)


class SplitCollator:
    """Examples of pairs to two batches, that of all rows but the retain rows and that of the retain rows.

    Args:
        collate: makes a batch of examples.
    """

    def __init__(self, collate: Collator):
        self.collate = collate

    def __call__(self, features: Sequence[Sequence[Example]]) -> dict[str, dict[str, torch.Tensor]]:
        parts: dict[str, list[list[Example]]] = {FORGET: [], RETAIN: []}
        for feature in features:
            parts[FORGET].append([example for example in feature if example.role != Role.RETAIN])
            parts[RETAIN].append([example for example in feature if example.role == Role.RETAIN])
        return {name: self.collate(rows) for name, rows in parts.items() if any(rows)}


def check(name: str, trainer: UnlearnTrainer) -> None:
    """Whether a run can be wrapped.

    Raises:
        RememError: it has one gradient alone, or none that can be taken apart.
    """
    args = trainer.args
    if not trainer.trains or trainer.rows.forget is None:
        raise RememError(f"--wrap {name}: {trainer.name} has no forget loss that is trained on")
    if name != "sam" and (args.alpha == 0 or Role.RETAIN not in trainer.roles):
        raise RememError(f"--wrap {name} sets the forget against the retain gradient: --alpha must not be 0")
    if trainer.sharded or args.fp16:
        raise RememError(f"--wrap {name}: neither FSDP, DeepSpeed nor --fp16")
    if name == "sam" and args.sam_rho <= 0:
        raise RememError(f"--sam_rho {args.sam_rho}: above 0")


class TwoGradients:
    """Collects the gradients of a step's micro-batches and puts what is made of them where the optimizer looks.

    Args:
        trainer: gives losses, weights and the number of micro-batches.
        name: of `COMBINED`.
    """

    def __init__(self, trainer: UnlearnTrainer, name: str):
        self.trainer, self.name = trainer, name
        self.sums: dict[str, Gradient] = {}
        self.forget_batches: list[dict[str, Any]] = []

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [value for value in self.trainer.model.parameters() if value.requires_grad]

    def _add(self, part: str, inputs: Mapping[str, Any], log: bool = True) -> torch.Tensor:
        """Adds the gradient of a part's loss, divided by the step's micro-batches; the loss."""
        trainer, parameters = self.trainer, self.parameters
        with trainer.compute_loss_context_manager():
            loss, _ = trainer.loss_of(trainer.model, inputs, log=log)
        loss = loss / trainer.current_gradient_accumulation_steps
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        known = self.sums.setdefault(
            part, [torch.zeros_like(value, dtype=torch.float32) for value in parameters]
        )
        for total, value in zip(known, found):
            if value is not None:
                total += value
        return loss.detach()

    def micro_step(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """One micro-batch; at the last one of a step the gradients are set. The loss, as `training_step` gives it."""
        trainer = self.trainer
        trainer.model.train()
        parts = trainer._prepare_inputs(inputs)
        total = sum(self._add(part, parts[part]) for part in (FORGET, RETAIN) if part in parts)
        if self.name == "sam" and FORGET in parts:
            self.forget_batches.append(parts[FORGET])
        if trainer.accelerator.sync_gradients:
            self._finish()
        return total

    def _reduced(self, part: str) -> Gradient:
        """The sum of a part over the step, averaged over processes; zeros if the step has no such rows."""
        found = self.sums.pop(part, None)
        if found is None:
            return [torch.zeros_like(value, dtype=torch.float32) for value in self.parameters]
        if self.trainer.accelerator.num_processes > 1:
            found = [self.trainer.accelerator.reduce(value, reduction="mean") for value in found]
        return found

    @torch.no_grad()
    def _moved(self, by: Gradient, sign: int) -> None:
        for value, step in zip(self.parameters, by):
            value.add_(step.to(value.dtype), alpha=sign)

    def _finish(self) -> None:
        forget, retain = self._reduced(FORGET), self._reduced(RETAIN)
        if self.name == "sam":
            before = [value.detach().clone() for value in self.parameters]
            self._moved(ascent(forget, self.trainer.args.sam_rho), 1)
            for inputs in self.forget_batches:
                self._add(FORGET, inputs, log=False)
            self.forget_batches = []
            with torch.no_grad():
                for value, old in zip(self.parameters, before):
                    value.copy_(old)
            forget = self._reduced(FORGET)
        combined = COMBINED[self.name](forget, retain)
        l1 = self.trainer.l1_gradient()
        for number, value in enumerate(self.parameters):
            found = combined[number] if l1 is None else combined[number] + l1[number]
            value.grad = found.to(value.dtype)
