"""One picture of a demo: who is in the data, and what each model still knows of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from remem_tasks.files import replaced

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import decode_image
from remem_tasks.report.results import Scores

# Okabe and Ito's colours, told apart by colour-blind readers too.
BARS = {
    ("remem_forget1", "remem_em"): ("forget set: says it (EM)", "#D55E00"),
    ("remem_forget1", "remem_exposure"): ("forget set: would guess it (Exposure)", "#E69F00"),
    ("remem_retain", "remem_em"): ("retain set (EM)", "#0072B2"),
    ("remem_test", "remem_kept_em"): ("kept people, new pictures and words (EM)", "#56B4E9"),
}


def draw_summary(
    models: dict[str, Scores], data: str | Path, out: str | Path, people: int = 6, shots: int = 4
) -> None:
    """Save a PNG: pictures of some identities (the forgotten one first), and the scores of BARS by model.

    Args:
        models: name → task → metric → value.
        data: the folder that the models were scored on.
        people: how many identities to show, each in `shots` training pictures.
    """
    rows = load_split(str(data), "finetune")
    forgotten = set(load_split(str(data), "forget1", pictures=False)["identity"][:])
    first: dict[str, list[int]] = {}
    for index, identity in enumerate(rows["identity"][:]):
        first.setdefault(identity, []).append(index)
    shown = sorted(first, key=lambda identity: identity not in forgotten)[:people]

    figure = plt.figure(figsize=(11, 5.7), dpi=120, facecolor="white")
    outer = figure.add_gridspec(
        2, 1, height_ratios=(1, 1.7), hspace=0.14, left=0.07, right=0.98, top=0.92, bottom=0.07
    )
    grid = outer[0].subgridspec(1, people, wspace=0.08)
    for column, identity in enumerate(shown):
        axes = figure.add_subplot(grid[column])
        cells = [rows[index] for index in first[identity][:: max(1, len(first[identity]) // shots)][:shots]]
        tiles = [np.asarray(decode_image(row["image"], row_name(row)).resize((112, 112))) for row in cells]
        half = max(1, len(tiles) // 2)
        axes.imshow(np.vstack([np.hstack(tiles[:half]), np.hstack(tiles[half : 2 * half])]))
        gone = identity in forgotten
        name = identity.replace("_", " ").title()
        axes.set_title(
            f"{name}\n(to be forgotten)" if gone else name, fontsize=9, color="#D55E00" if gone else "black"
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(edgecolor="#D55E00" if gone else "#999999", linewidth=3 if gone else 0.8)

    axes = figure.add_subplot(outer[1])
    places, width = np.arange(len(models)), 0.21
    for offset, ((task, metric), (label, colour)) in enumerate(BARS.items()):
        values = [100 * scores[task][metric] for scores in models.values()]
        bars = axes.bar(places + (offset - 1.5) * width, values, width * 0.94, label=label, color=colour)
        axes.bar_label(bars, labels=[f"{value:.0f}" for value in values], fontsize=9, padding=2)
    axes.set_xticks(places, list(models), fontsize=11)
    axes.set_ylabel("per cent")
    axes.set_ylim(0, 124)
    axes.set_yticks(range(0, 101, 25))
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", ncols=4, frameon=False, fontsize=9)
    with replaced(out) as file:
        figure.savefig(file, format="png")
    plt.close(figure)
