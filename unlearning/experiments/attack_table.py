"""What a folder of attacks says: `attacks.json` for programs, `attacks.md` and a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.table import Table

from remem_tasks.attacks.outcome import ATTACKS, NEVER, SETS, figures, worst_case
from remem_tasks.files import write_json, write_whole

if TYPE_CHECKING:
    from unlearning.experiments.attack_plan import AttackPlan

Found = dict[str, dict[str, dict[str, float | str]]]
Records = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
HEADS = (
    "model",
    "attack",
    "EM",
    "EM − gold's",
    "Exposure",
    "Exp. − gold's",
    "lens",
    "refused",
    "requests",
    "s",
)
SAYS = (
    "EM of an attack of several questions counts a fact as told if any question that does not show it is answered with "
    "it; of several seeds it is the mean. Worst cases hold the plain question too. Lens: the share of first tokens among the 4 "
    "likeliest of a late layer, and how much of it is above gold's."
)


def found_of(records: Records, unit_of: Mapping[str, str], gold: str = "gold") -> Found:
    """{model: {attack: {metric: value}}}, with a worst case for each of SETS."""
    golden = records[gold]
    found: Found = {}
    for model, by_attack in records.items():
        beside: Mapping[str, Sequence[Mapping[str, Any]]] = {} if model == gold else golden
        here = {attack: figures(some, beside.get(attack, ()), unit_of) for attack, some in by_attack.items()}
        for name, attacks in SETS.items():
            if len(by_attack.keys() & set(attacks) - {"none"}):
                here[f"worst_{name}"] = dict(worst_case(by_attack, beside, attacks, unit_of))
        found[model] = here
    return found


def _interval(values: Mapping[str, Any], metric: str) -> str:
    if f"leak_{metric}" not in values:
        return ""
    shown = f"{values[f'leak_{metric}']:+.2f}"
    if f"leak_{metric}_low" in values:
        shown += f" [{values[f'leak_{metric}_low']:+.2f}, {values[f'leak_{metric}_high']:+.2f}]"
    return shown


def cells(found: Found) -> list[list[str]]:
    """The rows of the table, under HEADS."""

    def number(values: Mapping[str, Any], name: str, form: str = ".2f") -> str:
        return f"{values[name]:{form}}" if name in values else ""

    rows = []
    for model, by_attack in found.items():
        for attack, values in by_attack.items():
            if "not_available" in values:
                rows.append([model, attack, f"not available: {values['not_available']}", *[""] * 7])
                continue
            rows.append(
                [
                    *(model, attack, number(values, "em"), _interval(values, "em")),
                    *(number(values, "exposure"), _interval(values, "exposure")),
                    " ".join(filter(None, (number(values, "top4"), _interval(values, "top4")))),
                    *(number(values, "refusal_rate"), number(values, "requests", ".0f")),
                    number(values, "seconds", ".0f"),
                ]
            )
    return rows


def table(found: Found) -> Table:
    """For the terminal: without the intervals, which `attacks.md` has, and without columns that nothing is in."""
    shown = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        title="What attacks bring back, and how much of it gold does not say",
        caption="With intervals, and what was not tried: attacks.md",
    )
    heads = ("model", "attack", "EM", "- gold", "Exp.", "- gold", "lens", "refused", "asked", "s")
    rows = cells(found)
    kept = [place for place in range(2, len(heads)) if any(row[place] for row in rows)]
    for head in (*heads[:2], *(heads[place] for place in kept)):
        left = head in ("model", "attack")
        shown.add_column(head, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    last = None
    of = [values for by_attack in found.values() for values in by_attack.values()]
    for (model, attack, *all_numbers), values in zip(rows, of):
        numbers = [all_numbers[place - 2] for place in kept]
        if last not in (None, model):
            shown.add_section()
        brief = [cell.partition(" [")[0] for cell in numbers]
        if "not_available" in values:
            brief, attack = [""] * len(numbers), f"{attack}: not available: {values['not_available']}"
        shown.add_row(model if model != last else "", attack, *brief)
        last = model
    return shown


def missing(records: Records) -> list[str]:
    """What was not run, and why, a line each; the same for several models once."""
    lines = [
        f"{attack}, {kind}: {why}"
        for by_attack in records.values()
        for attack, some in by_attack.items()
        for record in some
        for kind, why in record.get("missing", {}).items()
    ]
    return list(dict.fromkeys(lines))


def markdown(
    found: Found, records: Records, unit: str, plan: AttackPlan, gate: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """`attacks.md`."""
    lines = [
        f"# Attacks on what was to be forgotten ({plan.forget})",
        "",
        f"Start `{plan.start}`: {gate['outcome']}"
        + (
            "; the gate was NOT passed (--no_gate), so that nothing here shows forgetting. "
            if gate["overridden"]
            else ". "
        )
        + f"Gold `{plan.gold}` never saw {plan.forget}'s people; what it says under "
        "an attack is not a leak.",
        f"Intervals: 95 %, paired bootstrap over {unit}. {SAYS}",
        f"relearn_rest learns {plan.share:.0%} of the {unit} (`{plan.relearn}`), seeds {', '.join(map(str, plan.seeds))}.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * 2 + "--:|" * (len(HEADS) - 2),
        *("| " + " | ".join(row) + " |" for row in cells(found)),
        "",
        *(f"Worst case `{name}`: {', '.join(attacks)}." for name, attacks in SETS.items()),
        "",
        "## Not tried",
        "",
        *(f"- {name}" for name in ATTACKS if name not in plan.attacks),
        *(f"- {line}" for line in missing(records)),
        f"- {NEVER}",
        "",
        *(f"Note: {note}." for note in notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def write(
    records: Records,
    unit_of: Mapping[str, str],
    unit: str,
    plan: AttackPlan,
    gate: Mapping[str, Any],
    notes: Sequence[str],
    out: Path,
) -> Found:
    """Write `attacks.json` and `attacks.md`; what the first holds."""
    found = found_of(records, unit_of)
    write_json(out / "attacks.json", found)
    write_whole(out / "attacks.md", markdown(found, records, unit, plan, gate, notes))
    return found
