"""Whether a model's answers come from its prompts: logits that are constant, or the same after every prompt, are no answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from remem_tasks.errors import RememError

CONSTANT = 1e-6
"""Nats between a row's likeliest and least likely text token below which its distribution is flat."""
SAME = 1e-6
"""Nats between two rows' log-probabilities of any token below which they are one distribution."""


class PromptWatch:
    """Watches the first distributions after prompts, over the batches of a run.

    Attributes:
        depends: whether two different prompts have been followed by different distributions.
    """

    def __init__(self) -> None:
        self.depends = False
        self._first: torch.Tensor | None = None
        self._prompts: set[str] = set()

    def see(self, logp: torch.Tensor, prompts: Sequence[str], names: Sequence[str]) -> None:
        """Take in a batch.

        Args:
            logp: (rows, vocabulary) float32 log-probabilities of the next token, -inf for what is not a text.
            prompts: what tells the rows' prompts apart, such as hashes.
            names: how messages call the rows.

        Raises:
            RememError: names the first row after which every token is equally likely.
        """
        if self.depends:
            return
        known = torch.isfinite(logp)
        spread = logp.amax(-1) - logp.masked_fill(~known, torch.inf).amin(-1)
        if known.shape[-1] > 1 and bool((flat := spread < CONSTANT).any()):
            raise RememError(
                f"{names[int(flat.nonzero()[0])]}: the model's logits are constant, so it says nothing of anything; "
                "its weights are broken"
            )
        if self._first is None:
            self._first = logp[0].clone()
        self._prompts.update(prompts)
        apart = (logp - self._first).masked_fill(~known, 0.0).abs().amax(-1)
        self.depends = bool((apart > SAME).any())

    def check(self) -> None:
        """Raise a RememError if several different prompts were all followed by one distribution."""
        if len(self._prompts) > 1 and not self.depends:
            raise RememError(
                f"the model's logits are the same after {len(self._prompts)} different prompts: it does not read them; "
                "its weights are broken"
            )
