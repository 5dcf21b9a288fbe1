"""How replies are made, from the settings of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from remem_tasks.errors import RememError

MAX_NEW_TOKENS = 128


def sampling_options(settings: Mapping) -> dict[str, Any]:
    """How replies are made, from a task's generation_kwargs: greedy, or sampling from p itself.

    Sampling (temperature above 0, or do_sample without a temperature) is ancestral: no top-k and no
    top-p unless they are given.

    Raises:
        RememError: a setting that would be ignored.
    """
    known = {
        "max_new_tokens",
        "temperature",
        "do_sample",
        "top_p",
        "top_k",
        "num_beams",
        "until",
        "max_gen_toks",
    }
    if unknown := set(settings) - known:
        raise RememError(
            f"generation setting {', '.join(sorted(unknown))} unknown; known: {', '.join(sorted(known))}"
        )
    if int(settings.get("num_beams") or 1) > 1:
        raise RememError("generation setting num_beams: replies are greedy or sampled, not searched for")
    temperature = settings.get("temperature")
    sample = settings.get("do_sample")
    sample = bool(temperature) if sample is None else bool(sample)
    if temperature == 0:
        if settings.get("do_sample"):
            raise RememError("generation settings: do_sample with temperature 0; leave out one of them")
        sample = False
    options: dict[str, Any] = {
        "max_new_tokens": int(
            settings.get("max_new_tokens") or settings.get("max_gen_toks") or MAX_NEW_TOKENS
        ),
        "do_sample": sample,
    }
    if sample:
        options["temperature"] = float(1.0 if temperature is None else temperature)
        options["top_k"] = int(settings.get("top_k") or 0)
        options["top_p"] = float(settings.get("top_p") or 1.0)
    return options


def warp_of(options: Mapping) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Temperature, top-k and top-p as a function of log-probabilities (N, vocabulary); None for p itself."""
    warpers = LogitsProcessorList()
    if options["temperature"] != 1:
        warpers.append(TemperatureLogitsWarper(options["temperature"]))
    if options["top_k"]:
        warpers.append(TopKLogitsWarper(options["top_k"]))
    if options["top_p"] < 1:
        warpers.append(TopPLogitsWarper(options["top_p"]))
    return (lambda logp: warpers(None, logp).log_softmax(-1)) if warpers else None


def cut(text: str, until: Sequence[str] | str | None) -> str:
    """The text before the first of the stop strings."""
    stops = [until] if isinstance(until, str) else until or []
    ends = [text.find(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)] if ends else text
