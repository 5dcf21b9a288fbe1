"""Chats to token ids: the prompt with its pictures, and what the assistant has already said.

What stands in the assistant's turn is tokenised together with its prompt and cut off behind it, as in
training (`unlearning.data.Encoder`): tokenised alone, SentencePiece would add a space and BPE would
not merge as it did there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from remem_tasks.checkpoints import reason
from remem_tasks.errors import RememError

# A word that no template changes; what stands before it is how a template begins an assistant's turn.
_PROBE = "Xylograph"


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


class Prompts:
    """Tokens of chats and of what continues them.

    Args:
        processor: tokenizer, image processor and chat template of the checkpoint.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self._rendered: WeakKeyDictionary[Chat, tuple[str, str]] = WeakKeyDictionary()

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
            processor_kwargs={"padding": True, "padding_side": "left"},
        )

    def _assistant(self, chat: Chat) -> tuple[str, str]:
        """(text of the finished turns, what the template puts before an assistant's words)."""
        if chat not in self._rendered:
            finished, _ = self.split(chat)
            prompt = self._text(finished, add_generation_prompt=True)
            probe = {"role": "assistant", "content": [{"type": "text", "text": _PROBE}]}
            full = self._text([*finished, probe])
            known = full.startswith(prompt) and _PROBE in full[len(prompt) :]
            self._rendered[chat] = prompt, full[len(prompt) :].split(_PROBE)[0] if known else " "
        return self._rendered[chat]

    def text(self, tokens: Sequence[int]) -> str:
        """What generated tokens say, without the end token."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []

    def said(self, asked: Sequence[tuple[Chat, Sequence[str]]]) -> list[list[list[int]]]:
        """Tokens of beginnings of the assistant's turn, each as it stands behind its chat's prompt.

        Args:
            asked: chats (an unfinished assistant's turn is left out), each with what the assistant has
                said; "" is no token.
        """
        parts = []
        for chat, texts in asked:
            prompt, lead = self._assistant(chat)
            parts.append((prompt, [lead + text for text in texts if text]))
        found = [iter(ids) for ids in self._behind(parts)]
        return [[next(behind) if text else [] for text in texts] for (_, texts), behind in zip(asked, found)]

    def continued(self, asked: Sequence[tuple[Chat, str, Sequence[str]]]) -> list[list[list[int]]]:
        """Tokens of texts that go on after the assistant has said something.

        Args:
            asked: chats, as in `said`, each with the beginning of the turn, e.g. a cloze prompt, and with
                what follows it, with the space between them (" Oslo").
        """
        parts = []
        for chat, before, texts in asked:
            prompt, lead = self._assistant(chat)
            start = prompt + lead + before if before else prompt
            parts.append((start, [text if before else lead + text for text in texts]))
        return self._behind(parts)

    def _behind(self, parts: Sequence[tuple[str, list[str]]]) -> list[list[list[int]]]:
        """Tokens of texts, each behind what stands before it."""
        whole = iter(
            self._ids(
                [text for before, texts in parts for text in (before, *(before + one for one in texts))]
            )
        )
        found = []
        for _, texts in parts:
            head = next(whole)
            joint = [(text, next(whole)) for text in texts]
            # Where they merge over the border, training tokenises the answer by itself too.
            found.append(
                [
                    ids[len(head) :] if ids[: len(head)] == head else self._ids([text])[0]
                    for text, ids in joint
                ]
            )
        return found


def text_tokens(model: Any, processor: Any, vocabulary: int) -> tuple[torch.Tensor, list[int]]:
    """Which tokens may be said.

    No text are: special tokens, the placeholders that processor and configuration name (pictures,
    videos, padding, start), and the ids above the tokenizer's, with which a vocabulary is filled up.

    Args:
        model: the checkpoint's model, with its generation config.
        processor: its processor.
        vocabulary: how many logits the model has.

    Returns:
        (mask (vocabulary), True where a token is no text, end tokens; the end tokens are text)
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
