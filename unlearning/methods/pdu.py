"""Primal-dual unlearning: flat logits on the forget rows, the retain loss a constraint."""

from typing import ClassVar

from unlearning import losses
from unlearning.mechanisms.dual import Constrained
from unlearning.trainer import Option


class PDU(Constrained):
    """L = γ · mean (max z − mean z)² + λ (NLL(R) − ε); after each step λ ← max(0, λ + s (NLL(R) − ε)), from λ = α."""

    name = "pdu"
    logits = True
    eps, step = "pdu_eps", "pdu_step"
    options: ClassVar = {
        "pdu_eps": Option(0.3, "ε, the retain NLL that is allowed; a little above that before unlearning"),
        "pdu_step": Option(5.0, "step size s of the dual variable"),
    }
    grid: ClassVar = {"alpha": (1.0, 100.0)}
    source = "Entesari et al. 2025, arXiv 2506.05314"
    fidelity = "official code"
    upstream = "Its script starts λ at 100 (`--alpha 100`). Its code moves λ at every micro-batch and only after warm-up epochs; here once a step, from the mean over micro-batches and processes, without warm-up."

    def forget_loss(self, batch):
        return losses.logit_margin(batch.forget.logits, batch.forget.token_count)
