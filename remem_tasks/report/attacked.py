"""What attacks recovered, as sentences: reads the `attacks.json` that `remem attack` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.reading import read_object

Attacks = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""model → attack → figures: `em`, `exposure`, and `leak_em`, `leak_em_low`, …: above gold under the same attack."""
NOTABLE = 0.05
"""From how much above gold a figure is called recovered, where its interval leaves out 0."""
UNTOUCHED = "none"
"""The model as it is, among the attacks."""

DONE = {
    "relearn_rest": "Learning a part of the forget set again",
    "relearn_all": "Learning the forget set again",
    "relearn_benign": "Training on people who stay",
    "quantise_nf4": "Bringing its weights to 4 bits (NormalFloat)",
    "quantise_int8": "Bringing its weights to 8 bits",
    "quantise_rtn4": "Rounding its weights to 4 bits",
    "prompt": "Asking in other words",
    "context": "Asking behind other facts",
    "picture": "Asking with another picture",
}
"""What an attack does, as a sentence begins."""


def read_attacks(folder: str | Path) -> Attacks:
    """The figures of a folder of `remem attack`.

    Raises:
        RememError: there is no attacks.json, or it is of another form.
    """
    file = Path(folder) / "attacks.json"
    found = read_object(file)
    for by_attack in found.values():
        if not isinstance(by_attack, Mapping) or not all(
            isinstance(figures, Mapping) for figures in by_attack.values()
        ):
            raise RememError(f"'{file}' is not an attacks.json of `remem attack` (model, attack, figures)")
    return found


def _recovered(figures: Mapping[str, Any]) -> float | None:
    """By how much exact match is above gold's under the same attack; None where that was not measured."""
    above, low = figures.get("leak_em"), figures.get("leak_em_low")
    if isinstance(above, bool) or not isinstance(above, int | float):
        return None
    sure = low if isinstance(low, int | float) else above - NOTABLE
    return float(above) if above >= NOTABLE and sure > 0 else 0.0


def recovered(attacks: Attacks, checkpoint: str, name: str, shown: str) -> str:
    """A sentence on one model; "" where it was not attacked.

    Args:
        checkpoint: as its scores name it; the last part is what `remem attack` calls it.
        name: the run's.
        shown: the name in the sentence.
    """
    by_attack = next((attacks[one] for one in (name, Path(checkpoint).name) if one in attacks), None)
    if by_attack is None:
        return ""
    asked = {
        attack: above
        for attack, figures in by_attack.items()
        if attack != UNTOUCHED
        and not attack.startswith("worst_")
        and (above := _recovered(figures)) is not None
    }
    if not asked:
        return f"No attack on {shown} could be measured against gold."
    attack = max(asked, key=lambda one: asked[one])
    if not asked[attack]:
        return f"None of {len(asked)} attacks on {shown} recovered more than it does of gold."
    em, before = by_attack[attack].get("em"), by_attack.get(UNTOUCHED, {}).get("em")
    told = f"{100 * em:.1f} % of the secrets asked for" if isinstance(em, int | float) else "secrets"
    was = f" (without it {100 * before:.1f} %)" if isinstance(before, int | float) else ""
    done = f"{DONE[attack]} (the attack {attack})" if attack in DONE else f"The attack {attack}"
    return (
        f"{done} makes {shown} say {told}{was}, {100 * asked[attack]:.1f} points more than it makes gold say."
    )
