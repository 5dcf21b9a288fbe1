"""The harness's requests, put together by the row they are about."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts

from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import decode_image
from remem_tasks.engine.cache import Answer
from remem_tasks.engine.prompts import Chat, special_texts
from remem_tasks.errors import RememError
from remem_tasks.whitebox import WhiteBoxRequest

NAMED_BY = ("row_id", "image_path", "answer")  # columns of a row's name, and what no context holds


@dataclass
class RowRequests:
    """What is asked of a row under the same settings.

    Attributes:
        request: the first of them, an `Instance`; None for a chat without one.
        replies: places of the requests for a reply.
        findings: places of the requests that hold the white-box request.
        white_box_request: or None.
    """

    request: Any = None
    replies: list[int] = field(default_factory=list)
    findings: list[int] = field(default_factory=list)
    white_box_request: WhiteBoxRequest | None = None


def chat_of(request: Instance, doc: Mapping[str, Any], system_prompt: str | None) -> Chat:
    """The chat of a request about a row; a system prompt goes before it unless it has a system turn. The one place where prompts are made."""
    _, doc_to_messages, _, doc_id, task, _ = request.args
    row = row_name(doc) if "row_id" in doc else f"task '{task}', row {doc_id}"
    messages = [
        {"role": turn["role"], "content": content_of(turn["content"], row)} for turn in doc_to_messages(doc)
    ]
    if system_prompt and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": content_of(system_prompt, row)})
    return Chat(messages, row)


class Chats(Sequence):
    """The chats of rows, made when they are asked for: decoded pictures of a whole split may not fit."""

    def __init__(self, rows: Sequence[RowRequests], make: Callable[[Instance], Chat]) -> None:
        self.rows, self.make = rows, make

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Chat:
        return self.make(self.rows[index].request)


def result_of(answer: Answer) -> GenerationResult:
    """What was kept of a reply, as the harness takes it."""
    return GenerationResult(answer.text, TokenCounts(input_tokens=answer.read, output_tokens=answer.said))


def answer_of(result: GenerationResult) -> Answer:
    """The other way round."""
    return Answer(result.text, result.token_counts.input_tokens, result.token_counts.output_tokens)


def grouped(
    requests: Sequence[Instance], doc_of: Callable[[str, str, int], Mapping[str, Any]]
) -> Iterator[list[RowRequests]]:
    """Rows that can be in one batch: the same settings, and white-box requests that draw in one way.

    Args:
        doc_of: task, split and index to the row as the task holds it.
    """
    groups: dict[tuple, dict[tuple, RowRequests]] = {}
    for index, request in enumerate(requests):
        context, messages, settings, doc_id, task, split = request.args
        group = groups.setdefault((json.dumps(settings, sort_keys=True, default=str),), {})
        row = group.setdefault((task, split, doc_id, context), RowRequests(request))
        if getattr(messages, "white_box_request_of", None) is None:
            row.replies.append(index)
        else:
            row.findings.append(index)
            row.white_box_request = messages.white_box_request(doc_of(task, split, doc_id))
    for group in groups.values():
        apart: dict[tuple | None, list[RowRequests]] = {}
        for row in group.values():
            kind = row.white_box_request and (
                row.white_box_request.estimators,
                row.white_box_request.rollouts,
                row.white_box_request.rank_budget,
            )
            apart.setdefault(kind, []).append(row)
        yield from apart.values()


def check_texts(
    requests: Sequence[Instance], splits: Mapping[str, Mapping[str, Any]], processor: Any
) -> None:
    """Raise a RememError for the first row of ours that holds a special token of this checkpoint as text.

    Args:
        splits: task and split to rows.
        processor: the checkpoint's.
    """
    found = re.compile("|".join(map(re.escape, special_texts(processor))) or r"(?!)")
    without_pictures: dict[tuple[str, str], Any] = {}
    for context, _, _, doc_id, task, split in (request.args for request in requests):
        if (rows := without_pictures.get((task, split))) is None:
            rows = splits[task][split]
            if hasattr(rows, "select_columns"):  # (a picture's bytes are not read for this)
                rows = rows.select_columns([name for name in NAMED_BY if name in rows.column_names])
            without_pictures[task, split] = rows
        doc = rows[doc_id]
        if "row_id" not in doc:  # tasks of others may write placeholders into their texts
            continue
        for name, text in (("question", context), ("answer", doc.get("answer"))):
            if isinstance(text, str) and (special := found.search(text)):
                raise RememError(
                    f"{row_name(doc)}: {name} holds '{special[0]}', a special token of this checkpoint: it would stand for "
                    "something else than its letters; take it out"
                )


def content_of(content: str | Sequence[Mapping], row: str) -> list[dict]:
    """A turn's content in the processor's format: text and image parts.

    Raises:
        RememError: a part of another kind.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts = []
    for part in content:
        if part["type"] == "text":
            parts.append({"type": "text", "text": part["text"]})
        elif part["type"] == "image":
            picture = part.get("image", part.get("url"))
            if isinstance(picture, str) and os.path.isfile(picture):
                picture = decode_image({"path": picture}, row)  # what it shows is asked about, not its name
            parts.append({"type": "image", "image": picture})
        else:
            raise RememError(f"{row}: remem_hf takes text and images, not {part['type']}")
    return parts
