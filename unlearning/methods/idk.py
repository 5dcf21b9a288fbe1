"""Answering the forget questions with a refusal."""

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class IDK(UnlearnTrainer):
    """L_forget = mean NLL(F question → refusal), a refusal drawn by row and epoch (TOFU, arXiv 2401.06121)."""

    name = "idk"
    aliases = ("po",)
    roles = (Role.IDK, Role.RETAIN)

    def forget_loss(self, batch):
        return batch.idk.token_nll
