"""How a training steps: its optimizer, what it logs, and that nothing goes on from a number that is not finite."""

from __future__ import annotations

import math

import torch

from remem_tasks import checkpoints
from remem_tasks.checkpoint_files import some
from remem_tasks.errors import NonFiniteError, RememError
from unlearning import weights as checkpoint
from unlearning.resume import ResumableTrainer

LARGEST = 1e6
"""A trained weight beyond it is one that a run flung away: those of released models are below a thousand."""


class NotFinite(NonFiniteError):
    """A loss, a gradient or an evaluation that is not a finite number: the run has failed, it did not forget."""


class SteppingTrainer(ResumableTrainer):
    """Stops before the optimizer moves where a loss, a gradient or a weight is not finite."""

    def create_optimizer(self, model=None):
        """As the base class; `--vision_lr` moves the vision tower into groups with that learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        try:
            optimizer = super().create_optimizer(model)
        except (ImportError, ValueError, TypeError, KeyError, NotImplementedError) as error:
            name = getattr(self.args.optim, "value", self.args.optim)
            raise RememError(f"--optim {name}: {checkpoints.reason(error)}") from error
        rate = self.args.vision_lr
        if rate is None:
            return optimizer
        tower = {id(p) for n, p in self.model.named_parameters() if checkpoint.part_of(n) == "vision_tower"}
        moved = 0
        for group in list(optimizer.param_groups):
            inside = [p for p in group["params"] if id(p) in tower]
            group["params"] = [p for p in group["params"] if id(p) not in tower]
            if inside:
                moved += len(inside)
                optimizer.add_param_group({**group, "params": inside, "lr": rate})
        if not moved:
            raise RememError("--vision_lr is given, but no parameter of the vision tower is trained")
        return optimizer

    def check_losses(self) -> None:
        """Raise a NotFinite if a loss of the step is none: asked once a step, since asking waits for the device."""
        kept, self._losses = self._losses, []
        if self.args.fp16 or not kept:
            return
        finite = torch.isfinite(torch.stack([figures["loss"] for figures in kept])).tolist()
        if not all(finite):
            self._not_finite("loss", **kept[finite.index(False)])

    def check_weights(self) -> None:
        """Raise a NotFinite if a trained weight is none after the last step, of which no loss can tell any more."""
        if self.sharded:
            return
        broken = [
            name
            for name, value in self.model.named_parameters()
            if value.numel()
            and not float(value.detach().abs().max()) <= (LARGEST if value.requires_grad else math.inf)
        ]
        if broken:
            raise NotFinite(
                f"after step {self.state.global_step} weights are NaN, infinite or beyond {LARGEST:g} ({some(broken)}); nothing "
                "was saved after the last checkpoint. Try a lower --learning_rate"
            )

    def _not_finite(self, what: str, loss: torch.Tensor | float, **figures: torch.Tensor) -> None:
        shown = ", ".join(f"{name} {float(figure):.4g}" for name, figure in figures.items())
        raise NotFinite(
            f"step {self.state.global_step + 1}: the {what} is {float(loss)}{f' ({shown})' if shown else ''}; "
            "nothing was saved after the last checkpoint. Try a lower --learning_rate"
        )

    def _get_grad_norm(self, model, grad_norm=None):
        # Checked before the optimizer moves: a checkpoint never holds weights that are not finite. The
        # gradient is averaged by now, so all processes stop at the same step.
        self.check_losses()
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # (In fp16 the loss scaler itself meets infinite gradients, and skips the step.)
        if grad_norm is not None and not self.args.fp16 and not math.isfinite(float(grad_norm)):
            self._not_finite("gradient norm", grad_norm)
        return grad_norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Means since the last log, over all processes (kept as tensors until now: no sync in a step)."""
        kept = self._metrics["train" if self.model.training else "eval"]
        for name, values in kept.items():
            mean = torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in values]).mean()
            if self.accelerator.num_processes > 1:
                mean = self.accelerator.reduce(mean.to(self.accelerator.device), reduction="mean")
            kept[name] = [mean.item()]
        super().log(logs, start_time)
