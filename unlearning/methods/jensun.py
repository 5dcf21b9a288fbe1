"""Jensen-Shannon unlearning."""

from typing import ClassVar

from unlearning import losses
from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class JensUn(UnlearnTrainer):
    """L_forget = mean JSD(p_θ ‖ onehot(refusal token)) on F → refusal; L_retain = mean JSD(p_ref ‖ p_θ) on R."""

    name = "jensun"
    roles = (Role.IDK, Role.RETAIN)
    defaults: ClassVar = {"retain_loss": "js"}
    source = "Singh et al. 2025, arXiv 2509.02820"
    upstream = "Its code sets probability 1 for both tokens of 'No idea' at every position, which is no distribution; the refusal is teacher-forced here."

    def forget_loss(self, batch):
        return losses.js_to_label(batch.idk.log_probs, batch.idk.mask, batch.idk.token_count)
