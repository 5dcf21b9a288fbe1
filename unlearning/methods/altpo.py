"""Alternate preference optimisation: a plausible other answer preferred to the true one."""

from unlearning.data import Role
from unlearning.methods.dpo import DPO


class AltPO(DPO):
    """As dpo, with a plausible other answer in place of the refusal (see `--alternatives`)."""

    name = "altpo"
    roles = (Role.FORGET, Role.ALT, Role.RETAIN)
    source = "Mekala et al. 2024, arXiv 2409.13474"
    fidelity = "our reading"
    upstream = (
        "The paper samples its alternatives from the model before unlearning, as `--alternatives model` does in our words; "
        "where the data set has wrong answers beside its rows they are taken first."
    )

    def preferred(self, batch):
        return batch.alt
