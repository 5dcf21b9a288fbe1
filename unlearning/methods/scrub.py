"""SCRUB: away from the teacher on the forget rows, with it on the others."""

from typing import ClassVar

from unlearning import losses
from unlearning.trainer import Option, UnlearnTrainer


class SCRUB(UnlearnTrainer):
    """L_forget = −KL(p_ref ‖ p_θ) on F; L_retain = NLL(R) + KL(p_ref ‖ p_θ) on R."""

    name = "scrub"
    reference = "logits"
    options: ClassVar = {
        "scrub_forget_kl": Option(
            "ref", "ref: KL(p_ref ‖ p_θ), model: the other way round", ("ref", "model")
        ),
        "scrub_alternate": Option(False, "steps on F alone and on R alone in turn, as the paper has it"),
    }
    defaults: ClassVar = {"retain_loss": "nll+kl"}
    source, fidelity = "Kurmanji et al. 2023, arXiv 2302.09880", "official code"
    upstream = "The paper alternates (`--scrub_alternate true`). CLEAR is joint, with the KL as `--scrub_forget_kl model`."

    def forget_loss(self, batch):
        rows, order = batch.forget, 1 if self.args.scrub_forget_kl == "ref" else -1
        return -losses.kl_to_reference(*(rows.reference_logits, rows.logits)[::order], rows.token_count)

    def weights(self):
        turn = self.state.global_step % 2 if self.args.scrub_alternate else None
        return tuple(0.0 if turn == 1 - part else w for part, w in enumerate(super().weights()))
