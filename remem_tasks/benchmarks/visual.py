"""Is the picture used? Each question that needs one is asked again without it, and with another person's (`--metrics visual`).

The visual gap is the main score with the picture less the better of the two, as in ULBench's eligibility rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from remem_tasks.benchmarks.base import Benchmark, FailedReply, Metric, Reply, text_of
from remem_tasks.errors import RememError


class Shown(StrEnum):
    """What is shown in place of a row's own picture; also the name of the score."""

    NONE = "no_picture"
    OTHER = "other_picture"


@dataclass(frozen=True)
class VisualReply:
    """A reply to a row's question without its picture; no string, so that nothing takes it for the row's own."""

    shown: Shown
    reply: Reply

    def __str__(self) -> str:
        return str(self.reply)


def derangement(people: Sequence[str]) -> list[int] | None:
    """For each row the place of one of another person, no place twice; None if there is none by rotation.

    Rows sorted by person are rotated by the number of rows of the person who has the most, which works where
    nobody has more than half of them.

    >>> derangement(["a", "b", "a", "c"])
    [1, 2, 3, 0]
    """
    order = sorted(range(len(people)), key=lambda row: (people[row], row))
    most = max(Counter(people).values(), default=0)
    if not people or 2 * most > len(people):
        return None
    donors = [0] * len(people)
    for place, row in enumerate(order):
        donors[row] = order[(place + most) % len(order)]
    return donors


def donors_of(rows: Sequence[Mapping], pools: Sequence[Sequence[Mapping]]) -> dict[str, Mapping]:
    """row id → the row whose picture is shown in its place.

    Args:
        rows: that need their picture; with `row_id` and `identity`.
        pools: other rows with pictures, for sets in which one person has more than half of the rows: the
            first that holds anybody else is drawn from, evenly.

    Raises:
        RememError: nobody else's picture is at hand.
    """
    donors = derangement([row["identity"] for row in rows])
    if donors is not None:
        return {row["row_id"]: rows[place] for row, place in zip(rows, donors)}
    people = {row["identity"] for row in rows}
    for pool in pools:
        others = [row for row in pool if row["identity"] not in people]
        if others:
            step = max(1, len(others) // len(rows))
            return {row["row_id"]: others[place * step % len(others)] for place, row in enumerate(rows)}
    raise RememError("no other person's picture is at hand")


def metrics_of(benchmark: Benchmark) -> list[Metric]:
    """The two scores of a row, and the gap of a set."""
    return [
        *(Metric(f"{benchmark.name}_{shown}", higher_is_better=False) for shown in Shown),
        Metric(f"{benchmark.name}_visual_gap", True, visual_gap),
    ]


def scores_of(
    benchmark: Benchmark, doc: Mapping, own: Reply, others: Sequence[VisualReply]
) -> dict[str, object]:
    """A row's scores; none where a reply failed, as 0 would look like a picture that is used."""
    if isinstance(own, FailedReply) or any(isinstance(one.reply, FailedReply) for one in others):
        return {}
    values = {str(one.shown): benchmark.correct(doc, text_of(one.reply)) for one in others}
    item = {"own": benchmark.correct(doc, text_of(own)), **values}
    return {
        **{f"{benchmark.name}_{shown}": value for shown, value in values.items()},
        f"{benchmark.name}_visual_gap": item,
    }


def visual_gap(items: Sequence[Mapping[str, float]]) -> float:
    """Mean main score with the picture, less the better of the two means without it; −1 to 1."""
    mean = {name: sum(item[name] for item in items) / len(items) for name in ("own", *Shown)}
    return mean["own"] - max(mean[shown] for shown in Shown)
