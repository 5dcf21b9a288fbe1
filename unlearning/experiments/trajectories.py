"""Forgetting over the whole run, every method in one picture: where each was at every stop, and who led there.

The points are those that trainings evaluated anyway: of a sweep the tuning run of each method's chosen settings, of
`remem train --eval_strategy steps` its `trajectory.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.files import replaced, write_json, write_whole
from remem_tasks.reading import parse_json, read_object, read_text
from remem_tasks.run_record import read_record
from unlearning.evaluation import FILE
from unlearning.experiments.sweep.plan import label

Point = Mapping[str, float]


@dataclass(frozen=True)
class Course:
    """A method's run: its points, each with `step`, `forget_em` and `retain_em`, in order."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Courses:
    """Runs that share a start.

    Attributes:
        level: forget EM that counts as forgotten; 0 where nobody knows gold's.
        start: (forget EM, retain EM) before the first step; None where nobody knows.
    """

    runs: tuple[Course, ...]
    level: float
    start: tuple[float, float] | None


def of_sweep(folder: str | Path) -> Courses:
    """The tuning runs of the settings that a sweep chose.

    Raises:
        RememError: no sweep there, or none of its methods gave a point.
    """
    folder = Path(folder)
    found = read_object(folder / "results.json", "the --out of `remem sweep`")
    runs = []
    for one in found["methods"]:
        if one["settings"] is None:
            continue
        record = read_object(folder / "tuning" / one["method"] / f"{label(one['settings'])}.json")
        if record["points"]:
            runs.append(Course(one["method"], tuple(record["points"])))
    if not runs:
        raise RememError(f"'{folder}': no method has a point yet")
    start = found["start"]["tuning"]
    level = found["gold_level"]["tuning"] + found["plan"]["tolerance"]
    return Courses(tuple(runs), level, (start["forget_em"], start["retain_em"]))


def of_runs(folders: Sequence[str]) -> Courses:
    """The runs of `remem train` in some folders.

    Raises:
        RememError: a folder without `trajectory.json`, or one without exact match.
    """
    runs: list[Course] = []
    for place in map(Path, folders):
        file = place / FILE
        if not file.is_file():
            raise RememError(
                f"'{place}' has no {FILE}: train with --eval_strategy steps --eval_steps N (and without --eval_em false)"
            )
        points = parse_json(read_text(file), f"'{file}'")
        kept = tuple(one for one in points if {"step", "forget_em", "retain_em"} <= set(one))
        if not kept:
            raise RememError(f"'{file}': no point has forget and retain exact match")
        name = str(read_record(place).get("method") or place.name)
        taken = sum(one.name.split(" #")[0] == name for one in runs)
        runs.append(Course(f"{name} #{taken + 1}" if taken else name, kept))
    return Courses(tuple(runs), 0.0, None)


def worth(point: Point, level: float) -> float:
    """Retain EM less what forget EM is above the level: the sweep's own order."""
    return point["retain_em"] - max(0.0, point["forget_em"] - level)


def ranking(courses: Courses) -> dict[int, list[str]]:
    """step → the methods that stopped there, best first; ties by name."""
    steps = sorted({int(point["step"]) for run in courses.runs for point in run.points})
    found = {}
    for step in steps:
        here = [
            (worth(point, courses.level), run.name)
            for run in courses.runs
            for point in run.points
            if point["step"] == step
        ]
        found[step] = [name for _, name in sorted(here, key=lambda one: (-one[0], one[1]))]
    return found


def markdown(courses: Courses) -> str:
    """Forget EM / retain EM at every stop, a line a method, with its place there."""
    places = ranking(courses)
    steps = list(places)
    lines = [
        "# Forgetting over the whole run",
        "",
        f"Forget EM / retain EM in per cent, behind it the place among all at that stop (retain EM less what forget EM is above "
        f"{courses.level:.3f}).",
        "",
        "![every method's way](trajectories.png)",
        "",
        "| method | " + " | ".join(f"step {step}" for step in steps) + " |",
        "|---|" + "--:|" * len(steps),
    ]
    last = places[steps[-1]]
    for run in sorted(
        courses.runs, key=lambda one: (one.name not in last, last.index(one.name) if one.name in last else 0)
    ):
        by_step = {int(point["step"]): point for point in run.points}
        cells = []
        for step in steps:
            point = by_step.get(step)
            cells.append(
                "–"
                if point is None
                else f"{100 * point['forget_em']:.0f} / {100 * point['retain_em']:.0f} ({places[step].index(run.name) + 1})"
            )
        lines.append(f"| {run.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(courses: Courses, path: Path) -> None:
    """The way of each run through the plane of retain and forget EM, from the start: a panel a run, the others in grey behind it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = sorted(courses.runs, key=lambda run: run.name)
    columns = min(6, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(1.8 * columns + 0.6, 1.8 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    ways = {run.name: _way(run, courses.start) for run in runs}
    for axis, run in zip(axes, runs):
        axis.axhspan(-4, 100 * courses.level, color="#009E73", alpha=0.12, linewidth=0)
        for name, way in ways.items():
            if name != run.name:
                axis.plot(*way, color="#cccccc", linewidth=0.5, zorder=1)
        axis.plot(*ways[run.name], color="#0072B2", marker="o", markersize=3, linewidth=1.2, zorder=3)
        x, y = (side[-1] for side in ways[run.name])
        axis.plot(x, y, "D", color="#D55E00", markersize=4.5, zorder=4)
        axis.set_title(run.name, fontsize=8, pad=2)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(xlim=(-4, 104), ylim=(-4, 104), xticks=(0, 50, 100), yticks=(0, 50, 100))
    for axis in axes[len(runs) :]:
        axis.set_axis_off()
    figure.supxlabel("retain EM, per cent", fontsize=9)
    figure.supylabel("forget EM, per cent", fontsize=9)
    FigureCanvasAgg(figure).print_png(str(path))


def _way(run: Course, start: Sequence[float] | None) -> tuple[list[float], list[float]]:
    """Retain EM and forget EM in per cent, from the start where it is known."""
    points = [(point["retain_em"], point["forget_em"]) for point in run.points]
    if start is not None:
        points.insert(0, (start[1], start[0]))
    return [100 * x for x, _ in points], [100 * y for _, y in points]


def write(courses: Courses, out: str | Path) -> dict[str, Any]:
    """`trajectories.json`, `.md` and `.png` in a folder; what the first holds."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "level": courses.level,
        "start": courses.start,
        "runs": {run.name: [dict(point) for point in run.points] for run in courses.runs},
        "ranking": {str(step): names for step, names in ranking(courses).items()},
    }
    write_json(out / "trajectories.json", json.loads(json.dumps(found)))
    write_whole(out / "trajectories.md", markdown(courses))
    with replaced(out / "trajectories.png") as file:
        draw(courses, Path(file))
    return found
