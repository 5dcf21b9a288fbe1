"""What a report concludes: sentences made from its numbers, and the names that they use."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from remem_tasks.benchmarks.view import KNOWN, RIGHT, label_of
from remem_tasks.report.attacked import recovered
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.summary import Findings, exposure_of, fall_of
from remem_tasks.report.verdict import UNCLEAR

SIGNIFICANT = 0.05
"""Below which p two models are told apart."""
REFERENCE = "reference_exposure"
MANY = 0.1
"""From which share of a set's secrets it is said that a model holds them without saying them."""


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without the beginning that all share, which ends at one of `/ - _ .` or a space.

    What is left of every name begins with a letter; a single name stays as it is.
    """
    names = list(names)
    if len(set(names)) < 2:
        return {name: name for name in names}
    first, last = min(names), max(names)
    shared = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    for cut in range(shared, 0, -1):
        if first[cut - 1] in "/-_. " and all(name[cut : cut + 1].isalpha() for name in names):
            return {name: name[cut:] for name in names}
    return {name: name for name in names}


def percent(value: float) -> str:
    """A score in [0, 1] as tables show it: per cent, one digit."""
    return f"{100 * value:.1f}"


def gate_line(found: Findings) -> str:
    """What the gate says, in one line."""
    if found.verdict is None:
        return "Gate: not asked, as no starting model is among these runs (--start RUN)"
    verdict = found.verdict
    if verdict.passed:
        return f"Gate: passed. '{verdict.model}' had memorised what was to be forgotten"
    places = "; ".join(cell.place for cell in verdict.failing[:4]) + (
        " …" if len(verdict.failing) > 4 else ""
    )
    if verdict.outcome == UNCLEAR:
        return (
            f"Gate: too few rows to say whether '{verdict.model}' had memorised {places}: {verdict.advice()}"
        )
    return (
        f"Gate: NOT passed (†): '{verdict.model}' had not memorised {places}. "
        "Scores so marked say nothing about forgetting"
    )


def held_in_silence(task_result: TaskResult) -> tuple[int, int] | None:
    """(secrets that are not said but known, rows whose exposure was measured); None without exposure."""
    exposure = exposure_of(task_result)
    if exposure is None or not (asked := ~np.isnan(exposure)).any():
        return None
    silent = asked & (exposure >= KNOWN) & (task_result.scores[task_result.main] < RIGHT)
    return int(silent.sum()), int(asked.sum())


def conclusion(found: Findings) -> list[str]:
    """Sentences on the first forget set: the gate, who is nearest to gold, who only refuses or keeps silent, what attacks got.

    Steps of a training are left to their plot where there are final models.
    """
    names = short_names(run.name for run in found.group.runs)
    sets = found.group.task_results
    task = next((task for task, (one, *_) in sets.items() if one[1].split.startswith("forget")), None)
    lines = [gate_line(found) + "."]
    if task is None:
        return [*lines, "No forget set was scored, so nothing can be said of forgetting."]
    judged = [run for run, _ in sets[task] if not found.role(run)]
    judged = [run for run in judged if run.step is None] or judged
    if not judged:
        return [*lines, "No unlearned model is among these runs."]
    lines += _nearest(found, task, judged, names)
    for run in judged:
        lines += _silence(found, task, run, names[run.name])
    told = (recovered(found.attacks, run.checkpoint, run.name, names[run.name]) for run in judged)
    return [*lines, *filter(None, told)]


def _mean_exposure(task_result: TaskResult) -> float:
    """Over the rows that have one; NaN where none has."""
    exposure = exposure_of(task_result)
    return math.nan if exposure is None else float(np.nanmean(exposure))


def _nearest(found: Findings, task: str, judged: list[Run], names: dict[str, str]) -> list[str]:
    label, gold = label_of(task), found.gold
    if gold is None or task not in gold.task_results:
        return [
            "No gold model is among these runs (--gold RUN), so nothing says how far forgetting should go."
        ]
    far = {run.name: found.distances.get(run.name, {}).get(task) for run in judged}
    measured = {name: one for name, one in far.items() if one is not None}
    if not measured:
        result = gold.task_results[task]
        aim = float(np.nanmean(result.scores[result.main]))
        gaps = {
            run.name: abs(float(np.nanmean(run.task_results[task].scores[result.main])) - aim)
            for run in judged
        }
        name = min(gaps, key=lambda one: gaps[one])
        return [
            f"Nearest to gold on {label} is {names[name]}, by {percent(gaps[name])} points of {result.benchmark_view.word}; "
            "exposure, which shows what refusals hide, was not measured." + _kept(found, name, names)
        ]
    aim = _mean_exposure(gold.task_results[task])
    mean = {run.name: _mean_exposure(run.task_results[task]) for run in judged if run.name in measured}
    # Of equal distances the nearer mean counts.
    name = min(measured, key=lambda one: (measured[one]["ks"], abs(mean[one] - aim)))
    best, rows = measured[name], len(found.group.task_results[task][0][1].rows)
    told = (
        f"{rows} rows cannot tell the two apart"
        if best["ks_p"] >= SIGNIFICANT
        else f"on {rows} rows the two still differ"
    )
    lines = [
        f"Nearest to gold on {label} is {names[name]}: the exposures of its secrets are at a distance of "
        f"{best['ks']:.2f} (Kolmogorov–Smirnov; 0 = as if it had never seen the set), and {told} (p = {best['ks_p']:.2g})."
        + _still_found(found, task, name, gold.name)
        + _kept(found, name, names)
    ]
    other = max(measured, key=lambda one: (measured[one]["ks"], abs(mean[one] - aim)))
    if other != name:
        lines[0] += f" Farthest is {names[other]}, at {measured[other]['ks']:.2f}."
    return lines


def _still_found(found: Findings, task: str, name: str, gold: str) -> str:
    """What exposure does not show of the nearest model: that it tells the secret from other people's values."""
    mine, theirs = (found.score(one, task, REFERENCE) for one in (name, gold))
    pair = next(
        (
            pair
            for pair in found.pairs
            if pair.task == task and pair.metric == REFERENCE and {pair.first, pair.second} == {name, gold}
        ),
        None,
    )
    if mine is None or theirs is None or pair is None:
        return ""
    more = pair.difference.mean if pair.first == name else -pair.difference.mean
    if more <= 0 or pair.difference.p >= SIGNIFICANT:
        return ""
    return (
        " Asked to tell the secret from other people's values of its kind, it still finds it more often than gold "
        f"(reference exposure {percent(mine.value)} % against {percent(theirs.value)} %)."
    )


def _kept(found: Findings, name: str, names: dict[str, str]) -> str:
    """What the nearest model has kept, beside the start and gold."""
    sets = found.group.task_results
    retain = next((task for task, (one, *_) in sets.items() if one[1].split.startswith("retain")), None)
    if retain is None:
        return " No retain set was scored: nothing says what forgetting cost."
    first = sets[retain][0][1]
    score = found.score(name, retain, first.main)
    if score is None:
        return " Its retain set was not scored: nothing says what forgetting cost."
    beside = [
        f"{role} {percent(other.value)}"
        for role, run in (("start", found.start), ("gold", found.gold))
        if run is not None and (other := found.score(run.name, retain, first.main))
    ]
    word = first.benchmark_view.word
    told = f" ({', '.join(beside)})" if beside else ""
    return f" Its {word} on {label_of(retain)} is {percent(score.value)} %{told}."


def _silence(found: Findings, task: str, run: Run, name: str) -> list[str]:
    """A sentence on a run that refuses, or that holds secrets which it does not say."""
    result, start = run.task_results[task], found.start.task_results.get(task) if found.start else None
    fall = fall_of(result, start) if start is not None else None
    held = held_in_silence(result)
    first = int((result.rollouts + 1) ** 0.5)
    known = (
        f"{held[0]} of {held[1]} secrets are still among its first {first} guesses"
        if held is not None
        else ""
    )
    if fall is not None and fall.is_refusal:
        hidden = known or "what it still holds was not measured (exposure)"
        return [
            f"{name} only refuses ({fall.refused} of the {fall.lost} answers it lost are refusals): {hidden}."
        ]
    if held is not None and held[0] >= MANY * held[1]:
        return [f"{name} holds secrets that it does not say: {known}."]
    return []
