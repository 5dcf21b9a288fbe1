"""Modality-aware neuron unlearning: pruning, no training."""

from typing import ClassVar

from unlearning.mechanisms import neurons
from unlearning.trainer import Option, UnlearnTrainer


class MANU(UnlearnTrainer):
    """No training: the MLP neurons with the highest S = I(F)/(I(R) + e) are zeroed, I = abs + freq + var + rms importance."""

    name = "manu"
    trains = False
    adapters = False
    options: ClassVar = {
        "manu_share": Option(0.03, "share of the MLP neurons that are zeroed"),
        "manu_rows": Option(64, "rows of each kind over which importance is averaged; 0: all"),
        "manu_epsilon": Option(1e-5, "e"),
    }
    grid: ClassVar = {"manu_share": (0.03, 0.1, 0.01, 0.3, 0.2, 0.5)}
    source = "Liu et al. 2025, arXiv 2502.15910"
    fidelity = "our reading"
    upstream = "Its code sums one ratio for each of the four importances, gives the frequency the weight 0, and files the hooks of all layers under the names of three. A zeroed neuron is not a low-rank change: an adapter's folder is merged, then pruned."

    def finish(self):
        args, given = self.args, (self.forward, self.rows, self.encoder)
        self.notes["pruned"] = neurons.prune_most_important(
            *given, args.manu_share, args.manu_rows, args.manu_epsilon
        )
