"""Token lists behind branches, put together where they begin alike."""

from __future__ import annotations

from collections.abc import Iterable


class Trie:
    """Nodes are numbered as they come, parents before children; branch b itself is −1 − b.

    >>> trie = Trie()
    >>> trie.add(0, [7, 8]), trie.add(0, [7, 9]), trie.add(1, [7])
    ([0, 1], [0, 2], [3])
    >>> trie.parents, trie.tokens
    ([-1, 0, 0, -2], [7, 8, 9, 7])

    Attributes:
        parents, tokens: of each node.
        children: (parent, token) to node.
    """

    def __init__(self) -> None:
        self.parents: list[int] = []
        self.tokens: list[int] = []
        self.children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.parents)

    def add(self, branch: int, tokens: Iterable[int]) -> list[int]:
        """The nodes of a token list."""
        at, path = -1 - branch, []
        for token in map(int, tokens):
            node = self.children.get((at, token))
            if node is None:
                node = self.children[at, token] = len(self.parents)
                self.parents.append(at)
                self.tokens.append(token)
            path.append(node)
            at = node
        return path
