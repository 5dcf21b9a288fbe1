"""The table of a sweep: one line per method, as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remem_tasks.files import replaced, write_whole
from unlearning.experiments.sweep.choice import ROUNDING, Choice
from unlearning.experiments.sweep.plan import SweepPlan
from unlearning.experiments.sweep.stages import Stage

# Figures of the table by name, with their heads.
FIGURES = {
    "forget_em": "forget EM",
    "forget_exposure": "exposure",
    "retain_em": "retain EM",
    "test_kept_em": "test kept EM",
    "test_forgotten_em": "test forgotten EM",
}
BRIEF = ("method", "chosen settings", "forget EM", "exposure", "retain EM", "outcome")
AT_LEVEL, ABOVE, COLLAPSED, NOTHING = "at gold's level", "above gold's level", "collapsed", "no run finished"
ORDER = (AT_LEVEL, ABOVE, COLLAPSED, NOTHING)
Run = Mapping[str, Any]


def collapsed(figures: Mapping[str, float], start: Mapping[str, float]) -> bool:
    """Whether less than half of the retain EM is left: a model that is broken has not unlearned."""
    return figures["retain_em"] < 0.5 * start["retain_em"]


def mean_and_sd(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (None of a single value)."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def line(
    method: str,
    runs: tuple[Sequence[Run], Choice | None, Sequence[Run]],
    start: Mapping[str, Mapping],
    target: float,
) -> dict[str, Any]:
    """What became of a method.

    Args:
        runs: of tuning, the chosen point, runs of reporting.
        start: scores before forgetting, by stage `tuning` and `reporting`.
        target: forget EM in reporting that is at the gold model's level.
    """
    tuned, choice, reported = runs
    trials = {
        "spent": len(tuned),
        "non-finite": sum(one["outcome"] == "non-finite" for one in tuned),
        "failed": sum(one["outcome"] == "failed" for one in tuned),
        "collapsed": sum(
            bool(one["points"]) and collapsed(one["points"][-1], start["tuning"]) for one in tuned
        ),
    }
    finished = [one for one in reported if one["outcome"] == "finished"]
    names = finished[0]["points"][-1] if finished else {}
    figures = {
        name: mean_and_sd([one["points"][-1][name] for one in finished]) for name in names if name != "step"
    }
    found: dict[str, Any] = {
        "method": method,
        "settings": dict(choice.settings) if choice else None,
        "tuned_steps": choice.step if choice else None,
        "steps": names.get("step"),
        "tuning": {"reached": choice.reached, **choice.point} if choice else None,
        "trials": trials,
        "seeds": {
            "finished": [one["seed"] for one in finished],
            "lost": {
                str(one["seed"]): f"{one['outcome']}: {one['reason']}"
                for one in reported
                if one not in finished
            },
        },
        "figures": figures,
        "reasons": sorted({one["reason"] for one in tuned if one["reason"]}),
        "seconds": {
            "tuning": round(sum(one["seconds"] for one in tuned), 1),
            "reporting": round(sum(one["seconds"] for one in reported), 1),
        },
    }
    means = {name: value["mean"] for name, value in figures.items()}
    if not means:
        found["outcome"] = NOTHING
    elif collapsed(means, start["reporting"]):
        found["outcome"] = COLLAPSED
    else:
        found["outcome"] = AT_LEVEL if means["forget_em"] <= target + ROUNDING else ABOVE
    return found


def summary(
    plan: SweepPlan,
    stages: tuple[Stage, Stage],
    level: float,
    start: Mapping[str, Mapping],
    gold: Mapping[str, Mapping] | None,
    runs: Mapping[str, tuple],
) -> dict[str, Any]:
    """`results.json`.

    Args:
        stages: of tuning and reporting.
        level: the gold model's forget EM in tuning.
        start, gold: scores by forget split; gold may be None.
        runs: by method: runs of tuning, the choice, runs of reporting.
    """
    tuning, reporting = stages
    reported = gold[reporting.forget]["forget_em"] if gold else level
    by_stage = {"tuning": start[tuning.forget], "reporting": start[reporting.forget]}
    lines = [line(name, one, by_stage, reported + plan.tolerance) for name, one in runs.items()]

    def place(one: Mapping[str, Any]) -> tuple:
        means = {name: value["mean"] for name, value in one["figures"].items()}
        worth = means["retain_em"] - max(0.0, means["forget_em"] - reported) if means else 0.0
        return ORDER.index(one["outcome"]), -worth, one["method"]

    return {
        "plan": {**asdict(plan), "methods": list(plan.methods)},
        "rows": {
            name: {table: len(rows) for table, rows in stage.tables.items()}
            for name, stage in (("tuning", tuning), ("reporting", reporting))
        },
        "gold_level": {"tuning": level, "reporting": reported},
        "start": by_stage,
        "gold": None
        if gold is None
        else {"tuning": gold[tuning.forget], "reporting": gold[reporting.forget]},
        "methods": sorted(lines, key=place),
    }


def shown_settings(one: Mapping[str, Any]) -> str:
    """`lr 1e-4, alpha 10, 96 steps`."""
    if one["settings"] is None:
        return ""
    parts = [
        f"{'lr' if name == 'learning_rate' else name} {value:g}".replace("e-0", "e-")
        for name, value in one["settings"].items()
    ]
    if one["tuned_steps"]:
        parts.append(f"{one['steps'] if one['steps'] is not None else one['tuned_steps']} steps")
    return ", ".join(parts)


def shown_trials(one: Mapping[str, Any]) -> str:
    """`6: 1 non-finite, 2 collapsed`."""
    lost = [f"{count} {name}" for name, count in one["trials"].items() if name != "spent" and count]
    return str(one["trials"]["spent"]) + (f": {', '.join(lost)}" if lost else "")


def shown_outcome(one: Mapping[str, Any]) -> str:
    """The outcome, whether tuning came to the level, the seeds that were lost; why nothing ran, if nothing did."""
    told = one["outcome"]
    if one["outcome"] == NOTHING:
        reasons = one["reasons"] or sorted(set(one["seeds"]["lost"].values()))
        return f"{told}: {'; '.join(reasons)}"
    if not one["tuning"]["reached"]:
        told += "; not reached in tuning"
    if lost := one["seeds"]["lost"]:
        told += f"; {len(lost)} of {len(lost) + len(one['seeds']['finished'])} seeds lost"
    return told


def cells(found: Mapping[str, Any], brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """(heads, lines) of the table, EM and exposure in per cent, mean ± sd over seeds; start and gold first.

    Args:
        brief: for a terminal: without test rows, trials and seconds.
    """
    heads = ["method", "chosen settings", *FIGURES.values(), "outcome", "trials", "s"]
    lines = []
    for name in ("start", "gold"):
        if found[name]:
            values = [f"{100 * found[name]['reporting'][figure]:.1f}" for figure in FIGURES]
            lines.append([name, "", *values, "", "", ""])
    for one in found["methods"]:
        values = []
        for figure in FIGURES:
            value = one["figures"].get(figure)
            if value is None:
                values.append("-")
            else:
                sd = "" if value["sd"] is None else f" ± {100 * value['sd']:.1f}"
                values.append(f"{100 * value['mean']:.1f}{sd}")
        seconds = f"{sum(one['seconds'].values()):.0f}"
        lines.append(
            [one["method"], shown_settings(one), *values, shown_outcome(one), shown_trials(one), seconds]
        )
    kept = [place for place, head in enumerate(heads) if not brief or head in BRIEF]
    return [heads[place] for place in kept], [[one[place] for place in kept] for one in lines]


def markdown(found: Mapping[str, Any]) -> str:
    """`results.md`."""
    plan, rows, level = found["plan"], found["rows"], found["gold_level"]
    heads, lines = cells(found)
    tuned, told = rows["tuning"], rows["reporting"]
    told_unit = {"passes": "passes over its rows", "steps": "steps"}[plan["match"]]
    text = [
        "# Sweep of forget methods",
        "",
        f"Settings chosen by forgetting `{plan['tune']}`: forget EM at most {level['tuning'] + plan['tolerance']:.3f} (gold "
        f"{level['tuning']:.3f} and {plan['tolerance']:g}) and then the highest retain EM, on {tuned['forget']} forget and "
        f"{tuned['retain']} retain rows; at most {plan['budget']} runs per method, looked at after "
        f"{', '.join(map(str, plan['steps']))} steps of {plan['batch']} pairs.",
        "",
        f"Reported: forgetting `{plan['report']}` with these settings and as many {told_unit}, seeds "
        f"{', '.join(map(str, plan['seeds']))}, in per cent, mean ± sd, on {told['forget']} forget, {told['retain']} retain, "
        f"{told['test_kept']} and {told['test_forgotten']} test rows of which none chose a setting. At gold's level is a "
        f"forget EM of at most {100 * (level['reporting'] + plan['tolerance']):.1f}; collapsed, a retain EM below half of "
        "the start's.",
        "",
        "![a line per method](results.png)",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|---|" + "---:|" * len(FIGURES) + "---|---|---:|",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in one) + " |" for one in lines),
    ]
    return "\n".join(text) + "\n"


def table(found: Mapping[str, Any]) -> str:
    """`results.csv`: a line per method, shares from 0 to 1."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    measured = [f"{figure}{kind}" for figure in FIGURES for kind in ("", "_sd")]
    counts = ("spent", "non-finite", "failed", "collapsed")
    writer.writerow(
        ["method", "settings", "steps", *measured, "outcome", "seeds", "seeds_lost"]
        + [f"trials_{name}" for name in counts]
        + ["tuning_seconds", "reporting_seconds"]
    )
    for name in ("start", "gold"):
        if found[name]:
            values = [value for figure in FIGURES for value in (found[name]["reporting"][figure], "")]
            writer.writerow([name, "", "", *values, *[""] * (5 + len(counts))])
    for one in found["methods"]:
        values = []
        for figure in FIGURES:
            value = one["figures"].get(figure, {"mean": "", "sd": None})
            values += [value["mean"], "" if value["sd"] is None else value["sd"]]
        writer.writerow(
            [one["method"], json.dumps(one["settings"]), one["steps"], *values, one["outcome"]]
            + [len(one["seeds"]["finished"]), len(one["seeds"]["lost"])]
            + [one["trials"][name] for name in counts]
            + list(one["seconds"].values())
        )
    return file.getvalue()


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A line per method, best on top: forget EM, exposure and retain EM with their deviation, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in ("start", "gold") if found[name]]
    heads = [*names, *(one["method"] for one in found["methods"])]
    figure = Figure(figsize=(7, 1.5 + 0.32 * len(heads)), layout="constrained")
    axis = figure.subplots()
    shown = (
        ("retain_em", "tab:blue", "o", "retain EM"),
        ("forget_exposure", "tab:orange", "D", "forget exposure"),
        ("forget_em", "tab:red", "s", "forget EM"),
    )
    for lane, (figure_name, colour, marker, told) in enumerate(shown):
        lines = [(place, found[name]["reporting"][figure_name], 0.0) for place, name in enumerate(names)]
        for place, one in enumerate(found["methods"], start=len(names)):
            if value := one["figures"].get(figure_name):
                lines.append((place, value["mean"], value["sd"] or 0.0))
        places, means, deviations = zip(*lines) if lines else ((), (), ())
        # Each score has a lane of its own within a method's line, so that no marker hides another.
        heights = [place + 0.24 * (lane - 1) for place in places]
        means, deviations = ([100 * value for value in values] for values in (means, deviations))
        axis.errorbar(
            means, heights, xerr=deviations, fmt=marker, color=colour, markersize=4, elinewidth=1, label=told
        )
    level = found["gold_level"]["reporting"] + found["plan"]["tolerance"]
    axis.axvspan(-3, 100 * level, color="tab:red", alpha=0.08, linewidth=0, label="gold's level of forget EM")
    axis.set_yticks(range(len(heads)), heads)
    axis.set_ylim(len(heads) - 0.5, -0.5)
    axis.set_xlim(-3, 103)
    axis.set_xlabel("per cent")
    for place in range(1, len(heads)):
        axis.axhline(place - 0.5, color="black", alpha=0.12, linewidth=0.8)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))


def write(found: Mapping[str, Any], out: Path) -> None:
    """`results.json`, `results.csv`, `results.md` and `results.png`, each replaced in one move."""
    texts = {"json": json.dumps(found, indent=1) + "\n", "csv": table(found), "md": markdown(found)}
    for kind, text in texts.items():
        write_whole(out / f"results.{kind}", text)
    with replaced(out / "results.png") as file:
        draw(found, file)
