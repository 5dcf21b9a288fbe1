"""Randomness that depends on a key alone: the same on every machine, in any order, in any batch."""

from __future__ import annotations

import hashlib


def row_seed(seed: int, row_id: str, purpose: str = "") -> int:
    """A seed in [0, 2^63) that depends on nothing but the three arguments.

    >>> row_seed(0, "forget1:3", "distinct") == row_seed(0, "forget1:3", "distinct")
    True
    >>> len({row_seed(0, "a"), row_seed(1, "a"), row_seed(0, "b"), row_seed(0, "a", "b")})
    4
    """
    digest = hashlib.sha256(f"{int(seed)}\0{row_id}\0{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stable_choice(number: int, *key: object) -> int:
    """A number below `number` that depends on the key alone, on every machine."""
    text = "\0".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % number
