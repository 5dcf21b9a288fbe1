"""`remem stream`: requests to forget that come one after the other, each answered from the model before.

After each request all people asked for so far are asked about again: what stays forgotten, what comes back, and what
is left of those who stay. Every model is saved whole (an adapter is merged), so that the next begins from it, and a
stream that was stopped goes on.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from remem_tasks import checkpoints
from remem_tasks.benchmarks.registry import DEFAULT, only
from remem_tasks.benchmarks.remem.data import available_splits, load_split
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.checkpoint_files import digest
from remem_tasks.data.rows import fingerprint
from remem_tasks.errors import RememError
from remem_tasks.files import locked, new_folder, write_whole
from unlearning import preflight
from unlearning import weights as checkpoint
from unlearning.data import Encoder, load_rows
from unlearning.encoding import check_encoding, limits_of
from unlearning.experiments.in_memory import trained
from unlearning.experiments.ledger import Ledger
from unlearning.experiments.sweep.plan import FORGET_METHODS
from unlearning.scoring import scores

Say = Callable[[str], None]
KEPT = ("em", "exposure", "blank_rate")


@dataclass(frozen=True)
class StreamPlan:
    """A stream.

    Attributes:
        start: the checkpoint that has memorised all of them.
        requests: forget splits, in order; of each the people who were in none before it are asked for.
        method: how each request is answered.
        data: folder or Hub id, in ReMem's shape.
        training: options of `remem train`.
        gate_results: the start's results, as for `remem train`.
        no_gate: go on with a start of which nobody knows whether it had memorised.
        seed: of every training.
    """

    start: str
    requests: tuple[str, ...]
    method: str
    data: str | None = None
    training: str = ""
    gate_results: str | None = None
    no_gate: bool = False
    seed: int = 42

    def check(self) -> None:
        """Raise a RememError for what is unknown."""
        if self.method not in FORGET_METHODS:
            raise RememError(
                f"--method '{self.method}' is not a forget method; choose from {', '.join(FORGET_METHODS)}"
            )
        if not self.requests or len(set(self.requests)) != len(self.requests):
            raise RememError("--requests: at least one split, and none twice")


def requests_of(source: str, names: tuple[str, ...]) -> dict[str, TrainingRows]:
    """Of each request the rows of the people who are new in it, and those of who stays after it.

    Raises:
        RememError: no such split, or one that asks for nobody new.
    """
    known = available_splits(source)
    before: set[str] = set()
    found: dict[str, TrainingRows] = {}
    for name in names:
        if name not in known:
            raise RememError(f"--requests {name}: {source} has no such split; it has {', '.join(known)}")
        rows = load_rows(source, "pairs", name)
        assert rows.forget is not None and rows.retain is not None  # as of all pairs
        asked = set(rows.forget["identity"][:])
        if not asked - before:
            raise RememError(f"--requests {name}: all its people were asked for before")
        forget = _of(rows.forget, lambda who, old=frozenset(before): who not in old)
        before |= asked
        retain = _of(rows.retain, lambda who, gone=frozenset(before): who not in gone)
        if not len(retain):
            raise RememError(f"--requests {name}: nobody stays")
        found[name] = replace(rows, train=forget, forget=forget, retain=retain)
    return found


def _of(rows: datasets.Dataset, wanted: Callable[[str], bool]) -> datasets.Dataset:
    return rows.select([place for place, who in enumerate(rows["identity"][:]) if wanted(who)])


class _Stream:
    def __init__(self, plan: StreamPlan, source: str, out: Path) -> None:
        self.plan, self.source, self.out = plan, source, out
        self.rows = requests_of(source, plan.requests)
        people = {who for rows in self.rows.values() for who in rows.forget["identity"][:]}
        self.tables = {name: rows.forget for name, rows in self.rows.items()}
        for split in ("retain", "test"):
            if split in available_splits(source):
                self.tables[split] = _of(load_split(source, split), lambda who: who not in people)

    def folder(self, number: int) -> Path:
        """The model after so many requests."""
        return Path(self.plan.start) if not number else self.out / "models" / self.plan.requests[number - 1]

    def looked(self, model: Any, processor: Any) -> dict[str, dict[str, float]]:
        """table → figures; Exposure of those who are asked for alone."""
        found = {}
        for name, table in self.tables.items():
            values = scores(
                model.eval(), processor, table, ("em", "exposure") if name in self.rows else ("em",)
            )
            found[name] = {figure: round(values[figure], 6) for figure in KEPT if figure in values}
        return found

    def started(self) -> dict[str, Any]:
        """The record of the start."""
        model = checkpoint.load_model(self.plan.start)
        processor = checkpoints.load_processor(self.plan.start)
        return {"request": "start", "scores": self.looked(model, processor), "seconds": 0.0}

    def answered(self, number: int) -> dict[str, Any]:
        """Answer a request, save the model; the record."""
        plan, begun = self.plan, time.time()
        name, before = plan.requests[number - 1], str(self.folder(number - 1))
        processor = checkpoints.load_processor(before)
        ends, context = limits_of(before)
        check_encoding(Encoder(processor, ends, cache_mb=0), self.rows[name].tables, context)
        argv = ["--method", plan.method, "--data", self.source, "--forget", name, "--seed", str(plan.seed)]
        argv += ["--no_gate", *shlex.split(plan.training)]
        model, record = trained(argv, self.rows[name], processor, lambda: checkpoint.load_model(before))
        found = {"request": name, "scores": self.looked(model, processor)}
        shutil.rmtree(self.folder(number), ignore_errors=True)  # of a call that was stopped before its record
        with new_folder(self.folder(number)) as folder:
            checkpoints.save(model, processor, folder)
        more = {key: record[key] for key in ("steps", "stopped")}
        return {**found, **more, "seconds": round(time.time() - begun, 2)}


def markdown(plan: StreamPlan, records: list[Mapping[str, Any]]) -> str:
    """EM (and Exposure) after each request, a column a request's people; those not yet asked for in brackets."""
    splits = [name for name in records[0]["scores"] if name not in plan.requests]
    heads = ["after", *plan.requests, *splits, "steps", "s"]
    lines = [
        f"# A stream of requests, answered by {plan.method}",
        "",
        f"From `{plan.start}`, each from the model before; options `{plan.training}`, seed {plan.seed}. EM, behind it Exposure, of the "
        "people who are new in each request, in brackets while they are still to stay; of the others EM.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "--:|" * (len(heads) - 1),
    ]
    for number, record in enumerate(records):
        cells = [str(record["request"])]
        for place, name in enumerate(plan.requests):
            values = record["scores"][name]
            text = f"{values['em']:.2f} / {values['exposure']:.2f}"
            cells.append(text if place < number else f"({text})")
        cells += [f"{record['scores'][name]['em']:.2f}" for name in splits]
        lines.append(
            "| " + " | ".join([*cells, str(record.get("steps", "")), f"{record['seconds']:.0f}"]) + " |"
        )
    return "\n".join(lines) + "\n"


@locked
def stream(plan: StreamPlan, out: str | Path, say: Say = print) -> list[dict[str, Any]]:
    """Answer the requests in folder `out`, or go on with it; the records, the start's first. Writes `stream.md`.

    Raises:
        RememError: something unknown, a start that had not memorised, a folder that holds something else.
    """
    plan.check()
    out = Path(out)
    source = only(DEFAULT, plan.data, "streams are of ReMem's forget sets")
    checkpoint.check_path(plan.start)
    if checkpoints.base_of_adapter(plan.start):
        raise RememError(f"'{plan.start}' is an adapter: merge it first (remem merge)")
    one = _Stream(plan, source, out)
    start = os.path.abspath(plan.start) if os.path.isdir(plan.start) else plan.start
    first = plan.requests[0]
    say(
        preflight.told(
            {"model": start, **preflight.ask(plan.gate_results, start, first, one.rows[first], plan.no_gate)}
        )
    )
    identity = {
        "method": plan.method,
        "training": plan.training,
        "seed": plan.seed,
        "requests": list(plan.requests),
        "weights": digest(checkpoint.load_model(plan.start)),
        "data": fingerprint(*one.tables.values()),
    }
    ledger = Ledger(out, "plan", identity)
    records = [ledger.measured("records/start", one.started)[0]]
    for number, name in enumerate(plan.requests, start=1):
        record, before = ledger.measured(f"records/{name}", lambda: one.answered(number))  # noqa: B023
        records.append(record)
        told = ", ".join(f"{asked} {record['scores'][asked]['em']:.2f}" for asked in one.tables)
        say(f"[{number}/{len(plan.requests)}] {name}: EM of {told}" + (" (done before)" if before else ""))
        write_whole(out / "stream.md", markdown(plan, records))
    return records
