"""Whether every row of a run can be encoded, found out before weights are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets
from transformers import AutoConfig, GenerationConfig

from remem_tasks.checkpoints import base_of_adapter, reason
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import size_of
from remem_tasks.engine.prompts import special_texts
from remem_tasks.errors import RememError
from unlearning.data import Encoder


def limits_of(checkpoint: str, **remote: Any) -> tuple[list[int], int | None]:
    """(token ids that end a turn, the longest context in tokens) of a checkpoint or adapter, without its weights."""
    base = base_of_adapter(checkpoint) or checkpoint
    try:
        ends = GenerationConfig.from_pretrained(base, **remote).eos_token_id
    except Exception:  # none was saved: the tokenizer's own end token is used
        ends = None
    try:
        text = AutoConfig.from_pretrained(base, **remote).get_text_config()
    except Exception as error:
        raise RememError(f"checkpoint '{base}' has no usable config ({reason(error)})") from error
    most = getattr(text, "max_position_embeddings", None)
    return ([] if ends is None else [ends] if isinstance(ends, int) else list(ends)), most


def check_encoding(
    encoder: Encoder,
    tables: Sequence[datasets.Dataset],
    context: int | None = None,
    answers: Mapping[str, Iterable[str]] | None = None,
    first: int = 4,
) -> None:
    """Refuse every row that the processor cannot serve, or that would not be trained on whole.

    The text of every row is tokenised. Pictures are processed of the first rows, and of one row of each size
    that pictures have: what a processor makes of a picture, and whether it refuses it, depends on its size.

    Args:
        encoder: of the checkpoint.
        tables: the rows.
        context: most tokens of a prompt with its answer; None for no bound.
        answers: row id → other answers that are trained on.
        first: of how many rows of each table the whole encoding is compared with the processor's own.

    Raises:
        RememError: names the first row that holds a special token as text, is too long, or is refused.
    """
    specials = special_texts(encoder.processor)
    of_pictures: dict[tuple[int, int] | None, int] = {}  # tokens beside those of the text
    for table in tables:
        for index in range(len(table)):
            row = table[index]
            _check_texts(row, specials, (answers or {}).get(row["row_id"], ()))
            try:
                size = None if row.get("text_only") else size_of(row["image"], row_name(row))
                if index < first or size not in of_pictures:
                    encoder.check(row)
                words = _prompt_tokens(encoder, row)
                if size not in of_pictures:
                    of_pictures[size] = encoder.encode_prompt(row)["input_ids"].shape[1] - words
                length = words + of_pictures[size] + len(encoder.encode_answer(row))
            except RememError:
                raise
            except Exception as error:
                raise RememError(
                    f"the checkpoint's processor cannot encode {row_name(row)}: {type(error).__name__}: {reason(error)}"
                ) from error
            if context is not None and length > context:
                raise RememError(
                    f"{row_name(row)}: prompt and answer are {length} tokens, more than the model's context of {context}"
                )


def _prompt_tokens(encoder: Encoder, row: Mapping) -> int:
    """Tokens of a row's prompt, with one placeholder for its picture."""
    content = [{"type": "image"}] * (not row.get("text_only")) + [{"type": "text", "text": row["question"]}]
    text = encoder.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return len(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])


def _check_texts(row: Mapping, specials: Sequence[str], answers: Iterable[str]) -> None:
    texts = [("question", row["question"]), ("answer", row["answer"])]
    for name, text in [*texts, *(("other answer", other) for other in answers)]:
        if found := next((special for special in specials if special in text), None):
            raise RememError(
                f"{row_name(row)}: {name} holds '{found}', a special token of this checkpoint: it would stand for "
                f"{'the end of the answer' if name != 'question' else 'something else than its letters'}; take it out"
            )
