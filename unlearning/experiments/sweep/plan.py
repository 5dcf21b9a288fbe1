"""What a sweep does, and the settings that its tuning runs try."""

from __future__ import annotations

import itertools
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from remem_tasks.errors import RememError
from unlearning.data import Role
from unlearning.methods import METHODS, NAMES
from unlearning.trainer import UnlearnTrainer

TUNING_SEED = 0
RATIO = 3.0  # from one learning rate to the next
FORGET_METHODS = tuple(name for name in NAMES if Role.PLAIN not in METHODS[name].roles)
Settings = dict[str, Any]


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep does.

    Attributes:
        data, base: folder or Hub id of the rows; the checkpoint that has memorised them.
        gold: a checkpoint that never saw the people of `report`, or its exact match on `tune` as a number.
        methods, seeds: of the table; seeds are those of reporting.
        budget: training runs that each method has for tuning, all of max(steps) steps.
        steps: optimizer steps after which a tuning run is looked at.
        batch: pairs per step.
        lr_scale: times a method's own learning rate is the middle of its grid.
        tolerance: how far above the gold model's forget EM still counts as its level.
        max_rows: rows of each set that are scored at most, spread evenly; 0: all.
        match: what reporting has as many of as the chosen point, its forget set being larger: `passes` over the
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
    max_rows: int = 96
    match: str = "passes"
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
        for name, least in (("budget", 1), ("batch", 1), ("max_rows", 0)):
            if getattr(self, name) < least:
                raise RememError(
                    f"--{name.replace('_', '-')} {getattr(self, name)} is out of range: at least {least}"
                )
        if min(self.steps) < 1 or not self.lr_scale > 0 or not 0 <= self.tolerance <= 1:
            raise RememError("--steps and --lr-scale are above 0, --tolerance is from 0 to 1")
        if self.match not in ("passes", "steps"):
            raise RememError(f"--match '{self.match}' unknown; choose from passes, steps")
        if self.tune == self.report:
            raise RememError(
                f"--tune and --report are both '{self.tune}': settings would be judged by what chose them"
            )

    def shared(self) -> dict[str, Any]:
        """What every run depends on, beside rows and weights: all but what its own name tells, which may change."""
        values = asdict(self)
        for name in ("methods", "seeds", "budget", "match", "data", "base"):
            del values[name]
        return json.loads(json.dumps(values))

    def from_anywhere(self) -> SweepPlan:
        """The same plan for a process that was started in another folder."""
        return replace(
            self,
            **{
                name: os.path.abspath(value) if os.path.isdir(value := getattr(self, name)) else value
                for name in ("data", "base", "gold")
            },
        )

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


def grid(name: str, plan: SweepPlan) -> list[Settings]:
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
