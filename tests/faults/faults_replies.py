"""What a model gives back to the harness: replies and findings that are lost, cut, doubled, or no text at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import torch
from frame import End, Fault, World
from lmms_eval.api.instance import GenerationResult, TokenCounts

from remem_tasks.harness.remem_hf import RememHF

FAILED = r"failed"
_known: dict[str, dict] = {}


def _finding(result: Any) -> bool:
    """Whether a result is of a white-box request (JSON) and no reply."""
    return result.text.startswith('{"continuations"')


def given(name: str, change: Callable[[list], Any], says: str = "", **more) -> Fault:
    """A scoring whose model gives `change(results)`: changed in place, or other results."""

    def act(world: World) -> End:
        if "right" not in _known:  # before anything is put in between
            _known["right"] = world.score().numbers
        inner = RememHF.generate_until

        def outer(self, requests):
            results = inner(self, requests)
            return change(results) or results

        world.monkeypatch.setattr(RememHF, "generate_until", outer)
        return world.score(right=_known["right"])

    return Fault("replies", name, act, says, **more)


def reply(value: Any, which: Callable[[Any], bool] = lambda r: not _finding(r), all_of_them: bool = False):
    """The text of the first reply (or of all) anew: `value`, or what it makes of the text."""

    def change(results: list) -> None:
        places = [place for place, one in enumerate(results) if which(one)]
        for place in places if all_of_them else places[:1]:
            text = value(results[place].text) if callable(value) else value
            results[place] = GenerationResult(text, results[place].token_counts)

    return change


def finding(change: Callable[[dict], Any] | str):
    """The first findings anew: `change(parsed)` in place, or a text in their place."""

    def edited(text: str) -> str:
        if isinstance(change, str):
            return change
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return reply(edited, which=_finding)


def raises(name: str, error: Callable[[], BaseException], says: str = "") -> Fault:
    """A model that breaks at its second batch."""

    def act(world: World) -> End:
        work, done = RememHF._work, []

        def broken(self, *arguments):
            done.append(1)
            if len(done) == 2:
                raise error()
            return work(self, *arguments)

        world.monkeypatch.setattr(RememHF, "_work", broken)
        return world.score(args="batch_size=1")

    return Fault("replies", name, act, says)


def put(name: str, value: Any):
    return lambda found: found["secrets"][0].__setitem__(name, value)


def _first_secret(*names: str):
    def change(found: dict) -> None:
        for name in names:
            found["secrets"][0].pop(name)

    return change


ODD = {
    "a number": 7,
    "a list": ["a"],
    "null": None,
    "bytes": b"abc",
    "true": True,
}
TEXTS = {
    "half of a character pair": "\ud800",
    "a zero byte": "a\0b",
    "a cleared screen": "\x1b[2J",
    "a line feed": "a\nlmms_eval: error: none",
    "1 MB": "and a heron " * 90_000,
    "a reasoning tag that is never closed": "<think>Oslo Bay",
    "what says that a request failed": "[LMMS_EVAL_REQUEST_FAILED after 3 retries] x",
    "invisible": "\u200b\u3164",
    "blank": "  \n",
    "empty": "",
}

FAULTS = [
    given("nothing", lambda results: None),
    *(given(f"a reply that is {told}", reply(value), counted=FAILED) for told, value in ODD.items()),
    *(given(f"a reply that is {told}", reply(value), counted=r"failed|blank|refus|EM") for told, value in TEXTS.items()),
    *(
        given(f"every reply is {told}", reply(value, all_of_them=True), counted=FAILED)
        for told, value in ODD.items()
    ),
    given("every reply is empty", reply("", all_of_them=True), "", counted="blank"),
    given("every reply is one", reply("I do not know.", all_of_them=True), "", counted="same"),
    given("a result that is null", lambda results: results.__setitem__(0, None), counted=FAILED),
    given("every result is null", lambda results: [None] * len(results), counted=FAILED),
    given("a result less", lambda results: results[:-1], "fewer replies"),
    given("a result more", lambda results: [*results, results[0]]),
    given("no result", lambda results: results.clear(), "fewer replies"),
    *(
        given(
            f"tokens that are {value!r}",
            lambda results, value=value: [
                GenerationResult(one.text, TokenCounts(input_tokens=value, output_tokens=value)) for one in results
            ],
        )
        for value in (None, -1, 10**30, "3", math.nan)
    ),
    # Findings
    *(
        given(f"findings that are {told}", finding(text), "findings|null|failed", counted=FAILED)
        for told, text in {
            "empty": "",
            "text": "Oslo Bay",
            "cut": '{"continuations": ["a',
            "null": "null",
            "a list": "[]",
            "an empty object": "{}",
            "nested deep": "[" * 100_000,
            "of 5,000 digits": '{"continuations": ' + "9" * 5000 + "}",
        }.items()
    ),
    given("findings of another row's shape", finding(lambda f: f["secrets"].append(f["secrets"][0])), ""),
    given("findings without secrets", finding(lambda f: f["secrets"].clear()), ""),
    given("findings without continuations", finding(lambda f: f["continuations"].clear()), ""),
    given("findings with a continuation more", finding(lambda f: f["continuations"].append("x")), ""),
    given("a continuation that is a number", finding(lambda f: f["continuations"].__setitem__(0, 3)), ""),
    *(
        given(f"a log-probability that is {value!r}", finding(lambda f, v=value: f["secrets"][0]["logprobs"].__setitem__(0, v)), "")
        for value in (math.nan, math.inf, 1.5, "x", None, [])
    ),
    given("no log-probabilities", finding(lambda f: f["secrets"][0]["logprobs"].clear()), ""),
    *(
        given(f"a secret's {name} is {value!r}", finding(put(name, value)), "")
        for name, value in (
            ("ranks", [0, 0]), ("ranks", [9, 1]), ("ranks", [1]), ("ranks", "x"), ("ranks", [math.nan, 1]), ("ranks", [10**9, 10**9]),
            ("rollout_ranks", [0, 1]), ("rollout_ranks", 3), ("rollout_ranks", ["x"]), ("reference_rank", 0), ("reference_rank", 10**9), ("reference_rank", "x"), ("references", -1), ("references", None),
            ("guesses", [["x"]]), ("guesses", [["x", math.nan]]), ("guesses", "x"), ("guesses", [["x", math.inf]]), ("guesses", [[3, -1.0]]),
        )
    ),
    given("a secret without its ranks", finding(_first_secret("reference_rank")), ""),
    given("a secret with a field more", finding(put("no_such", 1)), ""),
    # A model that breaks
    raises("out of memory on the device", lambda: torch.OutOfMemoryError("CUDA out of memory. Tried 1 GiB"), "memory"),
    raises("out of memory", MemoryError, "out of memory"),
    raises("no room for a file", lambda: OSError(28, "No space left on device", "x"), "No space"),
    raises("an interrupt", KeyboardInterrupt, "interrupted"),
]  # fmt: skip
