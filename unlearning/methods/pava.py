"""Gradient ascent in the MLPs that answers come from, anchored to the model's own answers."""

from dataclasses import replace
from typing import ClassVar

from unlearning.data import spread
from unlearning.mechanisms import anchors
from unlearning.methods.grad_diff import GradDiff
from unlearning.trainer import Option


class PAVA(GradDiff):
    """L = −γ · mean NLL(F) + α · mean NLL(R → the model's own answer), in the quarter of the MLP layers with the highest indirect effect on the answers to F."""

    name = "pava"
    whole = True
    trained_share = 8 * 0.1353 / 7.063  # eight MLPs
    options: ClassVar = {
        "pava_rows": Option(16, "forget rows over which a layer's effect is averaged; 0: all"),
        "pava_anchors": Option(64, "retain rows that the model answers itself, spread evenly; 0: all"),
    }
    defaults: ClassVar = {"alpha": 3.0}
    source, fidelity = "arXiv 2608.30649", "our reading"
    upstream = "The paper was not read in full: the quarter of the MLP layers, the model's own answers and λ = 3 (α here) are its; that L_forget is ascent, and that an effect is what an MLP's clean output brings back of an answer to a noisy prompt (as in arXiv 2202.05262), are ours."

    def examples(self, rows):
        return super().examples(replace(rows, retain=spread(rows.retain, self.args.pava_anchors)))

    def restrict(self):
        args, forget = self.args, self.train_dataset.forget
        self.notes["layers"] = anchors.train_most_effective(self.forward, forget, args.pava_rows, args.seed)

    def prepare(self):
        data = self.train_dataset
        data.anchors = anchors.own_answers(self.forward, data.retain, self.args.per_device_eval_batch_size)
