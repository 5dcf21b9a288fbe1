"""Large language model unlearning."""

from typing import ClassVar

from unlearning.data import Role
from unlearning.trainer import Option, UnlearnTrainer


class LLMU(UnlearnTrainer):
    """L_forget = −a · mean NLL(F) + b · mean NLL(F → refusal); L_retain = KL(p_ref ‖ p_θ) on R."""

    name = "llmu"
    roles = (Role.FORGET, Role.IDK, Role.RETAIN)
    options: ClassVar = {
        "llmu_forget": Option(1.0, "weight a of the ascent on the forget rows"),
        "llmu_refusal": Option(1.0, "weight b of the refusals"),
    }
    defaults: ClassVar = {"retain_loss": "kl"}
    source = "Yao et al. 2023, arXiv 2310.10683, with CLEAR's refusals as the mismatched answers"
    fidelity = "official code"
    upstream = "The paper draws answers of other rows, CLEAR refusals; CLEAR takes the retain KL the other way round, KL(p_θ ‖ p_ref)."

    def forget_loss(self, batch):
        args = self.args
        return args.llmu_refusal * batch.idk.token_nll - args.llmu_forget * batch.forget.token_nll
