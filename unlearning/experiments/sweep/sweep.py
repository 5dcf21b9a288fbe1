"""Every method tuned on the same budget, then judged on rows that no setting was chosen by; one table.

Tuning forgets one split and picks a method's settings by what it says of that split and of half of the
retain rows. Reporting trains the chosen settings anew, with several seeds, to forget another split, and
scores them on the people of that split alone, the other half of the retain rows, and the test rows.
What is done is a file in the sweep's folder and is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remem_tasks.benchmarks.registry import DEFAULT, only
from remem_tasks.checkpoint_files import digest
from remem_tasks.data.rows import fingerprint
from remem_tasks.errors import RememError
from remem_tasks.files import locked
from remem_tasks.run_record import read_record, unfinished
from remem_tasks.terminal import say as tell
from unlearning import weights as checkpoint
from unlearning.experiments.handing_out import HERE, Engine, hand_out
from unlearning.experiments.ledger import Ledger, Record
from unlearning.experiments.sweep.choice import choose
from unlearning.experiments.sweep.plan import TUNING_SEED, Settings, SweepPlan, grid, label
from unlearning.experiments.sweep.runner import SweepRunner
from unlearning.experiments.sweep.table import summary, write

Say = Callable[[str], None]


@dataclass
class Progress:
    """What is done and about how long the rest takes, by optimizer steps."""

    say: Say
    total: int
    steps_left: int
    done: int = 0
    steps_run: int = 0
    seconds: float = 0.0

    def tell(self, what: str, record: Mapping[str, Any], before: bool, steps: int) -> None:
        self.done += 1
        self.steps_left -= steps
        if not before:
            self.steps_run += steps
            self.seconds += record["seconds"]
        if record["outcome"] != "finished":
            found = f"{record['outcome']}: {record['reason']}"
        else:
            found = "; ".join(
                f"step {point['step']} forget {point['forget_em']:.2f} retain {point['retain_em']:.2f}"
                for point in record["points"]
            )
        if before:
            when = "done before"
        else:
            left = self.steps_left * self.seconds / max(1, self.steps_run) / 60
            when = f"{record['seconds']:.0f} s, about {left:.0f} min to go"
        self.say(f"[{self.done}/{self.total}] {what}: {found} ({when})")


def _identity(plan: SweepPlan, runner: SweepRunner) -> dict[str, Any]:
    tables = [rows for stage in (runner.tuning, runner.reporting) for rows in stage.tables.values()]
    trained = [
        runner.rows("pairs", stage.forget, False).fingerprint() for stage in (runner.tuning, runner.reporting)
    ]
    return {
        **plan.shared(),
        "weights": digest(runner.base),
        "scored": fingerprint(*tables),
        "trained": trained,
    }


def check_gold(plan: SweepPlan) -> float | None:
    """The gold model's forget EM, if that is what `--gold` gives; None of a checkpoint, whose record fits.

    Raises:
        RememError: no EM, no checkpoint, or one that saw people of the reporting stage.
    """
    level = None
    with suppress(ValueError):
        level = float(plan.gold)
    if level is not None:
        if not 0 <= level <= 1:
            raise RememError(f"--gold {plan.gold}: exact match is from 0 to 1")
        return level
    checkpoint.check_path(plan.gold)
    record = read_record(plan.gold)
    made = (record.get("data") or {}).get("forget")
    if told := unfinished(record):
        tell(f"warning: gold '{plan.gold}': {told}; its weights may be those of an earlier run")
    if made not in (None, plan.report):
        raise RememError(
            f"gold '{plan.gold}' was trained without '{made}'; reporting needs one without '{plan.report}' "
            f"(train.py --method gold --forget {plan.report})"
        )
    return None


def score_start_and_gold(
    plan: SweepPlan, runner: SweepRunner, ledger: Ledger, level: float | None
) -> tuple[dict, dict | None, float]:
    """(the start's scores, the gold model's or None, the gold model's forget EM in tuning).

    Args:
        level: the last of these, if it is known.

    Raises:
        RememError: there is nothing to forget.
    """

    def both(model) -> dict[str, dict[str, float]]:
        model = model.to(runner.device)
        return {stage.forget: runner.evaluate(model, stage) for stage in (runner.tuning, runner.reporting)}

    start, _ = ledger.measured("start", lambda: both(runner.fresh()))
    gold = None
    if level is None:
        gold, _ = ledger.measured("gold", lambda: both(checkpoint.load_model(plan.gold, **runner.load)))
        level = gold[plan.tune]["forget_em"]
    if start[plan.tune]["forget_em"] <= level + plan.tolerance:
        raise RememError(
            f"'{plan.base}' has forget EM {start[plan.tune]['forget_em']:.2f} on '{plan.tune}' before it forgets, the "
            f"gold model {level:.2f}: there is nothing to forget"
        )
    return start, gold, level


def _tuning(method: str, settings: Mapping[str, Any]) -> str:
    """The name of a record."""
    return f"tuning/{method}/{label(settings)}"


def _reporting(method: str, settings: Mapping[str, Any], steps: int, seed: int) -> str:
    return f"reporting/{method}/{label(settings)}_steps{steps}_seed{seed}"


def _measured(ledger: Ledger, made: Mapping[str, Record], name: str, make: Callable[[], Record]):
    """As of the ledger, where what others made in this call was not there before it."""
    return (made[name], False) if name in made else ledger.measured(name, make)


def _handed_out(
    plan: SweepPlan,
    runner: SweepRunner,
    ledger: Ledger,
    engine: Engine,
    grids: Mapping[str, list[Settings]],
    target: float,
    say: Say,
) -> dict[str, Record]:
    """The trainings that others do: all of tuning, then those of reporting that tuning chose."""
    if not engine.apart:
        return {}
    there, work = plan.from_anywhere(), "unlearning.experiments.sweep.runner:handed"
    tuning = {
        _tuning(method, one): (there, method, one, "tuning", TUNING_SEED, list(plan.steps))
        for method, some in grids.items()
        for one in some
    }
    made = hand_out(engine, work, tuning, ledger, say)
    reporting = {}
    for method, some in grids.items():
        names = [_tuning(method, one) for one in some]
        known = (made.get(name) or ledger.found(name) for name in names)
        choice = choose([record for record in known if record is not None], target)
        if choice is None:
            continue
        for seed in plan.seeds:
            steps = runner.reported_steps(choice.step)
            name = _reporting(method, choice.settings, steps, seed)
            reporting[name] = (there, method, choice.settings, "reporting", seed, [steps])
    return made | hand_out(engine, work, reporting, ledger, say)


@locked
def sweep(plan: SweepPlan, out: str | Path, say: Say = print, engine: Engine = HERE) -> dict[str, Any]:
    """Run a sweep in folder `out`, or go on with it; what `results.json` holds.

    Writes `results.csv`, `results.md` and `results.json` anew after each method.

    Args:
        engine: who does the trainings that do not wait for another.

    Raises:
        RememError: something unknown or out of range, or a folder that holds another sweep.
    """
    plan.check()
    only(DEFAULT, plan.data, "sweeps are of ReMem's forget sets")
    told = check_gold(plan)
    out = Path(out)
    runner = SweepRunner(plan)
    try:
        ledger = Ledger(
            out, "sweep", _identity(plan, runner), failed=lambda record: record.get("outcome") == "failed"
        )
        start, gold, level = score_start_and_gold(plan, runner, ledger, told)
        target = level + plan.tolerance
        say(
            f"{plan.tune}: forget EM {start[plan.tune]['forget_em']:.2f} at the start, {level:.2f} of gold; the level is "
            f"{target:.2f} or below"
        )
        grids = {method: grid(method, plan) for method in plan.methods}
        longest = runner.reported_steps(max(plan.steps))
        runs = sum(len(some) for some in grids.values()) + len(plan.methods) * len(plan.seeds)
        weight = (
            sum(map(len, grids.values())) * max(plan.steps) + len(plan.methods) * len(plan.seeds) * longest
        )
        progress = Progress(say, runs, weight)
        made = _handed_out(plan, runner, ledger, engine, grids, target, say)
        table = {}
        for method in plan.methods:
            tuned = []
            for settings in grids[method]:
                name = _tuning(method, settings)
                record, before = _measured(
                    ledger,
                    made,
                    name,
                    lambda: runner.run(method, settings, runner.tuning, TUNING_SEED, plan.steps),  # noqa: B023
                )
                tuned.append(record)
                progress.tell(f"{method} {label(settings)}", record, before, max(plan.steps))
            choice, reported = choose(tuned, target), []
            for seed in plan.seeds:
                if choice is None:
                    break
                steps = runner.reported_steps(choice.step)
                name = _reporting(method, choice.settings, steps, seed)
                record, before = _measured(
                    ledger,
                    made,
                    name,
                    lambda: runner.run(method, choice.settings, runner.reporting, seed, [steps]),  # noqa: B023
                )
                reported.append(record)
                progress.tell(f"{method} on {plan.report}, seed {seed}", record, before, longest)
            if not choice:
                progress.done += len(plan.seeds)
                progress.steps_left -= len(plan.seeds) * longest
            table[method] = (tuned, choice, reported)
            found = summary(plan, (runner.tuning, runner.reporting), level, start, gold, table)
            write(found, out)
        return found
    finally:
        runner.close()
