"""`leaderboard.jsonl`: one line per model, which others append to by a command that checks the entry.

A board holds one data set under one way of measuring: the first line fixes fingerprints and settings, and
an entry that differs in either is refused, as its numbers could not stand beside the others. So is one
whose starting point failed the gate, one that is there already, and one whose numbers do not hold together.
"""

from __future__ import annotations

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
from remem_tasks.files import lock, write_whole
from remem_tasks.reading import parse_json, read_text
from remem_tasks.report.board_extras import EXTRAS, check_extras, worst_of
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.samples import shown
from remem_tasks.report.settings import COMPARED, unlike
from remem_tasks.report.summary import EXPOSURES, Findings, Report
from remem_tasks.report.verdict import WHOLE, Kind
from remem_tasks.terminal import clean, foreign

FORMAT = 2
FIELDS: Mapping[str, type | tuple] = {
    "format": int,
    "name": str,
    "method": (str, type(None)),
    "checkpoint": str,
    "date": str,
    "remem": str,
    "samples": str,  # sha256 of the scores row by row: what makes an entry itself
    "data": dict,  # task → {fingerprint, rows, ids: which rows; boards from before have none}
    "suite": dict,  # task → the settings of settings.COMPARED
    "generation": dict,  # task → how replies were made
    "weights": (str, type(None)),  # digest of the weights that were scored; None where nobody knows
    "start": (dict, type(None)),  # {name, samples, gate: {passed, reasons}}
    "scores": dict,  # task → metric → {value, low, high, rows, remaining}
    "to_gold": dict,  # task → {ks, jsd}
}


def digest_of(task_results: Mapping[str, TaskResult]) -> str:
    """16 hex digits of every score of every row."""
    digest = hashlib.sha256()
    for task in sorted(task_results):
        task_result = task_results[task]
        for name in sorted(task_result.scores):
            digest.update(f"{task}\0{name}\0".encode())
            digest.update(task_result.scores[name].tobytes())
        digest.update("\0".join(task_result.ids).encode())
    return digest.hexdigest()[:16]


def entry_of(found: Findings, run: Run, name: str | None = None) -> dict:
    """The line of one run of a worked-out group."""
    scores: dict = {}
    for score in found.scores:
        if score.run == run.name and score.low is not None and score.part.kind in (Kind.ALL, Kind.TARGET):
            metric = score.metric if score.part == WHOLE else f"{score.part}_{score.metric}"
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
        start = {"name": found.start.name, "samples": digest_of(found.start.task_results), "gate": gate}
    return {
        "format": FORMAT,
        "name": name or run.name,
        "method": run.method,
        "checkpoint": run.checkpoint,
        "date": run.date,
        "remem": __version__,
        "samples": digest_of(run.task_results),
        "data": {
            task: {
                "fingerprint": task_result.fingerprint,
                "rows": len(task_result.rows),
                "ids": hashlib.sha256("\0".join(task_result.ids).encode()).hexdigest()[:16],
            }
            for task, task_result in run.task_results.items()
        },
        "suite": {
            task: {key: task_result.suite.get(key) for key in COMPARED}
            for task, task_result in run.task_results.items()
        },
        "generation": {task: dict(task_result.generation) for task, task_result in run.task_results.items()},
        "weights": run.weights,
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
        RememError: a field that is missing, unknown or of another type; a score that is not a number in
            [0, 1] within its interval; a set without fingerprint or rows.
    """
    if not isinstance(entry, dict):
        raise RememError(f"{where}: an entry is a JSON object")
    if entry.get("format") != FORMAT:
        raise RememError(f"{where}: format {shown(entry.get('format'))}, this version reads {FORMAT}")
    if missing := [name for name in FIELDS if name not in entry]:
        raise RememError(f"{where}: without {', '.join(missing)}")
    if unknown := [name for name in entry if name not in FIELDS and name not in EXTRAS]:
        raise RememError(f"{where}: unknown field {', '.join(unknown)}")
    for name, kind in FIELDS.items():
        if not isinstance(entry[name], kind) or isinstance(entry[name], bool):
            raise RememError(f"{where}: '{name}' is {shown(entry[name])}")
    _check_texts(entry, where)
    if not entry["name"].strip() or len(entry["name"]) > 200:
        raise RememError(f"{where}: 'name' has to be one line of 1 to 200 characters")
    if not re.fullmatch(r"[0-9a-f]{16}", entry["samples"]):
        raise RememError(f"{where}: 'samples' is no digest")
    if not entry["data"] or set(entry["data"]) != set(entry["scores"]):
        raise RememError(f"{where}: 'data' and 'scores' name other sets")
    for task, data in entry["data"].items():
        if not (
            isinstance(data, dict)
            and isinstance(data.get("fingerprint"), str)
            and data["fingerprint"]
            and _is_count(data.get("rows"))
        ):
            raise RememError(f"{where}: 'data' of {task} lacks fingerprint or rows")
        if not isinstance(entry["scores"][task], dict) or not set(MAINS) & set(entry["scores"][task]):
            raise RememError(f"{where}: {task} without {' or '.join(MAINS)}")
        for metric, score in entry["scores"][task].items():
            _check_score(score, f"{where}: {task} {metric}", data["rows"])
    for name in ("suite", "generation"):
        if set(entry[name]) != set(entry["data"]) or not all(
            isinstance(settings, dict) for settings in entry[name].values()
        ):
            raise RememError(f"{where}: '{name}' and 'data' name other sets")
    for task, by in entry["to_gold"].items():
        for key in ("ks", "jsd"):
            _check_number(by.get(key) if isinstance(by, dict) else by, f"{where}: to_gold of {task}: {key}")
    if entry["start"] is not None:
        _check_start(entry["start"], where)
    check_extras(entry, where)
    return entry


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_texts(value: object, where: str, key: str = "") -> None:
    """Raises RememError for a key or text that a terminal would obey or that shows as another."""
    if isinstance(value, str) and foreign(value):
        raise RememError(
            f"{where}: '{clean(key)}' holds control or bidirectional characters; one line is allowed"
        )
    if isinstance(value, dict):
        for name, item in value.items():
            _check_texts(name, where, name)
            _check_texts(item, where, f"{key} {name}".strip())
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, where, key)


def _check_start(start: dict, where: str) -> None:
    gate = start.get("gate")
    if not (
        isinstance(gate, dict)
        and isinstance(gate.get("passed"), bool)
        and isinstance(start.get("name"), str)
        and isinstance(start.get("samples"), str)
        and re.fullmatch(r"[0-9a-f]{16}", start["samples"])
    ):
        raise RememError(f"{where}: 'start' lacks its name, its samples or what the gate said of it")
    reasons = gate.get("reasons")
    if not isinstance(reasons, list) or not all(isinstance(one, str) and one.strip() for one in reasons):
        raise RememError(f"{where}: the gate of 'start' has no list of reasons")
    if gate["passed"] == bool(reasons):
        told = "passed, with reasons against it" if reasons else "did not pass, without a reason"
        raise RememError(f"{where}: the gate of 'start' {told}")


def _check_number(number: object, where: str) -> None:
    """Raises RememError for what is not a finite number in [0, 1]."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise RememError(f"{where} is {shown(number)}, not a number")
    if not 0 <= number <= 1:
        raise RememError(f"{where}: {shown(number)} is outside [0, 1]")


def _check_score(score: object, where: str, rows: int) -> None:
    if not isinstance(score, dict):
        raise RememError(f"{where} is {score!r}")
    bits = where.endswith("bits")
    for name in ("value", "low", "high"):
        number = score.get(name)
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise RememError(f"{where}: {name} is {shown(number)}, not a number")
    if not bits and not 0 <= score["value"] <= 1:
        raise RememError(f"{where}: {score['value']} is outside [0, 1]")
    remaining = score.get("remaining")
    if remaining is not None and (
        isinstance(remaining, bool) or not isinstance(remaining, int | float) or not math.isfinite(remaining)
    ):
        raise RememError(f"{where}: remaining is {shown(remaining)}, not a number")
    if not score["low"] - 1e-6 <= score["value"] <= score["high"] + 1e-6:
        raise RememError(
            f"{where}: {score['value']} is outside its interval {score['low']} to {score['high']}"
        )
    if not _is_count(score.get("rows")) or score["rows"] > rows:
        raise RememError(f"{where}: {shown(score.get('rows'))} rows of {rows}")


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
            if any(known[key] != data[key] for key in known.keys() & data.keys()):
                raise RememError(f"{where}: {task} is other data ({data}, the board {known})")
        for task in entry["data"]:
            why = unlike(
                (first["suite"][task], entry["suite"][task]),
                (first["generation"][task], entry["generation"][task]),
                first["scores"][task].keys() & entry["scores"][task].keys(),
            )
            if why:
                raise RememError(f"{where}: {task}: {why.replace(', not ', ', the board ')}")
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
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        where = f"'{file}', line {number}"
        if not line.strip():
            continue
        entry = check_entry(parse_json(line, where), where)
        check_beside(entry, board, where, no_gate=True)  # who put it in decided on the gate
        board.append(entry)
    return board


def append(file: str | Path, entries: Sequence[Mapping], no_gate: bool = False) -> int:
    """Append checked entries, all or none; returns how many the board then holds.

    The file is locked meanwhile, so that two who append at once do not mix their lines, and replaced in one move.
    """
    file = Path(os.path.realpath(file))  # a link stays one
    with lock(file, patience=60):
        board = read_board(file)
        before = read_text(file) if file.exists() else ""
        for entry in entries:
            where = f"entry '{entry.get('name', '?')}'"
            check_beside(check_entry(parse_json(_line(entry, where), where), where), board, where, no_gate)
            board.append(dict(entry))
        if before and not before.endswith("\n"):
            before += "\n"
        write_whole(file, before + "".join(_line(entry, "entry") + "\n" for entry in entries))
    return len(board)


def _line(entry: Mapping, where: str) -> str:
    try:
        return json.dumps(entry, allow_nan=False)
    except ValueError as error:
        raise RememError(f"{where}: a number that is NaN or infinite") from error


def verify(entry: Mapping, board: Sequence[Mapping]) -> str:
    """Whether the board's entry of that name is what its results and samples give.

    Args:
        entry: worked out anew (`entries_of`); reading the runs has checked their digests.

    Returns:
        what agreed, in a few words.

    Raises:
        RememError: no entry has the name, or the first field in which it differs.
    """
    noted = next((one for one in board if one["name"] == entry["name"]), None)
    if noted is None:
        raise RememError(f"the board has no entry '{entry['name']}'")
    found = parse_json(_line(entry, entry["name"]), entry["name"])
    for task, data in found["data"].items():
        if "ids" not in noted["data"].get(task, {}):  # an entry from before they were noted
            del data["ids"]
    for name in FIELDS:
        if name not in ("format", "remem", "date") and (where := _unequal(noted[name], found[name], name)):
            raise RememError(f"entry '{entry['name']}': {where}")
    weights = "" if entry["weights"] else "; the results name no weights"
    return f"{sum(map(len, entry['scores'].values()))} scores of {len(entry['data'])} sets{weights}"


def _unequal(noted: object, found: object, path: str) -> str:
    """Where two values differ, in words; numbers may by rounding."""
    if isinstance(noted, dict) and isinstance(found, dict):
        for name in sorted({*noted, *found}):
            if name not in noted or name not in found:
                return f"{path} {name} is only in {'its results' if name in found else 'the board'}"
            if where := _unequal(noted[name], found[name], f"{path} {name}"):
                return where
        return ""
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (noted, found))
    same = abs(noted - found) <= 2e-6 if numbers else noted == found
    return "" if same else f"{path} is {shown(noted)}, its results and samples give {shown(found)}"


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
    attacked = any(worst_of(entry) is not None for entry in board)
    for head in (*heads, *(("worst case EM",) if attacked else ())):
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
        worst = worst_of(entry)
        more = ["-" if worst is None else f"{worst:.3f}"] if attacked else []
        table.add_row(Text(entry["name"]), Text(entry["method"] or "-"), *shown, told, *more)
    return table
