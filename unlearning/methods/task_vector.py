"""Task arithmetic: memorise the forget rows, then go the same way backwards."""

from typing import ClassVar

from unlearning.data import Role
from unlearning.mechanisms import vectors
from unlearning.trainer import Option, UnlearnTrainer


class TaskVector(UnlearnTrainer):
    """L = mean NLL(F), which gives θ_F; then θ ← θ_ref − a (θ_F − θ_ref)."""

    name = "task_vector"
    roles = (Role.FORGET,)
    options: ClassVar = {"task_scale": Option(1.0, "a, to be swept; MUSE used 5")}
    defaults: ClassVar = {"alpha": 0.0}
    grid: ClassVar = {"task_scale": (1.0, 5.0)}
    source = "Ilharco et al. 2023, arXiv 2212.04089; in unlearning MUSE, arXiv 2407.06460"

    def forget_loss(self, batch):
        return batch.forget.token_nll

    def finish(self):
        vectors.negate(self.accelerator.unwrap_model(self.model), self.args.task_scale, self.load_start)
