"""Single image unlearning: another answer is learned, the rest of what the model would say is kept."""

from typing import ClassVar

from unlearning import losses
from unlearning.data import Role
from unlearning.mechanisms.alternatives import masks
from unlearning.trainer import Option, UnlearnTrainer


class SIU(UnlearnTrainer):
    """L_forget = a · mean NLL(F → other answer) + b · mean K_S Σ_v K_V p_ref ln(p_ref / p_θ) there; L_retain = NLL(R) + KL(p_ref ‖ p_θ) on R."""

    name = "siu"
    roles = (Role.FORGET, Role.ALT, Role.RETAIN)
    reference = "logits"
    options: ClassVar = {
        "siu_ce": Option(0.9, "weight a"),
        "siu_kl": Option(0.75, "weight b"),
    }
    defaults: ClassVar = {"retain_loss": "nll+kl"}
    source, fidelity = "Li et al. 2024, arXiv 2405.12523", "our reading"
    upstream = "The paper writes its training texts for each concept, with a name and a look that are new; here they are other answers (see `--alternatives`). K_S leaves out tokens of the other answer that the true one has not, K_V words of the true answer that the other has not."

    def forget_loss(self, batch):
        rows, args = batch.alt, self.args
        tokens, words = masks(batch.forget, rows)
        kept = losses.dual_masked_kl(rows.reference_logits, rows.logits, tokens, words, rows.token_count)
        return args.siu_ce * rows.token_nll + args.siu_kl * kept
