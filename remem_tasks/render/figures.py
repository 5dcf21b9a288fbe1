"""Figures of diagnosis and of the scale study, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

from remem_tasks.files import replaced

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from remem_tasks.report.diagnose import Diagnosis, Proportion

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, VERMILION, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8A8F98"
MARKS = ("o", "s", "^", "D", "v", "P")


def _bars(
    axes, places: Sequence[float], shares: Sequence[Proportion], width: float, colour: str, label: str | None
):
    values = [one.value or 0 for one in shares]
    whiskers = np.array(
        [[max(0.0, v - one.bounds[0]), max(0.0, one.bounds[1] - v)] for v, one in zip(values, shares)]
    ).T
    bars = axes.bar(places, values, width, color=colour, label=label)
    known = [bool(one.rows) for one in shares]
    axes.errorbar(
        np.asarray(places)[known],
        np.asarray(values)[known],
        whiskers[:, known],
        fmt="none",
        ecolor="#30343b",
        lw=1,
    )
    for bar, one in zip(bars, shares):
        place = (bar.get_x() + bar.get_width() / 2, one.bounds[1] if one.rows else 0)
        text = f"{one.value:.2f}" if one.rows else "no rows"
        axes.annotate(text, place, (0, 2), textcoords="offset points", ha="center", fontsize=8)


def _plain(axes, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylim(0, 1.15)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def draw_diagnosis(found: Diagnosis, out: str | Path) -> None:
    """Four panels: the curse, recognition and recall, contexts, pictures a fact was shown with."""
    figure, panels = plt.subplots(2, 2, figsize=(10, 6.4), dpi=110, facecolor="white")
    figure.suptitle(f"Diagnosis of {found.model}", fontsize=12, x=0.01, ha="left")
    axes = panels[0, 0]
    where = max(found.curse, key=lambda name: sum(both[1].rows for both in found.curse[name]))
    hops = found.curse[where]
    singles = next((one for one in found.hops if one.name == "1-hop"), None)
    _plain(axes, f"Multi-hop curse, {where} rows")
    places = np.arange(len(hops), dtype=float)
    if singles is not None:
        _bars(axes, [-1], [singles], 0.4, GREY, None)
    if hops:
        _bars(axes, places - 0.2, [both[0] for both in hops], 0.38, SKY, "all")
        _bars(axes, places + 0.2, [both[1] for both in hops], 0.38, VERMILION, "every single hop right")
        axes.legend(fontsize=8, frameon=False, loc="upper right", bbox_to_anchor=(1, 1.14), ncols=2)
    labels = ["1-hop (trained)"] if singles is not None else []
    axes.set_xticks([*([-1] if singles is not None else []), *places], [*labels, *(b[0].name for b in hops)])
    axes = panels[0, 1]
    seen = found.recognition.get(where)
    _plain(axes, f"Recognition against recall ({where}, 2-hop rows)")
    if seen is None or isinstance(seen, str):
        axes.text(0.02, 0.5, f"not told: {seen}", fontsize=8, transform=axes.transAxes, wrap=True)
        axes.set_xticks([])
    else:
        both = seen.by[True, True]
        _bars(axes, [0, 1, 2], [seen.recognised, seen.recalled, both], 0.55, BLUE, None)
        axes.set_xticks(
            [0, 1, 2], ["says the\nright name", "knows the fact\nwhen told the name", "2-hop EM\ngiven both"]
        )
    axes = panels[1, 0]
    _plain(axes, "New words, new pictures")
    _bars(axes, range(len(found.contexts)), found.contexts, 0.55, GREEN, None)
    axes.set_xticks(range(len(found.contexts)), [_wrapped(one.name) for one in found.contexts])
    axes.set_xlim(-0.6, max(len(found.contexts), 4) - 0.4)  # one bar alone is no wider than others
    axes = panels[1, 1]
    _plain(axes, "Pictures that a fact was shown with (trained rows)")
    _bars(axes, range(len(found.pictures)), found.pictures, 0.55, PURPLE, None)
    axes.set_xticks(range(len(found.pictures)), [one.name.replace(", ", "\n") for one in found.pictures])
    axes.set_xlabel("depth of the question, pictures of its fact", fontsize=8)
    for axes in panels[:, 0]:
        axes.set_ylabel("exact match (share of rows)", fontsize=8)
    figure.tight_layout()
    with replaced(out) as file:
        figure.savefig(file, format="png")
    plt.close(figure)


def _wrapped(text: str) -> str:
    return text.replace(", ", ",\n").replace(" and ", "\nand ")


def draw_scale(cells: Sequence[dict], out: str | Path) -> None:
    """EM by hop against the share of single-hop questions: a row a number of QA, a column a number of pictures.

    Args:
        cells: each `qa`, `ratio`, `images` and `taught` (of facts that training asked): hop → {value, low, high}.
    """
    amounts, pictures = sorted({cell["qa"] for cell in cells}), sorted({cell["images"] for cell in cells})
    figure, panels = plt.subplots(
        len(amounts), len(pictures), squeeze=False, sharex=True, sharey=True, dpi=110, facecolor="white",
        figsize=(1.2 + 3.3 * len(pictures), 1 + 2.5 * len(amounts)),
    )  # fmt: skip
    for row, qa in enumerate(amounts):
        for column, images in enumerate(pictures):
            axes = panels[row, column]
            here = sorted(
                (cell for cell in cells if (cell["qa"], cell["images"]) == (qa, images)),
                key=lambda cell: cell["ratio"],
            )
            _plain(axes, f"{qa} questions, {images} pictures")
            for place, hop in enumerate(sorted({hop for cell in here for hop in cell["taught"]})):
                points = [(cell["ratio"], cell["taught"][hop]) for cell in here if hop in cell["taught"]]
                x, y = [ratio for ratio, _ in points], [em["value"] for _, em in points]
                spread = np.array([[em["value"] - em["low"], em["high"] - em["value"]] for _, em in points]).T
                colour = (BLUE, VERMILION, GREEN)[place % 3]
                axes.errorbar(
                    x, y, np.maximum(spread, 0), color=colour, marker=MARKS[place], ms=5, lw=1.6, capsize=2,
                    label=f"{hop}-hop" if row == column == 0 else None,
                )  # fmt: skip
            if not here:
                axes.text(0.5, 0.5, "not asked for", ha="center", transform=axes.transAxes, fontsize=8)
            axes.set_xticks(sorted({cell["ratio"] for cell in cells}))
            if row == len(amounts) - 1:
                axes.set_xlabel("share of single-hop questions", fontsize=9)
            if column == 0:
                axes.set_ylabel("EM of facts in training", fontsize=9)
    panels[0, 0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    with replaced(out) as file:
        figure.savefig(file, format="png")
    plt.close(figure)
