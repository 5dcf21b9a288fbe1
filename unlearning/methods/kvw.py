"""Knowledge vector weakening: a training-free edit of the MLPs."""

from typing import ClassVar

from unlearning.mechanisms import neurons
from unlearning.trainer import Option, UnlearnTrainer


class KVW(UnlearnTrainer):
    """No training: after each forget row the MLP neurons are multiplied by exp(−γ max(0, ln k_F − ln k_R)), k the mean |z| at the tokens that predict an answer."""

    name = "kvw"
    trains = False
    adapters = False
    options: ClassVar = {
        "kvw_gamma": Option(0.02, "γ: how much weaker a neuron gets after one row"),
        "kvw_passes": Option(1, "how often it goes over the forget rows"),
        "kvw_rows": Option(0, "retain rows of k_R, which is computed once; 0: all"),
        "kvw_first": Option(1, "the first decoder layer that is changed, from 0"),
        "kvw_last": Option(25, "the last one, or that of the model if it has fewer"),
    }
    grid: ClassVar = {"kvw_gamma": (0.02, 0.1, 0.5), "kvw_passes": (1, 5)}
    source = "Kim et al. 2026, arXiv 2601.21794"
    fidelity = "official code"
    upstream = "Its script goes over the forget rows once, one at a time, as here in the order of their table. A row that its code cannot serve is left out in silence; here it ends the run."

    def finish(self):
        args, given = self.args, (self.forward, self.rows, self.encoder)
        layers = (args.kvw_first, args.kvw_last)
        self.notes["weakened"] = neurons.weaken(
            *given, args.kvw_gamma, args.kvw_passes, args.kvw_rows, layers
        )
