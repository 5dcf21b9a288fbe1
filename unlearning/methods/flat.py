"""Forget data only loss adjustment."""

from typing import ClassVar

from unlearning import losses
from unlearning.data import Role
from unlearning.trainer import Option, UnlearnTrainer

DIVERGENCE = Option("kl", "f-divergence that is made large", tuple(losses.DIVERGENCES))


class FLAT(UnlearnTrainer):
    """L = −mean g*(P(refusal)) + mean f*(g*(P(y))), P the mean token probability of an answer; no retain term."""

    name = "flat"
    roles = (Role.FORGET, Role.IDK, Role.RETAIN)
    options: ClassVar = {"flat_divergence": DIVERGENCE}
    defaults: ClassVar = {"alpha": 0.0}
    source = "Wang et al. 2024, arXiv 2410.11143, table 2"
    upstream = "Its code applies g* to the mean P of a batch, here (as in the expectation of the paper) to each answer's."

    def forget_loss(self, batch):
        template, forget = (
            losses.mean_probability(rows.log_probs, rows.mask) for rows in (batch.idk, batch.forget)
        )
        return losses.flat(template, forget, self.args.flat_divergence, batch.forget.row_count)
