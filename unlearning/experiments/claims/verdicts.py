"""Whether a claim of the paper holds for the models trained here: the rule of each, and the figures it is judged by.

A verdict needs intervals that lie apart (Wilson, 95 %): where they overlap nothing is decided. Rows of a cell are those of
`remem study scale`: new questions with new pictures about facts that training asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from remem_tasks.report.diagnose import Proportion

Cell = Mapping[str, Any]


class Verdict(StrEnum):
    """What a re-run says of a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    NOT_DECIDED = "not decided"


class Name(StrEnum):
    """The claims, by what they are called in files and tables."""

    SHAPES = "old_shapes"
    CURSE = "multi_hop_curse"
    PEAK = "single_hop_peak"
    OVERFIT = "many_questions"
    DEEPER = "exposure_deeper"


CLAIMS = {
    Name.SHAPES: "Benchmarks of the older shapes under-memorise",
    Name.CURSE: "The multi-hop curse: single hops are known, questions that join them are not",
    Name.PEAK: "EM is highest near 70 % single-hop questions",
    Name.OVERFIT: "Too many questions per identity over-fit",
    Name.DEEPER: "After unlearning Exposure sees what EM does not",
}
RULES = {
    Name.SHAPES: "With as many steps, each older shape's EM on facts that it was trained on lies below ReMem's shape's, intervals "
    "apart; it does not hold if one is as high or higher.",
    Name.CURSE: "Trained on single hops alone, EM of the deepest questions whose single hops are all right lies below EM of single "
    "hops, intervals apart; it does not hold if it is as high or higher.",
    Name.PEAK: "Of all shares the best EM over all depths is at one from 60 to 80 %, and lies above that of the lowest and the highest "
    "share, intervals apart; it does not hold if a share outside is above all of them so.",
    Name.OVERFIT: "EM on new questions at the most questions per identity lies below the best with fewer, intervals apart, while EM "
    "on training rows does not; it does not hold if the most give the highest EM.",
    Name.DEEPER: "Of the methods that are at gold's level by EM (three or more), half or more are above gold's Exposure by more than "
    "the same tolerance; it does not hold if fewer are.",
}
NEAR = (0.6, 0.8)
LEARNED = 0.1
"""EM that the best of the models compared needs: what learned nothing speaks neither for nor against a claim."""
UNLEARNED = f": no model says {LEARNED:.0%} of the answers, so nothing was learned that could be compared"


@dataclass(frozen=True)
class Claim:
    """A claim, judged.

    Attributes:
        figures: what it is judged by, name → a share with its interval, or a number.
        why: the verdict in a sentence, with its figures.
    """

    name: Name
    verdict: Verdict
    why: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "claim": CLAIMS[self.name], "rule": RULES[self.name]}


def pooled(shares: Mapping[str, Mapping[str, Any]], name: str) -> Proportion:
    """All depths' rows together."""
    right = sum(one["right"] for one in shares.values())
    return Proportion(name, right, sum(one["rows"] for one in shares.values()))


def below(low: Proportion, high: Proportion) -> bool:
    """Whether a share is below another, their intervals apart."""
    return bool(low.rows and high.rows) and low.bounds[1] < high.bounds[0]


def _shown(one: Proportion) -> str:
    return f"{one.name} " + (
        "–" if one.value is None else f"{one.value:.2f} [{one.bounds[0]:.2f}, {one.bounds[1]:.2f}]"
    )


def _listed(some: Sequence[Proportion]) -> str:
    return ", ".join(map(_shown, some))


def learned(some: Sequence[Proportion]) -> bool:
    """Whether the best of some shares is at least LEARNED."""
    return max((one.value or 0.0 for one in some), default=0.0) >= LEARNED


def _of(name: Name, verdict: Verdict, some: Sequence[Proportion], more: str = "") -> Claim:
    return Claim(name, verdict, _listed(some) + more, {one.name: one.record() for one in some})


def shapes(cells: Mapping[str, Cell], own: str = "remem") -> Claim:
    """Claim 1.

    Args:
        cells: shape → its cell; `own` is ReMem's.
    """
    ours = pooled(cells[own]["taught"], own)
    others = [pooled(cell["taught"], name) for name, cell in cells.items() if name != own]
    if not learned([ours, *others]):
        return _of(Name.SHAPES, Verdict.NOT_DECIDED, [ours, *others], UNLEARNED)
    if others and all(below(one, ours) for one in others):
        verdict = Verdict.HOLDS
    elif any((one.value or 0) >= (ours.value or 0) for one in others if one.rows):
        verdict = Verdict.DOES_NOT_HOLD
    else:
        verdict = Verdict.NOT_DECIDED
    return _of(Name.SHAPES, verdict, [ours, *others])


def curse(cell: Cell) -> Claim:
    """Claim 2, of a cell that was trained on single hops alone."""
    single = _proportion(cell["taught"].get("1"), "1-hop")
    deep = {hop: _proportion(one, f"{hop}-hop, single hops right") for hop, one in cell["given"].items()}
    asked = [deep[hop] for hop in sorted(deep) if deep[hop].rows]
    if not asked or not single.rows:
        return _of(Name.CURSE, Verdict.NOT_DECIDED, [single, *deep.values()], ": no row to judge by")
    if not learned([single]):
        return _of(Name.CURSE, Verdict.NOT_DECIDED, [single, *asked], UNLEARNED)
    if below(asked[-1], single):
        verdict = Verdict.HOLDS
    else:
        higher = (asked[-1].value or 0) >= (single.value or 0)
        verdict = Verdict.DOES_NOT_HOLD if higher else Verdict.NOT_DECIDED
    return _of(Name.CURSE, verdict, [single, *asked])


def peak(cells: Sequence[Cell]) -> Claim:
    """Claim 3, of cells that differ in the share of single hops alone."""
    by_ratio = sorted(cells, key=lambda cell: cell["ratio"])
    some = [pooled(cell["taught"], f"{cell['ratio']:.0%} single hops") for cell in by_ratio]
    if not learned(some):
        return _of(Name.PEAK, Verdict.NOT_DECIDED, some, UNLEARNED)
    best = max(range(len(some)), key=lambda place: some[place].value or 0.0)
    inside = NEAR[0] <= by_ratio[best]["ratio"] <= NEAR[1]
    near = [one for one, cell in zip(some, by_ratio) if NEAR[0] <= cell["ratio"] <= NEAR[1]]
    if inside and below(some[0], some[best]) and below(some[-1], some[best]):
        verdict = Verdict.HOLDS
    elif not inside and near and all(below(one, some[best]) for one in near):
        verdict = Verdict.DOES_NOT_HOLD
    else:
        verdict = Verdict.NOT_DECIDED
    return _of(Name.PEAK, verdict, some)


def overfit(cells: Sequence[Cell]) -> Claim:
    """Claim 4, of cells that differ in the questions per identity alone."""
    by_amount = sorted(cells, key=lambda cell: cell["qa"])
    some = [pooled(cell["em"], f"{cell['qa']} questions") for cell in by_amount]
    trained = [pooled(cell["trained_em"], f"{cell['qa']} questions, training rows") for cell in by_amount]
    most, fewer = some[-1], some[:-1]
    if not fewer:
        return _of(Name.OVERFIT, Verdict.NOT_DECIDED, some, ": one amount alone")
    if not learned(some):
        return _of(Name.OVERFIT, Verdict.NOT_DECIDED, [*some, *trained], UNLEARNED)
    best = max(range(len(fewer)), key=lambda place: fewer[place].value or 0.0)
    if below(most, fewer[best]) and not below(trained[-1], trained[best]):
        verdict = Verdict.HOLDS
    elif (most.value or 0) >= (fewer[best].value or 0):
        verdict = Verdict.DOES_NOT_HOLD
    else:
        verdict = Verdict.NOT_DECIDED
    return _of(Name.OVERFIT, verdict, [*some, *trained])


def deeper(swept: Mapping[str, Any]) -> Claim:
    """Claim 5, of a sweep's `results.json`."""
    gold, tolerance = swept.get("gold"), swept["plan"]["tolerance"]
    if not gold:
        return Claim(Name.DEEPER, Verdict.NOT_DECIDED, "the sweep has no gold model, only its EM")
    exposure = gold["reporting"]["forget_exposure"]
    at = {
        one["method"]: (one["figures"]["forget_em"]["mean"], one["figures"]["forget_exposure"]["mean"])
        for one in swept["methods"]
        if one["outcome"] == "at gold's level"
    }
    above = [name for name, (_, value) in at.items() if value > exposure + tolerance]
    figures = {"gold": {"em": gold["reporting"]["forget_em"], "exposure": exposure}} | {
        name: {"em": em, "exposure": value} for name, (em, value) in at.items()
    }
    why = (
        f"{len(above)} of {len(at)} methods at gold's level by EM are above gold's Exposure {exposure:.2f} by more than {tolerance:g}"
        + (f": {', '.join(f'{name} {at[name][1]:.2f}' for name in above)}" if above else "")
    )
    if len(at) < 3:
        verdict = Verdict.NOT_DECIDED
    else:
        verdict = Verdict.HOLDS if 2 * len(above) >= len(at) else Verdict.DOES_NOT_HOLD
    return Claim(Name.DEEPER, verdict, why, figures)


def _proportion(one: Mapping[str, Any] | None, name: str) -> Proportion:
    return Proportion(name, one["right"], one["rows"]) if one else Proportion(name, 0, 0)
