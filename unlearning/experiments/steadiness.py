"""How much Exposure varies with what nobody means to measure: M, the seed of rollouts, the cloze context; architectures.

<out>/records/<model>/…   a record a setting
<out>/exposure.json, .md  the table
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remem_tasks import checkpoints
from remem_tasks.attacks.attacked import Attacked
from remem_tasks.benchmarks.registry import DEFAULT, only
from remem_tasks.checkpoint_files import digest
from remem_tasks.errors import RememError
from remem_tasks.evaluate import AskedTask, score_model
from remem_tasks.files import locked, write_json, write_whole
from remem_tasks.report.runs import read_run
from unlearning import weights as checkpoint
from unlearning.data import spread
from unlearning.experiments.attack_plan import facts_of, variables_of
from unlearning.experiments.ledger import Ledger

Say = Callable[[str], None]
KEPT = ("em", "exposure", "rollout_exposure", "reference_exposure")
CONTEXTS = ("question", "picture")


@dataclass(frozen=True)
class Setting:
    """How Exposure is measured: M, what stands before the cloze prompt, the seed of rollouts."""

    rollouts: int
    context: str
    seed: int

    @property
    def name(self) -> str:
        return f"m{self.rollouts}_{self.context}_seed{self.seed}"


@dataclass(frozen=True)
class SteadinessPlan:
    """What is measured.

    Attributes:
        models: checkpoints by name, each with the data folder that it was trained on.
        forget: split that is asked.
        rollouts: values of M, the usual one first; contexts: cloze contexts, the usual one first; seeds: of rollouts.
            One is varied at a time.
        max_rows: rows that are asked at most.
    """

    models: Mapping[str, tuple[str, str]]
    forget: str = "forget1"
    rollouts: tuple[int, ...] = (64, 16, 256)
    contexts: tuple[str, ...] = CONTEXTS
    seeds: tuple[int, ...] = (0, 1, 2)
    max_rows: int = 60
    device: str = "cpu"

    def check(self) -> None:
        """Raise a RememError for what is unknown or out of range."""
        if not self.models:
            raise RememError("no checkpoint to measure")
        for name in ("rollouts", "contexts", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise RememError(f"--{name} needs different values, not {list(values)}")
        if unknown := [one for one in self.contexts if one not in CONTEXTS]:
            raise RememError(f"--contexts '{unknown[0]}' unknown; choose from {', '.join(CONTEXTS)}")
        if min(self.rollouts) < 2 or self.max_rows < 1:
            raise RememError("--rollouts is at least 2, --max-rows at least 1")

    def settings(self) -> list[Setting]:
        """The usual setting first, then each other value of one thing at a time."""
        usual = (self.rollouts[0], self.contexts[0], self.seeds[0])
        some = [usual]
        some += [(m, usual[1], usual[2]) for m in self.rollouts[1:]]
        some += [(usual[0], context, usual[2]) for context in self.contexts[1:]]
        some += [(usual[0], usual[1], seed) for seed in self.seeds[1:]]
        return [Setting(*one) for one in some]


def _measured(
    plan: SteadinessPlan, model: Any, processor: Any, source: str, asked: Attacked, one: Setting
) -> dict[str, float]:
    variables = variables_of(
        facts_of(DEFAULT, source),
        source,
        plan.forget,
        metrics="em,exposure",
        rollouts=str(one.rollouts),
        cloze_context=one.context,
        rollout_seed=str(one.seed),
    )
    task = AskedTask("steadiness", plan.forget, asked)
    with tempfile.TemporaryDirectory(prefix="remem-exposure-") as folder:
        file = score_model(model, processor, "steadiness", [task], Path(folder), variables, "off")
        (result,) = read_run(file, "steadiness").task_results.values()
    return {name: value for name in KEPT if (value := result.mean(name)) is not None}


@locked
def steadiness(plan: SteadinessPlan, out: str | Path, say: Say = print) -> dict[str, Any]:
    """Measure in folder `out`, or go on with it; model → setting → scores.

    Raises:
        RememError: something unknown, a checkpoint or data that cannot be used, another study's folder.
    """
    plan.check()
    out = Path(out)
    for path, _ in plan.models.values():
        checkpoint.check_path(path)
    ledger = Ledger(out, "steadiness", {"forget": plan.forget, "max_rows": plan.max_rows})
    found: dict[str, Any] = {}
    for name, (path, data) in plan.models.items():
        source = only(DEFAULT, data, "this study is of ReMem's forget sets")
        benchmark = facts_of(DEFAULT, source)
        rows = spread(benchmark.load(source, plan.forget)[0], plan.max_rows)
        asked = Attacked(benchmark, rows=set(rows["row_id"][:]))
        model = checkpoint.load_model(path).to(plan.device).eval()
        processor, of = (
            checkpoints.load_processor(path),
            {"weights": digest(model), "rows": benchmark.fingerprint(rows)},
        )
        for one in plan.settings():
            place = f"records/{name}/{one.name}"
            record = ledger.found(place, of)
            before = record is not None
            if record is None:
                record = {**of, "scores": _measured(plan, model, processor, source, asked, one)}
                ledger.keep(place, record)
            found.setdefault(name, {})[one.name] = record["scores"]
            shown = ", ".join(f"{key} {value:.3f}" for key, value in record["scores"].items())
            say(f"{name}, {one.name}: {shown}" + (" (done before)" if before else ""))
    write_json(out / "exposure.json", found)
    write_whole(out / "exposure.md", markdown(found, plan))
    return found


def spread_of(
    found: Mapping[str, Mapping[str, float]], settings: Sequence[Setting], metric: str
) -> float | None:
    """The largest less the smallest value over some settings; None where one lacks it."""
    values = [found[one.name].get(metric) for one in settings]
    known = [value for value in values if value is not None]
    return max(known) - min(known) if values and len(known) == len(values) else None


def markdown(found: Mapping[str, Mapping[str, Mapping[str, float]]], plan: SteadinessPlan) -> str:
    """`exposure.md`: Exposure and rollout Exposure at each setting, and how far each thing moves them."""
    settings = plan.settings()
    usual = settings[0]
    lines = [
        "# How steady is Exposure?",
        "",
        f"`{plan.forget}`; Exposure / rollout Exposure. Usual: M = {usual.rollouts}, cloze context `{usual.context}`, seed {usual.seed}; "
        "one thing is varied at a time.",
        "",
        "| model | EM | "
        + " | ".join(f"M {one.rollouts}, {one.context}, seed {one.seed}" for one in settings)
        + " |",
        "|---|--:|" + "--:|" * len(settings),
    ]

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    for name, by_setting in found.items():
        cells = [
            f"{number(by_setting[one.name].get('exposure'))} / {number(by_setting[one.name].get('rollout_exposure'))}"
            for one in settings
        ]
        lines.append(f"| {name} | {number(by_setting[usual.name].get('em'))} | " + " | ".join(cells) + " |")
    kinds = {
        "M": [one for one in settings if (one.context, one.seed) == (usual.context, usual.seed)],
        "the cloze context": [
            one for one in settings if (one.rollouts, one.seed) == (usual.rollouts, usual.seed)
        ],
        "the seed": [
            one for one in settings if (one.rollouts, one.context) == (usual.rollouts, usual.context)
        ],
    }
    lines += ["", "| largest difference over | " + " | ".join(found) + " |", "|---|" + "--:|" * len(found)]
    for kind, some in kinds.items():
        cells = [
            f"{number(spread_of(by_setting, some, 'exposure'))} / {number(spread_of(by_setting, some, 'rollout_exposure'))}"
            for by_setting in found.values()
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
