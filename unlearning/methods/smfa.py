"""Sculpted memory forgetting adapter: refusals are learned, then what of that harms retain rows is taken back."""

from typing import ClassVar

from unlearning.data import Role
from unlearning.mechanisms import sculpt
from unlearning.trainer import Option, UnlearnTrainer


class SMFA(UnlearnTrainer):
    """L = mean NLL(F question → refusal), which gives θ_F; then θ ← θ_ref + M (θ_F − θ_ref), M = m where (θ_F − θ_ref) ∂NLL(R)/∂θ > 0 at θ_F, 1 elsewhere."""

    name = "smfa"
    roles = (Role.IDK,)
    own_bytes = 4  # the gradient of the retain rows
    options: ClassVar = {
        "smfa_left": Option(
            -1.0, "m, from 0 to 1; -1: so that the change as a whole raises NLL(R) no more, to first order"
        ),
        "smfa_rows": Option(64, "retain rows over which their gradient is averaged; 0: all"),
    }
    defaults: ClassVar = {"alpha": 0.0, "learning_rate": 1e-4}
    grid: ClassVar = {"smfa_left": (-1.0, 0.5)}
    source, fidelity = "Zeng et al. 2025, arXiv 2511.20196", "our reading"
    upstream = "Of the paper its abstract was read: refusals first, then a mask guided by an anchor of what is kept. That the anchor is the gradient of the retain rows at θ_F, the mask its sign, and m are ours (m = 0, a mask in the strict sense, takes back nearly all of a refusal that was learned for F alone). With LoRA B alone is masked."

    def restrict(self):
        sculpt.check_left(self.args.smfa_left)

    def forget_loss(self, batch):
        return batch.idk.token_nll

    def finish(self):
        args, given = self.args, (self.forward, self.train_dataset.retain, self.load_start)
        self.notes["sculpted"] = sculpt.sculpt(*given, args.smfa_rows, args.smfa_left)
