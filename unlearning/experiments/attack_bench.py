"""What all attacks of `remem attack` share: the rows, and how they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import datasets

from remem_tasks.attacks import prompts
from remem_tasks.attacks.attacked import Ask, Attacked, Question
from remem_tasks.attacks.people import Surroundings
from remem_tasks.benchmarks.base import FactBenchmark
from remem_tasks.benchmarks.registry import data_of
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.evaluate import AskedTask
from unlearning.data import load_rows
from unlearning.experiments.attack_plan import AttackPlan, own_set, variables_of

BESIDE = 16
"""Tokens that a reply may have beside twice the longest answer."""


@dataclass
class AttackBench:
    """What all attacks share: rows, and how they are asked.

    Attributes:
        rows: of the forget set as its benchmark asks them; `texts` are the same as attacks see them, `kept` and
            `kept_texts` those of people who stay.
        trained: the forget set as training reads it.
    """

    plan: AttackPlan
    source: str
    benchmark: FactBenchmark
    rows: datasets.Dataset = field(init=False)
    texts: list[dict] = field(init=False)

    def __post_init__(self) -> None:
        self.rows, _ = self.benchmark.load(self.source, self.plan.forget)
        self.texts = self._facts(self.rows)

    def _facts(self, rows: datasets.Dataset) -> list[dict]:
        texts = rows.select_columns([name for name in rows.column_names if name != "image"])
        return [dict(self.benchmark.fact(doc)) for doc in texts]

    @cached_property
    def _pairs(self) -> TrainingRows:
        return load_rows(self.source, "pairs", self.plan.forget)

    @cached_property
    def trained(self) -> datasets.Dataset:
        return self._pairs.forget

    @property
    def benign(self) -> datasets.Dataset:
        """Rows of people who stay, as training reads them."""
        return self._pairs.retain

    @cached_property
    def kept(self) -> datasets.Dataset:
        return self.benchmark.kept_rows(self.source, self.plan.forget)

    @cached_property
    def own(self) -> datasets.Dataset:
        """The rows of the data's own set to learn again."""
        return load_rows(
            self.source, "finetune", self.plan.forget, finetune=own_set(self.benchmark.name)
        ).train

    @cached_property
    def around(self) -> Surroundings:
        """What prompts and demonstrations draw on."""
        return Surroundings(self.texts, self._facts(self.kept))

    @cached_property
    def unit(self) -> str:
        """What the bootstrap draws: people, or of one person facts."""
        return "people" if len({row["identity"] for row in self.texts}) > 1 else "facts"

    def unit_of(self) -> dict[str, str]:
        """Row to what the bootstrap draws."""
        column = "identity" if self.unit == "people" else "attribute"
        return {row["row_id"]: row[column] for row in self.texts}

    def variables(self, metrics: str) -> dict[str, str | None]:
        """The environment of scoring."""
        return variables_of(self.benchmark, self.source, self.plan.forget, metrics=metrics, estimator="exact")

    def asked(self, attack: str, kinds: Mapping[str, Attacked], processor: Any) -> list[AskedTask]:
        """A task for each kind; a reply may be twice as long as the longest answer, and some tokens more."""
        longest = max(map(len, processor.tokenizer([row["answer"] for row in self.texts])["input_ids"]))
        return [
            AskedTask(
                self.task(attack) + kind,
                self.plan.forget,
                one,
                {"attack": attack, "kind": kind},
                2 * longest + BESIDE,
            )
            for kind, one in kinds.items()
        ]

    def task(self, attack: str) -> str:
        """What the tasks of an attack are called, before the kind."""
        return f"{self.benchmark.name}_{self.plan.forget}_{attack}_"

    def answerable(self, asks: Mapping[str, Ask]) -> tuple[dict[str, Attacked], dict[str, str]]:
        """(the kinds that some rows can be asked by, why others cannot)."""
        found, missing = {}, {}
        for kind, ask in asks.items():
            if kind in prompts.CLOSED and not self.benchmark.scores_other_questions:
                missing[kind] = (
                    f"{data_of(self.benchmark.name).HOME.name} scores no reply to a question that is not its own"
                )
            elif any(ask(row) is not None for row in self.texts):
                found[kind] = Attacked(self.benchmark, partial(_of_fact, ask, self.benchmark))
            else:
                missing[kind] = "no row can be asked so"
        return found, missing


def _of_fact(ask: Ask, benchmark: FactBenchmark, doc: Mapping[str, Any]) -> Question | None:
    return ask(benchmark.fact(doc))
