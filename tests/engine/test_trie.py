"""Token lists put together, against plain prefixes."""

import doctest

from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.engine import trie
from remem_tasks.engine.trie import Trie


def test_doctests():
    assert doctest.testmod(trie) == (0, 3)


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 3), max_size=5)), max_size=8))
def test_nodes_are_the_distinct_prefixes(given_lists):
    made = Trie()
    paths = [made.add(branch, tokens) for branch, tokens in given_lists]
    prefixes = {(b, tuple(tokens[:n])) for b, tokens in given_lists for n in range(1, len(tokens) + 1)}
    assert len(made) == len(prefixes)
    for (branch, tokens), path in zip(given_lists, paths):
        assert [made.tokens[node] for node in path] == tokens
        assert [made.parents[node] for node in path] == [-1 - branch, *path][: len(path)]
    assert all(parent < node for node, parent in enumerate(made.parents))
