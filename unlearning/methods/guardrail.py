"""Guardrail: a system prompt that asks the model not to tell; the baseline that costs nothing."""

from typing import ClassVar

from unlearning.mechanisms import steered
from unlearning.trainer import Option, UnlearnTrainer

PROMPT = "The following people asked to be forgotten: {people}. If a question or a picture is about one of them, say that you do not know."


class Guardrail(UnlearnTrainer):
    """No training: a system prompt that names who is to be forgotten, in the checkpoint's chat template."""

    name = "guardrail"
    trains = False
    adapters = False
    whole = True
    options: ClassVar = {
        "guardrail_prompt": Option(PROMPT, "what the model is told; {people} is who is to be forgotten")
    }
    grid: ClassVar = {}
    source = "Thaker et al. 2024, arXiv 2403.03329, for language models"
    fidelity = "our reading"
    upstream = "The words are ours. A chat that has a system turn of its own goes without; whoever has the weights has all that they hold."

    def finish(self):
        steered.guard(self, self.args.guardrail_prompt)
