"""Random noise augmentation: rmu whose retain target is noisy."""

from typing import ClassVar

from unlearning import losses
from unlearning.mechanisms import steering
from unlearning.methods.rmu import RMU
from unlearning.trainer import Option


class RNA(RMU):
    """As rmu, with L_retain = mean ‖h_L − (h_L,ref + δ)‖² / d, δ drawn from N(0, ν) at every step."""

    name = "rna"
    options: ClassVar = {**RMU.options, "rna_nu": Option(0.01, "variance ν of the noise")}
    source = "Dang et al. 2025, arXiv 2501.19202; on rmu, see there"
    upstream = "The paper was not read in full: that the noise is on the target of rmu's own layer, and ν, are ours. It has the same for losses on outputs."

    def retain_loss(self, batch):
        rows, args = batch.retain, self.args
        if args.retain_loss != "hidden":
            return super().retain_loss(batch)
        drawn = steering.noise(args.seed, self.state.global_step, rows, rows.hidden)
        target = rows.reference_hidden + args.rna_nu**0.5 * drawn
        return losses.hidden_distance(rows.hidden, target, rows.token_count)
