"""Stage 1: learning the identities, all of them or all but those to be forgotten."""

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class SFT(UnlearnTrainer):
    """Memorise: L = mean NLL of the answers of the finetune split."""

    name = "sft"
    rows_from = "finetune"
    roles = (Role.PLAIN,)


class Gold(UnlearnTrainer):
    """Gold model: sft on the finetune split without the identities of the forget split."""

    name = "gold"
    rows_from = "retain"
    roles = (Role.PLAIN,)
