"""Stage 1: learning the identities."""

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class SFT(UnlearnTrainer):
    """Memorise: L = mean NLL of the answers of the finetune split."""

    name = "sft"
    stage = 1
    rows_from = "finetune"
    roles = (Role.PLAIN,)
    source = "ReMem, stage 1"
