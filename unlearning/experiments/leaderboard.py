"""A leaderboard filled from a sweep: each method's chosen settings, trained anew, scored, attacked, entered, read back.

<out>/models/<method>-seed<k>    checkpoints; their weights are taken away once they are attacked (unless they are to be kept)
<out>/results/<name>             results and samples files, as `lmms_eval --log_samples` leaves them
<out>/attacks                    of `remem attack`
<out>/entries/<name>.json        a record a model
<file>                           `leaderboard.jsonl`; <out>/leaderboard.md and .html show it
"""

from __future__ import annotations

import io
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from remem_tasks.benchmarks.registry import DEFAULT, data_of, detect
from remem_tasks.binding import digest_of_json
from remem_tasks.errors import NonFiniteError, RememError
from remem_tasks.evaluate import score_here
from remem_tasks.files import locked, write_json, write_whole
from remem_tasks.reading import read_object
from remem_tasks.report.board_table import markdown, page
from remem_tasks.report.leaderboard import append, entries_of, read_board, verify
from remem_tasks.report.summary import report_of
from unlearning.experiments.attack import attack
from unlearning.experiments.attack_plan import AttackPlan, facts_of, variables_of
from unlearning.experiments.ledger import Ledger
from unlearning.experiments.sweep.plan import SweepPlan
from unlearning.methods import METHODS
from unlearning.record import versions
from unlearning.run import run

Say = Callable[[str], None]
ENDS = ("start", "gold")


@dataclass(frozen=True)
class BoardPlan:
    """What is entered.

    Attributes:
        sweep: a sweep's folder.
        file: `leaderboard.jsonl`.
        methods: some of the sweep's; None for all that it has chosen settings of.
        seeds: of training; None for the sweep's own.
        attacks: of `remem attack`; its seed is 42.
        relearn, share: as of `remem attack`.
        keep_models: leave their weights there.
        no_gate: go on with a start that had not memorised; the board says so of each entry.
        device: `cpu` or `cuda`.
    """

    sweep: str
    file: str
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    attacks: tuple[str, ...] = ("relearn_rest", "quantise_nf4")
    relearn: str = "--learning_rate 5e-4 --max_steps 16 --per_device_train_batch_size 8"
    share: float = 0.34
    keep_models: bool = False
    no_gate: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Job:
    """One model of the board."""

    name: str
    method: str
    settings: Mapping[str, Any]
    steps: int
    seed: int


def read_sweep(path: str) -> tuple[SweepPlan, list[dict[str, Any]]]:
    """(the plan of a sweep, its methods' lines).

    Raises:
        RememError: there is none, or its gold is a number.
    """
    found = read_object(Path(path) / "results.json", "the --out of `remem sweep`")
    names = {one.name for one in fields(SweepPlan)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found["plan"].items()
        if name in names
    }
    plan = SweepPlan(**given)
    if found.get("gold") is None:
        raise RememError(f"--sweep '{path}': its gold is a number; attacks need a checkpoint")
    return plan, found["methods"]


def jobs(plan: BoardPlan, sweep: SweepPlan, lines: Sequence[Mapping[str, Any]]) -> list[Job]:
    """Every model of the board, seed after seed within a method.

    (Where nothing trains all seeds are one model.)

    Raises:
        RememError: a method that the sweep has no settings of.
    """
    chosen = {one["method"]: one for one in lines if one["settings"] is not None and one["steps"] is not None}
    wanted = plan.methods or tuple(one for one in sweep.methods if one in chosen)
    found = []
    for method in wanted:
        if method not in chosen:
            raise RememError(f"--methods {method}: the sweep has no settings of it that ended in a model")
        seeds = plan.seeds or sweep.seeds
        for seed in seeds if METHODS[method].trains else seeds[:1]:
            one = chosen[method]
            found.append(Job(f"{method}-seed{seed}", method, one["settings"], one["steps"], seed))
    return found


class _Board:
    def __init__(self, plan: BoardPlan, sweep: SweepPlan, out: Path) -> None:
        self.plan, self.sweep, self.out = plan, sweep, out
        name, self.source = detect(sweep.data)
        if name != DEFAULT:
            raise RememError("sweeps are of ReMem's forget sets")
        self.benchmark = facts_of(name, self.source)
        self.retain = data_of(name).retain_of(sweep.report)
        self.tasks = [f"{name}_{split}" for split in (sweep.report, self.retain, sweep.test)]
        self.rows = self.benchmark.fingerprint(self.benchmark.load(self.source, sweep.report)[0])

    def identity(self) -> dict[str, Any]:
        """What all entries share."""
        return {
            **self.sweep.shared(),
            "data": self.rows,
            "attacks": list(self.plan.attacks),
            "relearn": self.plan.relearn,
            "share": self.plan.share,
        }

    def scored(self, path: str, name: str) -> list[str]:
        """Score a checkpoint to its folder, unless that is done; the command that does the same."""
        folder = self.out / "results" / name
        if not any(folder.rglob("*_results.json")):
            variables = variables_of(self.benchmark, self.source, self.sweep.report, estimator="exact")
            score_here(path, self.tasks, folder, variables, self.plan.device)
        asked = [
            "lmms_eval",
            "--model",
            "remem_hf",
            "--model_args",
            f"pretrained={path},device={self.plan.device}",
        ]
        asked += ["--tasks", ",".join(self.tasks), "--forget", self.sweep.report, "--estimator", "exact"]
        return [*asked, "--log_samples", "--output_path", str(folder)]

    def trained(self, job: Job, folder: Path) -> tuple[list[str], float]:
        """Train to a folder; the command, its seconds."""
        argv = self.sweep.arguments(
            job.method, dict(job.settings), self.sweep.report, job.seed, job.steps, str(folder)
        )
        argv += ["--gate_results", str(self.out / "results" / "start"), "--overwrite_output_dir", "true"]
        argv += ["--no_gate"] if self.plan.no_gate else []
        argv += ["--use_cpu", "true"] if self.plan.device == "cpu" else []
        begun = time.time()
        with redirect_stdout(io.StringIO()):
            run(argv)
        return ["remem", "train", *argv], time.time() - begun

    def attacked(self, name: str, path: str) -> tuple[Mapping[str, Any], list[str]]:
        """(attack → metric → value of a model, the command)."""
        plan = AttackPlan(
            models={name: path},
            gold=self.sweep.gold,
            start=self.sweep.base,
            data=self.source,
            forget=self.sweep.report,
            attacks=self.plan.attacks,
            seeds=(42,),
            gate_results=str(self.out / "results" / "start"),
            share=self.plan.share,
            relearn=self.plan.relearn,
            device=self.plan.device,
            no_gate=self.plan.no_gate,
        )
        found = attack(plan, self.out / "attacks", lambda line: None)
        asked = [
            "remem",
            "attack",
            f"{name}={path}",
            "--gold",
            plan.gold,
            "--start",
            plan.start,
            "--data",
            self.source,
        ]
        asked += ["--forget", plan.forget, "--attacks", ",".join(plan.attacks), "--seeds", "42"]
        asked += ["--share", f"{plan.share:g}", "--relearn", plan.relearn, "--out", str(self.out / "attacks")]
        return found, [*asked, "--gate_results", str(plan.gate_results)]

    def made(self, job: Job) -> dict[str, Any]:
        """Train, score and attack one model; its record."""
        folder, begun = self.out / "models" / job.name, time.time()
        shutil.rmtree(self.out / "results" / job.name, ignore_errors=True)  # of a call that was stopped
        try:
            train, seconds = self.trained(job, folder)
            score = self.scored(str(folder), job.name)
        except NonFiniteError as error:
            shutil.rmtree(folder, ignore_errors=True)
            return {"name": job.name, "lost": str(error), "seconds": round(time.time() - begun, 2)}
        found, asked = self.attacked(job.name, str(folder))
        if not self.plan.keep_models:
            for file in folder.rglob("*.safetensors"):  # its record stays: the board reads the method from it
                file.unlink()
        return {
            "name": job.name,
            "method": job.method,
            "attacks": found[job.name],
            "gold_attacks": found["gold"],
            "cost": {"train_seconds": round(seconds, 2), "steps": job.steps},
            "made": {
                "commands": [shlex.join(command) for command in (train, score, asked)],
                "versions": versions(),
                "data": digest_of_json(self.rows)[:16],
                "seed": job.seed,
            },
            "seconds": round(time.time() - begun, 2),
        }


def entries(out: Path, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries of the models that are done, scores worked out from their samples files."""
    done = {one["name"]: one for one in records if "lost" not in one}
    if not done:
        raise RememError("no model of the board came to an end")
    results = out / "results"
    report = report_of([str(results / name) for name in done], str(results / "gold"), str(results / "start"))
    made = []
    for entry in entries_of(report):
        record = done[entry["name"]]
        made.append({**entry, **{name: record[name] for name in ("attacks", "cost", "made")}})
    return made


def told_apart(made: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(entries whose samples differ, name → the earlier one that it is like): a board holds no model twice."""
    first: dict[str, str] = {}
    twins = {}
    for entry in made:
        if (other := first.setdefault(entry["samples"], entry["name"])) != entry["name"]:
            twins[entry["name"]] = other
    return [entry for entry in made if entry["name"] not in twins], twins


@locked
def fill(plan: BoardPlan, out: str | Path, say: Say = print) -> list[dict[str, Any]]:
    """Fill a board from a sweep in folder `out`, or go on with it; all entries of the board.

    Raises:
        RememError: no sweep there, a start that fails the gate, another board's folder; an entry that does not agree
            with its samples file.
    """
    out = Path(out)
    sweep, lines = read_sweep(plan.sweep)
    todo = jobs(plan, sweep, lines)
    board = _Board(plan, sweep, out)
    ledger = Ledger(out, "board", board.identity(), failed=lambda record: "lost" in record)
    for name, path in zip(ENDS, (sweep.base, sweep.gold)):
        board.scored(path, name)
    records = []
    for number, job in enumerate(todo, start=1):
        record, before = ledger.measured(f"entries/{job.name}", lambda: board.made(job))  # noqa: B023
        records.append(record)
        say(f"[{number}/{len(todo)}] {job.name}: {_told(record)}" + (" (done before)" if before else ""))
    made, twins = told_apart(entries(out, records))
    for one, other in twins.items():
        say(f"{one}: every score of every row is that of {other}; it has no entry of its own")
    there = {one["name"] for one in read_board(plan.file)}
    append(plan.file, [one for one in made if one["name"] not in there], plan.no_gate)
    found = read_board(plan.file)
    for entry in made:
        verify(entry, found)
    write_json(out / "gold.json", next((one["gold_attacks"] for one in records if "lost" not in one), {}))
    write_whole(out / "leaderboard.md", markdown(found))
    write_whole(out / "leaderboard.html", page(found))
    return found


def _told(record: Mapping[str, Any]) -> str:
    if "lost" in record:
        return f"lost: {record['lost']}"
    shown = ", ".join(
        f"{attack} EM {values['em']:.2f}"
        for attack, values in record["attacks"].items()
        if isinstance(values.get("em"), float)
    )
    return f"{shown} ({record['seconds']:.0f} s)"
