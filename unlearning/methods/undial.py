"""Unlearning by self-distillation on adjusted logits."""

from typing import ClassVar

from unlearning import losses
from unlearning.trainer import Option, UnlearnTrainer


class UNDIAL(UnlearnTrainer):
    """L_forget = mean CE(p_θ, softmax(z_ref − β·onehot(y))) over answer tokens."""

    name = "undial"
    reference = "logits"
    options: ClassVar = {"undial_beta": Option(10.0, "how far the answer token's logit is pressed down")}
    defaults: ClassVar = {"alpha": 0.0, "learning_rate": 1e-4}
    source = "Dong et al. 2024, arXiv 2402.10052"
    upstream = "open-unlearning averages over every position, prompt and padding too."

    def forget_loss(self, batch):
        rows = batch.forget
        beta = self.args.undial_beta
        return losses.undial(rows.logits, rows.reference_logits, rows.labels, beta, rows.token_count)
