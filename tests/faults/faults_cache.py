"""Kept replies: damaged, of another version or shape, in a folder that is none. The numbers are those without a cache."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from frame import End, Fault, World

from remem_tasks.engine import cache

_kept: dict[str, Path] = {}
DEEP = b"[" * 100_000 + b"]" * 100_000


def kept(world: World) -> Path:
    """A folder of kept replies of the sound checkpoint, three batches of two rows; made once."""
    if "folder" not in _kept:
        folder = world.sound.with_name("kept-replies")
        end = world.score(args=f"batch_size=2,cache={folder}")
        assert end.status == 0 and len(lines(folder)) == 3, end.err
        _kept["folder"] = folder
    return _kept["folder"]


def file_of(folder: Path) -> Path:
    """The one file of a folder of kept replies."""
    [file] = folder.glob("*/*.jsonl")
    return file


def lines(folder: Path) -> list[bytes]:
    return file_of(folder).read_bytes().splitlines(keepends=True)


def damaged(name: str, change: Callable[[Path], object], says: str = "", counted: str = "") -> Fault:
    """A scoring on a copy of the kept replies after `change(folder)`; `counted`: what has to be said as well."""

    def act(world: World) -> End:
        folder = world.folder / "kept"
        shutil.copytree(kept(world), folder)
        change(folder)
        end = world.score(args=f"batch_size=2,cache={folder}")
        assert end.status or not counted or counted in end.err, end.err
        return end

    return Fault("cache", name, act, says)


def rewritten(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    """The lines of the file anew."""

    def apply(folder: Path) -> None:
        file_of(folder).write_bytes(b"".join(change(lines(folder))))

    return apply


def line(change: Callable[[bytes], bytes], number: int = 1) -> Callable[[Path], None]:
    """One line anew."""

    def apply(found: list[bytes]) -> list[bytes]:
        return [*found[:number], change(found[number]), *found[number + 1 :]]

    return rewritten(apply)


def record(change: Callable[[dict], object], resealed: bool = False) -> Callable[[Path], None]:
    """One line's object changed in place, with its old checksum or a right one."""

    def apply(raw: bytes) -> bytes:
        whole = json.loads(raw)
        change(whole)
        if resealed:
            whole.pop("sum", None)
            whole["sum"] = cache.hash_of(whole)
        return json.dumps(whole).encode() + b"\n"

    return line(apply)


def answers(change: Callable[[list], object]) -> Callable[[Path], None]:
    """Every kept answer of one line, [text, read, said], changed in place under a right checksum."""

    def apply(whole: dict) -> None:
        for _, kept_answers in whole["batch"]:
            for answer in kept_answers:
                change(answer)

    return record(apply, resealed=True)


def put(place: int, value: object) -> Callable[[list], None]:
    return lambda answer: answer.__setitem__(place, value)


def beside(make: Callable[[Path], object], name: str = "1-1.jsonl") -> Callable[[Path], None]:
    """Something more in the model's folder."""
    return lambda folder: make(file_of(folder).parent / name)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something in place of the file."""

    def apply(folder: Path) -> None:
        file = file_of(folder)
        file.unlink()
        make(file)

    return apply


def other(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


ONE = "1 damaged lines"
FAULTS = [
    damaged("nothing", lambda folder: None),
    damaged("no file", lambda folder: shutil.rmtree(folder)),
    # Bytes
    *(
        damaged(f"a line is {told}", line(lambda raw, new=new: new), counted=ONE)
        for told, new in {
            "empty": b"\n",
            "blank": b"  \t \n",
            "text": b"not a line of ours\n",
            "null": b"null\n",
            "a number": b"7\n",
            "a list": b"[]\n",
            "an empty object": b"{}\n",
            "no UTF-8": b'{"batch": "\xff\xfe"}\n',
            "UTF-16": '{"batch": []}'.encode("utf-16") + b"\n",
            "zero bytes": b"\0" * 5000 + b"\n",
            "nested deep": DEEP + b"\n",
            "a deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"\n",
            "5,000 digits": b'{"sum": ' + b"9" * 5000 + b"}\n",
            "infinity": b'{"sum": "a", "batch": Infinity}\n',
            "of 1 MB": b'{"sum": "' + b"a" * 1_000_000 + b'"}\n',
        }.items()
    ),
    damaged("a line is cut", line(lambda raw: raw[: len(raw) // 2] + b"\n"), counted=ONE),
    damaged("a line lacks its last byte", line(lambda raw: raw[:-2] + b"\n"), counted=ONE),
    damaged("the last line has no end", rewritten(lambda found: [*found[:-1], found[-1][:-1]])),
    damaged("the file is cut inside a batch", rewritten(lambda found: [*found[:2], found[2][:40]]), counted=ONE),
    damaged("two lines are one", line(lambda raw: raw[:-1]), counted=ONE),
    damaged("a line twice", line(lambda raw: raw * 2)),
    damaged("all lines twice, backwards", rewritten(lambda found: found[::-1] * 2)),
    damaged("carriage returns", rewritten(lambda found: [raw[:-1] + b"\r\n" for raw in found])),
    damaged("a byte order mark", rewritten(lambda found: [b"\xef\xbb\xbf" + found[0], *found[1:]]), counted=ONE),
    damaged("a flipped bit", line(lambda raw: raw[:60] + bytes([raw[60] ^ 1]) + raw[61:]), counted=ONE),
    damaged("every line is damaged", rewritten(lambda found: [raw[3:] for raw in found]), counted="3 damaged lines"),
    # Fields, under the old checksum
    *(
        damaged(told, record(change), counted=ONE)
        for told, change in {
            "a reply is edited": lambda r: r["batch"][0][1][0].__setitem__(0, "Oslo Bay"),
            "a key is edited": lambda r: r["batch"][0].__setitem__(0, "0" * 32),
            "no checksum": lambda r: r.pop("sum"),
            "a checksum that is null": lambda r: r.update(sum=None),
            "a checksum of another length": lambda r: r.update(sum="ab"),
            "a checksum that is a list": lambda r: r.update(sum=[r["sum"]]),
            "no batch": lambda r: r.pop("batch"),
            "a field more": lambda r: r.update(version=2),
        }.items()
    ),
    # Fields, under a right checksum: what cannot be an answer is none
    *(
        damaged(f"right checksum: {told}", record(change, resealed=True), counted=ONE)
        for told, change in {
            "a batch that is null": lambda r: r.update(batch=None),
            "a batch that is a text": lambda r: r.update(batch="ab"),
            "a batch that is an object": lambda r: r.update(batch={"k": []}),
            "a batch of numbers": lambda r: r.update(batch=[1, 2]),
            "a key that is a list": lambda r: r["batch"][0].__setitem__(0, ["k"]),
            "a key that is null": lambda r: r["batch"][0].__setitem__(0, None),
            "answers that are null": lambda r: r["batch"][0].__setitem__(1, None),
            "no answers": lambda r: r["batch"][0].__setitem__(1, []),
            "answers that are a text": lambda r: r["batch"][0].__setitem__(1, "abc"),
            "an answer of two parts": lambda r: r["batch"][0][1].__setitem__(0, ["a", 1]),
            "an answer of four parts": lambda r: r["batch"][0][1].__setitem__(0, ["a", 1, 1, 1]),
        }.items()
    ),
    *(
        damaged(f"right checksum: an answer's {part} is {value!r}"[:60], answers(put(place, value)), counted=ONE)
        for part, place, values in (
            ("text", 0, (None, 7, True, ["a"], {})),
            ("tokens", 1, (-1, 1.5, "3", True, 10**30, 1e300)),
            ("reply's tokens", 2, (-1, "x", [], 10**18)),
        )
        for value in values
    ),
    damaged(
        "right checksum: twice as many answers",
        record(lambda r: [pair.__setitem__(1, pair[1] * 2) for pair in r["batch"]], resealed=True),
    ),
    damaged(
        "right checksum: findings that are no JSON",
        answers(lambda a: a.__setitem__(0, "{") if a[0].startswith("{") else None),
        "findings cannot be read",
    ),
    damaged(
        "right checksum: findings without secrets",
        answers(lambda a: a.__setitem__(0, '{"continuations": []}') if a[0].startswith("{") else None),
        "findings cannot be read",
    ),
    damaged(
        "right checksum: findings of text",
        answers(
            lambda a: a.__setitem__(0, '{"continuations": [1], "secrets": [], "answers": ["x"], "tokens": []}')
            if a[0].startswith("{")
            else None
        ),
        "findings cannot be read",
    ),
    # Files and folders
    damaged("an empty file beside", beside(other(b""))),
    damaged("a file of another version beside", beside(other(b'{"key": "a", "answer": "b"}\n')), counted=ONE),
    damaged("a file of other names beside", beside(other(b"mine\n"), "notes.jsonl")),
    damaged("a folder of a file's name beside", beside(Path.mkdir)),
    damaged("a link to itself beside", beside(lambda path: path.symlink_to(path.name))),
    damaged("a link to a device beside", beside(lambda path: path.symlink_to("/dev/zero"))),
    damaged("a pipe beside", beside(os.mkfifo)),
    damaged("a folder in place of the file", instead(Path.mkdir)),
    damaged("a link to nowhere in place of the file", instead(lambda path: path.symlink_to("nowhere"))),
    damaged("a pipe in place of the file", instead(os.mkfifo)),
    damaged(
        "a file in place of the model's folder",
        lambda folder: [
            (shutil.rmtree(one), one.write_text("x")) for one in list(folder.iterdir()) if one.is_dir()
        ],
        counted="no more replies are kept",
    ),
    damaged(
        "a file in place of the folder",
        lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
        counted="no more replies are kept",
    ),
    damaged(
        "a link to itself in place of the folder",
        lambda folder: (shutil.rmtree(folder), folder.symlink_to(folder.name)),
        counted="no more replies are kept",
    ),
    damaged(
        "the replies of another checkpoint",
        lambda folder: [one.rename(folder / ("0" * 32)) for one in list(folder.iterdir())],
    ),
    Fault("cache", "a home that is nobody's", lambda w: w.score(args="cache=~nobody_at_all/x"), "nobody_at_all"),
    Fault("cache", "a folder where nothing can be made", lambda w: w.score(args="cache=/proc/remem/x")),
    Fault("cache", "a name of 300 characters", lambda w: w.score(args=f"cache={w.folder / ('x' * 300)}")),
]  # fmt: skip
