"""One training after the other on the same checkpoint in memory, each looked at after some of its steps."""

from __future__ import annotations

import copy
import gc
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from remem_tasks import checkpoints
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import NonFiniteError, RememError
from unlearning import weights as checkpoint
from unlearning.arguments import parse
from unlearning.data import Encoder, Role, check_pictures, load_rows, stop_ids
from unlearning.encoding import check_encoding, limits_of
from unlearning.experiments.sweep.plan import Settings, SweepPlan
from unlearning.experiments.sweep.stages import Stage, stages
from unlearning.methods import METHODS
from unlearning.models import load_models
from unlearning.run import build_trainer
from unlearning.scoring import scores
from unlearning.trainer import UnlearnTrainer


class EvalAtSteps(TrainerCallback):
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


class SweepRunner:
    """What all runs of a sweep share, in memory once: the checkpoint, its processor, rows, encoded pictures."""

    def __init__(self, plan: SweepPlan):
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

    def evaluate(self, model, stage: Stage, processor: Any = None) -> dict[str, float]:
        """Scores of a model on a stage's rows; in reporting also Exposure of the forget rows.

        Args:
            processor: the model's, where it is another than that of the start (`guardrail`).
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
        outcome, reason = "finished", ""
        trainer: UnlearnTrainer | None = None

        def look(step: int) -> None:
            assert trainer is not None
            trainer.model.eval()
            with finished(trainer), torch.random.fork_rng():
                model = trainer.accelerator.unwrap_model(trainer.model)
                points.append({"step": step, **self.evaluate(model, stage, trainer.processing_class)})
            trainer.model.train()

        try:
            trainer = self.trainer(method, settings, stage.forget, seed, max(steps))
            trainer.add_callback(EvalAtSteps(steps, look))
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
        if self.plan.match == "steps":
            return step
        here, there = self.sizes[self.tuning.forget], self.sizes[self.reporting.forget]
        return max(1, round(step * there / here)) if step else 0


_latest: list[tuple[SweepPlan, SweepRunner]] = []
"""Of this process, which a cluster hands one training after the other."""


def handed(
    plan: SweepPlan, method: str, settings: Settings, stage: str, seed: int, steps: Sequence[int]
) -> dict[str, Any]:
    """The record of one training of a sweep, in a process of a cluster.

    Args:
        stage: `tuning` or `reporting`.
    """
    if not _latest or _latest[0][0] != plan:
        for _, runner in _latest:
            runner.close()
        _latest[:] = [(plan, SweepRunner(plan))]
    runner = _latest[0][1]
    return runner.run(method, settings, getattr(runner, stage), seed, steps)
