"""The five claims in a folder that goes on where it stopped: `remem study claims`.

<out>/scale/        the cells, as `remem study scale` leaves them
<out>/claims.json   claim → verdict, figures, the rule
<out>/claims.md     the same for people; <out>/<claim>.png a figure each
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.files import locked, replaced, write_json, write_whole
from remem_tasks.reading import read_object
from unlearning.experiments.claims import verdicts
from unlearning.experiments.claims.verdicts import CLAIMS, RULES, Claim, Name, Verdict
from unlearning.experiments.scale import ScaleStudy
from unlearning.experiments.scale import study as scale_study

Say = Callable[[str], None]
Shape = tuple[int, float, int]

SHAPES: Mapping[str, Shape] = {
    "fiubench": (20, 0.0, 1),
    "mllmu": (20, 0.5, 1),
    "clear": (39, 0.5, 19),
    "remem": (60, 0.7, 60),
}
"""Questions per person, share of those that name the person, pictures per person: the older benchmarks' counts in ReMem's
form, so that all are asked alike. FIUBench: 20 questions about one picture. MLLMU-Bench: one picture, half of the questions
in text alone (20 of them here). CLEAR: 20 questions that name the person, and 3,768 captioned pictures of 200 people.
ReMem: as the demo's."""


@dataclass(frozen=True)
class ClaimsPlan:
    """What is trained.

    Attributes:
        scale: what all cells share; its base is where they start.
        shapes: by name; with `remem`.
        ratios: shares of single hops; with 1.0, which the curse is judged by.
        amounts: questions per identity.
        amount, ratio, images: of the cells that vary something else.
        sweep: `results.json` of a sweep, or its folder; None leaves the fifth claim undecided.
    """

    scale: ScaleStudy = field(default_factory=ScaleStudy)
    shapes: Mapping[str, Shape] = field(default_factory=lambda: dict(SHAPES))
    ratios: tuple[float, ...] = (0.4, 0.7, 1.0)
    amounts: tuple[int, ...] = (20, 60, 160)
    amount: int = 60
    ratio: float = 0.7
    images: int = 20
    sweep: str | None = None

    def check(self) -> None:
        """Raise a RememError for what the rules could not be asked of."""
        if 1.0 not in self.ratios or len(self.ratios) < 3:
            raise RememError(
                "--ratios needs three shares or more, 1.0 among them (the curse is judged by it)"
            )
        if len(self.amounts) < 2:
            raise RememError("--amounts needs two numbers or more")
        if min((*self.amounts, self.amount)) < self.images:
            raise RememError(f"--images {self.images} is more than the fewest questions: each needs one")

    def groups(self) -> dict[str, list[Shape]]:
        """The cells of each of the first four claims; one that several share is trained once."""
        return {
            "shapes": list(self.shapes.values()),
            "ratios": [(self.amount, ratio, self.images) for ratio in self.ratios],
            "amounts": [(amount, self.ratio, self.images) for amount in self.amounts],
        }


def _cells(plan: ClaimsPlan, out: Path, say: Say) -> dict[Shape, dict[str, Any]]:
    found: dict[Shape, dict[str, Any]] = {}
    todo = list(dict.fromkeys(cell for some in plan.groups().values() for cell in some))
    for number, (qa, ratio, images) in enumerate(todo, start=1):
        one = replace(plan.scale, qa=(qa,), ratios=(ratio,), images=(images,))
        (cell,) = scale_study(one, out / "scale", lambda line: say(f"{number}/{len(todo)} {line}"))  # noqa: B023
        found[qa, ratio, images] = cell
    return found


def read_sweep(path: str) -> dict[str, Any]:
    """What a sweep found, of its folder or of its `results.json`."""
    place = Path(path)
    return read_object(place / "results.json" if place.is_dir() else place, "the --out of `remem sweep`")


def judged(plan: ClaimsPlan, cells: Mapping[Shape, dict[str, Any]]) -> list[Claim]:
    """The five claims, in the paper's order."""
    groups = plan.groups()
    ratios = [cells[one] for one in groups["ratios"]]
    single = next(cell for cell in ratios if cell["ratio"] == 1.0)
    none = Claim(Name.DEEPER, Verdict.NOT_DECIDED, "no sweep was given (--sweep)")
    return [
        verdicts.shapes({name: cells[one] for name, one in plan.shapes.items()}),
        verdicts.curse(single),
        verdicts.peak(ratios),
        verdicts.overfit([cells[one] for one in groups["amounts"]]),
        verdicts.deeper(read_sweep(plan.sweep)) if plan.sweep else none,
    ]


@locked
def claims(plan: ClaimsPlan, out: str | Path, say: Say = print) -> list[Claim]:
    """Judge the claims in folder `out`, or go on with it.

    Raises:
        RememError: something out of range, a training that failed, another study's folder.
    """
    plan.check()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    found = judged(plan, _cells(plan, out, say))
    write(found, plan, out)
    return found


def markdown(found: Sequence[Claim], plan: ClaimsPlan) -> str:
    """`claims.md`."""
    scale = plan.scale
    lines = [
        "# The paper's claims, re-run",
        "",
        f"{scale.identities} people, {scale.steps} steps in every cell, {scale.test_qa} new questions per person with new "
        f"pictures, seed {scale.seed}. Shares with 95 % intervals (Wilson).",
        "",
        "| claim | verdict | figures |",
        "|---|---|---|",
        *(f"| {CLAIMS[one.name]} | **{one.verdict.value}** | {one.why} |" for one in found),
        "",
        *(f"- {CLAIMS[name]}: {rule}" for name, rule in RULES.items()),
        "",
        *(f"![{CLAIMS[one.name]}]({one.name.value}.png)\n" for one in found if one.figures),
    ]
    return "\n".join(lines).rstrip() + "\n"


def draw(claim: Claim, path: Path) -> None:
    """A bar a figure with its interval; of the fifth claim EM beside Exposure, a pair a model."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(claim.figures)
    figure = Figure(figsize=(7.5, 1.1 + 0.34 * len(names)), layout="constrained")
    axis = figure.subplots()
    for place, name in enumerate(names):
        one = claim.figures[name]
        if "exposure" in one:
            for shift, key, colour in ((-0.2, "em", "#0072B2"), (0.2, "exposure", "#D55E00")):
                axis.barh(place + shift, one[key], 0.38, color=colour, label=key if place == 0 else None)
        elif one["rows"]:
            axis.barh(place, one["value"], 0.6, color="#0072B2")
            spread = [[max(0.0, one["value"] - one["low"])], [max(0.0, one["high"] - one["value"])]]
            axis.errorbar(one["value"], place, xerr=spread, fmt="none", ecolor="#30343b", lw=1)
        else:
            axis.text(0.01, place, "no rows", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_title(f"{CLAIMS[claim.name]}: {claim.verdict.value}", fontsize=9, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    if any("exposure" in one for one in claim.figures.values()):
        axis.legend(fontsize=8, frameon=False)
    FigureCanvasAgg(figure).print_png(str(path))


def write(found: Sequence[Claim], plan: ClaimsPlan, out: Path) -> None:
    """`claims.json`, `claims.md` and a figure a claim."""
    write_json(out / "claims.json", {one.name.value: one.record() for one in found})
    write_whole(out / "claims.md", markdown(found, plan))
    for one in found:
        if one.figures:
            with replaced(out / f"{one.name.value}.png") as file:
                draw(one, Path(file))
