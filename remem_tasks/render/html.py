"""One self-contained HTML file: a page of ours, and the report as gzipped JSON that it reads piece by piece.

What models and data say enters the page as base64 only, and the page turns it into text nodes only. A
content policy lets no script run but the page's own, whose hash it names, and nothing be loaded.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import math
import time
from collections.abc import Iterable, Sequence
from importlib.resources import files

import numpy as np
from PIL import Image

from remem_tasks.benchmarks.view import KNOWN, RIGHT, BenchmarkView, label_of
from remem_tasks.benchmarks.views import NUMBERS
from remem_tasks.errors import RememError
from remem_tasks.report import across
from remem_tasks.report.conclusion import conclusion, short_names
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.summary import Findings, Report, training_name
from remem_tasks.report.verdict import Kind, Verdict

SCALE = 10_000  # scores travel as whole numbers of this
REPLY = 2_000  # characters of a reply or a question that the page holds
GUESSES = 5
GUESSES_OF_MANY = 3  # from MANY rows × models on
MANY = 50_000
# (at most so many pictures, side in pixels, WebP quality); beyond the last they are left out
THUMBNAILS = ((800, 112, 60), (3_000, 72, 55), (12_000, 48, 50))


def _packed(value: object) -> str:
    """Base64 of gzip of JSON without NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode()


def _whole(values: np.ndarray | None) -> list[int] | None:
    """Scores in [0, 1] as whole numbers of SCALE, −1 where there is none."""
    if values is None:
        return None
    scaled = np.where(np.isnan(values), -1, np.rint(np.nan_to_num(values) * SCALE)).astype(int)
    return scaled.tolist()


def _rounded(value: float | None, digits: int = 5) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _coded(values: Iterable[str]) -> tuple[list[str], list[int]]:
    """(different values in order of first appearance, the place of each)."""
    places: dict[str, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values]
    return list(places), codes


def _run(run: Run, role: str, short: str) -> dict:
    return {
        "name": run.name,
        "short": short,
        "model": run.model,
        "role": role,
        "step": run.step,
        "series": training_name(run),
        "seed": run.seed,
        "method": run.method,
        "steps": run.steps,
        "stopped": run.stopped,
        "checkpoint": run.checkpoint,
        "date": run.date,
    }


def _task(task: str, found: Findings, chunk: str, pictures: dict[tuple[str, str], int]) -> dict:
    task_results = {run.name: task_result for run, task_result in found.group.task_results[task]}
    first: TaskResult = next(iter(task_results.values()))
    people, person = _coded(row.identity for row in first.rows)
    attributes, attribute = _coded(row.attribute for row in first.rows)
    categories, category = _coded(row.category for row in first.rows)
    metrics = list(
        dict.fromkeys(name for task_result in task_results.values() for name in task_result.metrics)
    )
    return {
        "task": task,
        "label": label_of(task),
        "split": first.split,
        "main": first.main,
        "ofSet": list(
            dict.fromkeys(name for task_result in task_results.values() for name in task_result.tabled)
        ),
        "fingerprint": first.fingerprint,
        "suite": dict(first.suite),
        "rollouts": first.rollouts,
        "chunk": chunk,
        "ids": list(first.ids),
        "people": people,
        "person": person,
        "attributes": attributes,
        "attribute": attribute,
        "categories": categories,
        "category": category,
        "hop": [row.hop for row in first.rows],
        "forgotten": [int(row.forgotten) for row in first.rows],
        "picture": [pictures.get((first.split, row.picture), -1) for row in first.rows],
        "values": {
            metric: [
                _whole(task_results[run.name].scores.get(metric)) if run.name in task_results else None
                for run in found.group.runs
            ]
            for metric in metrics
        },
    }


def _texts(task: str, found: Findings) -> dict:
    """Row by row, so that like replies of different models lie side by side and pack well.

    q, a: question and answer; r: replies; l: how many characters were cut off; k: guess ranks; b: bits; g: guesses.
    """
    task_results = {run.name: task_result for run, task_result in found.group.task_results[task]}
    order = [task_results.get(run.name) for run in found.group.runs]
    first: TaskResult = next(iter(task_results.values()))
    most = GUESSES if len(first.rows) * len(order) < MANY else GUESSES_OF_MANY
    cut = {}
    for place in range(len(first.rows)):
        for index, task_result in enumerate(order):
            if task_result is not None and (more := len(task_result.replies[place].text) - REPLY) > 0:
                cut[f"{place}:{index}"] = more
    replies = [
        [None if task_result is None else task_result.replies[n] for task_result in order]
        for n in range(len(first.rows))
    ]
    return {
        "q": [row.question[:REPLY] for row in first.rows],
        "a": [row.answer[:REPLY] for row in first.rows],
        "r": [[None if one is None else one.text[:REPLY] for one in row] for row in replies],
        "l": cut,
        "k": [[None if one is None else one.ranks for one in row] for row in replies],
        "b": [
            [None if one is None else [_rounded(bit, 2) for bit in one.bits] for one in row]
            for row in replies
        ],
        "g": [
            [
                None
                if one is None
                else [[[text[:120], round(p, 2)] for text, p in list_[:most]] for list_ in one.guesses]
                for one in row
            ]
            for row in replies
        ],
    }


def _verdict(verdict: Verdict | None) -> dict | None:
    if verdict is None:
        return None
    cells = [
        [cell.task, str(cell.part), cell.verdict, cell.counts]
        for cell in verdict.cells
        if cell.part.kind != Kind.ATTRIBUTE
    ]
    return {
        "passed": verdict.passed,
        "outcome": verdict.outcome,
        "advice": verdict.advice(),
        "reasons": verdict.reasons,
        "cells": cells,
    }


def _group(found: Findings, number: int, pictures: dict) -> dict:
    runs = found.group.runs
    place = {run.name: index for index, run in enumerate(runs)}
    scores: dict = {}
    for score in found.scores:
        if score.part.kind == Kind.ATTRIBUTE:
            continue  # the page works them out from the rows
        cells = scores.setdefault(score.task, {}).setdefault(score.metric, {})
        cells.setdefault(str(score.part), [None] * len(runs))[place[score.run]] = [
            _rounded(score.value),
            _rounded(score.low),
            _rounded(score.high),
            score.rows,
            _rounded(score.remaining),
            score.gate,
            score.short,
        ]
    pairs = []
    for pair in found.pairs:
        d = pair.difference
        numbers = [_rounded(one) for one in (d.mean, d.low, d.high, d.p)]
        pairs.append([place[pair.first], place[pair.second], pair.task, pair.metric, *numbers, d.rows])
    names = short_names(run.name for run in runs)
    return {
        "why": found.group.why,
        "conclusion": conclusion(found),
        "runs": [_run(run, found.role(run), names[run.name]) for run in runs],
        "gold": place[found.gold.name] if found.gold else None,
        "start": place[found.start.name] if found.start else None,
        "tasks": [
            _task(task, found, f"text-{number}-{index}", pictures)
            for index, task in enumerate(found.group.task_results)
        ],
        "scores": scores,
        "pairs": pairs,
        "distances": {
            run: {task: {key: _rounded(one, 6) for key, one in by.items()} for task, by in tasks.items()}
            for run, tasks in found.distances.items()
        },
        "seeds": [[*key, _rounded(mean), _rounded(sd), n] for key, (mean, sd, n) in found.seeds.items()],
        "verdict": _verdict(found.verdict),
    }


def thumbnails(report: Report) -> tuple[dict[tuple[str, str], int], list[str], list[str]]:
    """((split, path) → place, data addresses of WebP pictures, notes on what is left out and why)."""
    wanted: dict[tuple[BenchmarkView, str], dict[str, set[str]]] = {}
    for found in report.groups:
        for task_results in found.group.task_results.values():
            task_result = task_results[0][1]
            paths = {row.picture for row in task_result.rows if row.picture}
            wanted.setdefault((task_result.benchmark_view, task_result.data), {}).setdefault(
                task_result.split, set()
            ).update(paths)
    total = sum(len(paths) for splits in wanted.values() for paths in splits.values())
    fitting = next(((side, quality) for most, side, quality in THUMBNAILS if total <= most), None)
    if fitting is None:
        return {}, [], [f"Pictures are left out: {total} of them would make the page too large"]
    places: dict[tuple[str, str], int] = {}
    pictures: list[str] = []
    notes: list[str] = []
    for (benchmark_view, source), splits in wanted.items():
        for split, paths in splits.items():
            try:
                if not source:
                    raise RememError("the results do not say where the data is")
                for path, opened in benchmark_view.pictures(source, split):
                    if path in paths and (split, path) not in places:
                        places[split, path] = len(pictures)
                        pictures.append(_thumbnail(opened(), *fitting))
            except RememError as error:
                notes.append(f"Pictures of {split} are left out: {error}")
    return places, pictures, notes


def _thumbnail(picture: Image.Image, side: int, quality: int) -> str:
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def page_of(report: Report, title: str, pictures: bool = True) -> str:
    """The HTML file's text.

    Args:
        pictures: whether to put thumbnails in; they are read from the data that the results name.
    """
    places, shown, notes = thumbnails(report) if pictures else ({}, [], [])
    core = {
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "notes": [*report.notes, *notes],
        "right": RIGHT,
        "known": KNOWN,
        "numbers": sorted(NUMBERS),
        "across": {"heads": across.HEADS, "rows": across.across(report), "note": across.NOTE},
        "groups": [_group(found, number, places) for number, found in enumerate(report.groups)],
    }
    chunks = {"core": _packed(core)}
    for number, found in enumerate(report.groups):
        for index, task in enumerate(found.group.task_results):
            chunks[f"text-{number}-{index}"] = _packed(_texts(task, found))
    if shown:
        chunks["pictures"] = _packed(shown)
    return _filled(title, chunks)


def _filled(title: str, chunks: dict[str, str]) -> str:
    folder = files("remem_tasks.render") / "page"
    page, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = "\n".join(
        f'<script type="application/gzip" id="{key}">{text}</script>' for key, text in chunks.items()
    )
    # In one pass, so that nothing put in is looked through for what is to be put in.
    fields = {
        "HASH": f"'sha256-{digest}'",
        "TITLE": html.escape(title),
        "CSS": style,
        "DATA": data,
        "JS": script,
    }
    pieces: Sequence[str] = page.split("@@")
    return "".join(fields[piece] if index % 2 else piece for index, piece in enumerate(pieces))
