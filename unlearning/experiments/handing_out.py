"""Independent pieces of work, handed to processes of a cluster; each record goes into the one ledger when it is there.

    made = hand_out(Engine("ray", workers=4), "unlearning.experiments.scale:handed", jobs, ledger, say)

An experiment does so before its own loop, which then finds the records and makes the same table as in one process.
Work whose process ended is given to another one; a killed call goes on where its ledger says. All processes see
the experiment's folder under the same path.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from remem_tasks import preloaded
from remem_tasks.errors import RememError
from remem_tasks.training import call
from unlearning.experiments.ledger import Record, Records

ENGINES = ("here", "ray", "slurm", "processes")
"""Here; Ray; Slurm, and processes on this machine, through submitit."""
TRIES = 3
"""How often a piece of work is begun whose process ends."""
Job = tuple[Any, ...]


@dataclass(frozen=True)
class Engine:
    """Who does the work.

    Attributes:
        name: of ENGINES.
        workers: pieces at a time: here one after the other, more of them each in a fork of a process that has
            loaded the libraries; of a Ray cluster that is there already, its resources say so.
        options: of a piece: of Ray `num_cpus`, `num_gpus`, …; of submitit `timeout_min`, `slurm_partition`, ….
    """

    name: str = "here"
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise RememError(f"--engine '{self.name}' unknown; choose from {', '.join(ENGINES)}")
        if self.workers < 1:
            raise RememError(f"--workers {self.workers} is out of range: at least 1")
        if self.options and self.name == "here":
            raise RememError("--engine_options are of another engine than here")

    @property
    def apart(self) -> bool:
        """Whether other processes do the work, and not the caller."""
        return self.name != "here" or self.workers > 1


HERE = Engine()


def options_of(text: str) -> dict[str, Any]:
    """`num_gpus=1,num_cpus=4` as a mapping, numbers as numbers.

    >>> options_of("num_gpus=1,slurm_partition=gpu,num_cpus=0.5")
    {'num_gpus': 1, 'slurm_partition': 'gpu', 'num_cpus': 0.5}

    Raises:
        RememError: a part that is no NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not (name.isidentifier() and equals and value):
            raise RememError(f"--engine_options '{part}': not of the form NAME=VALUE")
        for kind in (int, float):
            try:
                found[name] = kind(value)
                break
            except ValueError:
                found[name] = value
    return found


def told_to_others(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that work depends on; no key and no token, which a cluster would write down.

    >>> told_to_others({"REMEM_DATA": "d", "REMEM_API_KEY": "k", "HF_TOKEN": "t", "HOME": "h"})
    {'REMEM_DATA': 'd'}
    """
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("REMEM_", "HF_", "OMP_")) and not name.endswith(("KEY", "TOKEN"))
    }


class Cluster(ABC):
    """Pieces of work in other processes."""

    @abstractmethod
    def start(self, name: str, work: str, job: Job) -> None:
        """Begin a piece."""

    @abstractmethod
    def ended(self) -> Iterator[tuple[str, tuple[Any, str] | None]]:
        """(name, what `call` gave, or None where its process ended) of those that ended since."""

    @abstractmethod
    def close(self) -> None:
        """End what still runs."""


def _child(sender: Connection, environment: Mapping[str, str], threads: int, work: str, job: Job) -> None:
    """In a fork: do a piece and send what `call` gave."""
    import torch

    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    sender.send(call(work, *job))


class _Forks(Cluster):
    """Forks of a process that has loaded the libraries; each takes its part of the threads that this one has."""

    def __init__(self, engine: Engine) -> None:
        import torch

        if sys.platform != "linux" or torch.cuda.is_initialized():
            raise RememError(
                f"--workers {engine.workers}: forks can compute on Linux and without a GPU only; --engine processes can"
            )
        self.threads = max(1, torch.get_num_threads() // engine.workers)
        self.jobs: dict[str, tuple[multiprocessing.process.BaseProcess, Connection]] = {}
        preloaded.load(os.environ)

    def start(self, name: str, work: str, job: Job) -> None:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        given = (sender, dict(os.environ), self.threads, work, job)
        process = multiprocessing.get_context("forkserver").Process(target=_child, args=given)
        process.start()
        sender.close()
        self.jobs[name] = process, receiver

    def ended(self) -> Iterator[tuple[str, tuple[Any, str] | None]]:
        ready = wait([receiver for _, receiver in self.jobs.values()], timeout=1.0)
        for name, (process, receiver) in list(self.jobs.items()):
            if receiver not in ready:
                continue
            del self.jobs[name]
            try:
                found = receiver.recv()
            except EOFError:
                found = None
            process.join()
            receiver.close()
            yield name, found

    def close(self) -> None:
        for process, _ in self.jobs.values():
            process.kill()
        for process, _ in self.jobs.values():
            process.join()
        preloaded.unload()


class _Ray(Cluster):
    """Ray: the cluster of $RAY_ADDRESS, else one on this machine with as many workers."""

    def __init__(self, engine: Engine) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ModuleNotFoundError as error:
            raise RememError("--engine ray needs Ray: pip install 'remem-unlearning[cluster]'") from error
        self.ray = ray
        address = os.environ.get("RAY_ADDRESS")
        # (One that is started here is for this machine alone: nothing of it can be reached from another.)
        alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        local = {} if address else {"num_cpus": engine.workers, **alone}
        told = {
            name: value for name, value in os.environ.items() if name.startswith(("REMEM_", "HF_", "OMP_"))
        }
        try:
            ray.init(
                address=address,
                runtime_env={"env_vars": told},
                log_to_driver=False,
                logging_level="ERROR",
                **local,
            )
            # What a process of the cluster is to blame for is Ray's to try again; an error in the work is not.
            self.remote = ray.remote(call).options(max_retries=TRIES - 1, **engine.options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RememError(f"--engine ray: {str(error).splitlines()[0]}") from error
        self.names: dict[Any, str] = {}

    def start(self, name: str, work: str, job: Job) -> None:
        self.names[self.remote.remote(work, *job)] = name

    def ended(self) -> Iterator[tuple[str, tuple[Any, str] | None]]:
        done, _ = self.ray.wait(list(self.names), timeout=1.0)
        for one in done:
            name = self.names.pop(one)
            try:
                yield name, self.ray.get(one)
            except self.ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from error
            except self.ray.exceptions.RayError:
                yield name, None

    def close(self) -> None:
        for one in self.names:
            self.ray.cancel(one, force=True)
        self.ray.shutdown()


class _Submitit(Cluster):
    """Slurm, or processes on this machine.

    Args:
        folder: where submitit keeps what goes to and fro, and the logs.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise RememError(
                f"--engine {engine.name} needs submitit: pip install 'remem-unlearning[cluster]'"
            ) from error
        self.gone = (submitit.core.utils.UncompletedJobError,)
        kind = "slurm" if engine.name == "slurm" else "local"
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=kind)
            self.executor.update_parameters(**{"timeout_min": 24 * 60, **engine.options})
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise RememError(f"--engine {engine.name}: {str(error).splitlines()[0]}") from error
        self.jobs: dict[str, Any] = {}

    def start(self, name: str, work: str, job: Job) -> None:
        self.jobs[name] = self.executor.submit(call, work, *job)

    def ended(self) -> Iterator[tuple[str, tuple[Any, str] | None]]:
        time.sleep(0.2)
        for name in [name for name, job in self.jobs.items() if job.done()]:
            job = self.jobs.pop(name)
            try:
                yield name, job.result()
            except self.gone:
                yield name, None

    def close(self) -> None:
        for job in self.jobs.values():
            job.cancel()


def hand_out(
    engine: Engine,
    work: str,
    jobs: Mapping[str, Job],
    records: Records,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Record]:
    """Have work done that has no record yet, and keep each record as it comes; the records made now, by name.

    With one worker here nothing is done: the caller's own loop does it.

    Args:
        work: `module:function`; a job's values are its arguments, and what it gives is the record.
        jobs: by the names of their records.

    Raises:
        RememError: the engine is not there; a job raised one; the process of a job ended TRIES times.
    """
    left = {name: job for name, job in jobs.items() if engine.apart and records.found(name) is None}
    if not left:
        return {}
    cluster: Cluster
    if engine.name == "here":
        cluster = _Forks(engine)
    else:
        cluster = _Ray(engine) if engine.name == "ray" else _Submitit(engine, records.out / "jobs")
    window = len(left) if engine.name == "ray" else engine.workers  # (Ray keeps those that wait)
    waiting, tries = list(left), dict.fromkeys(left, 0)
    running: set[str] = set()
    made: dict[str, Record] = {}
    try:
        while waiting or running:
            while waiting and len(running) < window:
                name = waiting.pop(0)
                tries[name] += 1
                running.add(name)
                cluster.start(name, work, left[name])
            for name, found in cluster.ended():
                running.discard(name)
                if found is None:
                    if engine.name == "ray" or tries[name] >= TRIES:
                        raise RememError(f"'{name}': the process that did it ended, {TRIES} times")
                    say(f"'{name}': the process that did it ended; it is begun again")
                    waiting.append(name)
                    continue
                record, error = found
                if error:
                    raise RememError(f"'{name}': {error}")
                records.keep(name, record)
                made[name] = records.found(name) or record
                say(f"[{len(made)}/{len(left)}] {name} ({engine.name})")
    finally:
        cluster.close()
    return made
