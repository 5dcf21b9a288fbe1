"""The audit sheet of one model: what it was asked to forget, whether there was anything to forget, its scores beside gold's,
what attacks bring back and with which budget, and what was not tried. One page to print.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remem_tasks.attacks.outcome import ATTACKS, NEVER, SETS
from remem_tasks.errors import RememError
from remem_tasks.files import write_whole
from remem_tasks.reading import read_object
from remem_tasks.report.attacked import NOTABLE, read_attacks
from remem_tasks.report.summary import Findings, Report
from remem_tasks.report.verdict import WHOLE
from remem_tasks.terminal import clean

SHOWN = ("em", "memo", "exposure", "refusal_rate")
ANSWERED = 0.5
"""Below this share of answers, right or wrong, a low score says nothing."""
STYLE = """
@page { size: A4; margin: 14mm }
body { font: 12px/1.35 system-ui, sans-serif; max-width: 62em; margin: 1.5em auto; padding: 0 1em; color: #111; background: #fff }
h1 { font-size: 1.5em; margin: 0 } h2 { font-size: 1.1em; margin: 1em 0 .3em }
table { border-collapse: collapse; width: 100% } th, td { text-align: right; padding: .1em .5em; border-bottom: 1px solid #ccc }
th:first-child, td:first-child { text-align: left } p, ul { margin: .3em 0 } .claim { border: 1.5px solid #111; padding: .5em .8em; margin: .8em 0 }
"""


def checked(
    attacks: Mapping[str, Mapping[str, Mapping[str, Any]]], where: str
) -> Mapping[str, Mapping[str, Any]]:
    """Attacks whose figures are finite numbers, and reasons texts: what is neither would be above nothing.

    Raises:
        RememError: names the first that is neither.
    """
    for model, by_attack in attacks.items():
        for attack, values in by_attack.items():
            for name, value in values.items():
                number = (
                    isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
                )
                if not (isinstance(value, str) if name == "not_available" else number):
                    raise RememError(f"{where}: {model}, {attack}: {name} is {value!r}")
    return attacks


def untried(folder: str | Path, model: str) -> list[str]:
    """What was asked for of a model and not run, and why, by the records of a folder of `remem attack`."""
    lines = []
    for place in sorted((Path(folder) / "records" / model).glob("*.json")):
        record = read_object(place)
        lines += [f"{record.get('attack')}, {kind}: {why}" for kind, why in record.get("missing", {}).items()]
    return list(dict.fromkeys(lines))


def leaks(by_attack: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What says more than gold, in words, the largest first; worst cases and relearn_all apart."""
    found = []
    for attack, values in by_attack.items():
        if attack.startswith("worst_") or attack == "relearn_all":
            continue
        for metric in ("em", "exposure", "top4"):
            above = values.get(f"leak_{metric}")
            sure = values.get(f"leak_{metric}_low", above if above is None else above - NOTABLE)
            if above is not None and above > NOTABLE and sure > 0:
                found.append((above, f"{attack} ({metric} {values[metric]:.2f}, {above:+.2f} above gold)"))
    return [text for _, text in sorted(found, reverse=True)]


def claim(model: str, by_attack: Mapping[str, Mapping[str, Any]] | None) -> str:
    """What may be said of a model, and no more."""
    if by_attack is None:
        return (
            f"No attack was run on {model}: nothing can be claimed beyond its replies to the plain questions."
        )
    run = [name for name, values in by_attack.items() if "not_available" not in values]
    probes = [name for name in run if not name.startswith("worst_") and name != "none"]
    if not probes:
        return f"No attack could be run on {model}: nothing can be claimed beyond its replies to the plain questions."
    if found := leaks(by_attack):
        return f"What was to be forgotten is still accessible in {model}, by {'; '.join(found[:4])}."
    declined = [name for name in (*probes, "none") if by_attack.get(name, {}).get("coverage", 1.0) < ANSWERED]
    if declined:
        return (
            f"Nothing can be claimed of {model}: under {', '.join(declined)} most requests were refused or invalid, and who "
            "declines has not shown to have forgotten."
        )
    unheld = [name for name in probes if not any(key.startswith("leak_") for key in by_attack[name])]
    if unheld:
        return f"Nothing can be claimed of {model}: {', '.join(unheld)} were not held against a gold model."
    return (
        f"What was to be forgotten is not accessible in {model} under these probes: {', '.join(probes)}. This does not say "
        "that it was deleted."
    )


def _rows(found: Findings, model: str) -> list[list[str]]:
    """Scores of start, gold and model, a line each task and metric."""
    rows = []
    for task in found.group.task_results:
        for metric in SHOWN:
            own = found.score(model, task, metric)
            if own is None:
                continue
            line = [f"{task}, {metric}"]
            for run in (found.start, found.gold):
                other = found.score(run.name, task, metric) if run is not None else None
                line.append("" if other is None else f"{other.value:.2f}")
            low = "" if own.low is None else f" [{own.low:.2f}, {own.high:.2f}]"
            rows.append([*line, f"{own.value:.2f}{low}"])
    return rows


def _attack_rows(
    by_attack: Mapping[str, Mapping[str, Any]], gold: Mapping[str, Mapping[str, Any]]
) -> list[list[str]]:
    rows = []
    for attack, values in by_attack.items():
        if "not_available" in values:
            rows.append([attack, f"not available: {values['not_available']}", "", "", "", "", ""])
            continue
        metric = "top4" if "top4" in values else "em"
        other, above = gold.get(attack, {}).get(metric), values.get(f"leak_{metric}")
        bounds = ""
        if f"leak_{metric}_low" in values:
            bounds = f" [{values[f'leak_{metric}_low']:+.2f}, {values[f'leak_{metric}_high']:+.2f}]"
        rows.append(
            [
                attack,
                f"{values[metric]:.2f}" + (" (lens)" if metric == "top4" else ""),
                "" if not isinstance(other, int | float) else f"{other:.2f}",
                "" if above is None else f"{above:+.2f}{bounds}",
                *(f"{values[name]:.2f}" if name in values else "" for name in ("exposure", "refusal_rate")),
                f"{values['requests']:.0f}",
            ]
        )
    return rows


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(clean(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(heads, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def sheet(report: Report, model: str, attacks: str | Path | None) -> str:
    """The page, without scripts and without anything from elsewhere.

    Args:
        model: a run of the report, which attacks call the same.
        attacks: a folder of `remem attack`; None: the page says that none was run.

    Raises:
        RememError: the report, or the attacks, have no such model.
    """
    found = next((one for one in report.groups if any(run.name == model for run in one.group.runs)), None)
    if found is None:
        known = ", ".join(run.name for one in report.groups for run in one.group.runs)
        raise RememError(f"--audit '{model}' is none of the runs: {known}")
    run = next(one for one in found.group.runs if one.name == model)
    by_attack: Mapping[str, Any] | None = None
    gold: Mapping[str, Any] = {}
    missing: list[str] = []
    if attacks is not None:
        everyone = checked(read_attacks(attacks), f"'{Path(attacks) / 'attacks.json'}'")
        if model not in everyone:
            raise RememError(
                f"--attacks '{attacks}' holds no attack on '{model}', only on {', '.join(everyone)}"
            )
        by_attack, gold = everyone[model], everyone.get("gold", {})
        missing = untried(attacks, model)
    asked = []
    for task, result in run.task_results.items():
        if result.split.startswith("forget"):
            people = len({row.identity for row in result.rows})
            asked.append(
                f"{task}: {len(result.rows)} questions about {people} people, data {result.fingerprint}"
            )
    gate = (
        "not asked: no start among the runs"
        if found.verdict is None
        else "; ".join([str(found.verdict.outcome), *found.verdict.reasons[:3]])
    )
    cells = [
        cell for cell in (found.verdict.cells if found.verdict else ()) if cell.part == WHOLE and cell.counts
    ]
    how = [
        f"{cell.task}: "
        + ", ".join(f"{one.name} {one.mean:.2f} (needed {one.threshold:.2f})" for one in cell.findings)
        for cell in cells
    ]
    left = [f"{name} was not asked for" for name in ATTACKS if name not in (by_attack or {})]
    left += [*missing, NEVER]

    def bullets(lines: Sequence[str]) -> str:
        return "<ul>" + "".join(f"<li>{html.escape(clean(line))}</li>" for line in lines) + "</ul>"

    trained = {
        name: run.record.get(name) for name in ("method", "steps", "seed") if run.record.get(name) is not None
    }
    parts = [
        f"<h1>Audit of {html.escape(clean(model))}</h1>",
        f"<p>{html.escape(clean(run.checkpoint))}, weights {run.weights or 'unknown'}, scored {html.escape(clean(run.date))}; "
        + html.escape(
            clean(
                ", ".join(f"{name} {value}" for name, value in trained.items()) or "no record of its training"
            )
        )
        + "</p>",
        f"<div class='claim'>{html.escape(clean(claim(model, by_attack)))}</div>",
        "<h2>What was to be forgotten</h2>",
        bullets(asked or ["no forget set was scored"]),
        "<h2>Was there anything to forget? The start at the gate</h2>",
        f"<p>{html.escape(clean(gate))}</p>" + bullets(how),
        "<h2>Scores</h2>",
        _table(("set, score", "start", "gold", "this model, 95 %"), _rows(found, model)),
    ]
    if by_attack is not None:
        parts += [
            "<h2>Attacks</h2>",
            _table(
                ("attack", "EM", "gold's EM", "above gold, 95 %", "Exposure", "refused", "requests a fact"),
                _attack_rows(by_attack, gold),
            ),
            "<p>"
            + " ".join(f"worst_{name}: over {', '.join(one)}." for name, one in SETS.items())
            + " relearn_all trains on what it asks: gold's column is what it is to be held against.</p>",
        ]
    parts += ["<h2>Not tried</h2>", bullets(left)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Audit of {html.escape(clean(model))}</title><style>{STYLE}</style></head><body>"
        + "".join(parts)
        + "</body></html>\n"
    )


def write(sheet: str, out: str | Path) -> Path:
    """Write `audit.html` to a folder; its path."""
    file = Path(out) / "audit.html"
    write_whole(file, sheet, errors="replace")
    return file
