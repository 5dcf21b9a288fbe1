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
    defaults: ClassVar = {"alpha": 100.0}
    grid: ClassVar = {"alpha": (100.0, 1.0)}
    source = "Entesari et al. 2025, arXiv 2506.05314"
    fidelity = "official code"
    upstream = "λ starts at 100 as in its script: from 1 it falls to 0 at the first step of a model whose retain NLL is .1 or less, and nothing is retained until that has risen above ε. Its code moves λ at every micro-batch and only after warm-up epochs; here once a step, from the mean over micro-batches and processes, without warm-up."

    def forget_loss(self, batch):
        return losses.logit_margin(batch.forget.logits, batch.forget.token_count)
