"""`--model remem_hf`: any `AutoModelForImageTextToText` checkpoint, in batches, with an adapter if given.

Whatever goes wrong stops the run and names the row; no fault becomes an empty reply.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.utils import simple_parse_args_string
from tqdm import tqdm
from transformers import LogitsProcessor, LogitsProcessorList

from remem_tasks.checkpoints import (
    base_of_adapter,
    check_path,
    load_adapter,
    load_model,
    load_processor,
    plain_generation,
)
from remem_tasks.data import row_name
from remem_tasks.engine.decoder import out_of_memory
from remem_tasks.engine.prompts import Chat, Prompts
from remem_tasks.errors import RememError

DTYPES = ("auto", "float32", "float16", "bfloat16")
MAX_NEW_TOKENS = 128


class _CheckLogits(LogitsProcessor):
    """Stops a run whose logits are not numbers, before they become tokens."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: (rows x beams, vocabulary)"""
        bad = (scores.isnan() | (scores == torch.inf)).any(-1) | (scores == -torch.inf).all(-1)
        if bad.any():
            beams = scores.shape[0] // len(self.rows)
            row = self.rows[int(bad.nonzero()[0]) // beams]
            raise RememError(
                f"{row}: the model's logits are NaN or infinite; its weights or dtype are broken"
            )
        return scores


def sampling_options(settings: Mapping) -> dict[str, Any]:
    """Options for `generate` from a task's generation_kwargs: greedy, or sampling from p itself.

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
        "num_beams": int(settings.get("num_beams") or 1),
        "do_sample": sample,
    }
    if sample:
        options["temperature"] = float(1.0 if temperature is None else temperature)
        options["top_k"] = int(settings.get("top_k") or 0)
        options["top_p"] = float(settings.get("top_p") or 1.0)
    return options


def cut(text: str, until: Sequence[str] | str | None) -> str:
    """The text before the first of the stop strings."""
    stops = [until] if isinstance(until, str) else until or []
    ends = [text.find(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)] if ends else text


class RememHF(lmms):
    """An image-text-to-text checkpoint of the Hugging Face Hub or a folder.

    Args:
        pretrained: folder or Hub id; an adapter's folder stands for its base with the adapter on.
        peft: folder or Hub id of an adapter to put on it (not merged).
        processor: folder or Hub id of another processor.
        revision: of `pretrained` on the Hub.
        dtype: auto (the checkpoint's), float32, float16 or bfloat16.
        device: default cuda if there is one, else cpu; under torchrun each rank takes its own GPU.
        device_map: for checkpoints that need several devices (`auto`); in place of `device`.
        batch_size: rows at once; `auto` starts high. Out of memory halves it and goes on.
        attn_implementation: for example `sdpa` or `eager`.
        trust_remote_code: run code that comes with the checkpoint. Off.
        chat_template: file with a Jinja template in place of the checkpoint's.
        min_pixels, max_pixels: for processors that scale a picture to a number of pixels.
        system_prompt: put before every chat that has no system turn.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "",
        peft: str | None = None,
        processor: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        device_map: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        system_prompt: str | None = None,
    ) -> None:
        super().__init__()
        if not pretrained:
            raise RememError("no checkpoint: --model_args pretrained=<folder or Hub id>")
        if str(dtype).removeprefix("torch.") not in DTYPES:
            raise RememError(f"dtype '{dtype}' unknown; choose from {', '.join(DTYPES)}")
        pretrained = check_path(str(pretrained), "checkpoint")
        if base := base_of_adapter(pretrained):
            if peft:
                raise RememError(
                    f"'{pretrained}' is an adapter itself; give its base as pretrained, or leave out peft"
                )
            pretrained, peft = base, pretrained
        self._rank = int(os.environ.get("RANK", 0))
        self._world_size = int(os.environ.get("WORLD_SIZE", 1))
        self._device = torch.device(device or self._default_device())
        self._set_batch_size(batch_size, max_batch_size)
        common = {"trust_remote_code": bool(trust_remote_code)}
        if revision is not None:
            common["revision"] = str(revision)
        pixels = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self.processor = load_processor(
            str(processor) if processor else pretrained,
            chat_template,
            {name: value for name, value in pixels.items() if value is not None},
            **({"trust_remote_code": bool(trust_remote_code)} if processor else common),
        )
        tokenizer = self.processor.tokenizer
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._prompts = Prompts(self.processor)
        options: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), **common}
        if attn_implementation:
            options["attn_implementation"] = attn_implementation
        if device_map:
            options["device_map"] = device_map
        model = load_model(pretrained, **options)
        if peft:
            model = load_adapter(model, str(peft))
        if device_map:
            self._device = next(model.parameters()).device
        else:
            model = model.to(self._device)
        self._model = model.eval()
        self._generation = plain_generation(model, self.processor.tokenizer)
        # `generate` fills what is not set from here: the checkpoint's own sampling must not come back in.
        self._inner().generation_config = self._generation
        text = model.config.get_text_config()
        self.context_length: int | None = getattr(text, "max_position_embeddings", None)
        self.system_prompt = self._resolve_system_prompt(system_prompt) if system_prompt else None

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping | None = None) -> RememHF:
        """From `--model_args` (which go before the command line's --batch_size and --device)."""
        given = {key: value for key, value in (additional_config or {}).items() if value is not None}
        given |= simple_parse_args_string(arg_string)
        known = list(inspect.signature(RememHF.__init__).parameters)[1:]
        if unknown := [name for name in given if name not in known]:
            raise RememError(f"model_args {', '.join(unknown)} unknown; known: {', '.join(known)}")
        return cls(**given)

    @staticmethod
    def _default_device() -> str:
        if not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"

    def _set_batch_size(self, batch_size: int | str, limit: int | None) -> None:
        if str(batch_size).startswith("auto"):
            self.batch_size = 64 if self._device.type == "cuda" else 8
        elif not str(batch_size).isdigit() or int(batch_size) < 1:
            raise RememError(f"batch_size '{batch_size}' is neither a number above 0 nor auto")
        else:
            self.batch_size = int(batch_size)
        if limit:
            self.batch_size = min(self.batch_size, int(limit))

    def _inner(self):
        """The model below an adapter."""
        return self._model.get_base_model() if hasattr(self._model, "get_base_model") else self._model

    @property
    def model(self):
        return self._model

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        return self._device

    # Prompts

    def prompt(self, request: Instance) -> Chat:
        """The chat of a request. The one place where prompts are made."""
        _, doc_to_messages, _, doc_id, task, split = request.args
        doc = self.task_dict[task][split][doc_id]
        row = row_name(doc) if "row_id" in doc else f"task '{task}', row {doc_id}"
        messages = [
            {"role": turn["role"], "content": _content(turn["content"], row)} for turn in doc_to_messages(doc)
        ]
        if self.system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": _content(self.system_prompt, row)})
        return Chat(messages, row)

    def encode(self, prompts: Sequence[Chat], max_new_tokens: int) -> Mapping[str, torch.Tensor]:
        """Model inputs, padded on the left; `input_ids` is (rows, longest prompt).

        Raises:
            RememError: a prompt that does not fit into the model's context together with its reply.
        """
        inputs = self._prompts.encode(prompts)
        lengths = inputs["attention_mask"].sum(-1)
        longest = int(lengths.argmax())
        if self.context_length and int(lengths[longest]) + max_new_tokens > self.context_length:
            raise RememError(
                f"{prompts[longest].row}: the prompt has {int(lengths[longest])} tokens, which with "
                f"{max_new_tokens} new ones is more than the model's context of {self.context_length}"
            )
        inputs = inputs.to(self._device)
        for name, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[name] = value.to(self._inner().dtype)
        return inputs

    # Generation

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Replies in the order of the requests, each with its number of tokens (the end token included)."""
        replies: list[GenerationResult | None] = [None] * len(requests)
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            settings = json.dumps(request.args[2], sort_keys=True, default=str)
            groups.setdefault(settings, []).append(index)
        hidden = {"disable": True} if self.rank else {}
        with tqdm(total=len(requests), desc="Replies", **hidden) as progress:
            for group in groups.values():
                # Long prompts first: what does not fit into memory or context shows at the start.
                group.sort(key=lambda index: (-len(requests[index].args[0]), index))
                settings = requests[group[0]].args[2]
                for chunk, results in self._in_batches(group, requests, settings):
                    for index, result in zip(chunk, results):
                        replies[index] = result
                    progress.update(len(chunk))
        return replies

    def _in_batches(
        self, group: Sequence[int], requests: Sequence[Instance], settings: Mapping
    ) -> Iterator[tuple[Sequence[int], list[GenerationResult]]]:
        start = 0
        while start < len(group):
            chunk = group[start : start + self.batch_size]
            prompts = [self.prompt(requests[index]) for index in chunk]
            try:
                results = self.generate(prompts, settings)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if len(chunk) == 1:
                    raise RememError(f"{prompts[0].row}: out of memory with this row alone") from error
                results = None
            if results is None:  # outside the handler, so that the failed batch's memory is let go
                self.batch_size = max(1, len(chunk) // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                tqdm.write(f"out of memory: going on with batch size {self.batch_size}")
                continue
            yield chunk, results
            start += len(chunk)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Chat], settings: Mapping) -> list[GenerationResult]:
        """One batch.

        Args:
            prompts: at least one.
            settings: a task's generation_kwargs (see `sampling_options`; `until` cuts the text).

        Raises:
            RememError: a context that is too short, or logits that are not numbers; names the row.
        """
        options = sampling_options(settings)
        inputs = self.encode(prompts, options["max_new_tokens"])
        rows = [prompt.row for prompt in prompts]
        output = self._model.generate(
            **inputs, **options, logits_processor=LogitsProcessorList([_CheckLogits(rows)])
        )
        prompt_length = inputs["input_ids"].shape[1]
        ends = set(self._generation.eos_token_id)
        results = []
        for reply, length in zip(
            output[:, prompt_length:].tolist(), inputs["attention_mask"].sum(-1).tolist()
        ):
            last = next((place for place, token in enumerate(reply) if token in ends), len(reply) - 1)
            reply = reply[: last + 1]
            text = self.tokenizer.decode(reply, skip_special_tokens=True)
            counts = TokenCounts(input_tokens=int(length), output_tokens=len(reply))
            results.append(GenerationResult(cut(text, settings.get("until")), counts))
        return results

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise RememError("remem_hf does not offer loglikelihood; the tasks of this package do not ask for it")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise RememError(
            "remem_hf does not offer generate_until_multi_round; the tasks of this package do not ask for it"
        )


def _content(content: str | Sequence[Mapping], row: str) -> list[dict]:
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
            parts.append({"type": "image", "image": part.get("image", part.get("url"))})
        else:
            raise RememError(f"{row}: remem_hf takes text and images, not {part['type']}")
    return parts
