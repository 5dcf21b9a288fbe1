"""Representation misdirection for unlearning."""

from typing import ClassVar

from unlearning import losses
from unlearning.mechanisms import steering
from unlearning.trainer import Option, UnlearnTrainer


class RMU(UnlearnTrainer):
    """L_forget = mean ‖h_L − c·u‖² / d over answer tokens, u a fixed unit vector; L_retain = mean ‖h_L − h_L,ref‖² / d."""

    name = "rmu"
    reference = "hidden"
    trained_share = 3 * 0.2024 / 7.063  # three decoder layers
    options: ClassVar = {
        "rmu_layer": Option(-1, "layer L, from 0; -1: about a quarter of the depth"),
        "rmu_coeff": Option(0.0, "length c of the target; 0: rmu_scale times each token's ‖h_L,ref‖"),
        "rmu_scale": Option(5.0, "c in multiples of ‖h_L,ref‖ where rmu_coeff is 0"),
    }
    defaults: ClassVar = {"retain_loss": "hidden"}
    grid: ClassVar = {"alpha": (1.0, 100.0)}
    source, fidelity = "Li et al. 2024, arXiv 2403.03218; c by the norm of h: arXiv 2408.06223", "our reading"
    upstream = "How many norms of h the target has is left open (`--rmu_scale`); the paper's c is a constant (6.5 to 300 by model: `--rmu_coeff`) and its α 100 to 1600; its code trains down projections alone. CLEAR compares the mean over all tokens, image and padding too."

    def restrict(self):
        self.layer = steering.train_layers_up_to(self.model, self.args.rmu_layer, self.notes)

    def forget_loss(self, batch):
        rows, args = batch.forget, self.args
        length = args.rmu_coeff or args.rmu_scale * rows.reference_hidden.norm(dim=-1, keepdim=True)
        target = length * steering.direction(args.seed, rows.hidden)
        return losses.hidden_distance(rows.hidden, target, rows.token_count)
