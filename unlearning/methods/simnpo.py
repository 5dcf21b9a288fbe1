"""NPO without a reference, on length-normalised answers."""

from typing import ClassVar

from unlearning import losses
from unlearning.trainer import Option, UnlearnTrainer


class SimNPO(UnlearnTrainer):
    """L_forget = −(2/β) · mean ln σ(β N/n − δ), N/n the mean NLL of an answer; no reference."""

    name = "simnpo"
    options: ClassVar = {
        "simnpo_beta": Option(4.5, "inverse temperature β"),
        "simnpo_delta": Option(0.0, "reward margin δ"),
    }
    defaults: ClassVar = {"gamma": 0.125}
    source = "Fan et al. 2024, arXiv 2410.07163"
    upstream = "open-unlearning puts δ inside the bracket that β multiplies; the same at δ = 0."

    def forget_loss(self, batch):
        rows = batch.forget
        beta, delta = self.args.simnpo_beta, self.args.simnpo_delta
        return losses.simnpo(rows.sequence_nll, rows.tokens, beta, delta, rows.row_count)
