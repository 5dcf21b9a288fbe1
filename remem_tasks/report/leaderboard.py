"""`leaderboard.jsonl`: one line a model, which others append to by a command that checks the entry.

A board holds one data set under one way of measuring: the first line fixes fingerprints and settings, and
an entry that differs in either is refused, as its numbers could not stand beside the others. So is one
whose starting point failed the gate, one that is there already, and one whose numbers do not hold together.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from remem_tasks import __version__
from remem_tasks.benchmarks.views import MAINS
from remem_tasks.errors import RememError
from remem_tasks.report.runs import COMPARED, Run, Sheet
from remem_tasks.report.summary import EXPOSURES, Findings, Report

FORMAT = 1
FIELDS: Mapping[str, type | tuple] = {
    "format": int,
    "name": str,
    "method": (str, type(None)),
    "checkpoint": str,
    "date": str,
    "remem": str,
    "samples": str,  # sha256 of the scores row by row: what makes an entry itself
    "data": dict,  # task → {fingerprint, rows}
    "suite": dict,  # the settings of read.COMPARED
    "start": (dict, type(None)),  # {name, samples, gate: {passed, reasons}}
    "scores": dict,  # task → metric → {value, low, high, rows, remaining}
    "to_gold": dict,  # task → {ks, jsd}
}


def digest_of(sheets: Mapping[str, Sheet]) -> str:
    """16 hex digits of every score of every row."""
    digest = hashlib.sha256()
    for task in sorted(sheets):
        sheet = sheets[task]
        for name in sorted(sheet.scores):
            digest.update(f"{task}\0{name}\0".encode())
            digest.update(sheet.scores[name].tobytes())
        digest.update("\0".join(sheet.ids).encode())
    return digest.hexdigest()[:16]


def entry_of(found: Findings, run: Run, name: str | None = None) -> dict:
    """The line of one run of a worked-out group."""
    scores: dict = {}
    for score in found.scores:
        if score.run == run.name and score.low is not None and score.part in ("all", "forgotten", "kept"):
            metric = score.metric if score.part == "all" else f"{score.part}_{score.metric}"
            scores.setdefault(score.task, {})[metric] = {
                "value": round(score.value, 6),
                "low": round(score.low, 6),
                "high": round(score.high, 6),
                "rows": score.rows,
                "remaining": None if score.remaining is None else round(score.remaining, 6),
            }
    start = None
    if found.start is not None and found.verdict is not None:
        gate = {"passed": found.verdict.passed, "reasons": found.verdict.reasons}
        start = {"name": found.start.name, "samples": digest_of(found.start.sheets), "gate": gate}
    suites = [sheet.suite for sheet in run.sheets.values()]
    return {
        "format": FORMAT,
        "name": name or run.name,
        "method": run.method,
        "checkpoint": run.checkpoint,
        "date": run.date,
        "remem": __version__,
        "samples": digest_of(run.sheets),
        "data": {
            task: {"fingerprint": sheet.fingerprint, "rows": len(sheet.rows)}
            for task, sheet in run.sheets.items()
        },
        "suite": {key: suites[0].get(key) for key in COMPARED},
        "start": start,
        "scores": scores,
        "to_gold": {
            task: {key: round(by[key], 6) for key in ("ks", "jsd")}
            for task, by in found.distances.get(run.name, {}).items()
        },
    }


def check_entry(entry: object, where: str) -> dict:
    """The entry, if it is whole.

    Raises:
        RememError: a field that is missing, unknown or of another type; a score that is no number in
            [0, 1] within its interval; a set without fingerprint or rows.
    """
    if not isinstance(entry, dict):
        raise RememError(f"{where}: an entry is a JSON object")
    if entry.get("format") != FORMAT:
        raise RememError(f"{where}: format {entry.get('format')!r}, this version reads {FORMAT}")
    if missing := [name for name in FIELDS if name not in entry]:
        raise RememError(f"{where}: without {', '.join(missing)}")
    if unknown := [name for name in entry if name not in FIELDS]:
        raise RememError(f"{where}: unknown field {', '.join(unknown)}")
    for name, kind in FIELDS.items():
        if not isinstance(entry[name], kind) or isinstance(entry[name], bool):
            raise RememError(f"{where}: '{name}' is {entry[name]!r}")
    if not entry["name"].strip() or re.search(r"[\x00-\x1f]", entry["name"]) or len(entry["name"]) > 200:
        raise RememError(f"{where}: 'name' has to be one line of 1 to 200 characters")
    if not re.fullmatch(r"[0-9a-f]{16}", entry["samples"]):
        raise RememError(f"{where}: 'samples' is no digest")
    if not entry["data"] or set(entry["data"]) != set(entry["scores"]):
        raise RememError(f"{where}: 'data' and 'scores' name other sets")
    for task, data in entry["data"].items():
        if not (isinstance(data, dict) and data.get("fingerprint") and isinstance(data.get("rows"), int)):
            raise RememError(f"{where}: 'data' of {task} lacks fingerprint or rows")
        if not isinstance(entry["scores"][task], dict) or not set(MAINS) & set(entry["scores"][task]):
            raise RememError(f"{where}: {task} without {' or '.join(MAINS)}")
        for metric, score in entry["scores"][task].items():
            _check_score(score, f"{where}: {task} {metric}", data["rows"])
    gate = (entry["start"] or {}).get("gate")
    if entry["start"] is not None and not (
        isinstance(gate, dict)
        and isinstance(gate.get("passed"), bool)
        and isinstance(entry["start"].get("samples"), str)
    ):
        raise RememError(f"{where}: 'start' lacks its samples or what the gate said of it")
    return entry


def _check_score(score: object, where: str, rows: int) -> None:
    if not isinstance(score, dict):
        raise RememError(f"{where} is {score!r}")
    for name in ("value", "low", "high"):
        number = score.get(name)
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise RememError(f"{where}: {name} is {number!r}, not a number")
    if not 0 <= score["value"] <= 1:
        raise RememError(f"{where}: {score['value']} is outside [0, 1]")
    if not score["low"] - 1e-6 <= score["value"] <= score["high"] + 1e-6:
        raise RememError(
            f"{where}: {score['value']} is outside its interval {score['low']} to {score['high']}"
        )
    if not isinstance(score.get("rows"), int) or not 0 < score["rows"] <= rows:
        raise RememError(f"{where}: {score.get('rows')!r} rows of {rows}")


def check_beside(entry: Mapping, board: Sequence[Mapping], where: str, no_gate: bool = False) -> None:
    """Whether an entry may stand among those of a board.

    Raises:
        RememError: other data or settings than the board's, there already, or a start that had not memorised.
    """
    for number, other in enumerate(board, start=1):
        if other["samples"] == entry["samples"]:
            raise RememError(f"{where}: there already, as line {number} ('{other['name']}')")
        if other["name"] == entry["name"]:
            raise RememError(f"{where}: the name '{entry['name']}' is taken by line {number}")
    if board:
        first = board[0]
        for task, data in entry["data"].items():
            known = first["data"].get(task)
            if known is None or set(first["data"]) != set(entry["data"]):
                raise RememError(
                    f"{where}: scored on {', '.join(entry['data'])}, the board on {', '.join(first['data'])}"
                )
            if known != data:
                raise RememError(f"{where}: {task} is other data ({data}, the board {known})")
        for name in COMPARED:
            if entry["suite"].get(name) != first["suite"].get(name):
                raise RememError(
                    f"{where}: {name} {entry['suite'].get(name)}, the board {first['suite'].get(name)}"
                )
    gate = (entry["start"] or {}).get("gate")
    if not no_gate and not (gate and gate["passed"]):
        why = "; ".join(gate["reasons"][:2]) if gate else "no starting model was given (--start)"
        raise RememError(f"{where}: its starting point was not shown to have memorised: {why}")


def read_board(file: str | Path) -> list[dict]:
    """All entries, checked one by one and against each other; an absent file is an empty board."""
    file = Path(file)
    if not file.exists():
        return []
    board: list[dict] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"'{file}', line {number}"
        if not line.strip():
            continue
        try:
            entry = check_entry(json.loads(line), where)
        except ValueError as error:
            if isinstance(error, RememError):
                raise
            raise RememError(f"{where}: no JSON ({error})") from error
        check_beside(entry, board, where, no_gate=True)  # who put it in decided on the gate
        board.append(entry)
    return board


def append(file: str | Path, entries: Sequence[Mapping], no_gate: bool = False) -> int:
    """Append checked entries, all or none; returns how many the board then holds.

    The file is locked meanwhile, so that two who append at once do not mix their lines.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        board = read_board(file)
        for entry in entries:
            where = f"entry '{entry.get('name', '?')}'"
            check_beside(check_entry(json.loads(json.dumps(entry)), where), board, where, no_gate)
            board.append(dict(entry))
        opened.seek(0, os.SEEK_END)
        size = opened.tell()
        if size:
            opened.seek(0)
            if not opened.read().endswith("\n"):
                opened.write("\n")
        opened.write("".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries))
    return len(board)


def entries_of(report: Report, name: str | None = None) -> list[dict]:
    """Entries of all runs of a report that are neither gold nor start.

    Raises:
        RememError: runs that must not be compared, or one name for several runs.
    """
    if len(report.groups) > 1:
        raise RememError(f"these runs belong on no one board: {report.groups[1].group.why}")
    found = report.groups[0]
    runs = [run for run in found.group.runs if not found.role(run)]
    if not runs:
        raise RememError("nothing to enter: the only runs are the gold and the starting model")
    if name and len(runs) > 1:
        raise RememError(f"--name '{name}' for {len(runs)} runs; name them as NAME=RUN")
    return [entry_of(found, run, name) for run in runs]


def table_of(board: Sequence[Mapping]) -> Table:
    """The board, least exposure of the forget set first."""
    table = Table(title="Leaderboard", title_style="bold")
    scores = [scores for entry in board for scores in entry["scores"].values()]
    main = next((word for name, word in MAINS.items() if any(name in one for one in scores)), "EM")
    heads = ("model", "method", f"forget {main}", "forget exposure", "to gold (KS)", f"retain {main}", "gate")
    for head in heads:
        table.add_column(head, justify="left" if head in ("model", "method", "gate") else "right")

    def value(entry: Mapping, kind: str, names: Sequence[str]) -> float | None:
        for task, scores in entry["scores"].items():
            if kind in task:
                return next((scores[name]["value"] for name in names if name in scores), None)
        return None

    def order(entry: Mapping) -> float:
        found = value(entry, "forget", EXPOSURES)
        return math.inf if found is None else found

    for entry in sorted(board, key=order):
        gold = next((by["ks"] for task, by in entry["to_gold"].items() if "forget" in task), None)
        numbers = (
            value(entry, "forget", MAINS),
            value(entry, "forget", EXPOSURES),
            gold,
            value(entry, "retain", MAINS),
        )
        gate = entry["start"]["gate"]["passed"] if entry["start"] else None
        shown = ["-" if number is None else f"{number:.3f}" for number in numbers]
        told = {True: "passed", False: "NOT passed", None: "not asked"}[gate]
        table.add_row(Text(entry["name"]), Text(entry["method"] or "-"), *shown, told)
    return table
