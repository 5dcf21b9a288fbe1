"""Does the demo hold on other machines: its stage 2 (and stage 1) over seeds and ways of computing, beside its bounds.

    python bench/spread.py                                # from runs/demo into runs/spread; a second call goes on
    python bench/spread.py --seeds 8 --ways plain avx2 native --stage1 3 --json
    python bench/spread.py --table --demos runs/demo-a runs/demo-b   # only the table; finished demos count too

A *way* stands in for another processor: the vector instructions that PyTorch, oneDNN and MKL may use, and the
threads, so sums are rounded in another order. A run is every forgetting of the demo, trained, scored and attacked by the
demo's own commands (on what the demo has an expectation for). Ends with
status 1 if a run missed an expectation, or one lies nearer to its bound than three standard deviations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from numeric import WAYS, distinct, environment

from remem_tasks.errors import RememError, exit_on_error
from remem_tasks.files import write_json
from remem_tasks.preloaded import begin, libraries
from remem_tasks.processes import Together
from remem_tasks.report.results import newest_results, read_scores
from unlearning.experiments import demo

ROOT = Path(__file__).resolve().parents[1]
CODE = (
    "unlearning",
    "remem_tasks/benchmarks",
    "remem_tasks/engine",
    "remem_tasks/harness",
    "remem_tasks/metrics",
)
BATCH = 4  # runs of one process
STAGE1 = ("base", "memorised", "score_memorised", "gold", "score_gold")
# What stage 2 starts from.
MADE = ("data", "models/base", "models/memorised", "models/gold", "results/memorised")
EXPECTED = demo.EXPECTED + demo.ATTACKED  # (model, task or attack, metric, at least or at most, value)
SD = 3.0  # standard deviations that an expectation lies from its bound, at least


@dataclass(frozen=True)
class Job:
    """One run: a stage under a seed and a way."""

    stage: int
    way: str
    seed: int

    @property
    def name(self) -> str:
        return f"stage{self.stage}-{self.way}-{self.seed}"


def jobs(stage1: int, seeds: int, ways: Sequence[str]) -> list[Job]:
    """Every run: stage 2 under each way and seed, some seeds of all ways first, then stage 1, its ways in turn."""
    found = []
    for first in range(0, seeds, BATCH):
        chunk = range(first, min(first + BATCH, seeds))
        found += [Job(2, way, seed) for way in ways for seed in chunk]
    return found + [Job(1, ways[number % len(ways)], 100 + number) for number in range(stage1)]


def _attack(command: Sequence[str], models: Path) -> list[str]:
    """The demo's attacks, of which only those are made that it expects something of."""
    first, last = command.index("attack") + 1, command.index("--gold")
    attacked = [str(models / name) for name in demo.FULL.methods if name in {row[0] for row in demo.ATTACKED}]
    short = [*command[:first], *attacked, *command[last:]]
    short[short.index("--attacks") + 1] = ",".join(dict.fromkeys(row[1] for row in demo.ATTACKED))
    return short


def commands(job: Job, out: Path) -> list[demo.Step]:
    """The demo's steps of a run, scored on what the demo expects something of."""
    todo = []
    for step in demo.steps(out / job.name, "llava", 1, demo.FULL, job.seed):
        if (step.name in STAGE1) != (job.stage == 1) or step.name == "forge":
            continue
        command = step.command
        if step.name == "attack":
            command = _attack(command, out / job.name / "models")
        elif step.name.startswith("score_"):
            model = step.name.removeprefix("score_")
            asked = [(task, metric) for name, task, metric, _, _ in demo.EXPECTED if name == model]
            tasks = ",".join(dict.fromkeys(task for task, _ in asked))
            families = (metric.rpartition("_")[2] for _, metric in asked)  # reference_exposure is of exposure
            metrics = ",".join(dict.fromkeys(families))
            command = [*command, "--metrics", metrics]
            command[command.index("--tasks") + 1] = tasks
        todo.append(demo.Step(step.name, command, step.folder))
    return todo


def prepare(job: Job, out: Path, made: Path) -> Path:
    """A folder like the demo's, with links to what the demo has made."""
    folder = out / job.name
    shutil.rmtree(folder, ignore_errors=True)
    for name in MADE[: 1 if job.stage == 1 else None]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((made / name).resolve(), target_is_directory=True)
    return folder


def execute(step: demo.Step, log: IO[str]) -> None:
    """A step's command, its output at the end of a log: in a fork that need not load the libraries, where it can be.

    Raises:
        RememError: it failed.
    """
    with Together() as group:
        process = begin(step.command, {**os.environ, **step.variables}, log)
        group.add(step.name, process)
        status = process.wait()
    if status:
        raise RememError(f"'{shlex.join(step.command)}' ended with status {status}")


@cache
def code() -> str:
    """A digest of the source that trains and scores."""
    files = [
        path
        for name in CODE
        for path in sorted((ROOT / name).rglob("*.py"))
        if "experiments" not in path.parts
    ]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def done(job: Job, out: Path) -> dict | None:
    """The record of a run that was made with these commands and this code."""
    path = out / f"{job.name}.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    same = found["commands"] == [step.command for step in commands(job, out)] and found["code"] == code()
    return found if same else None


def work(names: Iterable[str], out: Path, made: Path) -> None:
    """The runs of one process, whose environment is that of their way."""
    import torch

    for name in names:
        stage, seed = int(name[5]), int(name.rsplit("-", 1)[1])
        job = Job(stage, name[7:].rsplit("-", 1)[0], seed)
        folder, begun = prepare(job, out, made), time.time()
        os.environ["REMEM_DATA"] = str(folder / "data")
        todo, models, attacked, ended = commands(job, out), {}, {}, {}
        for step in todo:
            with (out / f"{name}.log").open("a") as log:
                execute(step, log)
            model = step.name.removeprefix("score_")
            if model != step.name:
                models[model] = read_scores(newest_results(folder / "results" / model))
            elif step.name == "attack":
                attacked = json.loads((folder / step.folder / "attacks.json").read_text())
            elif (record := folder / "models" / model / "run.json").is_file():
                record = json.loads(record.read_text())
                ended[model] = {name: record[name] for name in ("stopped", "steps", "seconds")}
        write_json(
            out / f"{name}.json",
            {
                "commands": [step.command for step in todo], "code": code(),
                "way": job.way, "seed": seed, "stage": stage, "torch": torch.__version__,
                "capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
                "models": models, "attacked": attacked, "ended": ended, "seconds": round(time.time() - begun, 1),
            },
        )  # fmt: skip
        shutil.rmtree(folder)
        print(f"{name}: {time.time() - begun:.0f} s", flush=True)


def _loaded(record: dict) -> dict[tuple[str, str, str], float]:
    """Of one run: the scores that the demo has an expectation for, by model, task or attack, and metric."""
    cells = {}
    for model, task, metric, _, _ in EXPECTED:
        attack = (model, task) in {row[:2] for row in demo.ATTACKED}
        found = record.get("attacked", {}) if attack else record["models"]
        if model in found:
            cells[model, task, metric] = found[model][task][metric]
    return cells


def summary(runs: Sequence[dict]) -> dict:
    """`expectations` (a row each: n, mean, sd, worst, held, and sds from the bound), `runs`, `held`, `nearest_sd`.

    The distance is positive where the mean holds; without a spread (sd 0, or one run) it is None where it holds, else 0.
    """
    found = [_loaded(run) for run in runs]
    rows = []
    for model, task, metric, sign, bound in EXPECTED:
        values = [cells[model, task, metric] for cells in found if (model, task, metric) in cells]
        if not values:
            continue
        mean, sd = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        room = mean - bound if sign == ">=" else bound - mean
        rows.append(
            {
                "model": model, "task": task, "metric": metric, "expected": f"{sign} {bound:g}",
                "runs": len(values), "mean": mean, "sd": sd,
                "worst": min(values) if sign == ">=" else max(values),
                "held": sum(demo.holds(value, sign, bound) for value in values),
                "sds": room / sd if sd else None if room >= 0 else 0.0,
            }
        )  # fmt: skip
    good = sum(
        all(
            demo.holds(cells[model, task, metric], sign, bound)
            for model, task, metric, sign, bound in EXPECTED
            if (model, task, metric) in cells
        )
        for cells in found
    )
    sds = [row["sds"] for row in rows if row["sds"] is not None]
    return {"runs": len(runs), "held": good, "nearest_sd": min(sds, default=None), "expectations": rows}


def table(found: dict) -> str:
    """The expectations as a table in Markdown."""
    lines = ["| model | task | metric | expected | runs | mean | sd | worst | held | sd to the bound |"]
    lines.append("|---|---|---|---|---:|---:|---:|---:|---:|---:|")
    for row in found["expectations"]:
        far = "no spread" if row["sds"] is None else f"{row['sds']:.1f}"
        lines.append(
            f"| {row['model']} | {row['task']} | {row['metric']} | {row['expected']} | {row['runs']} | {row['mean']:.3f} "
            f"| {row['sd']:.3f} | {row['worst']:.3f} | {row['held']} | {far} |"
        )
    return "\n".join(lines)


def measure(todo: Sequence[Job], out: Path, made: Path, workers: int) -> None:
    """Make the runs that are not there yet, some to a process, `workers` processes at a time."""
    todo = [job for job in todo if done(job, out) is None]
    batches = []
    while todo:
        some = [job for job in todo if (job.way, job.stage) == (todo[0].way, todo[0].stage)][:BATCH]
        todo = [job for job in todo if job not in some]
        batches.append(some)

    def make(some: Sequence[Job]) -> int:
        command = [sys.executable, __file__, "--out", str(out), "--demo", str(made), "--work"]
        variables = {**environment(some[0].way), **demo.ENVIRONMENT, "REMEM_CACHE": "off"}
        return subprocess.run([*command, *(job.name for job in some)], env=variables, check=False).returncode

    with ThreadPoolExecutor(workers) as pool:
        if any(pool.map(make, batches)):
            raise RememError(f"a run failed: see {out}/stage*.log. The same command goes on from here")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--demo", type=Path, default=Path("runs/demo"), help="whose stage 1 is forgotten from"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/spread"))
    parser.add_argument("--seeds", type=int, default=8, help="of each way (%(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--stage1", type=int, default=3, help="how often the base, memorised and gold are trained anew"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes at a time (%(default)s)")
    parser.add_argument("--demos", nargs="*", type=Path, default=[], help="finished demos that count as runs")
    parser.add_argument("--table", action="store_true", help="compute nothing: what is there")
    parser.add_argument("--json", action="store_true", help="the last line is one object")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        with libraries(os.environ):
            work(args.work, args.out, args.demo)
        return 0
    todo = jobs(args.stage1, args.seeds, distinct(args.ways))
    if not args.table:
        args.out.mkdir(parents=True, exist_ok=True)
        if not all((args.demo / name).is_dir() for name in MADE):
            for last in ("score_memorised", "gold"):
                demo.demo(args.demo, until=last)
        measure(todo, args.out, args.demo, args.workers)
    runs = [record for job in todo if (record := done(job, args.out))]
    for folder in args.demos:
        if not (path := folder / "summary.json").is_file():
            raise RememError(f"--demos '{folder}': no finished demo (summary.json)")
        attacks = folder / "attacks.json"
        runs.append(
            {
                **json.loads(path.read_text()),
                "attacked": json.loads(attacks.read_text()) if attacks.is_file() else {},
            }
        )
    if not runs:
        raise RememError(f"'{args.out}' holds no run of the demo as it is now")
    found = summary(runs)
    print(table(found))
    print(
        f"{found['held']} of {found['runs']} runs held every expectation; "
        f"nearest: {found['nearest_sd'] if found['nearest_sd'] is None else round(found['nearest_sd'], 2)} sd"
    )
    if args.json:
        print(json.dumps({name: found[name] for name in ("runs", "held", "nearest_sd")}))
    near = found["nearest_sd"]
    return int(found["held"] < found["runs"] or (near is not None and near < SD))


if __name__ == "__main__":
    sys.exit(exit_on_error(main, "spread"))
