"""Randomness by a key: the same everywhere, another for another key."""

import doctest
import hashlib

import torch
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks import seeds
from remem_tasks.seeds import row_seed, stable_choice


def test_doctests():
    assert doctest.testmod(seeds) == (0, 2)


@given(st.integers(0, 2**40), st.text(max_size=8), st.text(max_size=8))
def test_row_seed_is_a_seed_and_keeps_its_parts_apart(seed, row, purpose):
    assert 0 <= row_seed(seed, row, purpose) < 2**63
    torch.Generator().manual_seed(row_seed(seed, row, purpose))
    assert row_seed(seed, row, purpose) != row_seed(seed, row + "x", purpose)
    assert row_seed(seed, row, purpose) != row_seed(seed + 1, row, purpose)


def test_a_choice_is_the_first_eight_bytes_of_its_keys_digest():
    # sha256 of "caption", a zero byte and "A man.", its first 64 bits as a number, modulo 9
    first = int.from_bytes(hashlib.sha256(b"caption\x00A man.").digest()[:8], "big")
    assert stable_choice(9, "caption", "A man.") == first % 9
    assert stable_choice(1, "x") == 0 and {stable_choice(3, place) for place in range(50)} == {0, 1, 2}
