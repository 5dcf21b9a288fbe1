"""Can two scores together do better than Exposure? Their weights are chosen on one half of all models, judged on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

Records = Mapping[str, Any]
Judge = Callable[[Records, str, float], Mapping[str, Any]]
PARTS = ("exposure", "rollout_exposure", "reference_exposure", "memo", "exact_memorisation")
"""Scores in [0, 1] that are higher where more is known, so that a weighted mean of two is one too."""
WEIGHTS = (0.25, 0.5, 0.75)
NAME = "combined"
Weights = Mapping[str, float]


def candidates() -> list[dict[str, float]]:
    """Each score alone, then each pair at each weight."""
    found = [{name: 1.0} for name in PARTS]
    found += [{one: weight, other: 1 - weight} for one, other in combinations(PARTS, 2) for weight in WEIGHTS]
    return found


def half(records: Records, which: int) -> dict[str, Any]:
    """Every other model of each kind of pool, and every other training that unlearns."""
    seen: dict[str, int] = {}

    def chosen(some: Sequence[Mapping[str, Any]], key: str = "") -> Iterator[Mapping[str, Any]]:
        for one in some:
            kind = str(one.get(key))
            number = seen[kind] = seen.get(kind, -1) + 1
            if number % 2 == which:
                yield one

    return {
        "ends": records["ends"],
        "pools": list(chosen(records["pools"], "kind")),
        "unlearned": list(chosen(records["unlearned"])),
    }


def weighed(records: Records, weights: Weights) -> dict[str, Any]:
    """The records with the weighted mean of some scores beside them, where all of them are there."""

    def added(values: Mapping[str, float]) -> dict[str, float]:
        if not set(weights) <= set(values):
            return dict(values)
        return {**values, NAME: sum(weight * values[name] for name, weight in weights.items())}

    def of(one: Mapping[str, Any]) -> dict[str, Any]:
        kinds = ("values", "relearned", "quantised")
        return {name: added(value) if name in kinds else value for name, value in one.items()}

    ends = {
        name: added(value) if isinstance(value, Mapping) else value for name, value in records["ends"].items()
    }
    return {
        "ends": ends,
        "pools": [of(one) for one in records["pools"]],
        "unlearned": [
            {**one, "points": [of(point) for point in one["points"]]} for one in records["unlearned"]
        ],
    }


def _mean(
    trials: Mapping[str, Records], weights: Weights, utility: float, judged: Judge
) -> dict[str, float] | None:
    """Means over the architectures; None where one of them has no judgement."""
    found = [judged(weighed(one, weights), NAME, utility) for one in trials.values()]
    parts = ("faithfulness", "robustness", "overall")
    if not found or any(one.get(part) is None for one in found for part in parts):
        return None
    return {part: sum(one[part] for one in found) / len(found) for part in parts}


def combination(trials: Mapping[str, Records], utility: float, judged: Judge) -> dict[str, Any]:
    """The weights that are best overall on one half, and what they and Exposure alone are on the other.

    Returns:
        `weights`, `chosen_on`, `other_half`, `exposure_there`; or `not_available` and why.
    """
    first, second = ({name: half(one, which) for name, one in trials.items()} for which in (0, 1))
    tried = [(weights, _mean(first, weights, utility, judged)) for weights in candidates()]
    known = [(weights, found) for weights, found in tried if found is not None]
    if not known:
        return {"not_available": "no unlearned model of the first half is left to ask"}
    weights, here = max(known, key=lambda one: one[1]["overall"])
    return {
        "weights": weights,
        "chosen_on": here,
        "other_half": _mean(second, weights, utility, judged),
        "exposure_there": _mean(second, {"exposure": 1.0}, utility, judged),
    }


def told(found: Mapping[str, Any]) -> str:
    """In a sentence."""
    if "not_available" in found:
        return f"A combination was not chosen: {found['not_available']}."
    shown = " + ".join(f"{weight:g} {name}" for name, weight in found["weights"].items())

    def numbers(one: Mapping[str, float] | None) -> str:
        return (
            "no verdict, as no unlearned model is left there"
            if one is None
            else f"faithfulness {one['faithfulness']:.3f}, robustness {one['robustness']:.3f}"
        )

    return (
        f"Chosen on one half of all models: {shown} ({numbers(found['chosen_on'])}). On the other half: "
        f"{numbers(found['other_half'])}; Exposure alone there: {numbers(found['exposure_there'])}."
    )
