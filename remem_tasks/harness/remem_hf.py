"""`--model remem_hf`: any `AutoModelForImageTextToText` checkpoint, in batches, with an adapter if given.

Whatever goes wrong stops the run and names the row; no fault becomes an empty reply.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from remem_tasks.chat_template import check_system
from remem_tasks.checkpoints import (
    base_of_adapter,
    check_pair,
    check_path,
    load_adapter,
    load_model,
    load_processor,
)
from remem_tasks.engine.cache import Answer, Cache, folder_of, hash_of, hash_of_model
from remem_tasks.engine.collapse import PromptWatch
from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.prompts import Chat
from remem_tasks.engine.state import State
from remem_tasks.engine.whitebox import answer, branches_of, columns_of
from remem_tasks.errors import RememError
from remem_tasks.harness.generation import cut, sampling_options, warp_of
from remem_tasks.harness.model_args import created
from remem_tasks.harness.row_requests import (
    Chats,
    RowRequests,
    answer_of,
    chat_of,
    check_texts,
    grouped,
    result_of,
)
from remem_tasks.seeds import row_seed
from remem_tasks.whitebox import WhiteBoxResult

DTYPES = ("auto", "float32", "float16", "bfloat16")
MOST_ROWS = 128


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
        batch_size: the most rows at once; `auto` (default): as many as fit. Out of memory halves it and goes on.
        attn_implementation: for example `sdpa` or `eager`.
        trust_remote_code: run code that comes with the checkpoint. Off.
        chat_template: file with a Jinja template in place of the checkpoint's.
        min_pixels, max_pixels: for processors that scale a picture to a number of pixels.
        system_prompt: put before every chat that has no system turn.
        cache: folder in which replies are kept by the model's weights (see `cache`), or off; default
            $REMEM_CACHE, else ~/.cache/remem.
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
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        system_prompt: str | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if not pretrained:
            raise RememError("no checkpoint: --model_args pretrained=<folder or Hub id>")
        given = {
            "peft": peft, "processor": processor, "revision": revision, "device": device, "device_map": device_map,
            "attn_implementation": attn_implementation, "chat_template": chat_template, "cache": cache,
            "system_prompt": system_prompt,
        }  # fmt: skip
        if empty := [name for name, value in given.items() if value == ""]:
            raise RememError(f"--model_args {empty[0]}= is empty: give it a value, or leave it out")
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
        try:
            self._device = torch.device(device or self._default_device())
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise RememError(f"device '{device}' is not there: {str(error).splitlines()[0][:200]}") from error
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
        if system_prompt:
            check_system(self.processor, pretrained)
        tokenizer = self.processor.tokenizer
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        options: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), **common}
        if attn_implementation:
            options["attn_implementation"] = attn_implementation
        if device_map:
            options["device_map"] = device_map
        model = load_model(pretrained, steered=True, **options)
        check_pair(model, self.processor, pretrained)
        if peft:
            model = load_adapter(model, str(peft))
        if device_map:
            self._device = next(model.parameters()).device
        else:
            model = model.to(self._device)
        self._take(model, cache)
        self.system_prompt = self._resolve_system_prompt(system_prompt) if system_prompt else None

    def _take(self, model: Any, cache: str | None) -> None:
        self._model = model.eval()
        self._decoder: Decoder | None = None
        self._watch = PromptWatch()
        self._cache_folder = cache

    @classmethod
    def around(cls, model: Any, processor: Any, cache: str | None = None) -> RememHF:
        """A model that is in memory already, with its processor, on the device where it is."""
        made = cls.__new__(cls)
        lmms.__init__(made)
        made._rank, made._world_size = 0, 1
        made._device = next(model.parameters()).device
        made._set_batch_size("auto", None)
        made.processor, made.system_prompt = processor, None
        if processor.tokenizer.pad_token_id is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        made._take(model, cache)
        return made

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping | None = None) -> RememHF:
        """From `--model_args` (which go before the command line's --batch_size and --device)."""
        return created(cls, arg_string, additional_config)

    @staticmethod
    def _default_device() -> str:
        if not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"

    def _set_batch_size(self, batch_size: int | str, limit: int | None) -> None:
        if str(batch_size).startswith("auto"):
            self.batch_size = MOST_ROWS
        elif not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise RememError(f"batch_size '{batch_size}' is neither a number above 0 nor auto")
        else:
            self.batch_size = int(batch_size)
        if limit is not None:
            if not str(limit).isdecimal() or int(limit) < 1:
                raise RememError(f"max_batch_size '{limit}' is not a number above 0")
            self.batch_size = min(self.batch_size, int(limit))

    @property
    def model(self):
        return self._model

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def decoder(self) -> Decoder:
        """What reads prompts and continues them."""
        if self._decoder is None:
            self._decoder = Decoder(self._model, self.processor)
        return self._decoder

    def clean(self) -> None:
        """The harness's call when all replies are there: lets go of the weights."""
        self._decoder = None
        super().clean()

    # Prompts

    def prompt(self, request: Instance) -> Chat:
        """The chat of a request."""
        *_, doc_id, task, split = request.args
        return chat_of(request, self._doc_of(task, split, doc_id), self.system_prompt)

    def _doc_of(self, task: str, split: str, doc_id: int) -> Mapping[str, Any]:
        return self.task_dict[task][split][doc_id]

    # Generation

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Replies in the order of the requests, each with its number of tokens (the end token included).

        A request whose messages hold an `WhiteBoxRequest` is answered with `WhiteBoxResult` as JSON. All that is asked
        of a row under the same settings shares one prefill.
        """
        results: list[GenerationResult | None] = [None] * len(requests)
        check_texts(requests, self.task_dict, self.processor)
        cache = self._open_cache()
        self._watch = PromptWatch()
        waiting: list[list[tuple[str, list[Answer]]]] = []
        hidden = {"disable": True} if self.rank else {}
        with tqdm(total=len(requests), desc="Replies", **hidden) as progress:

            def put(places: Sequence[int], found: Sequence[GenerationResult]) -> None:
                for index, result in zip(places, found):
                    results[index] = result
                progress.update(len(places))

            for rows in grouped(requests, self._doc_of):
                keys = {id(row): self._keys(row) for row in rows} if cache else {}
                for row in rows if cache else ():
                    of_replies, of_findings = keys[id(row)]
                    if len(found := cache.get(of_replies) or ()) == len(row.replies) > 0:
                        put(row.replies, [result_of(answer) for answer in found])
                        row.replies = []
                    if row.findings and len(found := cache.get(of_findings) or ()) == 1:
                        put(row.findings, [result_of(answer) for answer in found] * len(row.findings))
                        row.findings, row.white_box_request = [], None
                if not (rows := [row for row in rows if row.replies or row.findings]):
                    continue
                chats = Chats(rows, self.prompt)
                sizes = [len(row.request.args[0]) for row in rows]
                for batch in self._in_batches(rows, chats, sizes, rows[0].request.args[2]):
                    entries = []
                    for row, found in batch:
                        replies, findings = found[: len(row.replies)], found[len(row.replies) :]
                        put(row.replies, replies)
                        put(row.findings, findings)
                        if cache:
                            of_replies, of_findings = keys[id(row)]
                            entries += [(of_replies, [*map(answer_of, replies)])] if replies else []
                            entries += [(of_findings, [*map(answer_of, findings[:1])])] if findings else []
                    waiting.append(entries)
                    # Nothing is kept of a model that may not read its prompts.
                    while cache and self._watch.depends and waiting:
                        cache.put(waiting.pop(0))
        self._watch.check()
        for entries in waiting if cache else ():
            cache.put(entries)
        if cache:
            cache.close()
        return results

    # Cache

    def _open_cache(self) -> Cache | None:
        folder = folder_of(self._cache_folder)
        model = hash_of_model(self._model, self.processor) if folder else None
        return Cache(folder, model) if model else None

    def _keys(self, row: RowRequests) -> tuple[str, str]:
        """What the replies to a row, and the findings about it, are kept under."""
        context, _, settings = row.request.args[:3]
        settings = json.dumps(settings, sort_keys=True, default=str)
        # What is sent, not what stands in the row: a benchmark may keep its pictures elsewhere.
        chat = self.prompt(row.request)
        asked = (chat.messages, context, settings)
        sampled = sampling_options(row.request.args[2])["do_sample"]
        seed = (torch.initial_seed(), chat.row) if sampled else None  # what a row's samples are drawn from
        return (
            hash_of("replies", *asked, seed, len(row.replies)),
            hash_of("findings", *asked, row.white_box_request and row.white_box_request.content()),
        )

    # Batches

    def generate(self, chats: Sequence[Chat], settings: Mapping) -> list[GenerationResult]:
        """One reply a chat.

        Args:
            settings: as a task's generation_kwargs (see `sampling_options`; `until` cuts the text).

        Raises:
            RememError: a context that is too short, or logits that are not numbers; names the row.
        """
        rows = [RowRequests(replies=[index]) for index in range(len(chats))]
        done = itertools.chain.from_iterable(self._in_batches(rows, chats, None, settings))
        return [found[0] for row, found in sorted(done, key=lambda pair: pair[0].replies)]

    def _in_batches(
        self,
        rows: Sequence[RowRequests],
        chats: Sequence[Chat],
        sizes: Sequence[int] | None,
        settings: Mapping,
    ) -> Iterator[list[tuple[RowRequests, list[GenerationResult]]]]:
        """Batch by batch the results of rows, first of their replies, then of their findings."""
        options = sampling_options(settings)
        white_box_requests = [row.white_box_request for row in rows if row.white_box_request]
        parts = self.decoder.batches(
            chats,
            lambda state, indices, chats: self._work(
                state, chats, [rows[index] for index in indices], options
            ),
            sizes=sizes,
            branches=max(
                [len(row.replies) for row in rows] + [branches_of(one) for one in white_box_requests]
            ),
            columns=options["max_new_tokens"]
            + max([columns_of(one) for one in white_box_requests], default=0),
            limit=self.batch_size,
        )
        for indices, found in parts:
            batch = []
            for index, (length, replies, findings) in zip(indices, found):
                row = rows[index]
                texts = [self._result(tokens, length, settings) for tokens in replies]
                if findings is not None:
                    counts = TokenCounts(input_tokens=length, output_tokens=0)
                    texts += [GenerationResult(findings.to_text(), counts)] * len(row.findings)
                batch.append((row, texts))
            yield batch

    def _work(
        self, state: State, chats: Sequence[Chat], rows: Sequence[RowRequests], options: Mapping
    ) -> list[tuple[int, list[list[int]], WhiteBoxResult | None]]:
        """(tokens of the prompt, tokens of each reply, findings) of each row of a batch."""
        lengths = state.lengths().tolist()
        self._watch.see(state.logp, [hash_of(chat.messages) for chat in chats], [chat.row for chat in chats])
        limit, sample = options["max_new_tokens"], options["do_sample"]
        drawn: list[list[list[int]]] = [[] for _ in rows]
        if sample and any(row.replies for row in rows):
            m = max(len(row.replies) for row in rows)
            seeds = [row_seed(torch.initial_seed(), chat.row, "reply") for chat in chats]
            rollouts = self.decoder.sample(state, m, limit, seeds, warp_of(options))
            drawn = [one.tokens[: len(row.replies)] for one, row in zip(rollouts, rows)]
        greedy = [0 if sample or not row.replies else limit for row in rows]
        found = answer(self.decoder, state, chats, [row.white_box_request for row in rows], greedy)
        return [
            (length, [reply.tokens] * len(row.replies) if reply else sampled, findings)
            for length, row, sampled, (reply, findings) in zip(lengths, rows, drawn, found)
        ]

    def _result(self, tokens: Sequence[int], length: int, settings: Mapping) -> GenerationResult:
        counts = TokenCounts(input_tokens=length, output_tokens=len(tokens))
        return GenerationResult(cut(self.decoder.prompts.text(tokens), settings.get("until")), counts)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise RememError("remem_hf does not offer loglikelihood; the tasks of this package do not ask for it")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise RememError(
            "remem_hf does not offer generate_until_multi_round; the tasks of this package do not ask for it"
        )
