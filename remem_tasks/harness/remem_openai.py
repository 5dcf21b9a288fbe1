"""`--model remem_openai`: a checkpoint behind any OpenAI-compatible server, such as `transformers serve`.

What a server can give is measured: greedy replies, and rollouts where it is known how it samples. A request that
fails in a way that may pass is made again; what then has no reply counts as failed, under its reason. Nothing that a
server leaves out becomes an empty reply.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from remem_tasks.benchmarks.scoring_config import NO_TURN, BackendCapabilities
from remem_tasks.endpoint import Endpoint, NotAnswered
from remem_tasks.engine.prompts import Chat
from remem_tasks.errors import RememError
from remem_tasks.harness.generation import cut, sampling_options
from remem_tasks.harness.model_args import created, natural, positive
from remem_tasks.harness.row_requests import chat_of
from remem_tasks.harness.task import FAILURE_MARK
from remem_tasks.seeds import row_seed

KEY = "REMEM_API_KEY"
"""The environment variable with the server's key, if it wants one."""
SERVERS = ("auto", "vllm", "transformers", "other")
"""What a server may be: each takes the settings of sampling in its own way."""
FINISHED = (None, "stop", "length")
"""Reasons of an end that leave a reply; others are a server's, such as `content_filter`."""
MOST_IN_A_ROW = 16
"""Requests one after the other without an answer before the run stops."""
NO_SAMPLING = (
    "how this server samples is not known: a checkpoint's own top-k or greedy decoding may stay on "
    "(server=vllm or server=transformers in --model_args, where it is one)"
)


class RememOpenAI(lmms):
    """A checkpoint that a server on this machine or another one has loaded.

    Args:
        base_url: its address, such as http://127.0.0.1:8000/v1.
        model: as the server calls it; not needed where it serves one.
        server: vllm, transformers (`transformers serve`), other; auto (default) asks it.
        concurrency: requests at a time.
        timeout: seconds of one try.
        retries: further tries after one that failed in a way that may pass.
        wait: seconds before the first of them; each further one waits twice as long, or as long as the server asks.
        system_prompt: put before every chat that has no system turn.

    Raises:
        RememError: no server, no such model, or settings that cannot be.
    """

    is_simple = False

    def __init__(
        self,
        base_url: str = "",
        model: str = "",
        server: str = "auto",
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 4,
        wait: float = 1.0,
        system_prompt: str | None = None,
    ) -> None:
        super().__init__()
        if not base_url:
            raise RememError("no server: --model_args base_url=http://127.0.0.1:8000/v1")
        if server not in SERVERS:
            raise RememError(f"server '{server}' unknown; choose from {', '.join(SERVERS)}")
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise RememError(
                "a server is asked by one process; concurrency= says how many requests at a time"
            )
        self.concurrency = natural("concurrency", concurrency)
        self.endpoint = Endpoint(
            str(base_url),
            "-",
            os.environ.get(KEY) or None,
            positive("timeout", timeout),
            natural("retries", retries, 0),
            positive("wait", wait, 0.0),
            largest=2**28,
        )
        self.served: dict[str, Any] = {}
        self._reach(str(model), server)
        self.system_prompt = self._resolve_system_prompt(system_prompt) if system_prompt else None
        self.batch_size = 1
        self._unanswered, self._lock = 0, threading.Lock()

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping | None = None) -> RememOpenAI:
        """From `--model_args`."""
        return created(cls, arg_string, additional_config)

    def _reach(self, model: str, server: str) -> None:
        """Find out which server it is, and what it calls the model.

        Raises:
            RememError: there is none, or nobody says which of its models is meant.
        """
        listed: list[dict] = []
        try:
            listed, _ = self.endpoint.get("/models", _listed)
        except NotAnswered as error:
            if "connection" in str(error) or "within" in str(error):
                raise RememError(f"no server at '{self.endpoint.url}': {error}") from error
        self.served = next(
            (one for one in listed if one["id"] == model or (len(listed) == 1 and not model)), {}
        )
        self.server = server if server != "auto" else self._kind()
        self.name = model or self.served.get("id") or ""
        # (`transformers serve CHECKPOINT` lists what lies in the Hub's cache, and takes no name as that checkpoint's.)
        if not self.name and self.server != "transformers":
            raise RememError(
                f"the server at '{self.endpoint.url}' lists {len(listed)} models; say which: model= in --model_args"
            )

    def _kind(self) -> str:
        """Which server it is, by what it says of its models and of its health."""
        if self.served.get("owned_by") == "vllm":
            return "vllm"
        try:
            health, headers = replace(self.endpoint, retries=0).get("/../health", lambda body: body)
        except RememError:
            return "other"
        named = "x-request-id" in {name.lower() for name in headers}
        return "transformers" if named and health == {"status": "ok"} else "other"

    @property
    def capabilities(self) -> BackendCapabilities:
        """What the server can do beside greedy replies."""
        known = self.server in ("vllm", "transformers")
        return BackendCapabilities(
            NO_TURN,
            "" if known else NO_SAMPLING,
            {"do_sample": True, "temperature": 1.0, "top_p": 1.0} if known else {},
        )

    # Prompts

    def chat(self, request: Instance) -> Chat:
        """The chat of a request."""
        *_, doc_id, task, split = request.args
        return chat_of(request, self.task_dict[task][split][doc_id], self.system_prompt)

    def body(self, chat: Chat, options: Mapping[str, Any], seed: int | None = None) -> dict[str, Any]:
        """The request for a reply.

        Args:
            options: as of `sampling_options`.
            seed: of what is drawn.
        """
        sampled = options["do_sample"]
        body: dict[str, Any] = {
            **({"model": self.name} if self.name else {}),
            "messages": [{"role": one["role"], "content": _content(one["content"])} for one in chat.messages],
            "max_tokens": options["max_new_tokens"],
            "temperature": options["temperature"] if sampled else 0.0,
        }
        if sampled:
            body["top_p"] = options["top_p"]
            body |= {"seed": seed} if seed is not None else {}
        if self.server == "vllm":  # what a checkpoint's generation config adds to a request is set back
            body |= {"top_k": options.get("top_k") or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        elif self.server == "transformers":
            # It takes sampling from here alone: a temperature above 0 beside a greedy generation config is greedy.
            drawn = {"temperature": options["temperature"], "top_p": options["top_p"]} if sampled else {}
            told = {
                "do_sample": sampled, "top_k": (options["top_k"] or 0) if sampled else None,
                "repetition_penalty": 1.0, "max_new_tokens": options["max_new_tokens"], **drawn,
            }  # fmt: skip
            body["generation_config"] = json.dumps(told)
        elif sampled and options["top_k"]:
            raise RememError("generation setting top_k: this server takes none")
        return body

    # Replies

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Replies in the order of the requests, each with its number of tokens as the server counts them.

        A request that the server does not answer has the mark of a failure in place of a reply.

        Raises:
            RememError: the server refuses every request, or answers none any more.
        """
        drawn: dict[tuple, int] = {}
        jobs: list[Callable[[], GenerationResult]] = []
        for request in requests:
            place = (*request.args[3:], request.args[0])
            drawn[place] = drawn.get(place, -1) + 1
            jobs.append(partial(self._reply, request, drawn[place]))
        return self.in_parallel(jobs)

    def in_parallel(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """What each of some jobs gives, several of them at a time; the first error ends them all."""
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            return list(tqdm(pool.map(lambda job: job(), jobs), total=len(jobs), desc="Replies"))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _reply(self, request: Instance, number: int) -> GenerationResult:
        chat, settings = self.chat(request), request.args[2]
        options = sampling_options(settings)
        seed = row_seed(torch.initial_seed(), chat.row, f"reply:{number}") if options["do_sample"] else None
        body = self.body(chat, options, None if seed is None else seed % 2**31)
        try:
            (reply,) = self.answered(body, replies_of)
        except NotAnswered as error:
            return GenerationResult(
                f"{FAILURE_MARK} after {self.endpoint.retries} retries] {error}", TokenCounts()
            )
        return GenerationResult(cut(reply.text, settings.get("until")), reply.token_counts)

    def answered(self, body: Mapping[str, Any], read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the server's answer.

        Raises:
            NotAnswered: this request has none.
            RememError: the server refuses every request, or has answered none of the last MOST_IN_A_ROW.
        """
        try:
            found, _ = self.endpoint.post(body, read)
        except NotAnswered as error:
            with self._lock:
                self._unanswered += 1
                gone = self._unanswered >= MOST_IN_A_ROW
            if gone:
                raise RememError(
                    f"the server at '{self.endpoint.url}' gave no answer to {MOST_IN_A_ROW} requests one after the other: {error}"
                ) from error
            raise
        with self._lock:
            self._unanswered = 0
        return found

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise RememError(
            "a server is not asked for loglikelihood; the tasks of this package do not ask for it"
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise RememError(
            "a server is not asked for several rounds; the tasks of this package do not ask for them"
        )


def _content(parts: Sequence[Mapping]) -> list[dict]:
    """A turn's content as the chat completions take it; pictures as PNG, which loses nothing."""
    made = []
    for part in parts:
        if part["type"] == "text":
            made.append({"type": "text", "text": part["text"]})
            continue
        written = io.BytesIO()
        # As image processors take them: a server may lay what is transparent on a ground of its own.
        part["image"].convert("RGB").save(written, "PNG")
        address = f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
        made.append({"type": "image_url", "image_url": {"url": address}})
    return made


def replies_of(body: Any) -> list[GenerationResult]:
    """The reply of each choice.

    The number of tokens is the server's, of one choice only; of several each has at least one.

    Raises:
        ValueError: a choice that is no reply: none at all, no text, an end that is the server's own, or a blank of
            which nobody says that the model said it.
    """
    try:
        choices, usage = body["choices"], body.get("usage") or {}
        if not choices:
            raise ValueError("no choice")
        counted = usage.get("completion_tokens")
        return [_reply_of(one, usage.get("prompt_tokens"), counted) for one in choices]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("the body is no chat completion") from error


def _reply_of(choice: Mapping, read: int | None, said: int | None) -> GenerationResult:
    message, end = choice["message"], choice.get("finish_reason")
    text = message.get("content")
    thought = message.get("reasoning_content") or message.get("reasoning")
    if end not in FINISHED:
        raise ValueError(f"it ended by {end}")
    if not isinstance(text, str):
        raise ValueError("its content is no text" + (", but thought alone" if thought else ""))
    if not text.strip() and thought:
        raise ValueError("it thought and said nothing")
    if not text.strip() and not said:
        raise ValueError("a blank, of no token that the model said")
    return GenerationResult(text, TokenCounts(input_tokens=read, output_tokens=said))


def _listed(body: Any) -> list[dict[str, Any]]:
    """The models that a server lists. Raises a ValueError for a body that is no such list."""
    found = body.get("data") if isinstance(body, dict) else None
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("id"), str) for one in found
    ):
        raise ValueError("the body is no list of models")
    return found
