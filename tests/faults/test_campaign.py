"""Every fault of the table ends right, with one line, or counted: none reads as forgetting."""

import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from frame import End, Fault, judge, seconds, tally

FAULTS = [
    fault
    for file in sorted(Path(__file__).parent.glob("faults_*.py"))
    for fault in import_module(file.stem).FAULTS
]


EVERY = {
    **dict.fromkeys(("weights", "config", "prompts", "processor", "ends", "arguments", "tables"), 20),
    **dict.fromkeys(("resume", "training", "flags", "adapters", "shards", "outputs", "forge"), 32),
    **dict.fromkeys(("cache", "replies", "signals", "rows", "benchmarks"), 48),
}
"""Of these kinds, whose commands load a model or write much, one in so many is tried in the fast run; the others are
marked slow."""


def _parameters():
    places: Counter = Counter()
    for fault in FAULTS:
        slow = fault.slow or places[fault.kind] % EVERY.get(fault.kind, 1)
        places[fault.kind] += not fault.slow
        name = f"{fault.kind}: {fault.name}".replace(" ", "_")
        yield pytest.param(fault, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("fault", _parameters())
def test_fault(fault, world):
    begun = time.perf_counter()
    tally[fault.kind]["tried, no end"] += 1
    try:
        end = judge(fault, fault.act(world))
    finally:
        seconds[fault.kind] += time.perf_counter() - begun
    tally[fault.kind]["tried, no end"] -= 1
    tally[fault.kind][end] += 1


def test_the_sound_inputs_give_numbers(world):
    end = world.score()
    assert end.status == 0, end.err
    rows = end.numbers["remem_forget1.jsonl" if "remem_forget1.jsonl" in end.numbers else "remem_forget1"]
    assert len(end.numbers) == 2 and rows


def test_names_are_unique():
    names = [(fault.kind, fault.name) for fault in FAULTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "end",
    [
        End(0, "", "", {"em": 0.5}, {"em": 1.0}),
        End(0, "", "", None, None),
        End(1, "", "Traceback (most recent call last)\nlmms_eval: error: x"),
        End(1, "", "killed"),
        End(1, "", "lmms_eval: error: a\nlmms_eval: error: b"),
    ],
    ids=["silent", "no numbers", "traceback", "no line", "two lines"],
)
def test_what_the_frame_does_not_allow(end):
    with pytest.raises(AssertionError):
        judge(Fault("frame", "x", lambda world: end), end)


def test_what_the_frame_allows():
    fault = Fault("frame", "x", lambda world: None, says="row 3", counted="2 rows")
    assert judge(fault, End(0, "", "", {"em": 1.0}, {"em": 1.0})) == "right"
    assert judge(fault, End(0, "of 6, 2 rows failed", "", {"em": 0.5}, {"em": 1.0})) == "counted"
    assert judge(fault, End(1, "", "remem gate: error: row 3 is broken")) == "one line"
    with pytest.raises(AssertionError, match="does not name"):
        judge(fault, End(1, "", "remem gate: error: row 4 is broken"))
