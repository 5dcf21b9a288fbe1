"""Which point of a method's tuning is trained anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unlearning.experiments.sweep.plan import Settings

ROUNDING = 1e-6  # scores are kept with six digits


@dataclass(frozen=True)
class Choice:
    """A method's chosen point of tuning.

    Attributes:
        settings, step: what is trained anew.
        point: its scores.
        reached: whether its forget EM is at the gold model's level.
    """

    settings: Settings
    step: int
    point: Mapping[str, float]
    reached: bool


def choose(records: Iterable[Mapping[str, Any]], level: float) -> Choice | None:
    """The point with forget EM at most `level` that has the highest retain EM.

    If no point is at the level: the one whose retain EM, less what its forget EM is above the level, is highest.
    Ties go to fewer steps, then to the earlier setting of the grid. None if no run gave a point.
    """
    points = [(one["settings"], point) for one in records for point in one["points"]]
    if not points:
        return None
    at_level = [pair for pair in points if pair[1]["forget_em"] <= level + ROUNDING]

    def worth(pair: tuple[Settings, Mapping[str, float]]) -> tuple[float, float]:
        excess = max(0.0, pair[1]["forget_em"] - level)
        return pair[1]["retain_em"] - excess, -pair[1]["step"]

    settings, point = max(at_level or points, key=worth)
    return Choice(settings, int(point["step"]), point, bool(at_level))
