"""Which of a test's cases are of the fast run."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def others_slow(cases: Iterable, *fast: object) -> list:
    """The cases (a tuple where the test takes several arguments); those that are not among `fast` are marked slow, as their like is tried in the fast run."""
    cases = list(cases)
    assert fast and all(one in cases for one in fast), fast
    return [
        case
        if case in fast
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]


def one_in(number: int, cases: Iterable) -> list:
    """The cases, of which one in so many is of the fast run, from the first on."""
    cases = list(cases)
    return others_slow(cases, *cases[::number])


def in_turn(names: Iterable, kinds: Iterable[tuple]) -> list:
    """Every name with every kind, as (name, *kind); each name with one kind is of the fast run, the kinds in turn."""
    names, kinds = list(names), list(kinds)
    fast = [(name, *kinds[at % len(kinds)]) for at, name in enumerate(names)]
    return others_slow([(name, *kind) for name in names for kind in kinds], *fast)
