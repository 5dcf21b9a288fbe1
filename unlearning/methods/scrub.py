"""SCRUB: away from the teacher on the forget rows, with it on the others."""

from typing import ClassVar

from unlearning import losses
from unlearning.data import Role
from unlearning.trainer import Option, UnlearnTrainer

ORDER = Option("ref", "ref: KL(p_ref ‖ p_θ), model: the other way round", ("ref", "model"))


class SCRUB(UnlearnTrainer):
    """L_forget = −KL(p_ref ‖ p_θ) on F; L_retain = NLL(R) + KL(p_ref ‖ p_θ) on R; the KL on F of softmax(z/T), times T²."""

    name = "scrub"
    reference = "logits"
    options: ClassVar = {
        "scrub_forget_kl": ORDER,
        "scrub_alternate": Option(False, "epochs of F alone and of R alone in turn, F first"),
        "scrub_temperature": Option(1.0, "T of the KL on F"),
    }
    defaults: ClassVar = {"retain_loss": "nll+kl"}
    source, fidelity = "Kurmanji et al. 2023, arXiv 2302.09880", "official code"
    upstream = "The paper alternates by epochs (`--scrub_alternate true`; an epoch of R has as many rows as F here) and has a temperature in both KL, here in that on F. CLEAR is joint, with the KL as `--scrub_forget_kl model`."

    def turns(self, roles):
        apart = self.args.scrub_alternate and Role.RETAIN in roles
        return ((Role.FORGET,), (Role.RETAIN,)) if apart else (roles,)

    def forget_loss(self, batch):
        rows, order = batch.forget, 1 if self.args.scrub_forget_kl == "ref" else -1
        sides = (rows.reference_logits, rows.logits)[::order]
        return -losses.kl_to_reference(*sides, rows.token_count, self.args.scrub_temperature)
