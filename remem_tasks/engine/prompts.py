"""Chats to token ids: the prompt with its pictures, and what the assistant says behind it.

The one encoder of engine and training (`unlearning.data.Encoder`): an answer is tokenised behind its prompt, between
what the chat template puts around it, and cut off. A part of an answer has the tokens that it has in the whole: a
beginning is read up to the last token that lies in it, and what is left of it has to be said by the next one.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import torch

from remem_tasks.checkpoints import reason
from remem_tasks.engine.spelling import Spelling
from remem_tasks.errors import RememError

logger = logging.getLogger(__name__)

# A word that no template changes; what stands before it is how a template begins an assistant's turn.
_PROBE = "Xylograph"
# Behind one of these a text is tokenised as in the middle of a line: alone, SentencePiece would put a space first.
_ANCHORS = ("\n", ":", "(", "=")


@dataclass(frozen=True, eq=False)
class Chat:
    """A row's messages.

    Attributes:
        messages: turns in the processor's format (content as a list of text and image parts). If the
            last one is the assistant's, it is unfinished: the model goes on with it.
        row: how error messages call the row.
    """

    messages: list[dict]
    row: str

    def without_question(self) -> Chat:
        """The chat with the pictures alone in the user's last turn."""
        *before, user = self.messages
        pictures = [part for part in user["content"] if part["type"] == "image"]
        return Chat([*before, {**user, "content": pictures}], self.row)


@dataclass(frozen=True)
class Turn:
    """How a chat template writes the assistant's turn.

    Attributes:
        prompt: text of the finished turns, up to where the assistant begins.
        lead: what the template puts before the assistant's words.
        tail: what it puts behind them, up to the end token; the tokenizer's where it puts none.
    """

    prompt: str
    lead: str
    tail: str


@dataclass(frozen=True)
class Given:
    """The beginning of a text, in the tokens of the text.

    Attributes:
        tokens: those that lie in it.
        open: bytes of it behind them: it ends inside a token, which says these first.
    """

    tokens: list[int]
    open: bytes = b""


class _Whole:
    """A text behind a prompt, in tokens.

    Args:
        prompt: what stands before it.
        tokens: its own.
        said: the bytes of each.
    """

    def __init__(self, prompt: str, tokens: list[int], said: Sequence[bytes]) -> None:
        self.prompt, self.tokens, self.said = prompt, tokens, said
        self.bytes, self.ends = b"".join(said), list(accumulate(map(len, said)))


@dataclass(frozen=True)
class Asked:
    """A part of an answer that a model is to say, and others in its place.

    Attributes:
        given: what it has said before.
        candidates: tokens of the part, up to the token that it ends in, and of each other.
    """

    given: Given
    candidates: list[list[int]]


class Prompts:
    """Tokens of chats and of what the assistant says.

    Args:
        processor: tokenizer, image processor and chat template of the checkpoint.
        ends: ids of tokens that end a turn, beside the tokenizer's own.
    """

    def __init__(self, processor: Any, ends: Sequence[int] = ()) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        own = getattr(self.tokenizer, "eos_token_id", None)
        self.ends = list(dict.fromkeys(int(end) for end in [*ends, own] if end is not None))
        self._turns: WeakKeyDictionary[Chat, Turn] = WeakKeyDictionary()
        self._told = False

    def __reduce__(self) -> tuple:
        """To another process (a loader's worker) goes what it was made of."""
        return Prompts, (self.processor, self.ends)

    @cached_property
    def spelling(self) -> Spelling:
        """The bytes of the tokenizer's tokens."""
        return Spelling(self.tokenizer)

    @staticmethod
    def split(chat: Chat) -> tuple[list[dict], str]:
        """(the finished turns, what the assistant has said of the last one)."""
        *finished, last = chat.messages
        if last["role"] != "assistant":
            return chat.messages, ""
        content = last["content"]
        if not isinstance(content, str):
            content = "".join(part["text"] for part in content)
        return finished, content

    def _text(self, messages: list[dict], **options: Any) -> str:
        return self.processor.apply_chat_template(messages, tokenize=False, **options)

    def encode(self, chats: Sequence[Chat]) -> Mapping[str, torch.Tensor]:
        """Model inputs of the finished turns up to where the assistant begins.

        Returns:
            The processor's output, padded on the left; `input_ids` is (rows, longest prompt).

        Raises:
            RememError: the processor refuses a chat, such as one with too narrow a picture; names the row.
        """
        try:
            return self._encode(chats)
        except MemoryError as error:
            raise RememError(f"{chats[0].row}: out of memory while its batch was prepared") from error
        except Exception as error:
            if isinstance(error, RuntimeError) and "memory" in str(error).lower():
                error.add_note(f"while preparing {', '.join(chat.row for chat in chats[:3])}")
                raise  # the caller deals with it
            for chat in chats if len(chats) > 1 else ():
                self.encode([chat])
            raise RememError(f"{chats[0].row}: the processor refuses it: {reason(error)}") from error

    def _encode(self, chats: Sequence[Chat]) -> Mapping[str, torch.Tensor]:
        return self.processor.apply_chat_template(
            [self.split(chat)[0] for chat in chats],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            # (A row alone needs no padding, and a tokenizer that cannot pad still encodes it.)
            processor_kwargs={"padding": len(chats) > 1, "padding_side": "left"},
        )

    def turn(self, chat: Chat) -> Turn:
        """How the template writes what the assistant says to a chat."""
        if chat not in self._turns:
            finished, _ = self.split(chat)
            prompt = self._text(finished, add_generation_prompt=True)
            probe = {"role": "assistant", "content": [{"type": "text", "text": _PROBE}]}
            full = self._text([*finished, probe])
            if full.startswith(prompt) and _PROBE in full[len(prompt) :]:
                lead, tail = full[len(prompt) :].split(_PROBE, 1)
            else:
                # It writes answered turns otherwise than the one it asks for.
                lead = "" if not prompt or prompt[-1].isspace() else " "
                tail = full.rsplit(_PROBE, 1)[1] if _PROBE in full else ""
            self._turns[chat] = Turn(prompt, lead, self._up_to_the_end(tail))
        return self._turns[chat]

    def _up_to_the_end(self, tail: str) -> str:
        """Cut behind the first end token (ChatML puts a line break there); LLaVA-1.5's template puts none."""
        ends = self.tokenizer.convert_ids_to_tokens(sorted(self.ends)) if self.ends else []
        found = [(tail.index(end), end) for end in ends if end and end in tail]
        if found:
            place, end = min(found)
            return tail[: place + len(end)]
        return tail.rstrip() + (getattr(self.tokenizer, "eos_token", None) or "")

    def text(self, tokens: Sequence[int]) -> str:
        """What generated tokens say, without the end token."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def text_behind(self, given: Given, tokens: Sequence[int]) -> str:
        """What tokens say behind a beginning: without its end, where they begin with that."""
        if not given.open:
            return self.text(tokens)
        return b"".join(self.spelling.of(tokens))[len(given.open) :].decode(errors="replace")

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def _alone(self, text: str) -> list[int]:
        """Tokens of a text that shares none with what stands before it, and has no space put first."""
        for anchor in _ANCHORS:
            head, joint = self._ids([anchor, anchor + text])
            if head and joint[: len(head)] == head:
                return joint[len(head) :]
        return self._ids([text])[0]

    def _unknown(self, text: str) -> list[int]:
        """What stands for a text that the tokenizer writes nothing for: no model says it, so it is never "said already".

        Raises:
            RememError: the tokenizer has no token for what it does not know.
        """
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        if unknown is None:
            raise RememError(f"the tokenizer has no token for {text[:40]!r}, so nobody can ask for it")
        return [int(unknown)]

    def _behind(self, parts: Sequence[tuple[str, Sequence[str]]]) -> list[list[list[int]]]:
        """Tokens of texts, each behind what stands before it.

        The prompt's own tokens stay as they are, as in generation: where a text would merge with the last of
        them, it is tokenised by itself.
        """
        whole = iter(
            self._ids(
                [text for before, texts in parts for text in (before, *(before + one for one in texts))]
            )
        )
        found = []
        for before, texts in parts:
            head = next(whole)
            joint = [(text, next(whole)) for text in texts]
            found.append(
                [ids[len(head) :] if ids[: len(head)] == head else self._alone(text) for text, ids in joint]
            )
            if not self._told and any(ids[: len(head)] != head for _, ids in joint):
                self._told = True
                logger.warning(
                    "answers are tokenised apart from their prompts, whose last token they would merge with: %r",
                    before[-20:] + joint[0][0][:20],
                )
        return found

    def _wholes(self, parts: Sequence[tuple[str, Sequence[str]]]) -> list[list[_Whole]]:
        return [
            [_Whole(before, tokens, self.spelling.of(tokens)) for tokens in of]
            for (before, _), of in zip(parts, self._behind(parts))
        ]

    def _place(self, whole: _Whole, begun: str) -> tuple[int, bytes | None]:
        """How many tokens of a text lie in one of its beginnings, and what of this they leave unsaid.

        Returns:
            The number; bytes, None where the tokenizer rewrites what it is given so that nobody can tell.
        """
        raw = begun.encode()
        if whole.bytes.startswith(raw):
            count = bisect_left(whole.ends, len(raw)) if raw else -1
            if count < 0 or whole.ends[count] == len(raw):
                return count + 1, b""
            return count, raw[whole.ends[count] - len(whole.said[count]) :]
        # Letters that are normalised, or that it cannot write: what both have in common, and then by length.
        [[part]] = self._behind([(whole.prompt, [begun])])
        tokens = whole.tokens
        pairs = enumerate(zip(tokens, part))
        count = next((at for at, (a, b) in pairs if a != b), min(len(tokens), len(part)))
        left = self.spelling.of(part[count:])
        if not all(left):
            return count, None
        rest = b"".join(left)
        while rest and count < len(tokens) and whole.said[count] and rest.startswith(whole.said[count]):
            rest, count = rest[len(whole.said[count]) :], count + 1
        if rest and not (count < len(tokens) and whole.said[count].startswith(rest)):
            return count, None
        return count, rest

    def _given(self, whole: _Whole, begun: str) -> Given:
        count, rest = self._place(whole, begun)
        if rest is None:
            return Given(self._behind([(whole.prompt, [begun])])[0][0])
        return Given(whole.tokens[:count], rest)

    def _covered(self, whole: _Whole, begun: str, start: int = 0) -> list[int]:
        """The tokens of a text, from one of them on, that say one of its beginnings, the last of them whole."""
        count, rest = self._place(whole, begun)
        if rest is None:
            return self._behind([(whole.prompt, [begun])])[0][0][start:]
        return whole.tokens[start : count + bool(rest)]

    def labels(self, chat: Chat, answers: Sequence[str]) -> list[list[int]]:
        """Tokens of whole answers to a chat with the token that ends the turn: what training teaches.

        Blanks around an answer are left out.

        Raises:
            RememError: an answer that holds the text of a token that ends a turn.
        """
        turn = self.turn(chat)
        for end in self.tokenizer.convert_ids_to_tokens(self.ends):
            if any(end in answer for answer in answers):
                raise RememError(
                    f"{chat.row}: its answer holds '{end}', the text of the token that ends a turn"
                )
        return self._behind([(turn.prompt, [turn.lead + answer.strip() + turn.tail for answer in answers])])[
            0
        ]

    def answers(self, asked: Sequence[tuple[Chat, Sequence[str]]]) -> list[list[list[int]]]:
        """Tokens of whole answers as in `labels`, up to the token that each ends in."""
        turns = [self.turn(chat) for chat, _ in asked]
        said = [[turn.lead + text.strip() for text in texts] for turn, (_, texts) in zip(turns, asked)]
        wholes = self._wholes(
            [(turn.prompt, [text + turn.tail for text in texts]) for turn, texts in zip(turns, said)]
        )
        return [[self._covered(*pair) for pair in zip(of, texts)] for of, texts in zip(wholes, said)]

    def beginnings(self, asked: Sequence[tuple[Chat, str, Sequence[int]]]) -> list[list[Given]]:
        """Beginnings of answers, in the tokens of the whole.

        Args:
            asked: chats, each with the answer and with how many characters of it each beginning has.
        """
        turns = [self.turn(chat) for chat, _, _ in asked]
        wholes = self._wholes(
            [
                (turn.prompt, [turn.lead + answer.strip() + turn.tail])
                for turn, (_, answer, _) in zip(turns, asked)
            ]
        )
        made = []
        for turn, (whole,), (_, answer, cuts) in zip(turns, wholes, asked):
            said = answer.strip()
            begun = [said[: len(answer[:cut].lstrip())] for cut in cuts]
            made.append([self._given(whole, turn.lead + one) if one else Given([]) for one in begun])
        return made

    def said(self, chat: Chat, text: str) -> list[int]:
        """Tokens of what the assistant has said of a turn of which nothing more is known; "" is not a token."""
        turn = self.turn(chat)
        return self._behind([(turn.prompt, [turn.lead + text])])[0][0] if text else []

    def parts(self, asked: Sequence[tuple[Chat, str, Sequence[str], str]]) -> list[Asked]:
        """Parts of answers: what goes before each, and its own tokens beside others'.

        Args:
            asked: chats, each with the beginning of the turn, e.g. a cloze prompt, what follows it, with the
                space between them (" Oslo") first and then others in its place, and what the answer says behind.
        """
        pieces, starts, said = [], [], []
        for chat, before, texts, after in asked:
            turn = self.turn(chat)
            # Where nothing is said before, what the template puts there is the beginning, less its blanks.
            start = turn.lead + before if before else turn.lead.rstrip()
            space = "" if before else turn.lead[len(start) :]
            starts.append(start)
            said.append([space + text for text in texts])
            pieces.append((turn.prompt, [start + text + after.rstrip() + turn.tail for text in said[-1]]))
        made = []
        for start, texts, wholes in zip(starts, said, self._wholes(pieces)):
            given = self._given(wholes[0], start) if start else Given([])
            read, begun = len(given.tokens), given.open.decode(errors="ignore")
            made.append(
                Asked(
                    given,
                    [
                        (whole.tokens[:read] == given.tokens and self._covered(whole, start + text, read))
                        or self._alone(begun + text)
                        or self._unknown(text)
                        for text, whole in zip(texts, wholes)
                    ],
                )
            )
        return made


def special_texts(processor: Any) -> list[str]:
    """The texts that a checkpoint's tokenizer takes for special tokens, placeholders of pictures included; longest first."""
    tokenizer = processor.tokenizer
    known = set(getattr(tokenizer, "all_special_tokens", ()))
    added = {token.content: token for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}
    known |= {text for text, token in added.items() if token.special}
    known |= {value for value in vars(processor).values() if isinstance(value, str) and value in added}
    return sorted((text for text in known if text.strip()), key=lambda text: (-len(text), text))


def text_tokens(model: Any, processor: Any, vocabulary: int) -> tuple[torch.Tensor, list[int]]:
    """Which tokens may be said.

    No text are: special tokens, the placeholders that processor and configuration name (pictures,
    videos, padding, start), and the ids above the tokenizer's, with which a vocabulary is filled up.

    Args:
        model: the checkpoint's model, with its generation config.
        processor: its processor.
        vocabulary: how many logits the model has.

    Returns:
        (mask (vocabulary), True where a token is not a text, end tokens; the end tokens are text)
    """
    tokenizer = processor.tokenizer
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = own if isinstance(own, (list, tuple)) else [own]
    ends = list(dict.fromkeys(int(end) for end in [*ends, tokenizer.eos_token_id] if end is not None))

    found: set[int] = set(getattr(tokenizer, "all_special_ids", []))
    added = getattr(tokenizer, "added_tokens_decoder", {})
    found |= {index for index, token in added.items() if token.special}
    names = {token.content: index for index, token in added.items()}
    for name, value in vars(processor).items():
        # `image_token`, `fake_image_token`, `global_image_tag`, `video_token_id` …
        if isinstance(value, str) and value in names:
            found.add(names[value])
        elif name.endswith("token_id") and isinstance(value, int):
            found.add(value)
        elif name == "row_col_ids":  # Idefics3's places of tiles
            found |= {index for index in value if index is not None}
    configs = [model.config, getattr(model.config, "text_config", None)]
    for config in filter(None, configs):
        for name, value in vars(config).items():
            if name.endswith(("token_id", "token_index")) and isinstance(value, int):
                found.add(value)
    banned = torch.zeros(vocabulary, dtype=torch.bool)
    banned[[index for index in found if 0 <= index < vocabulary]] = True
    banned[len(tokenizer) :] = True
    banned[[end for end in ends if end < vocabulary]] = False
    return banned, ends
