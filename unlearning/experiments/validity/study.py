"""The trial of all metrics in a folder that goes on where it stopped: `remem study validity`.

<out>/<architecture>/trial.json             what the folder is of
<out>/<architecture>/pools/…, unlearned/…   a record a model of a pool; a record a training that unlearns
<out>/validity.json, .md, .png              the verdict of what is done so far
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from remem_tasks.benchmarks.registry import DEFAULT, only
from remem_tasks.checkpoint_files import digest
from remem_tasks.data.rows import fingerprint
from remem_tasks.errors import RememError
from remem_tasks.files import locked
from remem_tasks.metrics.validity import Knocked, judge
from unlearning.experiments.attack_plan import HALF
from unlearning.experiments.ledger import Ledger
from unlearning.experiments.validity.combination import combination
from unlearning.experiments.validity.plan import HEADS, LOWER, ValidityPlan
from unlearning.experiments.validity.runner import ValidityRunner

Say = Callable[[str], None]
Records = Mapping[str, Any]


def judged(records: Records, name: str, utility: float) -> dict[str, Any]:
    """The judgement of one metric on one architecture's models, or why there is none (`not_available`).

    Args:
        records: `ends`, `pools` and `unlearned` as `trial` gathers them.
        utility: that an unlearned model has to have left.
    """
    ends, pools = records["ends"], records["pools"]
    points = [point for one in records["unlearned"] for point in one["points"]]
    known = [one["values"].get(name) for one in pools if one["knows"]]
    never = [one["values"].get(name) for one in pools if not one["knows"]]
    lost = sum(value is None for value in (*known, *never))
    if not known or not never or lost:
        return {"not_available": f"not a number for {lost} of {len(pools)} pool models"}
    gold = [ends[one].get(name) for one in ("gold", "gold_relearned")]
    if None in gold:
        return {"not_available": "not a number for gold"}
    knocked, missing = [], 0
    for point in points:
        value = point["values"].get(name)
        after = [point.get(kind, point["values"]).get(name) for kind in ("relearned", "quantised")]
        if value is None or None in after:
            missing += 1
            continue
        knocked.append(Knocked(point["utility"], value, after[0], after[1], *gold))
    return {**judge(known, never, knocked, name not in LOWER, utility).record(), "lost": missing}


def verdict(records: Records, utility: float) -> dict[str, Any]:
    """What the trial says of each metric of one architecture: metric → `judged`."""
    return {name: judged(records, name, utility) for name in HEADS}


def overall(by_architecture: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of each metric the means over the architectures that have a value; in `of` how many."""
    found: dict[str, Any] = {}
    for name in HEADS:
        some = [one[name] for one in by_architecture.values() if "not_available" not in one.get(name, {})]
        here: dict[str, Any] = {"of": len(some)}
        for part in ("faithfulness", "relearning", "quantisation", "robustness", "overall"):
            values = [one[part] for one in some if one.get(part) is not None]
            here[part] = sum(values) / len(values) if values else None
        here["kept"] = sum(one["kept"] for one in some)
        found[name] = here
    return found


def check_ends(ends: Mapping[str, Any], plan: ValidityPlan) -> None:
    """Raise a RememError where start and gold are not what a trial needs."""
    start, gold = ends["start"]["em"], ends["gold"]["em"]
    if not start or gold >= HALF * start:
        raise RememError(
            f"start '{plan.start}' says {start:.0%} of '{plan.forget}' and gold '{plan.gold}' {gold:.0%}: a trial needs a "
            "start that has memorised it and a gold that never saw it (--no-gate goes on all the same)"
        )


def trial(plan: ValidityPlan, out: Path, say: Say, no_gate: bool = False) -> dict[str, Any]:
    """All records of one architecture, made or found in `out`.

    Raises:
        RememError: something unknown or out of range; start or gold are not what a trial needs; another trial's folder.
    """
    plan.check()
    members, forgettings = plan.members(), plan.forgettings()
    source = only(DEFAULT, plan.data, "trials of metrics are of ReMem's forget sets")
    plan = replace(plan, data=os.path.abspath(source) if os.path.isdir(source) else source)
    runner = ValidityRunner(plan, plan.data)
    identity = {
        **plan.shared(),
        "weights": [digest(runner.start), digest(runner.gold)],
        "rows": fingerprint(*runner.asked.values(), *runner.pairs.tables),
    }
    ledger = Ledger(out, "trial", identity)
    ends, _ = ledger.measured("ends", runner.ends)
    if not no_gate:
        check_ends(ends, plan)
    total, done = len(members) + len(forgettings), 0
    pools: list[dict[str, Any]] = []
    unlearned: list[dict[str, Any]] = []

    def told(name: str, what: str, record: Mapping[str, Any], before: bool) -> None:
        nonlocal done
        done += 1
        how = "done before" if before else f"{record['seconds']:.0f} s"
        say(f"[{done}/{total}] {name}: {what} ({how})")

    for one in members:
        record, before = ledger.measured(one.name, lambda: runner.member(one))  # noqa: B023
        pools.append(record)
        values = record["values"]
        told(
            one.name,
            f"EM {values['em']:.2f}, Exposure {values.get('exposure', float('nan')):.2f}",
            record,
            before,
        )
    for run in forgettings:
        record, before = ledger.measured(
            run.name,
            lambda: runner.forgetting(run, ends["start_retain_em"]),  # noqa: B023
        )
        unlearned.append(record)
        shown = "; ".join(
            f"step {point['step']} EM {point['values']['em']:.2f}, utility {point['utility']:.2f}"
            for point in record["points"]
        )
        told(run.name, shown or f"{record['outcome']}: {record['reason']}", record, before)
    return {
        "plan": plan.shared() | {"methods": list(plan.methods)},
        "ends": ends,
        "pools": pools,
        "unlearned": unlearned,
    }


def results_of(trials: Mapping[str, Records], utility: float) -> dict[str, Any]:
    """`validity.json`: verdicts by architecture and over all, and what they are made of."""
    by_architecture = {name: verdict(records, utility) for name, records in trials.items()}
    sizes = {
        name: {
            "knows": sum(one["knows"] for one in records["pools"]),
            "never": sum(not one["knows"] for one in records["pools"]),
            "unlearned": sum(len(one["points"]) for one in records["unlearned"]),
            "seconds": round(
                records["ends"]["seconds"]
                + sum(one["seconds"] for one in (*records["pools"], *records["unlearned"])),
                1,
            ),
            "gold_em": records["ends"]["gold"]["em"],
            "gold_em_relearned": records["ends"]["gold_relearned"]["em"],
            "start_em": records["ends"]["start"]["em"],
        }
        for name, records in trials.items()
    }
    return {
        "utility": utility,
        "sizes": sizes,
        "plans": {name: records["plan"] for name, records in trials.items()},
        "architectures": by_architecture,
        "combination": combination(trials, utility, judged),
        "metrics": overall(by_architecture),
    }


@locked
def validity(
    plans: Sequence[tuple[str, Callable[[], ValidityPlan]]],
    out: str | Path,
    say: Say = print,
    no_gate: bool = False,
) -> dict[str, Any]:
    """Put the metrics on trial in folder `out`, or go on with it; what `validity.json` holds.

    Args:
        plans: what architectures are called, and what gives the plan of each when its turn comes.
        no_gate: go on with a start that had not memorised (its figures mean nothing).

    Raises:
        RememError: as `trial`.
    """
    from unlearning.experiments.validity.table import write

    out, trials = Path(out), {}
    found: dict[str, Any] = {}
    for name, give in plans:
        plan = give()
        trials[name] = trial(plan, out / name, lambda line: say(f"{name} {line}"), no_gate)  # noqa: B023
        found = results_of(trials, plan.utility)
        write(found, out)
    return found
