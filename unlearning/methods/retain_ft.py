"""Fine-tuning on what is to be kept."""

from typing import ClassVar

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class RetainFT(UnlearnTrainer):
    """Retain fine-tuning: L_forget = 0, L = α · mean NLL(R)."""

    name = "retain_ft"
    rows_from = "retain"
    roles = (Role.RETAIN,)
    grid: ClassVar = {}  # α would only scale the loss, which AdamW undoes
    source = "CLEAR, arXiv 2410.18057"
