"""`remem attack`: every attack on every model, on gold too, in one folder that goes on where it stopped.

<out>/attack.json              what the folder is of
<out>/records/<model>/…        a record an attack (and seed), written when it is done
<out>/results/<model>/…        results and samples files, as `lmms_eval --log_samples` leaves them
<out>/attacks.json             {model: {attack: {metric: value}}}
<out>/attacks.md               the table, and what was not tried
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from remem_tasks import checkpoints
from remem_tasks.attacks import contexts, lens, pictures, prompts
from remem_tasks.attacks.attacked import Attacked
from remem_tasks.attacks.outcome import NotAvailable, by_row, kinds_of, means
from remem_tasks.attacks.quantise import quantise
from remem_tasks.benchmarks.registry import data_of, detect
from remem_tasks.checkpoint_files import digest
from remem_tasks.errors import PromptTooLong, RememError
from remem_tasks.evaluate import score_model
from remem_tasks.files import locked
from remem_tasks.steering import steering_of
from unlearning import preflight
from unlearning import weights as checkpoint
from unlearning.data import spread
from unlearning.experiments.attack_bench import AttackBench
from unlearning.experiments.attack_plan import (
    GOLD,
    GROUPS,
    OWN,
    TRAINED,
    AttackPlan,
    check_gold,
    check_ignorant,
    check_model,
    facts_of,
    for_data,
    gate_of_start,
)
from unlearning.experiments.attack_table import write
from unlearning.experiments.handing_out import HERE, Engine, hand_out
from unlearning.experiments.ledger import Ledger
from unlearning.experiments.relearn import relearn, split

Say = Callable[[str], None]


# Attacks


@dataclass
class _Target:
    """One model while it is attacked; loaded when it is first needed.

    Attributes:
        name, path: as the plan has them.
    """

    name: str
    path: str
    device: str

    def __post_init__(self) -> None:
        self._model: Any = None
        self._processor: Any = None

    @property
    def processor(self) -> Any:
        """The checkpoint's; of an adapter's folder without one, its base's."""
        if self._processor is None:
            base = checkpoints.base_of_adapter(self.path)
            own = base is None or Path(self.path, "processor_config.json").is_file()
            self._processor = checkpoints.load_processor(self.path if own else base)
        return self._processor

    def fresh(self) -> Any:
        """A model of its own, whose weights may be changed; one that is steered stays so."""
        model = checkpoint.load_model(self.path, steered=True)
        checkpoints.check_pair(model, self.processor, self.path)
        return model.to(self.device).eval().requires_grad_(False)

    @property
    def model(self) -> Any:
        """The model as it is, which nobody changes."""
        if self._model is None:
            self._model = self.fresh()
        return self._model

    @cached_property
    def weights(self) -> str:
        """A digest of its weights, and of what steers it."""
        on = steering_of(self.model)
        return digest(self.model) + (f" {on.digest()}" if on else "")

    def release(self) -> None:
        """Let go of the model, which is loaded again when it is needed: there is room for one."""
        self._model = None


class _Runner:
    """Runs one attack on one model, and gives its record."""

    def __init__(self, bench: AttackBench, out: Path) -> None:
        self.bench, self.plan, self.out = bench, bench.plan, out

    def run(self, target: _Target, attack: str, seed: int | None) -> dict[str, Any]:
        """The record of an attack; `not_available` where it cannot be run here."""
        begun = time.time()
        record: dict[str, Any] = {"attack": attack, "seed": seed, "weights": target.weights}
        try:
            record |= self._found(target, attack, seed)
        except NotAvailable as error:
            record["not_available"] = str(error)
        return {**record, "seconds": round(time.time() - begun, 2)}

    def _found(self, target: _Target, attack: str, seed: int | None) -> dict[str, Any]:
        benchmark = self.bench.benchmark
        if attack == "none":
            return self._scored(target, target.model, attack, seed, {"plain": Attacked(benchmark)})
        if attack in TRAINED:
            return self._relearned(target, attack, int(seed or 0))
        if attack.startswith("quantise_"):
            target.release()
            model = target.fresh()
            layers = quantise(model, attack.removeprefix("quantise_"), self.plan.quantise_backend)
            found = self._scored(target, model, attack, seed, {"plain": Attacked(benchmark)})
            return {**found, "layers": layers, "backend": self.plan.quantise_backend}
        if attack == "prompt":
            asks = {kind: prompts.ask(kind, self.bench.around) for kind in prompts.KINDS}
            kinds, missing = self.bench.answerable(asks)
            return self._scored(target, target.model, attack, seed, kinds, missing, "em")
        if attack == "context":
            asks = {name: contexts.ask(name, self.bench.around) for name in contexts.SHOTS}
            kinds, missing = self.bench.answerable(asks)
            return self._scored(target, target.model, attack, seed, kinds, missing, "em")
        if attack == "picture":
            return self._pictured(target)
        return self._lens(target)

    def _scored(
        self,
        target: _Target,
        model: Any,
        attack: str,
        seed: int | None,
        kinds: Mapping[str, Attacked],
        missing: Mapping[str, str] | None = None,
        metrics: str = "em,exposure",
    ) -> dict[str, Any]:
        missing = dict(missing or {})
        name = attack if seed is None else f"{attack}_seed{seed}"
        folder = self.out / "results" / target.name / name
        # Results of an attack are none of the checkpoint: nobody is to take them for its own.
        called = target.path if attack == "none" else f"{target.path}+{name}"

        def score(some: Mapping[str, Attacked]) -> Path:
            shutil.rmtree(folder, ignore_errors=True)  # what a run that was killed here left
            return score_model(
                model,
                target.processor,
                called,
                self.bench.asked(attack, some, target.processor),
                folder,
                self.bench.variables(metrics),
                cache=None if attack not in (*TRAINED, *GROUPS["quantise"]) else "off",
            )

        file, long = (score(kinds), {}) if attack == "none" else _those_that_fit(score, kinds)
        missing |= long
        if file is None:
            shutil.rmtree(folder, ignore_errors=True)
            raise NotAvailable("; ".join(f"{kind}: {why}" for kind, why in missing.items()))
        found = kinds_of(file, self.bench.task(attack))
        return {"kinds": found, "missing": missing, "results": str(file.relative_to(self.out))}

    def _relearned(self, target: _Target, attack: str, seed: int) -> dict[str, Any]:
        plan, rows, asked, more = self.plan, self.bench.trained, None, {}
        if attack == "relearn_rest":
            drawn = split(self.bench.texts, plan.share, seed)
            learned = set(drawn.learned)
            places = [place for place, row_id in enumerate(rows["row_id"][:]) if row_id in learned]
            if not places:
                raise NotAvailable("training shows no row of those who were drawn to be learned again")
            rows, asked = rows.select(places), drawn.asked
            more = {"by": drawn.by, "learned": len(places), "told": drawn.told}
        elif attack == "relearn_benign":
            rows = spread(self.bench.benign, plan.benign)
        elif attack == OWN:
            rows = self.bench.own
        target.release()
        options = {"relearn_all": plan.relearn_all, OWN: plan.relearn_own}.get(attack, plan.relearn)
        name = self.bench.benchmark.name
        model, training = relearn(target.path, target.processor, rows, name, options, seed, plan.device)
        kinds = {"plain": Attacked(self.bench.benchmark, rows=asked)}
        found = self._scored(target, model.to(plan.device), attack, seed, kinds)
        return {**found, **more, "training": {**training, "options": options}}

    def _pictured(self, target: _Target) -> dict[str, Any]:
        bench, kinds, missing = self.bench, {}, {}
        views = bench.benchmark.other_views(bench.source)
        for name in pictures.NAMES:
            pools = views if name == "other_view" else [bench.kept]
            try:
                shown = pictures.shown(name, bench.benchmark, bench.rows, pools)
            except RememError as error:
                missing[name] = str(error)
                continue
            kinds[name] = Attacked(bench.benchmark, pictures=shown)
        return self._scored(target, target.model, "picture", None, kinds, missing)

    def _lens(self, target: _Target) -> dict[str, Any]:
        try:
            found, layers = lens.of_rows(
                target.model, target.processor, self.bench.benchmark, self.bench.rows
            )
        except lens.NoLens as error:
            raise NotAvailable(str(error)) from error
        rows = {row_id: {"top4": value} for row_id, value in found.items()}
        return {"kinds": {"late": {"rows": rows, "statuses": {}}}, "missing": {}, "layers": layers}


def _those_that_fit(
    score: Callable[[Mapping[str, Attacked]], Path], kinds: Mapping[str, Attacked]
) -> tuple[Path | None, dict[str, str]]:
    """(the results of the kinds whose prompts the model can read, None where there are none; why others cannot be asked).

    All are asked at once. Only where a prompt is too long for the model is each asked alone, to see which.
    """
    if not kinds:
        return None, {}
    try:
        return score(kinds), {}
    except PromptTooLong as error:
        long = {kind: str(error) for kind in kinds}
    if len(kinds) > 1:
        for kind, one in kinds.items():
            try:
                score({kind: one})
            except PromptTooLong as error:
                long[kind] = str(error)
            else:
                del long[kind]
    fitting = {kind: one for kind, one in kinds.items() if kind not in long}
    return (score(fitting) if fitting else None), long


# All of it


def _work(plan: AttackPlan) -> list[tuple[str, int | None]]:
    """Attacks with their seeds, the plain questions first."""
    found: list[tuple[str, int | None]] = [("none", None)]
    for attack in plan.attacks:
        found += [(attack, seed) for seed in plan.seeds] if attack in TRAINED else [(attack, None)]
    return found


def _place(name: str, attack: str, seed: int | None) -> str:
    """The name of a record."""
    return f"records/{name}/{attack}" + ("" if seed is None else f"_seed{seed}")


_latest: dict[str, Any] = {}
"""Of this process, which a cluster hands one attack after the other: what they are of, and the model."""


def handed(
    plan: AttackPlan, source: str, out: str, name: str, attack: str, seed: int | None
) -> dict[str, Any]:
    """The record of one attack on one model, in a process of a cluster.

    Args:
        plan: as for the data, its folders from anywhere.
        source: the data.
        out: the experiment's folder, where results are written.
    """
    if _latest.get("of") != (plan, source):
        benchmark, _ = detect(source)
        _latest.update(
            of=(plan, source), bench=AttackBench(plan, source, facts_of(benchmark, source)), target=None
        )
    if _latest["target"] is None or _latest["target"].name != name:
        _latest["target"] = _Target(name, plan.everyone[name], plan.device)
    return _Runner(_latest["bench"], Path(out)).run(_latest["target"], attack, seed)


@locked
def attack(
    plan: AttackPlan, out: str | Path, say: Say = print, engine: Engine = HERE
) -> dict[str, dict[str, dict[str, float | str]]]:
    """Attack in folder `out`, or go on with it; what `attacks.json` holds.

    Args:
        engine: who attacks; the plain questions to gold are asked here, before anything else.

    Raises:
        RememError: something unknown or out of range; a start that fails the gate, a gold that knows the forgotten
            people; a folder that holds something else.
    """
    plan.check()
    out = Path(out)
    benchmark, source = detect(plan.data)
    asked = facts_of(benchmark, source)
    plan = for_data(plan, benchmark)
    source = os.path.abspath(source) if os.path.isdir(source) else source
    for path in (*plan.everyone.values(), plan.start):
        checkpoint.check_path(path)
    notes = [check_gold(plan, source)]
    for path in plan.models.values():
        check_model(path, plan, source)
    if any(name.startswith("quantise_") for name in plan.attacks) and plan.quantise_backend != "round_trip":
        quantise(None, "nf4", plan.quantise_backend)  # refused before anything runs
    bench = AttackBench(plan, source, asked)
    identity = {
        "data": bench.benchmark.fingerprint(bench.rows),
        "forget": plan.forget,
        "share": plan.share,
        "relearn": plan.relearn,
        "relearn_all": plan.relearn_all,
        "benign": plan.benign,
        **({OWN: plan.relearn_own} if OWN in plan.attacks else {}),
    }
    ledger = Ledger(out, "plan", identity)
    gate = gate_of_start(plan, source, out)
    say(preflight.told(gate))
    runner, work = _Runner(bench, out), _work(plan)
    total, done = len(work) * len(plan.everyone), 0
    records: dict[str, dict[str, list[dict]]] = {}
    targets = {name: _Target(name, path, plan.device) for name, path in plan.everyone.items()}
    jobs = {
        _place(name, one, seed): (plan.from_anywhere(), source, str(out.resolve()), name, one, seed)
        for name in targets
        for one, seed in work
    }
    for name, target in targets.items():
        for place in (_place(name, one, seed) for one, seed in work):
            known = ledger.found(place)
            if known is not None and known.get("weights") != target.weights:
                ledger.file(place).unlink()  # of another model of this name
        target.release()
    made: dict[str, dict] = {}
    if engine.apart:
        first = _place(GOLD, "none", None)
        if ledger.found(first) is None:
            ledger.keep(first, runner.run(targets[GOLD], "none", None))
        _check_gold_again(ledger.found(first), gate, plan, bench)
        targets[GOLD].release()
        made = hand_out(engine, "unlearning.experiments.attack:handed", jobs, ledger, say)
    for name, target in targets.items():
        for one, seed in work:
            place = _place(name, one, seed)
            record, before = ledger.measured(place, lambda: runner.run(target, one, seed))  # noqa: B023
            before = before and place not in made
            records.setdefault(name, {}).setdefault(one, []).append(record)
            done += 1
            say(f"[{done}/{total}] {name}, {_line(one, seed, record)}" + (" (done before)" if before else ""))
            if name == GOLD and one == "none":
                _check_gold_again(record, gate, plan, bench)
        target.release()
    if not gate.get("has_em", True):
        notes.append(
            f"{data_of(benchmark).HOME.name} has no EM: here it is whether a reply holds the whole answer"
        )
    return write(records, bench.unit_of(), bench.unit, plan, gate, [note for note in notes if note], out)


def _check_gold_again(
    record: Mapping[str, Any], gate: Mapping[str, Any], plan: AttackPlan, bench: AttackBench
) -> None:
    """Raise a RememError where gold's own answers show that it knows the forgotten people."""
    if not gate["overridden"]:
        check_ignorant(record, gate, plan, {*bench.rows["identity"][:]} & {*bench.kept["identity"][:]})


def _line(attack: str, seed: int | None, record: Mapping[str, Any]) -> str:
    what = attack if seed is None else f"{attack}, seed {seed}"
    if "not_available" in record:
        return f"{what}: not available: {record['not_available']}"
    found = means(by_row([record]))
    shown = ", ".join(f"{name} {found[name]:.2f}" for name in ("em", "exposure", "top4") if name in found)
    return f"{what}: {shown} ({record['seconds']:.0f} s)"
