"""What a report says of a group of runs: scores with intervals, marks of the gate, comparisons.

Everything is computed once here; the terminal, Markdown, CSV and HTML only show it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from remem_tasks.benchmarks.view import RIGHT
from remem_tasks.benchmarks.views import MAINS
from remem_tasks.errors import RememError
from remem_tasks.metrics.refusal import Status
from remem_tasks.report.attacked import Attacks, read_attacks
from remem_tasks.report.compare import Group, groups_of, select_run
from remem_tasks.report.gate import judge, parts_of
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.runs import read_runs
from remem_tasks.report.statistics import (
    DRAWS,
    Difference,
    distances,
    interval,
    mean_and_sd,
    p_value,
    paired_difference,
    resampled,
    resampled_means,
    wilson,
)
from remem_tasks.report.thresholds import Thresholds
from remem_tasks.report.verdict import WHOLE, Part, Verdict

EXPOSURES = ("exposure", "prompted_exposure")  # the second is of backends that only give text
NOT_ASKED = "not asked"
BESIDE = ("refusal_rate", "coverage")
"""Rates that stand beside every score of replies: without them a model that declines looks like one that forgot."""
MOST = 0.9
"""From which share of refusals a fall of the main score is called a refusal."""


@dataclass(frozen=True)
class Score:
    """One number of the report: a line of results.csv.

    Attributes:
        part: the whole set, or its rows of a hop, attribute or target.
        low, high: 95 % interval (bootstrap over rows; Wilson's where all rows agree); None for a score that
            only a whole set has.
        rows, of: how many rows have the score, of how many in the set or part: fewer are a mean over some only.
        remaining: the score over the start's, both summed over the rows that the start answered right
            (the memorised subset): 1 = nothing forgotten, 0 = all of it. None without a start.
        subset: how many rows that is.
        gate: what the gate says of the starting model in this set or part.
    """

    run: str
    task: str
    part: Part
    metric: str
    value: float
    low: float | None
    high: float | None
    rows: int
    remaining: float | None = None
    subset: int | None = None
    gate: str = NOT_ASKED
    of: int | None = None

    @property
    def short(self) -> str:
        """`12 of 20 rows` where not all have the score; else empty."""
        return "" if self.of is None or self.rows == self.of else f"{self.rows} of {self.of} rows"


@dataclass(frozen=True)
class Pair:
    """Two models on the same rows of one task."""

    first: str
    second: str
    task: str
    metric: str
    difference: Difference


@dataclass
class Findings:
    """A group of comparable runs, worked out.

    Attributes:
        distances: run → task → `ks`, `ks_p`, `jsd` of exposure to the gold model's; empty without gold.
        seeds: (model, task, metric) → mean, standard deviation, number of seeds.
        attacks: what `remem attack` found of these models; empty without.
    """

    group: Group
    gold: Run | None
    start: Run | None
    verdict: Verdict | None
    scores: list[Score] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    distances: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    seeds: dict[tuple[str, str, str], tuple[float, float | None, int]] = field(default_factory=dict)
    attacks: Attacks = field(default_factory=dict)

    def score(self, run: str, task: str, metric: str, part: Part = WHOLE) -> Score | None:
        return self._index.get((run, task, metric, part))

    @property
    def _index(self) -> dict[tuple, Score]:
        if "_cache" not in self.__dict__:
            self.__dict__["_cache"] = {(s.run, s.task, s.metric, s.part): s for s in self.scores}
        return self.__dict__["_cache"]

    def role(self, run: Run) -> str:
        if self.gold is not None and run.name == self.gold.name:
            return "gold"
        return "start" if self.start is not None and run.name == self.start.name else ""


def exposure_of(task_result: TaskResult) -> np.ndarray | None:
    """(N,) exposure, by whichever way it was measured, or None."""
    return next((task_result.scores[name] for name in EXPOSURES if name in task_result.scores), None)


def remaining_of(
    task_result: TaskResult, start: TaskResult, metric: str, keep: np.ndarray | None = None
) -> tuple[float | None, int]:
    """(what is left of a score on the memorised subset, rows in it).

    The subset are the rows that the starting model answered right (main score at least RIGHT: EM 1). The share is the sum of the
    model's scores over the sum of the start's; None where the start's sum is 0.
    """
    if metric not in start.scores or metric not in task_result.scores:
        return None, 0
    mine, theirs = task_result.scores[metric], start.scores[metric]
    subset = (start.scores[start.main] >= RIGHT) & ~np.isnan(mine) & ~np.isnan(theirs)
    if keep is not None:
        subset &= keep
    total = float(theirs[subset].sum())
    return (float(mine[subset].sum()) / total if total > 0 else None), int(subset.sum())


def _scores_of(
    task_results: Sequence[tuple[Run, TaskResult]],
    start: TaskResult | None,
    verdict: Verdict | None,
    draws: int,
) -> Iterator[tuple[Score, np.ndarray | None]]:
    """The scores of one task with the bootstrap means of the whole set (None for parts of it)."""
    first = task_results[0][1]
    names = list(
        dict.fromkeys(name for _, task_result in task_results for name in (*task_result.metrics, *BESIDE))
    )
    nothing = np.full(len(first.rows), math.nan)
    weights = resampled(len(first.rows), draws)
    parts = parts_of(first)
    for metric in names:
        table = np.stack([task_result.scores.get(metric, nothing) for _, task_result in task_results], axis=1)
        means = resampled_means(table, weights)
        shares = bool(((table >= 0) & (table <= 1) | np.isnan(table)).all())
        for place, (run, task_result) in enumerate(task_results):
            values = table[:, place]
            for part, keep in ((WHOLE, None), *parts.items()):
                known = ~np.isnan(values) if keep is None else keep & ~np.isnan(values)
                rows = int(known.sum())
                if not rows:
                    continue
                value = float(values[known].mean())
                if keep is None and np.ptp(values[known]) > 0:
                    low, high = interval(means[:, place])
                elif not shares:  # bits: of a part, its own bootstrap
                    drawn = resampled_means(values[known][:, None], resampled(rows, draws))
                    low, high = interval(drawn[:, 0]) if np.ptp(values[known]) > 0 else (value, value)
                else:  # few rows, or rows that all agree: a bootstrap would be too sure
                    low, high = wilson(min(max(value, 0.0), 1.0), rows)
                remaining, subset = remaining_of(task_result, start, metric, keep) if start else (None, None)
                cell = verdict.cell(task_result.task, part) if verdict else None
                score = Score(
                    run.name,
                    task_result.task,
                    part,
                    metric,
                    value,
                    low,
                    high,
                    rows,
                    remaining,
                    subset,
                    cell.verdict if cell else NOT_ASKED,
                    len(first.rows) if keep is None else int(keep.sum()),
                )
                yield score, means[:, place] if keep is None else None
    for run, task_result in task_results:
        cell = verdict.cell(task_result.task) if verdict else None
        gate = cell.verdict if cell else NOT_ASKED
        for metric, value in task_result.of_set.items():
            whole = Score(
                run.name, task_result.task, WHOLE, metric, value, None, None, len(task_result.rows), gate=gate
            )
            yield whole, None


def _pairs_of(
    task_results: Sequence[tuple[Run, TaskResult]],
    means: dict[tuple[str, str], np.ndarray],
    metrics: Sequence[str],
) -> Iterator[Pair]:
    """All pairs, from bootstrap means that share their resampled rows."""
    for metric in metrics:
        having = [(run, task_result) for run, task_result in task_results if metric in task_result.scores]
        for (one, first), (two, second) in combinations(having, 2):
            gaps = first.scores[metric] - second.scores[metric]
            known = ~np.isnan(gaps)
            if not known.any():
                continue
            if known.all():
                draws = means[one.name, metric] - means[two.name, metric]
                draws = np.where(np.abs(draws) < 1e-9, 0.0, draws)
                difference = Difference(float(gaps.mean()), *interval(draws), p_value(draws), len(gaps))
            else:
                difference = paired_difference(first.scores[metric], second.scores[metric], DRAWS)
            yield Pair(one.name, two.name, first.task, metric, difference)


def _seeds_of(group: Group, scores: Sequence[Score]) -> dict:
    values: dict[tuple[str, str, str], list[float]] = {}
    model = {run.name: run.model for run in group.runs}
    for score in scores:
        if score.part == WHOLE:
            values.setdefault((model[score.run], score.task, score.metric), []).append(score.value)
    return {key: (*mean_and_sd(found), len(found)) for key, found in values.items() if len(found) > 1}


PAIRED = (*MAINS, "rougel", "prob", "truth", "memo", *EXPOSURES, "reference_exposure", "extraction_rate")


def findings_of(
    group: Group,
    gold: Run | None = None,
    start: Run | None = None,
    thresholds: Thresholds | None = None,
    draws: int = DRAWS,
) -> Findings:
    """Everything a report says of one group.

    Args:
        gold: the model that never saw the forget set; the reference of distances.
        start: the model that forgetting began from; the gate is asked of it.
    """
    gold = gold if gold in group.runs else None
    start = start if start in group.runs else None
    verdict = None
    if start is not None:
        try:
            verdict = judge(start, thresholds)
        except RememError:  # scored on test alone: there is nothing to ask of it
            verdict = None
    found = Findings(group, gold, start, verdict)
    for task, task_results in group.task_results.items():
        begun = start.task_results.get(task) if start is not None else None
        means: dict[tuple[str, str], np.ndarray] = {}
        for score, drawn in _scores_of(task_results, begun, verdict, draws):
            found.scores.append(score)
            if drawn is not None:
                means[score.run, score.metric] = drawn
        paired = [
            name for name in PAIRED if any(name in task_result.scores for _, task_result in task_results)
        ]
        found.pairs += _pairs_of(task_results, means, paired)
        reference = (
            exposure_of(gold.task_results[task]) if gold is not None and task in gold.task_results else None
        )
        if reference is not None:
            for run, task_result in task_results:
                mine = exposure_of(task_result)
                known = ~np.isnan(reference) & ~np.isnan(mine) if mine is not None else np.array(False)
                if known.any():
                    found.distances.setdefault(run.name, {})[task] = distances(mine[known], reference[known])
    found.seeds = _seeds_of(group, found.scores)
    return found


@dataclass(frozen=True)
class Fall:
    """How a run came to answer less of a set than the start did.

    Attributes:
        lost: rows that the start answered and the run does not.
        refused: those of them that it refuses.
    """

    lost: int
    refused: int

    @property
    def is_refusal(self) -> bool:
        """Whether (nearly) all of the fall is refusals."""
        return self.lost > 0 and self.refused >= MOST * self.lost


def fall_of(task_result: TaskResult, start: TaskResult) -> Fall:
    """The rows that are no longer answered, and how many of them are refused."""
    lost = (start.scores[start.main] >= RIGHT) & (task_result.scores[task_result.main] < RIGHT)
    refused = sum(status == Status.REFUSAL for status, gone in zip(task_result.statuses, lost) if gone)
    return Fall(int(lost.sum()), refused)


def declined(found: Findings) -> list[str]:
    """A line for each run and set where the fall of the main score since the start is refusals, wholly or by half."""
    lines = []
    for task, task_results in found.group.task_results.items():
        start = found.start.task_results.get(task) if found.start else None
        if start is None:
            continue
        for run, task_result in task_results:
            fall, word = fall_of(task_result, start), task_result.benchmark_view.word
            if not fall.lost or run is found.start or 2 * fall.refused < fall.lost:
                continue
            if fall.is_refusal:
                lines.append(
                    f"{run.name}, {task}: the fall of {word} is refusals ({fall.refused} of the {fall.lost} rows that "
                    "are no longer answered): the model declines, which does not show that it forgot"
                )
            else:
                lines.append(
                    f"{run.name}, {task}: {fall.refused} of the {fall.lost} rows that are no longer answered are refused"
                )
    return lines


@dataclass
class Report:
    """All groups, and what must be said before any number."""

    groups: list[Findings]
    notes: list[str]


def training_name(run: Run) -> str:
    """What the steps of one training share: the name without its `checkpoint-N`."""
    return re.sub(r"[/_\- ]*checkpoint-\d+", "", run.name) or run.name


def report_of(
    paths: Sequence[str],
    gold: str | None = None,
    start: str | None = None,
    thresholds: Thresholds | None = None,
    draws: int = DRAWS,
    attacks: str | None = None,
) -> Report:
    """Read and work out the runs of a report.

    Args:
        paths: see `read.find_runs`.
        attacks: a folder of `remem attack`.
        gold, start: a run's name or path; by default, and in other groups than its own, the only run of the group
            whose record says it is (method `gold`, method `sft`).

    Raises:
        RememError: what cannot be read, or a gold or start that is none of the runs.
    """
    tried = read_attacks(attacks) if attacks is not None else {}
    runs = read_runs([*paths, *(extra for extra in (gold, start) if extra and _is_path(extra))])
    groups = groups_of(runs)
    notes, chosen = [], []
    named = {"gold": select_run(runs, gold, "gold") if gold else None}
    named["sft"] = select_run(runs, start, "sft") if start else None
    for number, group in enumerate(groups, start=1):
        of_group = {}
        for method, what, why in (
            ("gold", "gold model", "no distances to it"),
            ("sft", "starting model", "the gate was not asked"),
        ):
            given = named[method]
            # One that was named belongs to its own group; every other group has the only one of that method in it.
            run = given if given in group.runs else select_run(group.runs, None, method)
            of_group[method] = run
            if run is None:
                among = "the runs" if len(groups) == 1 else f"the runs of group {number}"
                notes.append(f"No {what} among {among}: {why}")
            elif run is not given:
                notes.append(
                    f"'{run.name}' is taken as the {what}: its run record is the only one of method {method}"
                    + ("" if len(groups) == 1 else f" in group {number}")
                )
        chosen.append(of_group)
    for number, group in enumerate(groups[1:], start=2):
        names = ", ".join(run.name for run in group.runs)
        notes.append(f"Shown apart as group {number} ({names}), never compared with the others: {group.why}")
    if any(not run.task_results[task].fingerprint for run in runs for task in run.task_results):
        notes.append("Some results name no data fingerprint: whether they share data cannot be checked")
    notes += [f"{run.name}: {note}" for run in runs for note in run.notes]
    worked = []
    for group, of_group in zip(groups, chosen):
        the_gold, the_start = of_group["gold"], of_group["sft"]
        # the start first, gold next, then the others as given
        group.runs.sort(key=lambda run: (run is not the_start, run is not the_gold))
        worked.append(findings_of(group, the_gold, the_start, thresholds, draws))
    for found in worked:
        found.attacks = tried
        notes += declined(found)
        for task_result in (
            task_result
            for task_results in found.group.task_results.values()
            for _, task_result in task_results[:1]
        ):
            for name, why in task_result.missing.items():
                notes.append(f"{task_result.task}: {name} is not available: {why}")
    return Report(worked, list(dict.fromkeys(notes)))


def _is_path(text: str) -> bool:
    return Path(text).exists()
