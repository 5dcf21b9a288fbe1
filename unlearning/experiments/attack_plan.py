"""What `remem attack` is told, and what is refused before or while it runs: a gold that knows, a start that never did."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from remem_tasks.attacks.outcome import ATTACKS, exact
from remem_tasks.benchmarks.base import FactBenchmark
from remem_tasks.benchmarks.registry import BENCHMARKS, data_of, detect
from remem_tasks.benchmarks.scoring_config import SETTINGS, variable
from remem_tasks.errors import RememError
from remem_tasks.evaluate import score_here
from remem_tasks.report.runs import read_runs
from remem_tasks.run_record import RECORD, read_record, unfinished
from unlearning import preflight
from unlearning.data import load_rows
from unlearning.experiments.relearn import ALL, OFFSIDE, REST
from unlearning.methods import METHODS

GROUPS = {
    "all": ATTACKS,
    "relearn": tuple(name for name in ATTACKS if name.startswith("relearn")),
    "quantise": tuple(name for name in ATTACKS if name.startswith("quantise")),
}
OWN = "relearn_own"
"""On the data's own set for it, which OFFSIDE alone has: asked for by name, or by `all` where there is such a set."""
TRAINED = (*GROUPS["relearn"], OWN)
GOLD = "gold"
HALF = 0.5


@dataclass(frozen=True)
class AttackPlan:
    """What is attacked, and how.

    Attributes:
        models: checkpoints, by name; `gold` is none of them.
        gold, start: the checkpoint that never saw the forgotten people; the one that forgetting began from.
        data: folder or Hub id.
        forget: the forget set.
        attacks: of ATTACKS.
        seeds: of what trains.
        gate_results: the start's results, as for `remem train`; None: it is scored here.
        no_gate: go on with a start that had not memorised, or of which nobody can tell; the table says so.
        share: of the forgotten people (of one person: of the facts) that relearn_rest learns.
        relearn, relearn_all, relearn_own: options of `remem train` for these.
        benign: rows of people who stay that relearn_benign learns, with the options of relearn_rest.
        device: `cpu` or `cuda`.
        quantise_backend: see `attacks.quantise`.
    """

    models: Mapping[str, str]
    gold: str
    start: str
    data: str | None = None
    forget: str = "forget1"
    attacks: tuple[str, ...] = ATTACKS
    seeds: tuple[int, ...] = (42, 43, 44)
    gate_results: str | None = None
    no_gate: bool = False
    share: float = 0.2
    relearn: str = REST
    relearn_all: str = ALL
    relearn_own: str = OFFSIDE
    benign: int = 200
    device: str = "cpu"
    quantise_backend: str = "round_trip"

    def check(self) -> None:
        """Raise a RememError for what is unknown or out of range."""
        if not self.models:
            raise RememError("no checkpoint to attack")
        if GOLD in self.models:
            raise RememError(
                f"a model is called '{GOLD}', which is the name of the gold model; NAME=CKPT gives another"
            )
        for name in self.attacks:
            if name not in (*ATTACKS, OWN):
                known = ", ".join((*GROUPS, *ATTACKS, OWN))
                raise RememError(f"--attacks '{name}' unknown; choose from {known}")
        if not self.attacks or len(set(self.attacks)) != len(self.attacks):
            raise RememError("--attacks: at least one, and none twice")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise RememError(f"--seeds needs different values, not {list(self.seeds)}")
        if not 0 < self.share < 1:
            raise RememError(f"--share {self.share} is out of range: above 0 and below 1")
        if self.benign < 1:
            raise RememError(f"--benign {self.benign} is out of range: at least 1")
        if self.device != "cpu" and not torch.cuda.is_available():
            raise RememError(f"--device {self.device}: no such device here")

    @property
    def everyone(self) -> dict[str, str]:
        """Gold first, then the models."""
        return {GOLD: self.gold, **self.models}

    def from_anywhere(self) -> AttackPlan:
        """The same plan for a process that was started in another folder."""

        def place(path: str) -> str:
            return os.path.abspath(path) if os.path.isdir(path) else path

        models = {name: place(path) for name, path in self.models.items()}
        return replace(self, models=models, gold=place(self.gold), start=place(self.start))


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Attacks by their names and those of GROUPS, each once."""
    return tuple(dict.fromkeys(one for name in names for one in GROUPS.get(name, (name,))))


def own_set(benchmark: str) -> str:
    """The name of a benchmark's own set to learn again; "" where it has none."""
    return str(getattr(data_of(benchmark), "RELEARN", ""))


def facts_of(benchmark: str, source: str) -> FactBenchmark:
    """The benchmark, whose rows name facts.

    Raises:
        RememError: they name none that attacks could ask for.
    """
    found = BENCHMARKS[benchmark]
    if not isinstance(found, FactBenchmark):
        raise RememError(
            f"'{source}' has the shape of {data_of(benchmark).HOME.name}: its rows name no facts that attacks could ask for"
        )
    return found


def variables_of(
    benchmark: FactBenchmark, source: str, forget: str, **settings: str
) -> dict[str, str | None]:
    """The environment of scoring: nothing of the user's own but where data lie."""
    given = {**benchmark.scoring_of(forget), **settings}
    home = data_of(benchmark.name).HOME
    return {variable(name): given.get(name) for name in SETTINGS} | {home.variable: source}


def for_data(plan: AttackPlan, benchmark: str) -> AttackPlan:
    """The plan with what the data's own sets add to it.

    Raises:
        RememError: what it asks for needs a set that the data have not.
    """
    own = own_set(benchmark)
    if OWN in plan.attacks and not own:
        raise RememError(
            f"--attacks {OWN}: {data_of(benchmark).HOME.name} has no set of its own to learn again"
        )
    if own and set(ATTACKS) <= set(plan.attacks) and OWN not in plan.attacks:
        return replace(plan, attacks=(*plan.attacks, OWN))
    return plan


def check_gold(plan: AttackPlan, source: str) -> str:
    """By its record: whether gold never saw the forgotten people; what cannot be told of it, in words.

    Raises:
        RememError: it is no gold model, saw somebody of the forget set, or is one of the others.
    """
    same = [name for name, path in {"start": plan.start, **plan.models}.items() if _same(path, plan.gold)]
    if same:
        raise RememError(f"--gold '{plan.gold}' is {same[0]} itself: it cannot show what was never seen")
    record = read_record(plan.gold)
    if not record:
        return f"gold '{plan.gold}' has no {RECORD}, so that it never saw the forgotten people stands on its scores alone"
    if (method := record.get("method")) != GOLD:
        raise RememError(
            f"--gold '{plan.gold}' was trained with --method {method}: a gold model is one of --method gold --forget "
            f"{plan.forget}"
        )
    if seen := _not_left_out(record, plan.forget, source):
        raise RememError(
            f"--gold '{plan.gold}' was trained without '{_forget_of(record)}', so it saw {', '.join(seen[:3])} of "
            f"'{plan.forget}': train one without them (remem train --method gold --forget {plan.forget})"
        )
    told = unfinished(record)
    return f"gold '{plan.gold}': {told}; its weights may be those of an earlier run" if told else ""


def check_model(path: str, plan: AttackPlan, source: str) -> None:
    """Raise a RememError where a model's record says that it was to forget others than are asked for here."""
    record = read_record(path)
    method = METHODS.get(str(record.get("method")))
    if method is not None and method.stage == 2 and (others := _not_left_out(record, plan.forget, source)):
        raise RememError(
            f"'{path}' was to forget '{_forget_of(record)}', not {', '.join(others[:3])} of '{plan.forget}': --forget"
        )


def _forget_of(record: Mapping[str, Any]) -> Any:
    data = record.get("data")
    return data.get("forget") if isinstance(data, Mapping) else None


def _not_left_out(record: Mapping[str, Any], forget: str, source: str) -> list[str]:
    """The people of a forget set who are not in the one that a record names."""
    without = _forget_of(record)
    if without == forget:
        return []
    return sorted(_people(source, forget) - (_people(source, without) if isinstance(without, str) else set()))


def _people(source: str, split: str) -> set[str]:
    """Who is asked about in a set; nobody where the data have no such set."""
    name, source = detect(source)
    data_of(name).retain_of(split)  # raises for what is no forget set
    return facts_of(name, source).people(source, split)


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def gate_of_start(plan: AttackPlan, source: str, out: Path) -> dict[str, Any]:
    """The gate's verdict of the start, scored here where no results are given.

    Raises:
        RememError: it had not memorised, or nobody can tell.
    """
    name, _ = detect(source)
    retain = data_of(name).retain_of(plan.forget)
    results, rows = plan.gate_results, load_rows(source, "pairs", plan.forget)
    if results is None:
        folder = out / "results" / "start"
        if not any(folder.rglob("*_results.json")):
            tasks = [f"{name}_{plan.forget}", f"{name}_{retain}"]
            variables = variables_of(facts_of(name, source), source, plan.forget, estimator="exact")
            score_here(plan.start, tasks, folder, variables, plan.device)
        results = str(folder)
    start = os.path.abspath(plan.start) if os.path.isdir(plan.start) else plan.start
    asked = preflight.ask(results, start, plan.forget, rows, plan.no_gate)
    for run in read_runs([results]):
        for result in run.task_results.values() if run.name == asked["model"] else ():
            if result.split == plan.forget:
                asked["em"], asked["has_em"] = float(exact(result).mean()), "em" in result.scores
    return asked


def check_ignorant(
    record: Mapping[str, Any], gate: Mapping[str, Any], plan: AttackPlan, kept: Collection[str] = ()
) -> None:
    """Raise a RememError where gold says half as much of what is to be forgotten as the start does, or more.

    Args:
        kept: people to be forgotten whom the data ask about in the kept set too, in other pictures.
    """
    values = [row["em"] for row in record["kinds"]["plain"]["rows"].values()]
    says, start = sum(values) / len(values), gate.get("em")
    if start and says >= HALF * start and kept:
        private = f"{plan.forget}_private"
        hint = f", such as {private}" if private in getattr(data_of(detect(plan.data)[0]), "SETS", ()) else ""
        raise RememError(
            f"--forget {plan.forget}: gold says {says:.0%} of it, the start {start:.0%}, as {len(kept)} of its people "
            f"(such as {min(kept)}) are in the kept set too, in other pictures, and their facts with them: no model that "
            f"was trained on that is ignorant of them. Attack a set of what is told of them in forgotten pictures alone{hint}"
        )
    if start and says >= HALF * start:
        raise RememError(
            f"--gold '{plan.gold}' says {says:.0%} of what is to be forgotten, the start {start:.0%}: it saw the people "
            f"of '{plan.forget}', so nothing can be held against it"
        )
