"""Selective knowledge negation unlearning: learn the forget rows harder, then subtract what was learned."""

from typing import ClassVar

from unlearning.data import Role
from unlearning.mechanisms import vectors
from unlearning.trainer import Option, UnlearnTrainer

K = 3


class SKU(UnlearnTrainer):
    """L = 2.5 NLL(F) + 3 NLL(F → random answer) − .5 KL(p_ref ‖ p_θ) on R; then θ ← θ_ref − a (θ − θ_ref)."""

    name = "sku"
    roles = (Role.FORGET, *[Role.OTHER] * K, Role.RETAIN)
    options: ClassVar = {
        "sku_bad": Option(2.5, "weight of the NLL of the forget rows"),
        "sku_scale": Option(1.0, "a, how much of the learned change is subtracted"),
    }
    defaults: ClassVar = {"alpha": -0.5, "retain_loss": "kl"}
    grid: ClassVar = {"sku_scale": (1.0, 3.0)}
    source = "Liu et al. 2024, arXiv 2402.10058; weights of CLEAR (ACL version)"
    fidelity = "official code"
    upstream = "Random answers are those of other forget rows, as CLEAR has it. That three of them are drawn per row and step, that all losses are means over answer tokens, and the KL's direction are ours."

    def forget_loss(self, batch):
        return self.args.sku_bad * batch.forget.token_nll + K * batch.other.token_nll

    def finish(self):
        vectors.negate(self.accelerator.unwrap_model(self.model), self.args.sku_scale, self.load_start)
