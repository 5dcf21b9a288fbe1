"""Boards, and what reaches a terminal from names, paths and cells of others."""

from __future__ import annotations

import json
import math
import os

from faults_results import run_of
from frame import End, Fault, World, overwrite

ESCAPES = {
    "a colour": "\x1b[31mred\x1b[0m",
    "a cleared screen": "\x1b[2J\x1b[H",
    "a window title": "\x1b]0;owned\x07",
    "a link": "\x1b]8;;http://x\x1b\\y\x1b]8;;\x1b\\",
    "an eight-bit CSI": "\x9b31m",
    "a carriage return": "good\rbad",
    "a backspace": "ab\x08c",
    "a bell": "\x07",
    "a right-to-left override": "\u202egpj.exe",
    "an isolate": "\u2066x\u2069",
    "a zero-width space": "a\u200bb",
    "a tag character": "x\U000e0041",
    "half of a character pair": "\ud800",
    "a line feed": "a\nremem gate: error: none",
}
FORBIDDEN = [chr(c) for c in (*range(0, 9), *range(11, 32), 127, *range(0x80, 0xA0))]
FORBIDDEN += [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\u061c", "\U000e0041"]


def plain(end: End) -> End:
    """The end, unless what was printed holds a character that a terminal obeys."""
    found = [repr(c) for c in FORBIDDEN if c in end.out + end.err]
    assert not found, f"printed: {', '.join(found)}"
    return end


def board_of(world: World) -> tuple[os.PathLike, dict]:
    """A board of one entry, made by the command, and the entry."""
    file = world.folder / "board.jsonl"
    start, runs = run_of(world, name="start"), run_of(world, name="npo", em=0.0)
    end = world.remem("leaderboard", "add", f"npo={runs}", f"start={start}", "--start", start, "--file", file)
    assert end.status == 0, end.err
    return file, json.loads(file.read_text())


def shown(name: str, change, says: str = "", **more) -> Fault:
    """A fault of a board's only line: `change(entry)` in place, or the text of another file."""

    def act(world: World) -> End:
        file, entry = board_of(world)
        right = world.remem("leaderboard", "show", "--file", file).out
        made = change(entry)
        text = made if isinstance(made, str | bytes) else json.dumps(entry) + "\n"
        overwrite(file.name, text)(file.parent)
        end = plain(world.remem("leaderboard", "show", "--file", file))
        return End(end.status, end.out, end.err, end.out if not end.status else None, right)

    return Fault("boards", name, act, says, **more)


def put(*path, value=None):
    """Sets a value deep in an entry; None removes."""

    def change(entry: dict) -> None:
        *above, last = path
        for one in above:
            entry = entry[one]
        if value is None:
            entry.pop(last)
        else:
            entry[last] = value

    return change


def _as_lines(*changes):
    def change(entry):
        lines = []
        for one in changes:
            copy = json.loads(json.dumps(entry))
            one(copy)
            lines.append(json.dumps(copy) + "\n")
        return "".join(lines)

    return change


SCORE = ("scores", "remem_forget1", "em")


def verified(name: str, change, says: str) -> Fault:
    """An edited entry against the results and samples that it was made from."""

    def act(world: World) -> End:
        file, entry = board_of(world)
        change(entry)
        file.write_text(json.dumps(entry) + "\n")
        runs, start = world.folder / "npo", world.folder / "start"
        argv = ["leaderboard", "verify", f"npo={runs}", f"start={start}", "--start", start, "--file", file]
        return plain(world.remem(*argv))

    return Fault("boards", f"verify: {name}", act, says)


def _entry_of_name(name: str) -> Fault:
    """An entry whose name is given on the command line."""

    def act(world: World) -> End:
        runs = run_of(world, name="npo", em=0.0)
        file = world.folder / "board.jsonl"
        end = world.remem("leaderboard", "add", runs, "--name", ESCAPES[name], "--no-gate", "--file", file)
        return plain(end)

    return Fault("terminal", f"{name} in an entry's name", act, "")


def _folder_named(command: str, name: str) -> Fault:
    """A results folder, a checkpoint, a data set of such a name, and nothing in it."""

    def act(world: World) -> End:
        place = world.folder / os.fsdecode(os.fsencode(ESCAPES[name].replace("/", "_")))
        place.mkdir()
        if command == "gate":
            return plain(world.remem("gate", place))
        if command == "data check":
            return plain(world.remem("data", "check", place))
        if command == "merge":
            return plain(world.remem("merge", "--adapter", place, "--out", world.folder / "merged"))
        end = world.score(place)  # lmms-eval's own log has colours
        assert ESCAPES[name] not in end.out + end.err
        return end

    return Fault("terminal", f"{name} in the path given to {command}", act, "")


def _samples_say(name: str) -> Fault:
    """Row ids, attributes and replies of others in a report's and a gate's words."""

    def act(world: World) -> End:
        place = run_of(world, sealed=False)
        (file,) = place.glob("*samples_remem_forget1.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            line["remem_rows"]["attribute"] = ESCAPES[name]
            line["remem_rows"]["identity"] = ESCAPES[name]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        end = plain(world.remem("gate", place, "--attributes"))
        return End(end.status, end.out, end.err, end.status, 0)

    return Fault("terminal", f"{name} in the samples' cells", act, "")


FAULTS = [
    shown("nothing", lambda entry: None),
    shown("an empty board", lambda entry: "", "no entry"),
    shown("a board of blank lines", lambda entry: "\n\n \n", "no entry"),
    shown("a board that is cut", lambda entry: json.dumps(entry)[:-30], "line 1"),
    shown("a board of bytes", lambda entry: b"\xff\xfe\x00", "UTF-8"),
    shown("a board that is nested deep", lambda entry: "[" * 100_000, "line 1"),
    shown("a number of 5,000 digits", lambda entry: '{"format": ' + "9" * 5000 + "}", "5000 digits"),
    shown("an entry that is a list", lambda entry: "[]\n", "line 1"),
    shown("an entry twice", _as_lines(lambda e: None, lambda e: None), "line 2"),
    shown("one name twice", _as_lines(lambda e: None, put("samples", value="0" * 16)), "line 2"),
    shown(
        "an entry of other data",
        _as_lines(
            lambda e: None,
            lambda e: e.update(
                name="b",
                samples="0" * 16,
                data={task: {**data, "fingerprint": "0" * 16} for task, data in e["data"].items()},
            ),
        ),
        "line 2",
    ),
    shown("a format to come", put("format", value=99), "format 99"),
    shown("an unknown field", put("more", value=1), "more"),
    *(
        shown(f"without '{name}'", put(name), name)
        for name in ("name", "samples", "data", "scores", "start", "weights")
    ),
    *(
        shown(f"a score that is {value!r}"[:40], put(*SCORE, "value", value=value), "line 1")
        for value in (math.nan, math.inf, -0.5, 1.5, "1", True, [1], 10**400)
    ),
    shown("a score without bounds", put(*SCORE, "low"), "low"),
    shown("a score outside its bounds", put(*SCORE, "high", value=-0.1), "line 1"),
    shown("more rows than the set", put(*SCORE, "rows", value=10**6), "rows"),
    shown(
        "a distance that is NaN", put("to_gold", value={"remem_forget1": {"ks": math.nan, "jsd": 0}}), "NaN"
    ),
    shown("a gate without reasons", put("start", "gate", value={"passed": False, "reasons": []}), "reason"),
    shown("a gate that passed with reasons", put("start", "gate", "reasons", value=["x"]), "reason"),
    shown("a gate that is a text", put("start", "gate", value="passed"), "start"),
    *(shown(f"{name} in the name", put("name", value=text), "characters") for name, text in ESCAPES.items()),
    shown("a bidirectional character in the method", put("method", value="\u202ex"), "method"),
    shown("an escape in the checkpoint", put("checkpoint", value="\x1b[31m"), "checkpoint"),
    shown("an escape in a setting", put("suite", "remem_forget1", "estimator", value="\x1b[2J"), "suite"),
    shown("a name of 5,000 characters", put("name", value="x" * 5000), "name"),
    Fault("boards", "a folder in the board's place", lambda w: _folder_in_place(w), "board"),
    verified(
        "another score", lambda e: e["scores"]["remem_forget1"]["memo"].update(value=0.05, high=0.2), "memo"
    ),
    verified("another checkpoint", put("checkpoint", value="other/model"), "checkpoint"),
    verified(
        "another data set", lambda e: e["data"]["remem_forget1"].update(fingerprint="0" * 16), "fingerprint"
    ),
    verified("other samples", put("samples", value="0" * 16), "samples"),
    verified("another name", put("name", value="b"), "no entry"),
    *map(_entry_of_name, ("a colour", "a right-to-left override", "a line feed", "half of a character pair")),
    *(
        _folder_named(command, name)
        for command in ("gate", "data check", "merge", "scoring")
        for name in ("a colour", "a window title", "a right-to-left override", "a line feed")
    ),
    *map(_samples_say, ("a colour", "a cleared screen", "a right-to-left override", "a line feed")),
]


def _folder_in_place(world: World) -> End:
    runs = run_of(world, name="npo", em=0.0)
    (world.folder / "board").mkdir()
    return plain(world.remem("leaderboard", "add", runs, "--no-gate", "--file", world.folder / "board"))
