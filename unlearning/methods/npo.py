"""Negative preference optimisation."""

from typing import ClassVar

from unlearning import losses
from unlearning.trainer import Option, UnlearnTrainer


class NPO(UnlearnTrainer):
    """L_forget = −(2/β) · mean ln σ(β (N_θ − N_ref)), sums over answer tokens (arXiv 2404.05868)."""

    name = "npo"
    reference = "nll"
    options: ClassVar = {"npo_beta": Option(0.1, "inverse temperature β; near 0 it is gradient ascent")}
    source = "Zhang et al. 2024, arXiv 2404.05868, eq. 3"
    upstream = (
        "CLEAR takes the ratio over the whole vocabulary at every position, other baselines the mean NLL."
    )

    def forget_loss(self, batch):
        rows = batch.forget
        return losses.npo(rows.sequence_nll, rows.reference_nll, self.args.npo_beta, rows.row_count)
