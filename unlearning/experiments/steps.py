"""Steps of an experiment: commands that need one another, some at a time, each done once.

A step that is done is not done again: `<out>/steps/<step>.json` holds its command, as it was typed and as it is from
any folder, and its seconds, `<step>.log` beside it what it printed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from remem_tasks.errors import COLLAPSED, RememError
from remem_tasks.preloaded import begin, libraries, takes
from remem_tasks.processes import Together
from remem_tasks.terminal import clean
from remem_tasks.training import words_of
from unlearning.experiments.ledger import Records

TRAIN = ["train", "--accelerate", "cpu"]
TOLD_EVERY = 30.0  # seconds between two words about what runs, where nobody watches a terminal
POLL = 0.2  # seconds between two looks at what runs
TAIL = 4096  # bytes of a log that its last line is looked for in


@dataclass(frozen=True)
class Step:
    """A command and what it leaves behind.

    Attributes:
        folder: below the experiment's.
        needs: the steps whose work it starts from.
        variables: of its environment, beside those of all steps; printed with the command.
        alone: whether it takes all cores, and so runs beside nothing that computes.
        goes_on: whether the command goes on with what a stopped run of it left there.
        scores: whether a status that says "the model says nothing real" is a result like another.
    """

    name: str
    command: list[str]
    folder: str
    needs: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False
    goes_on: bool = False
    scores: bool = False

    @property
    def training(self) -> list[str] | None:
        """The arguments of the training script; None of what does not train."""
        place = next((at for at in range(len(self.command)) if self.command[at : at + 3] == TRAIN), None)
        return None if place is None else self.command[place + len(TRAIN) :]


def needed(steps: Sequence[Step], last: str) -> list[Step]:
    """The steps that one named needs, itself the last, in order.

    Raises:
        RememError: there is no such step.
    """
    names = [step.name for step in steps]
    if last not in names:
        raise RememError(f"there is no step '{last}': {', '.join(names)}")
    wanted = {last}
    for step in reversed(steps):
        if step.name in wanted:
            wanted |= set(step.needs)
    return [step for step in steps if step.name in wanted]


def _asked(step: Step, out: Path) -> list[str]:
    """A step's command as it is from any folder: how program and output are reached from here is no part of it."""
    here = re.compile(rf"(?<![\w./-]){re.escape(str(out))}(?=/|,|$)")
    ours = words_of(step.command)
    words = step.command if ours is None else [ours[0], *ours[1]]
    return [here.sub("<out>", word) for word in words]


def _log(step: Step, out: Path) -> Path:
    return out / "steps" / f"{step.name}.log"


def _lines(path: Path) -> list[str]:
    """The last lines of a log as a terminal would leave them: what a progress bar wrote over is gone."""
    with path.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        text = log.read().decode(errors="replace")
    lines = (clean(re.split(r"\r(?!\n)", line.rstrip("\r"))[-1]).rstrip() for line in text.split("\n"))
    return [line for line in lines if line]


def _status(step: Step, out: Path, seconds: float) -> str:
    last = (_lines(_log(step, out)) or [""])[-1]
    return f"{step.name}, {seconds:.0f} s: {last}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Runner:
    """Runs steps in `out`, at most `lanes` at a time, each of them with its share of the cores.

    Our own commands run in forks of one process that has loaded the libraries, where that is possible (`preloaded`).

    Attributes:
        seconds: of each step that is done, in the order of the steps.
    """

    def __init__(self, out: Path, console: Console, variables: Mapping[str, str], lanes: int) -> None:
        self.out, self.console, self.lanes = out, console, max(1, lanes)
        self.seconds: dict[str, float] = {}
        self._variables = dict(variables)
        self._watched = console.is_terminal
        self._records = Records(out)

    def _environment(self, step: Step) -> dict[str, str]:
        threads = str(_cores() if step.alone else max(1, _cores() // self.lanes))
        # (Threads that wait busily for one another take ten times as long beside any other work.)
        usual = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        return {**usual, **os.environ, **self._variables, **step.variables}

    def _done(self, step: Step) -> float | None:
        """The seconds a step took, if it was done with this command and its folder is still there."""
        record = self._records.found(f"steps/{step.name}", {"asked": _asked(step, self.out)})
        return record.get("seconds") if record and (self.out / step.folder).is_dir() else None

    def _start(self, step: Step, group: Together, number: str) -> None:
        """Print a step's command and start it."""
        self._records.drop(f"steps/{step.name}")
        if not step.goes_on:
            # What a stopped run of this step left.
            shutil.rmtree(self.out / step.folder, ignore_errors=True)
        told = "".join(f"{name}={shlex.quote(value)} " for name, value in step.variables.items())
        self.console.print(f"\n[{number}] {step.name}", style="bold", markup=False)
        self.console.print(
            f"$ {told}{shlex.join(step.command)}", style="cyan", markup=False, highlight=False, soft_wrap=True
        )
        with _log(step, self.out).open("w") as log:
            group.add(step.name, begin(step.command, self._environment(step), log))

    def _finish(self, step: Step, status: int, seconds: float, number: str) -> None:
        """Record a step that ended.

        Raises:
            RememError: its status says that it failed.
        """
        lines = _lines(_log(step, self.out))
        if status == COLLAPSED and step.scores:
            said = f"{step.name}: scored, and the model says nothing real; see {_log(step, self.out)}"
            self.console.print(said, style="yellow", markup=False, soft_wrap=True)
        elif status:
            for line in lines[-20:]:
                self.console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
            raise RememError(
                f"step '{step.name}' ended with status {status}; all that it printed is in {_log(step, self.out)}. "
                "The same command goes on from here"
            )
        record = {"command": step.command, "asked": _asked(step, self.out), "seconds": round(seconds, 1)}
        self._records.keep(f"steps/{step.name}", record)
        self.seconds[step.name] = round(seconds, 1)
        self.console.print(f"[{number}] {step.name}: {seconds:.0f} s", style="green", markup=False)

    def run(self, steps: Sequence[Step]) -> None:
        """Run what is not done, and again whatever needs a step that was done anew.

        Raises:
            RememError: a step failed; those that ran beside it were let end.
        """
        waiting: list[Step] = []
        numbers: dict[str, str] = {}
        fresh: set[str] = set()
        done: set[str] = set()
        for index, step in enumerate(steps, start=1):
            if not set(step.needs) <= set(numbers):
                raise ValueError(f"{step.name} needs what does not come before it: {', '.join(step.needs)}")
            numbers[step.name] = f"{index}/{len(steps)}"
            before = None if fresh & set(step.needs) else self._done(step)
            if before is None:
                waiting.append(step)
                fresh.add(step.name)
            else:
                done.add(step.name)
                self.seconds[step.name] = before
                self.console.print(
                    f"[{numbers[step.name]}] {step.name}: done before, in {before:.0f} s",
                    style="dim",
                    markup=False,
                )
        forks = any(takes(step.command) for step in waiting)
        loaded = libraries(self._environment(Step("", [], ""))) if forks else nullcontext()
        by_name = {step.name: step for step in steps}
        failed: RememError | None = None
        told = time.monotonic()
        show = Live(console=self.console, transient=True, auto_refresh=False)
        with loaded, Together() as group, show as live:
            while group.running or (waiting and failed is None):
                for name, status, seconds in group.ended():
                    try:
                        self._finish(by_name[name], status, seconds, numbers[name])
                    except RememError as error:
                        failed = failed or error
                    done.add(name)
                for step in list(waiting) if failed is None else ():
                    busy = [by_name[name] for name in group.running]
                    if len(busy) >= self.lanes or any(other.alone for other in busy):
                        break
                    if set(step.needs) <= done and not (step.alone and busy):
                        waiting.remove(step)
                        self._start(step, group, numbers[step.name])
                lines = [_status(by_name[name], self.out, group.seconds(name)) for name in group.running]
                if self._watched:
                    width = self.console.width - 1
                    live.update(Text("\n".join(line[:width] for line in lines), style="dim"), refresh=True)
                elif time.monotonic() - told > TOLD_EVERY:
                    told = time.monotonic()
                    for line in lines:
                        self.console.print(f"  {line[:160]}", markup=False, highlight=False, soft_wrap=True)
                time.sleep(POLL)
        self.seconds = {step.name: self.seconds[step.name] for step in steps if step.name in self.seconds}
        if failed is not None:
            raise failed
