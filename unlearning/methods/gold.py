"""Stage 1 without the identities that are to be forgotten: what perfect unlearning would give."""

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class Gold(UnlearnTrainer):
    """Gold model: sft on the finetune split without the identities of the forget split."""

    name = "gold"
    stage = 1
    rows_from = "retain"
    roles = (Role.PLAIN,)
    source = "ReMem, the gold model"
