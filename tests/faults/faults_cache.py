"""Kept replies: lines that were cut, changed, or written by somebody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from frame import Fault, World


def kept(name: str, change: Callable[[Path], None]) -> Fault:
    """A run whose replies are kept, `change` of the file, the run again: the right numbers, whatever stands there."""

    def act(world: World):
        cache = world.folder / "cache"
        arguments = {"args": f"cache={cache},batch_size=2"}
        world.score(**arguments)
        (file,) = cache.glob("*/*.jsonl")
        change(file)
        return world.score(world.sound, **arguments)

    return Fault("cache", name, act)


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(b"\n".join(change(file.read_bytes().splitlines())) + b"\n") and None


def record(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Changes the JSON of every line and leaves its checksum."""

    def apply(one: bytes) -> bytes:
        whole = json.loads(one)
        change(whole)
        return json.dumps(whole).encode()

    return lines(lambda all_lines: [apply(one) for one in all_lines])


def _reply(text):
    def change(whole):
        for _, answers in whole["batch"]:
            answers[0][0] = text

    return change


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


FAULTS = [
    kept("nothing happened", lambda file: None),
    kept("the file is empty", lambda file: file.write_bytes(b"") and None),
    kept("the file is gone", lambda file: file.unlink()),
    kept("cut inside a batch", lambda file: file.write_bytes(file.read_bytes()[:-40]) and None),
    kept(
        "cut in the middle",
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]) and None,
    ),
    kept("noise behind it", lambda file: file.write_bytes(file.read_bytes() + b"\x00\xff\xfe{}[]") and None),
    kept("the first line is lost", lines(lambda found: found[1:])),
    kept("every line twice", lines(lambda found: found * 2)),
    kept("replies of others", record(_reply("Oslo Bay"))),
    kept("blank replies", record(_reply(""))),
    kept("numbers as replies", record(_reply(7))),
    kept("nulls as replies", record(_reply(None))),
    kept("no checksum", record(lambda whole: whole.pop("sum"))),
    kept("another checksum", record(lambda whole: whole.update(sum="0" * 32))),
    kept("no batch", record(lambda whole: whole.pop("batch"))),
    kept("lines that are lists", lines(lambda found: [b"[]" for _ in found])),
    kept("lines that are numbers of 5,000 digits", lines(lambda found: [b"9" * 5000 for _ in found])),
    kept("lines that are deeply nested", lines(lambda found: [b"[" * 100_000 for _ in found])),
    kept("a folder in its place", _folder),
]
