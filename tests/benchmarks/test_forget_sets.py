"""Forget sets: who is kept, where the forgotten are asked about, and what is refused."""

import doctest

import pytest

from remem_tasks.benchmarks import forget_sets
from remem_tasks.benchmarks.base import FactBenchmark
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.benchmarks.registry import BENCHMARKS, NAMES, data_of
from remem_tasks.errors import RememError


def test_doctests():
    assert doctest.testmod(forget_sets) == (0, 2)


def test_another_name_of_a_set_stands_for_it():
    sets = ForgetSets("Mine", {"a": "b"}, also={"a+": "a"}, beside={"a": ("a+", "a_other")})
    assert sets.retain_of("a+") == sets.retain_of("a") == "b"
    assert sets.scored_as("a+") == sets.scored_as("a") == ("a", "a+", "a_other")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "remem"])
def test_a_set_that_is_none_to_forget_is_refused_by_name(name):
    data = data_of(name)
    with pytest.raises(RememError, match=f"'retain' is not a forget set of {data.HOME.name}: forget"):
        data.retain_of("retain")


def test_of_remem_every_set_can_be_forgotten():
    assert data_of("remem").retain_of("forget7") == "retain" and data_of("remem").scored_as("x") == ("x",)


def test_benchmarks_without_facts_are_those_that_attacks_refuse():
    assert {name for name in NAMES if not isinstance(BENCHMARKS[name], FactBenchmark)} - {"mine"} == {
        "clear",
        "mllmu",
    }
