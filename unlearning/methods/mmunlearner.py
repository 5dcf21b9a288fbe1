"""Gradient difference on the coordinates that matter to the forget rows."""

from typing import ClassVar

from unlearning.mechanisms import saliency
from unlearning.methods.grad_diff import GradDiff
from unlearning.trainer import Option


class MMUnlearner(GradDiff):
    """grad_diff with each update multiplied by 1[(F_forget + e)/(F_keep + e) ≥ 1], F = mean squared gradient at the start."""

    name = "mmunlearner"
    whole = True
    own_bytes = 5  # a mask, and what it holds
    options: ClassVar = {
        "mm_rows": Option(64, "rows of each kind over which the squared gradients are averaged; 0: all"),
        "mm_keep_text": Option(False, "count the forget rows without their picture among what is kept"),
        "mm_epsilon": Option(1e-12, "e"),
    }
    source = "Huo et al. 2025, arXiv 2502.11051"
    fidelity = "our reading"
    upstream = "Its code masks the gradient before AdamW, so moments and weight decay still move masked weights, masks forget steps alone, and looks masks up by names. The paper keeps the text knowledge of the forgotten (`--mm_keep_text true`). With LoRA only B is masked: B starts at zero, so that no gradient reaches A."

    def prepare(self):
        args, given = self.args, (self.forward, self.rows, self.encoder)
        masks = saliency.masked_updates(*given, args.mm_rows, args.mm_keep_text, args.mm_epsilon)
        self.add_callback(masks)
        of = "; nothing of LoRA's A, which no gradient reaches at the start" if self.lora_weights else ""
        self.notes["masked"] = f"{masks.share:.1%} of the trained coordinates are held{of}"
