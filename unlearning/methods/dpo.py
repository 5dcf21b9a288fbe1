"""Direct preference optimisation: a refusal preferred to the true answer."""

from typing import ClassVar

from unlearning import losses
from unlearning.data import Role
from unlearning.trainer import Option, UnlearnTrainer

SCALE = Option("2/beta", "factor of the loss: 2/beta, under which it tends to npo, or 1", ("2/beta", "1"))


class DPO(UnlearnTrainer):
    """L_forget = −(2/β) · mean ln σ(β [ln p_θ(idk)/p_ref(idk) − ln p_θ(y)/p_ref(y)]), sums over answer tokens."""

    name = "dpo"
    roles = (Role.FORGET, Role.IDK, Role.RETAIN)
    reference = "nll"
    options: ClassVar = {"dpo_beta": Option(0.1, "inverse temperature β"), "dpo_scale": SCALE}
    source = "Rafailov et al. 2023, arXiv 2305.18290, eq. 7; as an unlearning baseline TOFU, arXiv 2401.06121"
    fidelity = "official code"
    upstream = "The paper's factor is 1 (`--dpo_scale 1`), open-unlearning's 2/β. CLEAR overwrites its DPO loss with a refusal term."

    def forget_loss(self, batch):
        won, lost, beta = self.preferred(batch), batch.forget, self.args.dpo_beta
        factor = 1.0 if self.args.dpo_scale == "1" else 2 / beta
        sums = (won.sequence_nll, won.reference_nll, lost.sequence_nll, lost.reference_nll)
        return losses.dpo(*sums, beta, factor, lost.row_count)

    def preferred(self, batch):
        return batch.idk
