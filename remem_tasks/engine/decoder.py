"""Everything that continues a row, from one prefill: greedy replies, rollouts, distinct outcomes, log-probabilities.

    decoder = Decoder(model, processor)
    state = decoder.prefill(chats)                        # one branch per row
    cuts = decoder.extend(state, rows, prefixes)          # more branches, sharing the row's prompt
    replies = decoder.greedy(cuts, 200)

Probabilities are the model's own, at temperature 1, float32, renormalised without the tokens that are
no text (`prompts.text_tokens`). Nothing here calls `generate`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from remem_tasks.engine.greedy import Greedy
from remem_tasks.engine.prompts import Chat
from remem_tasks.engine.reader import out_of_memory
from remem_tasks.engine.sampling import Sampling
from remem_tasks.engine.state import State
from remem_tasks.errors import RememError


def _extent(chat: Chat) -> tuple[int, int]:
    """(pictures, letters) of a chat: what its length goes by."""
    parts = [
        part
        for turn in chat.messages
        for part in ([] if isinstance(turn["content"], str) else turn["content"])
    ]
    letters = sum(len(turn["content"]) for turn in chat.messages if isinstance(turn["content"], str))
    return (
        sum(part["type"] == "image" for part in parts),
        letters + sum(len(part["text"]) for part in parts if part["type"] == "text"),
    )


class Decoder(Greedy, Sampling):
    """Continues rows in batches.

    Args:
        model: an image-text-to-text model, with an adapter or without, in eval mode.
        processor: its processor.
        budget: bytes that a batch's keys, values and logits may take; by default 60 % of what is free
            on a GPU, else 1 GiB.
    """

    def __init__(self, model: Any, processor: Any, budget: int | None = None) -> None:
        super().__init__(model, processor, budget)
        text = self.text_config
        heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", 1)
        size = getattr(text, "head_dim", None) or text.hidden_size // max(
            1, getattr(text, "num_attention_heads", 1)
        )
        itemsize = torch.finfo(self.dtype).bits // 8
        self._column_bytes = 2 * getattr(text, "num_hidden_layers", 1) * heads * size * itemsize
        self._branch_bytes = self.vocabulary * 24  # logits, their float32 copy, work of the sampling
        self._reading_bytes = 16 * text.hidden_size * itemsize  # of a token, while a prompt is read
        self._budget = budget
        self._rows_at_once: int | None = None

    @property
    def budget(self) -> int:
        """Bytes for a batch's keys, values and logits."""
        if self._budget is None:
            free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else None
            self._budget = 2**30 if free is None else int(0.6 * free)
        return self._budget

    def batches(
        self,
        chats: Sequence[Chat],
        work: Callable[[State, list[int], list[Chat]], list[Any]],
        *,
        sizes: Sequence[Any] | None = None,
        branches: int = 1,
        columns: int = 0,
        limit: int = 64,
    ) -> Iterator[tuple[list[int], list[Any]]]:
        """Do the work of all chats, in batches that fill the budget, chats of similar length side by side.

        Long prompts come first, so that what does not fit shows at the start. Out of memory halves the
        batch, and it stays halved.

        Args:
            chats: one prefill each; with `sizes`, each is asked for when its batch comes.
            work: a state (one branch per chat), the indices of its chats and these to one result per chat.
            sizes: what the chats are ordered by, the longest first; by default pictures and letters.
            branches: the most branches of a row that `work` holds at a time.
            columns: the most tokens that `work` appends to a row in all its branches.
            limit: the most chats in a batch.

        Yields:
            (indices, results)

        Raises:
            RememError: a chat alone does not fit into memory.
        """
        if sizes is None:
            sizes = [_extent(chat) for chat in chats]
        order = sorted(range(len(chats)), key=lambda index: (sizes[index], index), reverse=True)
        row_bytes = columns * self._column_bytes + branches * self._branch_bytes
        column_bytes = self._column_bytes + self._reading_bytes
        most = min(limit, self._rows_at_once or limit)
        length: int | None = None  # columns of the batch before
        made: dict[int, Chat] = {}
        start = 0
        while start < len(order):
            if length is None:
                made[order[start]] = chats[order[start]]
                length = self.prompts.encode([made[order[start]]])["input_ids"].shape[1]
            fits = max(1, self.budget // (row_bytes + length * column_bytes))
            chunk = order[start : start + min(most, fits)]
            made = {index: made[index] if index in made else chats[index] for index in chunk}
            pictures = _extent(made[chunk[0]])[0]
            chunk = list(itertools.takewhile(lambda index: _extent(made[index])[0] == pictures, chunk))  # noqa: B023
            here, result = [made[index] for index in chunk], None
            inputs: Any = None
            state: State | None = None
            try:
                inputs = self.prompts.encode(here)
                length = inputs["input_ids"].shape[1]
                if len(chunk) > max(1, self.budget // (row_bytes + length * column_bytes)):
                    continue  # a longer one was among them
                state = self._state_of(inputs, here)
                result = work(state, chunk, here)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if len(chunk) == 1:
                    raise RememError(f"{here[0].row}: out of memory with this row alone") from error
            if result is None:  # outside the handler, so that the failed batch's memory is let go
                inputs = state = None
                self._rows_at_once = most = max(1, len(chunk) // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                warnings.warn(f"out of memory: going on with {most} rows at once", stacklevel=2)
                continue
            yield chunk, result
            start += len(chunk)
