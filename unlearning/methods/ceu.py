"""Cross-entropy unlearning."""

from typing import ClassVar

from remem_tasks.errors import RememError
from unlearning import evaluation, losses
from unlearning.trainer import Option, UnlearnTrainer


class CEU(UnlearnTrainer):
    """L = mean CE(p_θ, softmax(z with z_y = −∞)) over answer tokens, the target a constant; no retain term."""

    name = "ceu"
    logits = True
    options: ClassVar = {"ceu_skip": Option(1, "answer tokens left out at the beginning")}
    defaults: ClassVar = {"alpha": 0.0}
    source = "Yang 2025, arXiv 2503.01224; that the first token is left out is in its footnote on training"

    @property
    def skip(self):
        return self.args.ceu_skip

    def prepare(self):
        if self.skip > (longest := evaluation.longest(self.train_dataset.forget)):
            raise RememError(
                f"--ceu_skip {self.skip} leaves nothing of any answer: the longest has {longest + 1} tokens"
            )

    def forget_loss(self, batch):
        later = batch.forget.position >= self.args.ceu_skip
        return losses.ceu(batch.forget.logits[later], batch.forget.labels[later], batch.forget.token_count)
