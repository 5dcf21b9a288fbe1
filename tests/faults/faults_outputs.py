"""Outputs: two at once, folders that cannot be written, names that collide."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

from frame import End, Fault, World, numbers_of

from remem_tasks.files import lock

FORGE = (
    "--identities",
    "5",
    "--qa",
    "4",
    "--images",
    "1",
    "--test-qa",
    "1",
    "--retain-qa",
    "1",
    "--image-size",
    "32",
)


def locked(name: str, command: str) -> Fault:
    """A command whose output another process holds."""

    def act(world: World) -> End:
        out = world.folder / "out"
        argv = command.format(out=out, data=world.data_dir, model=world.sound).split()
        with lock(out):
            end = world.remem(*argv)
        return End(end.status, end.out, end.err)

    return Fault("outputs", name, act, "another process")


def blocked(name: str, command: str, block) -> Fault:
    def act(world: World) -> End:
        block(world.folder)
        argv = command.format(out=world.folder / "out", data=world.data_dir, model=world.sound).split()
        return world.remem(*argv)

    return Fault("outputs", name, act, "out")


def _one_second(world: World) -> End:
    """Two scorings whose clock stands still until the first has ended."""
    from lmms_eval import utils

    stamps = iter(["20260101_000000"] * 3 + [f"20260101_0000{n:02d}" for n in range(1, 60)])
    world.monkeypatch.setattr(utils, "get_datetime_str", lambda timezone=None: next(stamps))
    out = world.folder / "both"
    first = world.score(world.sound, out=out)
    right = first.numbers
    second = world.score(world.sound, out=out)
    assert len(list(out.rglob("*_results.json"))) == 2
    return End(second.status, second.out, second.err, numbers_of(out), right)


def _limited(size: int):
    """A run whose files may not grow beyond `size` bytes."""

    def act(world: World) -> End:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        right = world.score(world.sound)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            return world.score(world.sound, right=right.numbers)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)

    return act


def _file(folder: Path) -> None:
    (folder / "out").write_text("mine")


def _full(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")


COMMANDS = {
    "forge": "forge --out {out} " + " ".join(FORGE),
    "pull": "data pull {data} --split forget1 --out {out}",
    "base": "base --out {out} --pictures 4 --epochs 1",
}
FAULTS = [
    *(
        locked(f"{name}: another process writes there", command)
        for name, command in list(COMMANDS.items())[:2]
    ),
    *(blocked(f"{name}: a file is in the way", command, _file) for name, command in COMMANDS.items()),
    *(blocked(f"{name}: the folder holds something", command, _full) for name, command in COMMANDS.items()),
    Fault("outputs", "two scorings of one second", _one_second),
]


def long_answer(world: World) -> End:
    """An answer of a million characters."""

    def change(splits):
        splits["forget1"][2]["answer"] = "The city of Ada Birch is Oslo Bay. " * 30_000

    return world.score(data=world.data(change))


FAULTS += [Fault("resources", "an answer of a million characters", long_answer, "row")]
FAULTS += [Fault("resources", f"files of at most {size} bytes", _limited(size)) for size in (0, 1000, 20_000)]
