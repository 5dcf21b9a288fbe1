"""Replies of the model in training: greedy or sampled, whatever the checkpoint's generation_config asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from remem_tasks.engine.prompts import text_tokens
from unlearning.data import pad_token_of


@contextmanager
def _own_settings(model: Any, settings: GenerationConfig) -> Iterator[None]:
    """The model generates by these settings alone.

    `generate` fills what its caller leaves open from the model's own `generation_config` (penalties,
    suppressed and forced tokens, least lengths, beams, cache …), so that one is put aside. With an adapter,
    PEFT hands the wrapper's to the model below.
    """
    parts = [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]
    before = [(part, part.generation_config) for part in parts]
    try:
        for part in parts:
            part.generation_config = settings
        yield
    finally:
        for part, own in before:
            part.generation_config = own


@torch.no_grad()
def generate(
    model: Any,
    processor: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    max_new_tokens: int,
    ends: Iterable[int],
    samples: int = 0,
) -> torch.Tensor:
    """Replies to prompts, as the engine of the scores makes them: from p over the tokens that are text.

    The greedy reply takes the likeliest token each time; a sample is drawn at temperature 1 without top-k and
    top-p. Nothing else of `GenerationConfig` applies.

    Args:
        model: in eval mode, with an adapter or without.
        processor: its processor.
        inputs: prompts of B rows, padded on the left.
        max_new_tokens: the longest reply, its end token included.
        ends: token ids that end a reply.
        samples: how many to draw for each prompt; 0: the greedy reply.

    Returns:
        (B · max(1, samples), at most `max_new_tokens`) token ids without the prompts, padded on the right;
        the samples of a prompt follow one another.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    silent, _ = text_tokens(base, processor, base.config.get_text_config().vocab_size)
    tokenizer = processor.tokenizer
    ends = sorted({int(end) for end in ends})
    silent[[end for end in ends if end < len(silent)]] = False
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=1,
        **(
            {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
            if samples
            else {"do_sample": False}
        ),
        num_return_sequences=max(1, samples),
        suppress_tokens=silent.nonzero()[:, 0].tolist() or None,
        use_cache=True,
        eos_token_id=ends,
        pad_token_id=pad_token_of(tokenizer),
    )
    with _own_settings(model, settings):
        out = model.generate(**inputs, generation_config=settings)
    return out[:, inputs["input_ids"].shape[1] :]
