"""What a trial of metrics says: `validity.json` for programs, `validity.md` and `validity.png` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remem_tasks.files import replaced, write_json, write_whole
from unlearning.experiments.validity.combination import told
from unlearning.experiments.validity.plan import HEADS, PUBLISHED

PARTS = {
    "faithfulness": "faithful",
    "relearning": "R",
    "quantisation": "Q",
    "robustness": "robust",
    "overall": "overall",
}
PASSED = (0.97, 0.90)
"""The aim for Exposure: faithfulness and robustness."""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def ranked(found: Mapping[str, Any]) -> list[str]:
    """The metrics that have a verdict, the best overall first; those without robustness last, by faithfulness."""

    def worth(name: str) -> tuple[bool, float, float]:
        one = found["metrics"][name]
        return one["overall"] is None, -(one["overall"] or 0.0), -(one["faithfulness"] or 0.0)

    return sorted((name for name in HEADS if found["metrics"][name]["of"]), key=worth)


def aim(found: Mapping[str, Any]) -> str:
    """Whether Exposure is what it is meant to be, in a sentence."""
    one, names = found["metrics"]["exposure"], ranked(found)
    if one["faithfulness"] is None or one["robustness"] is None:
        return "Exposure: no verdict, as no unlearned model was left to ask."
    reached = one["faithfulness"] >= PASSED[0] and one["robustness"] >= PASSED[1]
    place = names.index("exposure") + 1
    return (
        f"Exposure: faithfulness {one['faithfulness']:.3f} (aim {PASSED[0]}), robustness {one['robustness']:.3f} (aim "
        f"{PASSED[1]}): the aim is {'reached' if reached else 'not reached'}; it is number {place} of {len(names)} overall."
    )


def markdown(found: Mapping[str, Any]) -> str:
    """`validity.md`: a line a metric, then a table an architecture, then what was not available."""
    lines = ["# Metrics on trial", ""]
    for name, size in found["sizes"].items():
        lines.append(
            f"- {name}: {size['knows']} models that learned the people, {size['never']} that never did, {size['unlearned']} "
            f"unlearned ones, {size['seconds']:.0f} s; EM of the start {size['start_em']:.2f}, of gold {size['gold_em']:.2f}, "
            f"after relearning {size['gold_em_relearned']:.2f}."
        )
    lines += [
        "",
        "Faithful: area under the ROC curve of the two pools. R and Q: 1 − |a − b| / (|a| + |b|), of what relearning adds to the "
        "model and to gold, and of the metric before and after NF4; means over the unlearned models with at least "
        f"{found['utility']:.0%} of the start's retain EM that the metric itself takes for forgetful. Robust: harmonic mean of R "
        "and Q; overall: of faithful and robust.",
        "",
        aim(found),
        "",
        told(found["combination"]),
        "",
        "![faithfulness and robustness](validity.png)",
        "",
    ]
    heads = ["metric", *PARTS.values(), "models", "published faithful / robust (text)"]
    lines += ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for name in ranked(found):
        one = found["metrics"][name]
        cells = [HEADS[name], *(_number(one[part]) for part in PARTS), str(one["kept"])]
        lines.append("| " + " | ".join([*cells, _published(name)]) + " |")
    lines += [f"| (UDS) | {' | '.join(['–'] * (len(PARTS) + 1))} | {_published('UDS')} |", ""]
    for architecture, by_name in found["architectures"].items() if len(found["architectures"]) > 1 else ():
        lines += [f"## {architecture}", "", "| metric | " + " | ".join(PARTS.values()) + " | models |"]
        lines.append("|---|" + "--:|" * (len(PARTS) + 1))
        for name in ranked(found):
            one = by_name[name]
            if "not_available" not in one:
                cells = [HEADS[name], *(_number(one[part]) for part in PARTS), str(one["kept"])]
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines + _missing(found)).rstrip() + "\n"


def _published(name: str) -> str:
    return " / ".join(f"{value:.3f}" for value in PUBLISHED[name]) if name in PUBLISHED else "–"


def _missing(found: Mapping[str, Any]) -> list[str]:
    told = [
        f"- {architecture}, {HEADS[name]}: {one['not_available']}"
        for architecture, by_name in found["architectures"].items()
        for name, one in by_name.items()
        if "not_available" in one
    ]
    return ["## Not available", "", *told, ""] if told else []


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Where labels of some marks stand, which are in order from below: `gap` apart, and no further off than it takes.

    >>> [round(height, 3) for height in apart([0.2, 0.2, 0.5], 0.1)]
    [0.15, 0.25, 0.5]
    """
    groups: list[list[float]] = []  # labels that touch stand around the middle of their marks
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _lowest(groups[-1], gap) < _lowest(groups[-2], gap) + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_lowest(group, gap) + gap * place for group in groups for place in range(len(group))]


def _lowest(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Faithfulness against robustness, a mark a metric; published marks of text models in grey, joined by a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.6), layout="constrained")
    axis = figure.subplots()
    axis.axvspan(PASSED[0], 1.02, ymin=0, color="#009E73", alpha=0.07, linewidth=0)
    axis.axhspan(PASSED[1], 1.02, color="#009E73", alpha=0.07, linewidth=0)
    marks: list[tuple[str, float, float]] = []
    for name in ranked(found):
        one = found["metrics"][name]
        if one["robustness"] is None:
            continue
        here = (one["faithfulness"], one["robustness"])
        marks.append((name, *here))
        if name in PUBLISHED:
            there = PUBLISHED[name]
            axis.plot([here[0], there[0]], [here[1], there[1]], color="#bbbbbb", linewidth=0.7, zorder=1)
            axis.plot(*there, "o", color="#bbbbbb", markersize=4, zorder=1)
    marks.sort(key=lambda mark: mark[2])
    for (name, x, y), height in zip(marks, apart([y for *_, y in marks], 0.034)):
        own = name == "exposure"
        colour = "#D55E00" if own else "#0072B2"
        axis.plot(x, y, "D" if own else "o", color=colour, markersize=7 if own else 5, zorder=3)
        axis.plot([x, 1.035], [y, height], color=colour, linewidth=0.4, alpha=0.6, zorder=2)
        axis.text(1.04, height, HEADS[name], fontsize=7, color=colour, va="center")
    axis.set_xlabel("faithfulness: area under the curve, knows against never knew")
    axis.set_ylabel("robustness: harmonic mean of R and Q")
    axis.set_xlim(0.4, 1.22)
    axis.set_xticks([0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    axis.set_ylim(0, 1.03)
    axis.set_title("Metrics on trial (grey: the like on text models, UDS)", fontsize=10, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure).print_png(str(path))


def write(found: Mapping[str, Any], out: Path) -> None:
    """`validity.json`, `validity.md` and `validity.png`, each replaced in one move."""
    write_json(out / "validity.json", dict(found))
    write_whole(out / "validity.md", markdown(found))
    with replaced(out / "validity.png") as file:
        draw(found, Path(file))
