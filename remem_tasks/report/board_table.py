"""A leaderboard by method: mean and sd over seeds, as Markdown and as a page of its own."""

from __future__ import annotations

import html
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Entry = Mapping
Read = Callable[[Entry], float | None]
RELEARN, QUANTISED, WORST = "relearn_rest", "quantise_nf4", "worst_weights"


def _score(kind: str, *names: str) -> Read:
    def read(entry: Entry) -> float | None:
        for task, scores in entry["scores"].items():
            if kind in task:
                return next((scores[name]["value"] for name in names if name in scores), None)
        return None

    return read


def _attacked(attack: str, metric: str) -> Read:
    def read(entry: Entry) -> float | None:
        value = entry.get("attacks", {}).get(attack, {}).get(metric)
        return value if isinstance(value, int | float) else None

    return read


def _cost(entry: Entry) -> float | None:
    return entry.get("cost", {}).get("train_seconds")


COLUMNS: Mapping[str, Read] = {
    "forget EM": _score("forget", "em"),
    "MEMO": _score("forget", "memo"),
    "Exposure": _score("forget", "exposure"),
    "retain EM": _score("retain", "em"),
    "test kept EM": _score("test", "kept_em"),
    "test forgotten EM": _score("test", "forgotten_em"),
    "relearn_rest EM": _attacked(RELEARN, "em"),
    "NF4 EM": _attacked(QUANTISED, "em"),
    "worst case EM": _attacked(WORST, "em"),
    "worst case Exposure": _attacked(WORST, "exposure"),
    "train s": _cost,
}
SECONDS = ("train s",)


@dataclass(frozen=True)
class Line:
    """A method: column → (mean, sd or None, how many seeds)."""

    method: str
    values: Mapping[str, tuple[float, float | None, int]]
    seeds: int


def lines_of(board: Sequence[Entry]) -> list[Line]:
    """Methods, by the lowest worst case first; those without one after them, by Exposure."""
    by_method: dict[str, list[Entry]] = {}
    for entry in board:
        by_method.setdefault(entry["method"] or entry["name"], []).append(entry)
    found = []
    for method, entries in by_method.items():
        values = {}
        for head, read in COLUMNS.items():
            some = [value for entry in entries if (value := read(entry)) is not None]
            if some:
                sd = statistics.stdev(some) if len(some) > 1 else None
                values[head] = (statistics.fmean(some), sd, len(some))
        found.append(Line(method, values, len(entries)))

    def order(line: Line) -> tuple[bool, float, str]:
        worst, exposure = line.values.get("worst case EM"), line.values.get("Exposure", (1.0, None, 0))
        return worst is None, worst[0] if worst else exposure[0], line.method

    return sorted(found, key=order)


def cells(board: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """(heads, lines): scores in per cent, mean ± sd over seeds; columns that no entry has are left out."""
    lines = lines_of(board)
    heads = [head for head in COLUMNS if any(head in line.values for line in lines)]

    def cell(line: Line, head: str) -> str:
        if head not in line.values:
            return "–"
        mean, sd, count = line.values[head]
        scale, form = (1, ".0f") if head in SECONDS else (100, ".1f")
        shown = f"{scale * mean:{form}}" + ("" if sd is None else f" ± {scale * sd:{form}}")
        return shown + ("" if count == line.seeds else f" ({count})")

    rows = [[line.method, str(line.seeds), *(cell(line, head) for head in heads)] for line in lines]
    return ["method", "seeds", *heads], rows


def markdown(board: Sequence[Entry]) -> str:
    """The table; a number in brackets is of so many seeds."""
    heads, rows = cells(board)
    text = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return "\n".join([*text, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#1b1f24}table{border-collapse:collapse}"
    "th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}"
)


def page(board: Sequence[Entry], title: str = "Leaderboard") -> str:
    """The table as one HTML file without scripts; all that comes from entries is escaped."""
    heads, rows = cells(board)

    def row(tag: str, some: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(one)}</{tag}>" for one in some) + "</tr>"

    told = "Scores in per cent, mean ± sd over seeds; the lowest worst case first. Low is good of forget, MEMO, Exposure and attacks."
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p>{told}</p><table>{row('th', heads)}{''.join(row('td', one) for one in rows)}</table></html>\n"
    )
