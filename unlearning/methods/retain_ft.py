"""Fine-tuning on what is to be kept."""

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class RetainFT(UnlearnTrainer):
    """Retain fine-tuning: L_forget = 0, L = α · mean NLL(R)."""

    name = "retain_ft"
    rows_from = "retain"
    roles = (Role.RETAIN,)
    source = "CLEAR, arXiv 2410.18057"
