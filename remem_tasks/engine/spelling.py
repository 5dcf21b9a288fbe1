"""What each token of a tokenizer writes, in bytes: which tokens can go on where a text ends inside one."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_BYTE = re.compile("<0x([0-9A-F]{2})>")


def _byte_level() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes as: themselves where they show, else those from U+0100."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = sorted(set(range(256)) - set(shown))
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def _decoders(tokenizer: Any) -> dict[str, dict]:
    """What turns tokens into text again, by its type."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if decoder is None:
        return {}
    state = json.loads(decoder.__getstate__())
    return {str(one.get("type")): one for one in (state, *state.get("decoders", []))}


class Spelling:
    """The bytes of a tokenizer's tokens, as a byte-level or a SentencePiece-like vocabulary writes them.

    Args:
        tokenizer: the checkpoint's.
    """

    def __init__(self, tokenizer: Any) -> None:
        decoders = _decoders(tokenizer)
        letters = _byte_level() if "ByteLevel" in decoders else None
        inside = decoders.get("WordPiece", {}).get("prefix") or "\0"  # before what goes on inside a word
        added = dict(getattr(tokenizer, "added_tokens_decoder", {}))
        special = {index for index, token in added.items() if token.special}
        special |= set(getattr(tokenizer, "all_special_ids", []))
        self._bytes: dict[int, bytes] = {}
        for token, index in tokenizer.get_vocab().items():
            if index in special:
                self._bytes[index] = b""
            elif index in added:
                self._bytes[index] = token.encode()
            elif letters is not None:
                known = all(letter in letters for letter in token)
                self._bytes[index] = bytes(letters[letter] for letter in token) if known else token.encode()
            elif found := _BYTE.fullmatch(token):
                self._bytes[index] = bytes([int(found[1], 16)])
            else:
                self._bytes[index] = token.removeprefix(inside).replace("▁", " ").encode()
        self._order = sorted((said, index) for index, said in self._bytes.items() if said)
        self.covering = lru_cache(maxsize=1 << 12)(self._covering)
        self.within = lru_cache(maxsize=1 << 12)(self._within)

    def of(self, tokens: Sequence[int]) -> list[bytes]:
        """What each token writes; nothing for special tokens and those that the tokenizer does not know."""
        return [self._bytes.get(token, b"") for token in tokens]

    def _covering(self, text: bytes) -> tuple[int, ...]:
        """The tokens that begin with a text, or are it."""
        found = []
        for place in range(bisect_left(self._order, (text, -1)), len(self._order)):
            said, index = self._order[place]
            if not said.startswith(text):
                break
            found.append(index)
        return tuple(found)

    def _within(self, text: bytes) -> tuple[int, ...]:
        """The tokens that a text begins with and goes on after."""
        found: list[int] = []
        for length in range(1, len(text)):
            start = text[:length]
            for place in range(bisect_left(self._order, (start, -1)), len(self._order)):
                if self._order[place][0] != start:
                    break
                found.append(self._order[place][1])
        return tuple(found)
