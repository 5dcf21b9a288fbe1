"""What an entry of a leaderboard may hold beside its scores: attacks, cost, and what made it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from remem_tasks.errors import RememError
from remem_tasks.report.samples import shown

EXTRAS: Mapping[str, type] = {
    "attacks": dict,  # attack → metric → number, or not_available → why; as in attacks.json
    "cost": dict,  # what → seconds, or steps
    "made": dict,  # commands: how each step was asked for; versions: package → release; data: fingerprint; seed
}
MADE = ("commands", "versions", "data", "seed")


WORST = "worst_weights"


def worst_of(entry: Mapping) -> float | None:
    """EM of the worst case that somebody with the weights could bring about; None where it was not attacked."""
    value = entry.get("attacks", {}).get(WORST, {}).get("em")
    return value if isinstance(value, int | float) else None


def check_extras(entry: Mapping, where: str) -> None:
    """Raise a RememError for an extra that is of another form; an entry without any is whole."""
    for name, kind in EXTRAS.items():
        if name in entry and not isinstance(entry[name], kind):
            raise RememError(f"{where}: '{name}' is {shown(entry[name])}")
    for attack, values in entry.get("attacks", {}).items():
        if not isinstance(values, dict) or not values:
            raise RememError(f"{where}: attack {attack} is {shown(values)}")
        if "not_available" in values:
            if not isinstance(values["not_available"], str):
                raise RememError(f"{where}: attack {attack} is not available without a reason")
            continue
        for metric, value in values.items():
            _check_number(value, f"{where}: {attack} {metric}")
            if metric in ("em", "exposure", "refusal_rate") and not 0 <= value <= 1:
                raise RememError(f"{where}: {attack} {metric}: {value} is outside [0, 1]")
    for name, value in entry.get("cost", {}).items():
        _check_number(value, f"{where}: cost {name}")
        if value < 0:
            raise RememError(f"{where}: cost {name} is {value}, below 0")
    if "made" in entry:
        _check_made(entry["made"], where)


def _check_made(made: Mapping, where: str) -> None:
    if missing := [name for name in MADE if name not in made]:
        raise RememError(f"{where}: 'made' without {', '.join(missing)}")
    commands, versions = made["commands"], made["versions"]
    if not isinstance(commands, list) or not all(isinstance(one, str) and one for one in commands):
        raise RememError(f"{where}: 'made' has no list of commands")
    if not isinstance(versions, dict) or not all(isinstance(one, str) for one in versions.values()):
        raise RememError(f"{where}: 'made' has no versions by package")
    if not isinstance(made["data"], str) or not re.fullmatch(r"[0-9a-f]{8,64}", made["data"]):
        raise RememError(f"{where}: 'made' has no fingerprint of the data")
    if isinstance(made["seed"], bool) or not isinstance(made["seed"], int):
        raise RememError(f"{where}: the seed is {shown(made['seed'])}")


def _check_number(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RememError(f"{where} is {shown(value)}, not a number")
