"""Scores of a model in memory, by the engine and the benchmark that `lmms_eval --model remem_hf` uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import torch

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.data.faults import row_name
from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.prompts import Chat
from remem_tasks.engine.state import State
from remem_tasks.engine.whitebox import answer, branches_of, columns_of
from remem_tasks.errors import RememError

MAX_NEW_TOKENS = 128  # of a reply, as in the tasks' YAML
MOST_ROWS = 128  # in a batch


class _Chats(Sequence):
    """The chats of rows; a picture is decoded when its batch comes."""

    def __init__(self, rows: datasets.Dataset):
        self.rows, self.benchmark = rows, BENCHMARKS["remem"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Chat:
        row = self.rows[index]
        content: list[dict] = [{"type": "image", "image": one} for one in self.benchmark.images(row)]
        return Chat(
            [{"role": "user", "content": [*content, {"type": "text", "text": row["question"]}]}],
            row_name(row),
        )


@torch.no_grad()
def scores(
    model: Any, processor: Any, rows: datasets.Dataset, metrics: Sequence[str] = ("em",)
) -> dict[str, float]:
    """Means over the rows of `em`, `rougel`, `blank_rate`, …; with `exposure` also `exposure`, `extraction_rate`.

    Args:
        model: an image-text-to-text model with an adapter or without, in eval mode.
        rows: of `remem_tasks.benchmarks.remem.data.load_split`, with pictures.
        metrics: families of scores, as in `lmms_eval --metrics`.

    Raises:
        RememError: no rows, or logits that are not numbers.
    """
    if not len(rows):
        raise RememError("no rows to score")
    benchmark = BENCHMARKS["remem"]
    scoring = ScoringConfig(metrics=tuple(metrics), estimator=("exact",), references=0)
    context = RunContext(scoring, white_box=True)
    decoder = Decoder(model, processor)
    docs = list(rows.remove_columns("image"))
    white_box_requests = [benchmark.white_box_request(doc, context) for doc in docs]

    def work(state: State, indices: list[int], chats: list[Chat]) -> list[dict]:
        asked = [white_box_requests[index] for index in indices]
        found = answer(decoder, state, chats, asked, [MAX_NEW_TOKENS] * len(indices))
        return [
            benchmark.score(docs[index], [decoder.prompts.text(reply.tokens)], context, findings)
            for index, (reply, findings) in zip(indices, found)
        ]

    known = [one for one in white_box_requests if one is not None]
    parts = decoder.batches(
        _Chats(rows),
        work,
        sizes=[len(doc["question"]) for doc in docs],
        branches=max([1, *map(branches_of, known)]),
        columns=MAX_NEW_TOKENS + max(map(columns_of, known), default=0),
        limit=MOST_ROWS,
    )
    values: dict[str, list[float]] = {}
    for _, found in parts:
        for row in found:
            for name, value in row.items():
                if isinstance(value, int | float):
                    values.setdefault(name.removeprefix("remem_"), []).append(float(value))
    return {name: sum(some) / len(some) for name, some in values.items()}
