"""Jensen-Shannon unlearning."""

from typing import ClassVar

from unlearning import losses
from unlearning.data import Role
from unlearning.trainer import Option, UnlearnTrainer

TARGET = Option("cycle", "cycle: the tokens of 'No idea' in turn; answer: a refusal's", ("cycle", "answer"))


class JensUn(UnlearnTrainer):
    """L_forget = mean JSD(p_θ ‖ onehot(r_t)) at the tokens t of F, r the tokens of "No idea" in turn; L_retain = mean JSD(p_ref ‖ p_θ) on R."""

    name = "jensun"
    logits = True
    options: ClassVar = {"jensun_target": TARGET}
    defaults: ClassVar = {"retain_loss": "js"}
    source = "Singh et al. 2025, arXiv 2509.02820"
    upstream = "Its code sets probability 1 for all tokens of 'No idea' at every position at once, which is no distribution; that they take turns is what the code of March 2026 has. It counts prompt and padding too. `--jensun_target answer` teacher-forces a refusal in place of the true answer."

    def turns(self, roles):
        told = Role.FORGET if self.args.jensun_target == "cycle" else Role.IDK
        return (tuple(told if role == Role.FORGET else role for role in roles),)

    def prepare(self):
        self.cycle = self.encoder.tokenizer("No idea", add_special_tokens=False)["input_ids"]

    def forget_loss(self, batch):
        if self.args.jensun_target == "cycle":
            rows = batch.forget
            return losses.js_to_cycle(rows.logits, rows.position, self.cycle, rows.token_count)
        rows = batch.idk
        return losses.js_to_label(rows.log_probs, rows.mask, rows.token_count)
