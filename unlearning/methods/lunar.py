"""Redirection of activations to those of a refusal."""

from typing import ClassVar

from unlearning import losses
from unlearning.mechanisms import steering
from unlearning.trainer import Option, UnlearnTrainer


class LUNAR(UnlearnTrainer):
    """L_forget = mean ‖h_L − (h_L,ref + r)‖² / d, r the mean of h_L at refusals of the forget questions less that at their answers, before training; L_retain = mean ‖h_L − h_L,ref‖² / d."""

    name = "lunar"
    reference = "hidden"
    whole = True
    trained_share = 0.0451 / 7.063  # one down projection
    options: ClassVar = {
        "lunar_layer": Option(-1, "layer L, from 0; -1: at two thirds of the depth"),
        "lunar_scale": Option(1.0, "how many r the target is away"),
        "lunar_rows": Option(64, "forget rows over which r is averaged; 0: all"),
    }
    defaults: ClassVar = {"retain_loss": "hidden", "learning_rate": 1e-3}
    source, fidelity = "Shen et al. 2025, arXiv 2502.07218", "our reading"
    upstream = "One down projection is trained, as in the paper, which was not read in full: that states are those at answer tokens, that refusals stand for questions the model cannot answer, and L (the paper searches it) are ours."

    def restrict(self):
        self.layer = steering.train_down_projection(self.model, self.args.lunar_layer, self.notes)

    def prepare(self):
        self.shift = steering.shift(self.forward, self.train_dataset, self.layer, self.args.lunar_rows)

    def forget_loss(self, batch):
        rows = batch.forget
        target = rows.reference_hidden + self.args.lunar_scale * self.shift.to(rows.hidden)
        return losses.hidden_distance(rows.hidden, target, rows.token_count)
