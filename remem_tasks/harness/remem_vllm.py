"""`--model remem_vllm`: a checkpoint behind a vLLM server, with the scores of a white box that its interface can give.

MEMO goes on with the assistant's begun turn (`continue_final_message`); log-probabilities of secrets and answers are
those of a prompt that ends in them (`prompt_logprobs`); rollouts are drawn at temperature 1, all of a drawing at once.
Texts have the tokens that `remem_hf` reads and asks for, and no reply holds a token that is no text.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from transformers import AutoConfig, GenerationConfig

from remem_tasks.benchmarks.scoring_config import BackendCapabilities
from remem_tasks.checkpoints import check_path, load_processor, reason
from remem_tasks.endpoint import NotAnswered
from remem_tasks.engine.prompts import Chat, Given, Prompts, text_tokens
from remem_tasks.engine.whitebox import guesses_of, of_rollouts
from remem_tasks.errors import RememError
from remem_tasks.harness.generation import cut, sampling_options
from remem_tasks.harness.remem_openai import RememOpenAI
from remem_tasks.harness.row_requests import RowRequests, check_texts, grouped
from remem_tasks.harness.task import FAILURE_MARK
from remem_tasks.harness.vllm_reading import Place, end_of, ids_of, places_of, said_of
from remem_tasks.metrics import reference_rank
from remem_tasks.seeds import row_seed
from remem_tasks.whitebox import SecretResult, WhiteBoxRequest, WhiteBoxResult, WholeAnswer

NO_SEARCH = (
    "a vLLM server gives no search over its tree of tokens at acceptable cost (remem_hf does): rollouts are drawn, "
    "estimator frequency"
)
NO_MOMENTS = "it needs whole distributions: logprobs=-1 in --model_args, and --max-logprobs of the vocabulary's size at the server"
GREEDY = {"do_sample": False}

log = logging.getLogger(__name__)


class RememVLLM(RememOpenAI):
    """A checkpoint behind a vLLM server.

    Args:
        base_url, asked: how the server is asked, as of `remem_openai`.
        pretrained: folder or Hub id with the checkpoint's processor and configuration; default: where the server says
            that it has it from. The weights are not read.
        logprobs: of how many of the likeliest tokens log-probabilities are asked for at each place, at most the
            server's --max-logprobs; -1 for the whole vocabulary. Probability of tokens that are no text is taken out
            as far as it is among these.
        seeded: whether each drawing has a seed, so that a second run draws the same. The engine of vLLM 0.32 on a CPU
            ends at a seed whose prompt it reads in parts: there, False.

    Raises:
        RememError: another server, or one that reads prompts otherwise than this processor.
    """

    def __init__(
        self,
        base_url: str = "",
        pretrained: str = "",
        logprobs: int = 20,
        seeded: bool = True,
        **asked: Any,
    ) -> None:
        if (
            isinstance(logprobs, bool)
            or not isinstance(logprobs, int)
            or not (logprobs == -1 or logprobs > 0)
        ):
            raise RememError(f"logprobs '{logprobs}' is neither -1 nor a whole number above 0")
        if not isinstance(seeded, bool):
            raise RememError(f"seeded '{seeded}' is neither True nor False")
        super().__init__(base_url, **asked)
        if self.server != "vllm":
            raise RememError(f"the server at '{base_url}' is no vLLM; --model remem_openai takes any")
        name = str(pretrained) or str(self.served.get("root") or "")
        if not name:
            raise RememError("the server does not say where its checkpoint is: pretrained= in --model_args")
        self.processor = load_processor(check_path(name, "checkpoint"))
        self.logprobs, self.seeded = logprobs, seeded
        self._know_tokens(name)
        self._special: dict[bool, bool] = {}  # of chats with a picture, and of others
        self._once = threading.Lock()
        self.otherwise = 0

    def _know_tokens(self, name: str) -> None:
        """Which tokens are text, and which end a turn."""
        try:
            config = AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise RememError(f"checkpoint '{name}': {reason(error)}") from error
        try:
            generation: Any = GenerationConfig.from_pretrained(name)
        except OSError:
            generation = None
        text = config.get_text_config()
        model = SimpleNamespace(config=config, generation_config=generation)
        banned, ends = text_tokens(model, self.processor, text.vocab_size)
        self.vocabulary = int(text.vocab_size)
        self.banned = frozenset(banned.nonzero()[:, 0].tolist())
        self.ends = frozenset(ends)
        self.prompts = Prompts(self.processor, ends)

    @property
    def capabilities(self) -> BackendCapabilities:
        """What the server can do beside greedy replies."""
        without = dict.fromkeys(("exact", "distinct"), NO_SEARCH)
        without |= {"membership": NO_MOMENTS} if self.logprobs != -1 else {}
        return BackendCapabilities(
            "", "", {"do_sample": True, "temperature": 1.0, "top_p": 1.0}, without=without
        )

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Replies in the order of the requests; a white-box request's is `WhiteBoxResult` as JSON.

        Raises:
            RememError: as of `remem_openai`; and a white-box request without an answer, with the row's name.
        """
        check_texts(requests, self.task_dict, self.processor)
        rows = [
            row
            for group in grouped(requests, lambda task, split, at: self.task_dict[task][split][at])
            for row in group
        ]
        results: list[GenerationResult | None] = [None] * len(requests)
        jobs = [lambda row=row: self._row(row) for row in rows]
        for row, (replies, findings) in zip(rows, self.in_parallel(jobs)):
            for place, reply in zip(row.replies, replies):
                results[place] = reply
            for place in row.findings:
                results[place] = findings
        if self.otherwise:
            log.warning(
                "%d texts are read by the server in other tokens than remem_hf reads them in", self.otherwise
            )
        return results

    def _row(self, row: RowRequests) -> tuple[list[GenerationResult], GenerationResult | None]:
        chat, settings = self.chat(row.request), row.request.args[2]
        replies = [self._reply_to(chat, settings, number) for number in range(len(row.replies))]
        if row.white_box_request is None:
            return replies, None
        try:
            found = Findings(self, chat, row.white_box_request).all()
        except NotAnswered as error:
            raise RememError(f"{chat.row}: the server did not answer: {error}") from error
        return replies, GenerationResult(found.to_text(), TokenCounts(output_tokens=0))

    def _reply_to(self, chat: Chat, settings: Mapping, number: int) -> GenerationResult:
        options = sampling_options(settings)
        seed = row_seed(torch.initial_seed(), chat.row, f"reply:{number}") if options["do_sample"] else None
        try:
            (tokens,) = self.said(chat, [], options, seed=seed)
        except NotAnswered as error:
            return GenerationResult(
                f"{FAILURE_MARK} after {self.endpoint.retries} retries] {error}", TokenCounts()
            )
        text = cut(self.prompts.text(tokens), settings.get("until"))
        return GenerationResult(text, TokenCounts(output_tokens=len(tokens)))

    # Requests

    def begun(self, chat: Chat, tokens: Sequence[int], options: Mapping[str, Any], seed: int | None) -> dict:
        """A request in which the assistant has said some tokens.

        Raises:
            RememError: the tokens end inside a letter, so that no text says them; names the row.
        """
        body = self.body(chat, options, seed % 2**31 if seed is not None and self.seeded else None)
        body |= {"return_token_ids": True, "logit_bias": {str(one): -100 for one in sorted(self.banned)}}
        body["add_special_tokens"] = self._agrees(chat)
        try:
            text = b"".join(self.prompts.spelling.of(tokens)).decode()
        except UnicodeDecodeError as error:
            raise RememError(
                f"{chat.row}: what the assistant has said ends inside a letter, which no request can hold"
            ) from error
        text = text.removeprefix(self.prompts.turn(chat).lead)
        if text.strip():
            said = {"role": "assistant", "content": text}
            body |= {"messages": [*body["messages"], said], "add_generation_prompt": False}
            body["continue_final_message"] = True
        return body

    def said(
        self,
        chat: Chat,
        tokens: Sequence[int],
        options: Mapping[str, Any],
        count: int = 1,
        seed: int | None = None,
        allowed: Iterable[int] | None = None,
        begins: str = "",
    ) -> list[list[int]]:
        """Tokens of replies behind what the assistant has said.

        Args:
            options: as of `sampling_options`.
            count: how many are drawn.
            allowed: the only tokens that may be said.
            begins: what each reply begins with.
        """
        body = self.begun(chat, tokens, options, seed)
        body |= {"n": count} if count > 1 else {}
        if allowed is not None:
            body["allowed_token_ids"] = sorted(set(allowed) - self.banned)
        if begins:
            body["structured_outputs"] = {"regex": re.escape(begins) + r"[\s\S]*"}
        text = b"".join(self.prompts.spelling.of(tokens))

        def read(answer: Any) -> list[list[int]]:
            self._note(end_of(ids_of(answer), text, self.prompts.spelling), tokens)
            found = said_of(answer)
            if len(found) != count:
                raise ValueError(f"{len(found)} replies of {count}")
            return found

        return self.answered(body, read)

    def places(self, chat: Chat, given: Given, tokens: Sequence[int]) -> list[Place]:
        """What is known of p at each of some tokens behind what the assistant has said.

        Raises:
            RememError: names the row; the server reads the text in tokens that do not end where it begins.
        """
        body = self.begun(chat, [*given.tokens, *tokens], {**GREEDY, "max_new_tokens": 1}, None)
        body["prompt_logprobs"] = self.logprobs
        spelling = self.prompts.spelling
        before = b"".join(spelling.of(given.tokens))
        text = before + b"".join(spelling.of(tokens))

        def read(answer: Any) -> list[Place]:
            ids, told = places_of(answer, self.banned)
            end = end_of(ids, text, spelling)
            self._note(end, [*given.tokens, *tokens])
            start = next(
                at for at in range(len(end) + 1) if len(b"".join(spelling.of(end[:at]))) >= len(before)
            )
            if b"".join(spelling.of(end[:start])) != before:
                raise ValueError("it reads a text in tokens that go over its beginning")
            found = told[len(told) - len(end) + start :]
            told_of = [one for one in found if one is not None]
            if len(told_of) < len(found):
                raise ValueError("it tells nothing of a token")
            return told_of

        found = self.answered(body, read)
        if given.open:
            found = [found[0].among(self.onward(given.open)), *found[1:]]
        return found

    def onward(self, left: bytes) -> list[int]:
        """The tokens that can be said where a text is to come."""
        spelling = self.prompts.spelling
        return [one for one in (*spelling.covering(left), *spelling.within(left)) if one < self.vocabulary]

    def _note(self, read: Sequence[int], wanted: Sequence[int]) -> None:
        if list(read) != list(wanted):
            with self._lock:
                self.otherwise += 1

    def _agrees(self, chat: Chat) -> bool:
        """Whether the server has to be asked for special tokens, so that it reads what the processor here makes.

        Raises:
            RememError: it reads something else either way.
        """
        pictured = any(part["type"] == "image" for turn in chat.messages for part in turn["content"])
        with self._once:
            if pictured in self._special:
                return self._special[pictured]
            wanted = self.prompts.encode([chat])["input_ids"][0].tolist()
            body = self.body(chat, {**GREEDY, "max_new_tokens": 1}) | {"return_token_ids": True}
            for special in (False, True):
                read = self.answered({**body, "add_special_tokens": special}, ids_of)
                if read == wanted:
                    self._special[pictured] = special
                    return special
        raise RememError(
            f"{chat.row}: the server reads a prompt of {len(read)} tokens, the processor of '{self.served.get('root')}' makes one of "
            f"{len(wanted)}: another chat template, other pictures or special tokens (pretrained= names the checkpoint that it serves)"
        )


class Findings:
    """The answer to a white-box request, asked of a server one by one.

    Args:
        model: who asks.
        chat: the row's.
        request: what is asked.
    """

    def __init__(self, model: RememVLLM, chat: Chat, request: WhiteBoxRequest) -> None:
        self.model, self.chat, self.request, self.prompts = model, chat, request, model.prompts

    def all(self) -> WhiteBoxResult:
        """All of it.

        Raises:
            NotAnswered: the server did not answer a part.
            RememError: a part that it cannot be asked for.
        """
        request = self.request
        if request.by_token and self.model.logprobs != -1:
            raise RememError(f"{self.chat.row}: a score of single tokens is asked for: {NO_MOMENTS}")
        texts = (*request.answers, *request.wholes)
        tokens = self.prompts.answers([(self.chat, texts)])[0] if texts else []
        places = [self.model.places(self.chat, Given([]), one) for one in tokens]
        answers, wholes = places[: len(request.answers)], places[len(request.answers) :]
        by_token = answers[: request.by_token]
        return WhiteBoxResult(
            self._continuations(),
            self._secrets(),
            [_mean(one) for one in answers],
            [[place.logprob for place in one] for one in by_token],
            [[place.moments() for place in one] for one in by_token],
            [self._whole(one) for one in wholes],
        )

    def _whole(self, places: Sequence[Place]) -> WholeAnswer:
        known = self.model.logprobs == -1
        moments = [place.moments() if known else (math.nan, math.nan) for place in places]
        return WholeAnswer(
            [place.token for place in places],
            [place.predicted for place in places],
            [place.logprob for place in places],
            [mean for mean, _ in moments],
            [sd for _, sd in moments],
        )

    def _continuations(self) -> list[str]:
        request = self.request
        if not request.cuts:
            return []
        (beginnings,) = self.prompts.beginnings([(self.chat, request.answer, request.cuts)])
        options = {**GREEDY, "max_new_tokens": request.memo_tokens}
        found = []
        for given in (self._sendable(self.chat, one) for one in beginnings):
            (tokens,) = self._behind(self.chat, given, options, 1, None)
            found.append(self.prompts.text_behind(given, tokens))
        return found

    def _secrets(self) -> list[SecretResult]:
        request = self.request
        chat = self.chat if request.with_question else self.chat.without_question()
        parts = self.prompts.parts(
            [(chat, one.before, [one.text, *one.others], one.after) for one in request.secrets]
        )
        found = []
        for place, (secret, part) in enumerate(zip(request.secrets, parts)):
            values = [self.model.places(chat, part.given, one) for one in part.candidates]
            means = [_mean(one) for one in values]
            given = self._sendable(chat, part.given)
            drawn = [
                SimpleNamespace(tokens=one, logprobs=[])
                for one in self._drawn(chat, given, len(part.candidates[0]), place)
            ]
            found.append(
                SecretResult(
                    logprobs=[one.logprob for one in values[0]],
                    reference_rank=reference_rank(means[0], means[1:]),
                    references=len(means) - 1,
                    **of_rollouts(self.prompts, secret, given, part.candidates[0], 0.0, drawn, False),
                    guesses=guesses_of(self.prompts, given, None, drawn, request.estimators),
                )
            )
        return found

    def _drawn(self, chat: Chat, given: Given, limit: int, place: int) -> list[list[list[int]]]:
        """Of each drawing the rollouts of a secret, cut at its number of tokens."""
        request = self.request
        options = sampling_options({"do_sample": True, "max_new_tokens": limit})
        found = []
        for drawing in range(request.drawings if "frequency" in request.estimators else 0):
            seed = row_seed(
                request.seed, request.row_id, f"frequency:{place}" + f":{drawing}" * bool(drawing)
            )
            found.append(self._behind(chat, given, options, request.rollouts, seed))
        return found

    def _sendable(self, chat: Chat, given: Given) -> Given:
        """The same beginning, up to a token that ends with a letter; none that is but what the template puts before it.

        No request can hold the one or the other: they are said by the next token too.
        """
        tokens, left = list(given.tokens), given.open
        lead = self.prompts.turn(chat).lead
        while tokens:
            said = self.prompts.spelling.of(tokens)
            try:
                if b"".join(said).decode().removeprefix(lead).strip():
                    break
            except UnicodeDecodeError:
                pass
            left, tokens = said[-1] + left, tokens[:-1]
        return Given(tokens, left)

    def _behind(
        self, chat: Chat, given: Given, options: Mapping[str, Any], count: int, seed: int | None
    ) -> list[list[int]]:
        """Tokens of replies behind a beginning; where it ends inside a token, their first ones say its end."""
        model, limit = self.model, options["max_new_tokens"]
        if not given.open:
            return model.said(chat, given.tokens, options, count, seed)
        once = {**options, "max_new_tokens": 1}
        first = model.said(chat, given.tokens, once, count, seed, model.onward(given.open))
        found: list[list[int]] = []
        for (token, *_), several in Counter(map(tuple, first)).items():
            (said,) = self.prompts.spelling.of([token])
            onward = Given([*given.tokens, token], given.open[len(said) :])
            rest = {**options, "max_new_tokens": limit - 1}
            if limit == 1 or token in model.ends:
                found += [[token]] * several
                continue
            if self._sendable(chat, onward).tokens != onward.tokens:
                # No request can hold it: the server keeps to the beginning's end itself, token by token.
                return model.said(chat, given.tokens, options, count, seed, begins=given.open.decode())
            again = None if seed is None else row_seed(seed, chat.row, f"behind:{token}")
            found += [[token, *more] for more in self._behind(chat, onward, rest, several, again)]
        return found


def _mean(places: Sequence[Place]) -> float:
    return math.fsum(place.logprob for place in places) / len(places)
