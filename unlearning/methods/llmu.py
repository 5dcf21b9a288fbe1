"""Large language model unlearning."""

from typing import ClassVar

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class LLMU(UnlearnTrainer):
    """L_forget = −mean NLL(F) + mean NLL(F → refusal); L_retain = KL(p_ref ‖ p_θ) on R."""

    name = "llmu"
    roles = (Role.FORGET, Role.IDK, Role.RETAIN)
    defaults: ClassVar = {"retain_loss": "kl"}
    source = "Yao et al. 2023, arXiv 2310.10683, with CLEAR's refusals as the mismatched answers"
    fidelity = "official code"
    upstream = "The paper draws answers of other rows, CLEAR refusals; CLEAR takes the retain KL the other way round, KL(p_θ ‖ p_ref)."

    def forget_loss(self, batch):
        return batch.idk.token_nll - batch.forget.token_nll
