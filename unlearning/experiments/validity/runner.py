"""Trains and scores the models of a trial in one process: one start, one gold, the pictures encoded once."""

from __future__ import annotations

import copy
import gc
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import torch

from remem_tasks import checkpoints
from remem_tasks.attacks import lens
from remem_tasks.attacks.attacked import Attacked
from remem_tasks.attacks.quantise import quantise
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import NonFiniteError, RememError
from remem_tasks.evaluate import AskedTask, score_model
from remem_tasks.report.model_run import TaskResult
from remem_tasks.report.runs import read_run
from unlearning import weights as checkpoint
from unlearning.data import Encoder, load_rows, spread, stop_ids
from unlearning.experiments.attack_plan import facts_of, variables_of
from unlearning.experiments.in_memory import trained
from unlearning.experiments.relearn import relearn_from
from unlearning.experiments.sweep.runner import EvalAtSteps, finished
from unlearning.experiments.validity.plan import FAMILIES, HEADS, LENS, Forgetting, Member, ValidityPlan
from unlearning.experiments.validity.rows import PoolRows
from unlearning.trainer import UnlearnTrainer

Values = dict[str, float]
BESIDE = 16
"""Tokens that a reply may have beside twice the longest answer."""


def values_of(result: TaskResult) -> Values:
    """The metrics on trial that a task's results hold; what is not a finite number there is left out."""
    found = {name: result.mean(name) for name in HEADS}
    found |= {name: result.of_set[name] for name in HEADS if name in result.of_set}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def truth_of(samples: Path) -> Values:
    """The truth ratio in UDS's form, right / (right + wrong), of a samples file; nothing without wrong answers.

    Both are geometric means over tokens; of several wrong answers the geometric mean again.
    """
    found = []
    for line in samples.read_text(encoding="utf-8").splitlines():
        item = json.loads(line).get("remem_member_loss") or {}
        if item.get("others"):
            right, wrong = item["right"], sum(item["others"]) / len(item["others"])
            found.append(1 / (1 + math.exp(min(wrong - right, 700.0))))
    return {"truth_ratio": sum(found) / len(found)} if found else {}


class ValidityRunner:
    """What all models of a trial share.

    Raises:
        RememError: data, start or gold that cannot be used.
    """

    def __init__(self, plan: ValidityPlan, source: str) -> None:
        self.plan, self.source = plan, source
        self.benchmark = facts_of("remem", source)
        self.pairs = load_rows(source, "pairs", plan.forget)
        assert self.pairs.forget is not None and self.pairs.retain is not None  # as of all pairs
        self.pools = PoolRows(self.pairs.forget, self.pairs.retain, source)
        self.asked = {
            "forget": spread(self.benchmark.load(source, plan.forget)[0], plan.max_rows),
            "retain": self._kept(),
        }
        self.start, self.gold = self._loaded(plan.start), self._loaded(plan.gold)
        self.processor = checkpoints.load_processor(plan.start)
        self.encoder = Encoder(self.processor, stop_ids(self.start))
        answers = [row["answer"] for row in self.asked["forget"].select_columns(["answer"])]
        longest = max(map(len, self.processor.tokenizer(answers)["input_ids"]))
        self.tokens = 2 * longest + BESIDE

    def _kept(self) -> datasets.Dataset:
        gone = {*self.pairs.forget["identity"][:]}  # type: ignore[index]
        rows = self.benchmark.load(self.source, self.plan.retain)[0]
        kept = rows.select([place for place, who in enumerate(rows["identity"][:]) if who not in gone])
        if not len(kept):
            raise RememError(f"--retain {self.plan.retain}: all its rows are about people to be forgotten")
        return spread(kept, self.plan.max_rows)

    def _loaded(self, path: str) -> Any:
        checkpoint.check_path(path)
        model = checkpoint.load_model(path)
        model.config.name_or_path = model.name_or_path = path
        return model.to(self.plan.device).eval()

    def fresh(self, model: Any, state: Mapping[str, torch.Tensor] | None = None) -> Any:
        """A copy of a model that never trained, with other weights if they are given."""
        made = copy.deepcopy(model)
        if state is not None:
            made.load_state_dict(state)
        return made

    def _argv(self, method: str, seed: int, steps: int, rate: float | None = None) -> list[str]:
        argv = ["--method", method, "--seed", str(seed), "--max_steps", str(steps)]
        argv += ["--per_device_train_batch_size", str(self.plan.batch), "--lr_scheduler_type", "constant"]
        argv += ["--warmup_steps", "0", "--forget", self.plan.forget]
        argv += ["--use_cpu", "true"] if self.plan.device == "cpu" else []
        return argv + (["--learning_rate", f"{rate:g}"] if rate is not None else [])

    # Scores

    def score(self, model: Any) -> tuple[Values, float]:
        """(the metrics on trial over the forget rows, EM of the retain rows), by the harness."""
        if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
            raise NonFiniteError("the weights are not finite numbers")
        model.eval().requires_grad_(False)
        families = {"forget": FAMILIES, "retain": "em"}
        splits = {"forget": self.plan.forget, "retain": self.plan.retain}
        asked = [
            AskedTask(
                f"trial_{name}",
                splits[name],
                Attacked(self.benchmark, rows=set(rows["row_id"][:])),
                {"metrics": families[name]},
                self.tokens,
            )
            for name, rows in self.asked.items()
        ]
        variables = variables_of(self.benchmark, self.source, self.plan.forget)
        with tempfile.TemporaryDirectory(prefix="remem-trial-") as folder:
            file = score_model(
                model,
                self.processor,
                "trial",
                asked,
                Path(folder),
                {**variables, "REMEM_METRICS": None},
                "off",
            )
            results = read_run(file, "trial").task_results
            values = values_of(results["trial_forget"])
            samples = file.with_name(file.name.replace("results.json", "samples_trial_forget.jsonl"))
            values |= truth_of(samples)
        try:
            inside, _ = lens.of_rows(model, self.processor, self.benchmark, self.asked["forget"])
            values[LENS] = sum(inside.values()) / len(inside)
        except lens.NoLens:
            pass  # the table says that it was not measured
        return values, float(results["trial_retain"].mean("em") or 0.0)

    def relearned(self, load: Callable[[], Any]) -> Values:
        """The metrics after all forget rows were learned again."""
        rows, plan = self.pairs.forget, self.plan
        assert rows is not None
        model, _ = relearn_from(
            load, self.processor, rows, "remem", plan.relearn, plan.seed, plan.device, self.encoder
        )
        return self.score(model.to(plan.device))[0]

    # Models

    def ends(self) -> dict[str, Any]:
        """The record of start and gold, and of gold after relearning."""
        begun = time.time()
        start, kept = self.score(self.fresh(self.start))
        gold, gold_kept = self.score(self.fresh(self.gold))
        return {
            "start": start,
            "start_retain_em": kept,
            "gold": gold,
            "gold_retain_em": gold_kept,
            "gold_relearned": self.relearned(lambda: self.fresh(self.gold)),
            "seconds": round(time.time() - begun, 2),
        }

    def member(self, one: Member) -> dict[str, Any]:
        """The record of a pool's model: gold, trained on what its kind learns."""
        begun = time.time()
        rows = TrainingRows(self.pools.of(one.kind, one.seed), None, None, "remem")
        argv = self._argv("sft", one.seed, one.steps, one.rate)
        # (An encoder keeps answers by row id: those of other people need one of their own.)
        encoder = None if one.kind == "wrong" else self.encoder
        model, made = trained(argv, rows, self.processor, lambda: self.fresh(self.gold), encoder)
        values, kept = self.score(model)
        told = {"kind": one.kind, "knows": one.knows, "rate": one.rate, "steps": one.steps, "seed": one.seed}
        found = {**told, "loss": round(float(made["train_loss"]), 4), "values": values, "retain_em": kept}
        return {**found, "seconds": round(time.time() - begun, 2)}

    def forgetting(self, one: Forgetting, start_kept: float) -> dict[str, Any]:
        """The record of a training that unlearns: a point for each look, knocked where its utility is left."""
        begun = time.time()
        kept: list[tuple[int, dict[str, torch.Tensor]]] = []

        def watch(trainer: UnlearnTrainer) -> EvalAtSteps:
            # Weights are copied, and judged when the training is over: what judges them trains too.
            def look(step: int) -> None:
                with finished(trainer):
                    inner = trainer.accelerator.unwrap_model(trainer.model)
                    state = {name: value.detach().cpu().clone() for name, value in inner.state_dict().items()}
                kept.append((step, state))

            return EvalAtSteps(one.steps, look)

        outcome, reason = "finished", ""
        settings = [part for name, value in one.settings.items() for part in (f"--{name}", str(value))]
        argv = [*self._argv(one.method, one.seed, max(one.steps)), *settings]
        try:
            trained(argv, self.pairs, self.processor, lambda: self.fresh(self.start), self.encoder, watch)
        except NonFiniteError as error:
            outcome, reason = "non-finite", str(error)
        points: list[dict[str, Any]] = []
        for step, state in kept:
            try:
                points.append({"step": step, **self.knocked(state, start_kept)})
            except NonFiniteError as error:
                outcome, reason = "non-finite", str(error)
        kept.clear()
        gc.collect()
        return {
            "method": one.method,
            "settings": one.settings,
            "seed": one.seed,
            "outcome": outcome,
            "reason": reason,
            "points": points,
            "seconds": round(time.time() - begun, 2),
        }

    def knocked(self, state: Mapping[str, torch.Tensor], start_kept: float) -> dict[str, Any]:
        """The metrics of an unlearned model as it is, after relearning and in 4 bits."""
        values, kept = self.score(self.fresh(self.start, state))
        utility = kept / start_kept if start_kept else 0.0
        found: dict[str, Any] = {"values": values, "retain_em": kept, "utility": round(utility, 6)}
        if utility < self.plan.utility:
            return found  # it is counted, and judged by none
        found["relearned"] = self.relearned(lambda: self.fresh(self.start, state))
        coarse = self.fresh(self.start, state).requires_grad_(False)
        quantise(coarse, "nf4")
        found["quantised"] = self.score(coarse)[0]
        return found
