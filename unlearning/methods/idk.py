"""Answering the forget questions with a refusal."""

from unlearning.data import Role
from unlearning.trainer import UnlearnTrainer


class IDK(UnlearnTrainer):
    """L_forget = mean NLL(F question → refusal), a refusal drawn by row and epoch (TOFU, arXiv 2401.06121)."""

    name = "idk"
    aliases = ("po",)
    roles = (Role.IDK, Role.RETAIN)
    source = "TOFU, arXiv 2401.06121; FIUBench, arXiv 2411.03554, with learning rate 1e-4 and LoRA rank 128"
    upstream = (
        "A released baseline formats the true answer here: it copies the row and goes on with the original."
    )

    def forget_loss(self, batch):
        return batch.idk.token_nll
