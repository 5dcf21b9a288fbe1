"""Every method tuned on the same budget, then judged on rows that no setting was chosen by; one table.

Tuning forgets one split and picks a method's settings by what it says of that split and of half of the
retain rows. Reporting trains the chosen settings anew, with several seeds, to forget another split, and
scores them on the people of that split alone, the other half of the retain rows, and the test rows.
What is done is a file in the sweep's folder and is not done again.
"""

from __future__ import annotations

import copy
import gc
import io
import itertools
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, TrainerCallback

from remem_tasks import checkpoints
from remem_tasks.benchmarks.remem.data import fingerprint, load_split
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.checkpoint_files import digest
from remem_tasks.errors import NonFiniteError, RememError
from remem_tasks.files import locked
from remem_tasks.run_record import read_record, unfinished
from remem_tasks.terminal import say as tell
from unlearning import weights as checkpoint
from unlearning.config import parse
from unlearning.data import Encoder, Role, check_pictures, load_rows, spread, stop_ids
from unlearning.encoding import check_encoding, limits_of
from unlearning.experiments.ledger import Ledger
from unlearning.experiments.sweep_table import ROUNDING, summary, write
from unlearning.methods import METHODS, NAMES
from unlearning.run import build_trainer, load_models
from unlearning.scoring import scores
from unlearning.trainer import UnlearnTrainer

TUNING_SEED = 0
RATIO = 3.0  # from one learning rate to the next
FORGET_METHODS = tuple(name for name in NAMES if Role.PLAIN not in METHODS[name].roles)
Settings = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
        data, base: folder or Hub id of the rows; the checkpoint that has memorised them.
        gold: a checkpoint that never saw the people of `report`, or its exact match on `tune` as a number.
        methods, seeds: of the table; seeds are those of reporting.
        budget: training runs that each method has for tuning, all of max(steps) steps.
        steps: optimizer steps after which a tuning run is looked at.
        batch: pairs a step.
        lr_scale: times a method's own learning rate is the middle of its grid.
        tolerance: how far above the gold model's forget EM still counts as its level.
        most_rows: rows of each set that are scored at most, spread evenly; 0: all.
        as_many: what reporting has as many of as the chosen point, its forget set being larger: `passes` over the
            forget rows (steps grow with the set) or `steps`.
        tune, report: forget splits of the two stages.
        retain, test: splits whose rows are scored.
        training: further options of `unlearning/train.py`, such as `--use_peft`.
    """

    data: str
    base: str
    gold: str
    methods: tuple[str, ...] = FORGET_METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    budget: int = 6
    steps: tuple[int, ...] = (12, 24, 48)
    batch: int = 8
    lr_scale: float = 1.0
    tolerance: float = 0.05
    most_rows: int = 96
    as_many: str = "passes"
    tune: str = "forget1"
    report: str = "forget2"
    retain: str = "retain"
    test: str = "test"
    training: str = ""

    def check(self) -> None:
        """Raise a RememError that names what is unknown or out of range."""
        for name in self.methods:
            if name not in FORGET_METHODS:
                raise RememError(
                    f"--methods '{name}' is not a forget method; choose from {', '.join(FORGET_METHODS)}"
                )
        for name in ("methods", "seeds", "steps"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise RememError(f"--{name} needs different values, not {list(values)}")
        for name, least in (("budget", 1), ("batch", 1), ("most_rows", 0)):
            if getattr(self, name) < least:
                raise RememError(
                    f"--{name.replace('_', '-')} {getattr(self, name)} is out of range: at least {least}"
                )
        if min(self.steps) < 1 or not self.lr_scale > 0 or not 0 <= self.tolerance <= 1:
            raise RememError("--steps and --lr-scale are above 0, --tolerance is from 0 to 1")
        if self.as_many not in ("passes", "steps"):
            raise RememError(f"--as-many '{self.as_many}' unknown; choose from passes, steps")
        if self.tune == self.report:
            raise RememError(
                f"--tune and --report are both '{self.tune}': settings would be judged by what chose them"
            )

    def shared(self) -> dict[str, Any]:
        """What every run depends on, beside rows and weights: all but what its own name tells, which may change."""
        values = asdict(self)
        for name in ("methods", "seeds", "budget", "as_many", "data", "base"):
            del values[name]
        return json.loads(json.dumps(values))

    def arguments(
        self, method: str, settings: Settings, forget: str, seed: int, steps: int, out: str
    ) -> list[str]:
        """The run as `unlearning/train.py` takes it. The learning rate is constant, so that a longer run holds the shorter ones."""
        given = ["--per_device_train_batch_size", str(self.batch), *shlex.split(self.training)]
        given += [
            "--method",
            method,
            "--model_name_or_path",
            self.base,
            "--data",
            self.data,
            "--output_dir",
            out,
        ]
        given += [
            "--forget",
            forget,
            "--seed",
            str(seed),
            "--max_steps",
            str(max(1, steps)),
            "--save_strategy",
            "no",
        ]
        given += ["--lr_scheduler_type", "constant", "--warmup_steps", "0", "--report_to", "none"]
        given += ["--logging_strategy", "no", "--eval_strategy", "no", "--disable_tqdm", "true"]
        return given + [part for name, value in settings.items() for part in (f"--{name}", str(value))]


# Grids


def learning_rates(method: type[UnlearnTrainer], count: int, scale: float) -> list[float]:
    """`count` rates a factor RATIO apart, from below the method's own (times `scale`) to above it, that one first."""
    own = method.defaults.get("learning_rate", 2e-5) * scale
    powers = sorted((power - count // 2 for power in range(count)), key=lambda power: (abs(power), power))
    return [float(f"{own * RATIO**power:.2g}") for power in powers]


def grid(name: str, plan: Plan) -> list[Settings]:
    """The settings of a method's tuning runs, at most `plan.budget`.

    Its own dimensions (`UnlearnTrainer.swept`) are all combined; the budget that this leaves goes to learning rates.
    """
    method = METHODS[name]
    own = method.swept()
    combined = [dict(zip(own, values)) for values in itertools.product(*own.values())]
    if not method.trains:
        return combined[: plan.budget]
    rates = learning_rates(method, max(1, plan.budget // len(combined)), plan.lr_scale)
    return [{"learning_rate": rate, **rest} for rate in rates for rest in combined][: plan.budget]


def label(settings: Mapping[str, Any]) -> str:
    """Settings as a file name: `learning_rate0.0001_alpha10`."""
    return "_".join(f"{name}{value:g}" for name, value in settings.items()) or "default"


# TrainingRows


@dataclass(frozen=True)
class Stage:
    """The rows that a stage trains to forget (a split) and those it is scored on, by name."""

    forget: str
    tables: Mapping[str, datasets.Dataset]


def contents(rows: datasets.Dataset) -> set[tuple[str, str]]:
    """What makes a row: its question and its picture."""
    return set(zip(rows["question"][:], rows["image_path"][:]))


def halves(rows: datasets.Dataset) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Every other row of each person here, the others there; a row that comes twice is in one half alone."""
    places: dict[str, dict[tuple[str, str], int]] = {}
    sides: tuple[list[int], list[int]] = ([], [])
    asked = zip(rows["identity"][:], rows["question"][:], rows["image_path"][:])
    for index, (identity, *content) in enumerate(asked):
        seen = places.setdefault(identity, {})
        sides[seen.setdefault(tuple(content), len(seen)) % 2].append(index)
    return rows.select(sides[0]), rows.select(sides[1])


def check_disjoint(tuning: Stage, reporting: Stage) -> None:
    """Raise a RememError if a row is scored in both stages, or a person is to be forgotten in both."""
    for (one, here), (two, there) in itertools.product(tuning.tables.items(), reporting.tables.items()):
        if both := contents(here) & contents(there):
            raise RememError(
                f"{len(both)} rows are scored in tuning ({one}) and in reporting ({two}): {min(both)}"
            )
    people = [set(stage.tables["forget"]["identity"][:]) for stage in (tuning, reporting)]
    if both := people[0] & people[1]:
        raise RememError(f"{', '.join(sorted(both))} would be judged by what chose the settings")


def stages(plan: Plan, identity_rule: str | None = None) -> tuple[Stage, Stage]:
    """The rows of tuning and reporting.

    Returns:
        tuning: `forget` (the split `tune`) and `retain` (half of the rows about people who stay).
        reporting: `forget` (rows of `report` about people who are not in `tune`), `retain` (the other half),
            `test_kept` and `test_forgotten` (rows of `test` about who stays and about those people).

    Raises:
        RememError: a split is missing, a set would be empty, or the stages share a row.
    """

    def load(split: str) -> datasets.Dataset:
        return load_split(plan.data, split, identity_rule)

    def about(rows: datasets.Dataset, wanted: Callable[[str], bool]) -> datasets.Dataset:
        return rows.select([index for index, who in enumerate(rows["identity"][:]) if wanted(who)])

    tune, report, test = load(plan.tune), load(plan.report), load(plan.test)
    tuned = set(tune["identity"][:])
    gone = tuned | set(report["identity"][:])
    own = gone - tuned
    first, second = halves(about(load(plan.retain), lambda who: who not in gone))
    tables = {
        "forget": about(report, lambda who: who in own),
        "retain": second,
        "test_kept": about(test, lambda who: who not in gone),
        "test_forgotten": about(test, lambda who: who in own),
    }
    both = (Stage(plan.tune, {"forget": tune, "retain": first}), Stage(plan.report, tables))
    for stage in both:
        for name, rows in stage.tables.items():
            if not len(rows):
                raise RememError(
                    f"no rows '{name}' to score: split '{plan.report}' needs people that '{plan.tune}' lacks, and "
                    f"'{plan.retain}' and '{plan.test}' people whom neither forgets"
                )
    check_disjoint(*both)
    return tuple(
        Stage(stage.forget, {name: spread(rows, plan.most_rows) for name, rows in stage.tables.items()})
        for stage in both
    )


# Runs


class _EvalAtSteps(TrainerCallback):
    """Calls `look` after some of the steps."""

    def __init__(self, steps: Iterable[int], look: Callable[[int], None]):
        self.steps, self.look = set(steps), look

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.steps:
            self.look(state.global_step)


@contextmanager
def finished(trainer: UnlearnTrainer) -> Iterator[None]:
    """Within, the weights are what the method would leave if it ended now."""
    if type(trainer).finish is UnlearnTrainer.finish:
        yield
        return
    kept = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.finish()
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in trainer.model.named_parameters():
                value.copy_(kept[name])


class Bench:
    """What all runs of a sweep share, in memory once: the checkpoint, its processor, rows, encoded pictures."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._folder = tempfile.TemporaryDirectory(prefix="remem-sweep-")
        self.work = self._folder.name
        self._rows: dict[tuple, TrainingRows] = {}
        for method in plan.methods:  # a wrong option is found before anything runs
            self.parsed(method, {}, plan.tune, 0, 1)
        data_args, args, model_args = self.parsed(plan.methods[0], {}, plan.tune, 0, 1)
        if args.world_size > 1:
            raise RememError("a sweep is one process: share its methods out among several calls instead")
        checkpoint.check_path(plan.base)
        self.identity_rule, self.finetune = data_args.identity_rule, data_args.finetune_split
        self.faults = data_args.faults
        remote = {"revision": model_args.model_revision, "trust_remote_code": args.trust_remote_code}
        self.load = {
            **remote,
            "dtype": model_args.dtype or "float32",
            "attn_implementation": model_args.attn_implementation,
            **(args.model_init_kwargs or {}),
        }
        self.device = args.device
        self.base = checkpoint.load_model(plan.base, **self.load)
        name = os.path.abspath(plan.base) if os.path.isdir(plan.base) else plan.base
        self.base.config.name_or_path = self.base.name_or_path = name
        self.processor = checkpoints.load_processor(plan.base, **remote)
        self.encoder = Encoder(self.processor, stop_ids(self.base), args.picture_cache_mb)
        self.tuning, self.reporting = stages(plan, self.identity_rule)
        self.sizes = {}
        for stage in (self.tuning, self.reporting):
            rows = self.rows("pairs", stage.forget, False)
            self.sizes[stage.forget] = len(rows.forget)
            check_pictures(rows.tables)
            _, context = limits_of(plan.base, **remote)
            check_encoding(Encoder(self.processor, stop_ids(self.base), 0), rows.tables, context)
        gc.collect()
        gc.freeze()  # what stays for the whole sweep is not looked through after each run

    def close(self) -> None:
        gc.unfreeze()
        self._folder.cleanup()

    def parsed(self, method: str, settings: Settings, forget: str, seed: int, steps: int):
        return parse(self.plan.arguments(method, settings, forget, seed, steps, self.work))

    def rows(self, rows_from: str, forget: str, alternatives: bool) -> TrainingRows:
        key = (rows_from, forget, alternatives)
        if key not in self._rows:
            source = (self.plan.data, rows_from, forget, self.finetune, self.identity_rule, alternatives)
            self._rows[key] = load_rows(*source, faults=self.faults)
        return self._rows[key]

    def fresh(self):
        """A copy of the model before unlearning. (This one never trains: its forward is its own.)"""
        return copy.deepcopy(self.base)

    def trainer(self, method: str, settings: Settings, forget: str, seed: int, steps: int) -> UnlearnTrainer:
        """As `unlearning.train` makes it, without reading the checkpoint again."""
        cls = METHODS[method]
        _, args, model_args = self.parsed(method, settings, forget, seed, steps)
        wants = Role.ALT in cls.roles and args.alternatives != "model"
        models = load_models(args, model_args, self.fresh)
        rows = self.rows(cls.rows_from, forget, wants)
        made = build_trainer(args, rows, self.processor, models, encoder=self.encoder)
        made.remove_callback(PrinterCallback)
        return made

    def looked(self, model, stage: Stage, processor=None) -> dict[str, float]:
        """Scores of a model on a stage's rows; in reporting also Exposure of the forget rows.

        Args:
            processor: the model's, where it is another than that of the start.
        """
        if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
            raise NonFiniteError("the weights are not finite numbers")
        model.eval()
        found: dict[str, float] = {}
        for name, rows in stage.tables.items():
            deep = stage is self.reporting and name == "forget"
            values = scores(model, processor or self.processor, rows, ("em", "exposure") if deep else ("em",))
            kept = ("em", "blank_rate", "exposure", "extraction_rate")[: 4 if deep else 2]
            found |= {f"{name}_{figure}": round(values[figure], 6) for figure in kept}
        return found

    def run(
        self, method: str, settings: Settings, stage: Stage, seed: int, steps: Sequence[int]
    ) -> dict[str, Any]:
        """One training, looked at after each of `steps`: the record of it.

        What a user or the method is to blame for is an outcome of its own, never a point; a defect is raised.
        """
        begun = time.time()
        points: list[dict[str, float]] = []
        outcome, reason, trainer = "finished", "", None

        def look(step: int) -> None:
            trainer.model.eval()
            with finished(trainer), torch.random.fork_rng():
                model = trainer.accelerator.unwrap_model(trainer.model)
                points.append({"step": step, **self.looked(model, stage, trainer.processing_class)})
            trainer.model.train()

        try:
            trainer = self.trainer(method, settings, stage.forget, seed, max(steps))
            trainer.add_callback(_EvalAtSteps(steps, look))
            with redirect_stdout(io.StringIO()):  # what it says of itself is in its notes
                trainer.train()
            if not trainer.trains:
                look(0)
        except NonFiniteError as error:
            outcome, reason = "non-finite", str(error)
        except (RememError, torch.OutOfMemoryError, MemoryError) as error:
            outcome, reason = "failed", checkpoints.reason(error)
        made = None if trainer is None else dict(trainer.notes)
        trainer = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for path in Path(self.work).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return {
            "method": method,
            "settings": settings,
            "forget": stage.forget,
            "seed": seed,
            "steps": list(steps),
            "outcome": outcome,
            "reason": reason,
            "notes": made,
            "points": points,
            "seconds": round(time.time() - begun, 2),
        }

    def reported_steps(self, step: int) -> int:
        """How long reporting trains: as many passes over its forget rows, or as many steps, as tuning did."""
        if self.plan.as_many == "steps":
            return step
        here, there = self.sizes[self.tuning.forget], self.sizes[self.reporting.forget]
        return max(1, round(step * there / here)) if step else 0


# Choosing


@dataclass(frozen=True)
class Choice:
    """A method's chosen point of tuning.

    Attributes:
        settings, step: what is trained anew.
        point: its scores.
        reached: whether its forget EM is at the gold model's level.
    """

    settings: Settings
    step: int
    point: Mapping[str, float]
    reached: bool


def choose(records: Iterable[Mapping[str, Any]], level: float) -> Choice | None:
    """The point with forget EM at most `level` that has the highest retain EM.

    If no point is at the level: the one whose retain EM, less what its forget EM is above the level, is highest.
    Ties go to fewer steps, then to the earlier setting of the grid. None if no run gave a point.
    """
    points = [(one["settings"], point) for one in records for point in one["points"]]
    if not points:
        return None
    at_level = [pair for pair in points if pair[1]["forget_em"] <= level + ROUNDING]

    def worth(pair: tuple[Settings, Mapping[str, float]]) -> tuple[float, float]:
        excess = max(0.0, pair[1]["forget_em"] - level)
        return pair[1]["retain_em"] - excess, -pair[1]["step"]

    settings, point = max(at_level or points, key=worth)
    return Choice(settings, int(point["step"]), point, bool(at_level))


# The sweep


@dataclass
class Progress:
    """What is done and about how long the rest takes, by optimizer steps."""

    say: Say
    total: int
    steps_left: int
    done: int = 0
    steps_run: int = 0
    seconds: float = 0.0

    def tell(self, what: str, record: Mapping[str, Any], before: bool, steps: int) -> None:
        self.done += 1
        self.steps_left -= steps
        if not before:
            self.steps_run += steps
            self.seconds += record["seconds"]
        if record["outcome"] != "finished":
            found = f"{record['outcome']}: {record['reason']}"
        else:
            found = "; ".join(
                f"step {point['step']} forget {point['forget_em']:.2f} retain {point['retain_em']:.2f}"
                for point in record["points"]
            )
        if before:
            when = "done before"
        else:
            left = self.steps_left * self.seconds / max(1, self.steps_run) / 60
            when = f"{record['seconds']:.0f} s, about {left:.0f} min to go"
        self.say(f"[{self.done}/{self.total}] {what}: {found} ({when})")


def _identity(plan: Plan, bench: Bench) -> dict[str, Any]:
    tables = [rows for stage in (bench.tuning, bench.reporting) for rows in stage.tables.values()]
    trained = [
        bench.rows("pairs", stage.forget, False).fingerprint() for stage in (bench.tuning, bench.reporting)
    ]
    return {
        **plan.shared(),
        "weights": digest(bench.base),
        "scored": fingerprint(*tables),
        "trained": trained,
    }


def ends(plan: Plan, bench: Bench, ledger: Ledger) -> tuple[dict, dict | None, float]:
    """(the start's scores, the gold model's or None, the gold model's forget EM in tuning).

    Raises:
        RememError: the gold model saw people of the reporting stage, or there is nothing to forget.
    """

    def both(model) -> dict[str, dict[str, float]]:
        model = model.to(bench.device)
        return {stage.forget: bench.looked(model, stage) for stage in (bench.tuning, bench.reporting)}

    start, _ = ledger.measured("start", lambda: both(bench.fresh()))
    try:
        gold, level = None, float(plan.gold)
    except ValueError:
        checkpoint.check_path(plan.gold)
        record = read_record(plan.gold)
        made = (record.get("data") or {}).get("forget")
        if told := unfinished(record):
            tell(f"warning: gold '{plan.gold}': {told}; its weights may be those of an earlier run")
        if made not in (None, plan.report):
            raise RememError(
                f"gold '{plan.gold}' was trained without '{made}'; reporting needs one without '{plan.report}' "
                f"(train.py --method gold --forget {plan.report})"
            ) from None
        gold, _ = ledger.measured("gold", lambda: both(checkpoint.load_model(plan.gold, **bench.load)))
        level = gold[plan.tune]["forget_em"]
    if not 0 <= level <= 1:
        raise RememError(f"--gold {plan.gold}: exact match is from 0 to 1")
    if start[plan.tune]["forget_em"] <= level + plan.tolerance:
        raise RememError(
            f"'{plan.base}' has forget EM {start[plan.tune]['forget_em']:.2f} on '{plan.tune}' before it forgets, the "
            f"gold model {level:.2f}: there is nothing to forget"
        )
    return start, gold, level


@locked
def sweep(plan: Plan, out: str | Path, say: Say = print) -> dict[str, Any]:
    """Run a sweep in folder `out`, or go on with it; what `results.json` holds.

    Writes `results.csv`, `results.md` and `results.json` anew after each method.

    Raises:
        RememError: something unknown or out of range, or a folder that holds another sweep.
    """
    plan.check()
    out = Path(out)
    bench = Bench(plan)
    try:
        ledger = Ledger(
            out, "sweep", _identity(plan, bench), failed=lambda record: record.get("outcome") == "failed"
        )
        start, gold, level = ends(plan, bench, ledger)
        target = level + plan.tolerance
        say(
            f"{plan.tune}: forget EM {start[plan.tune]['forget_em']:.2f} at the start, {level:.2f} of gold; the level is "
            f"{target:.2f} or below"
        )
        grids = {method: grid(method, plan) for method in plan.methods}
        longest = bench.reported_steps(max(plan.steps))
        runs = sum(len(some) for some in grids.values()) + len(plan.methods) * len(plan.seeds)
        weight = (
            sum(map(len, grids.values())) * max(plan.steps) + len(plan.methods) * len(plan.seeds) * longest
        )
        progress = Progress(say, runs, weight)
        table = {}
        for method in plan.methods:
            tuned = []
            for settings in grids[method]:
                name = f"tuning/{method}/{label(settings)}"
                record, before = ledger.measured(
                    name,
                    lambda: bench.run(method, settings, bench.tuning, TUNING_SEED, plan.steps),  # noqa: B023
                )
                tuned.append(record)
                progress.tell(f"{method} {label(settings)}", record, before, max(plan.steps))
            choice, reported = choose(tuned, target), []
            for seed in plan.seeds if choice else ():
                steps = bench.reported_steps(choice.step)
                name = f"reporting/{method}/{label(choice.settings)}_steps{steps}_seed{seed}"
                record, before = ledger.measured(
                    name,
                    lambda: bench.run(method, choice.settings, bench.reporting, seed, [steps]),  # noqa: B023
                )
                reported.append(record)
                progress.tell(f"{method} on {plan.report}, seed {seed}", record, before, longest)
            if not choice:
                progress.done += len(plan.seeds)
                progress.steps_left -= len(plan.seeds) * longest
            table[method] = (tuned, choice, reported)
            found = summary(plan, (bench.tuning, bench.reporting), level, start, gold, table)
            write(found, out)
        return found
    finally:
        bench.close()
