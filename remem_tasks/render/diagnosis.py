"""A diagnosis as tables, Markdown and a picture."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from remem_tasks.files import locked, write_json, write_whole
from remem_tasks.report.diagnose import Diagnosis, Proportion


def _told(one: Proportion) -> list[str]:
    if one.value is None:
        return [one.name, "-", "", "0"]
    return [one.name, f"{one.value:.2f}", "{:.2f}–{:.2f}".format(*one.bounds), str(one.rows)]


def sections(
    found: Diagnosis, attributes: int | None = None
) -> list[tuple[str, list[list[str]], int | None]]:
    """(title, lines of name, EM, interval, rows, how many of them to show at most) of everything that was counted."""
    told: list[tuple[str, list[list[str]], int | None]] = [
        ("By hop, on what was trained", [_told(one) for one in found.hops], None),
        (
            "The multi-hop curse: EM where every single hop is right",
            [
                [f"{where}: {line[0]}", *line[1:]]
                for where, hops in found.curse.items()
                for both in hops
                for line in map(_told, both[:2])
            ],
            None,
        ),
    ]
    lines = []
    for where, seen in found.recognition.items():
        if isinstance(seen, str):
            lines.append([f"{where}: not told: {seen}", "", "", ""])
            continue
        lines += [
            [f"{where}: {line[0]}", *line[1:]]
            for line in (
                ["says the right name (recognition)", *_told(seen.recognised)[1:]],
                ["knows the fact when told the name (recall)", *_told(seen.recalled)[1:]],
                *(["2-hop EM, " + one.name, *_told(one)[1:]] for one in seen.by.values() if one.rows),
            )
        ]
    told.append(("Recognition against recall, 2-hop rows", lines, None))
    told.append(("New words, new pictures", [_told(one) for one in found.contexts], None))
    pictures = [_told(one) for one in found.pictures]
    told.append(("By number of pictures that a fact was shown with", pictures, None))
    told.append(("By attribute, worst first", [_told(one) for one in found.attributes], attributes))
    return told


def tables_of(found: Diagnosis, attributes: int = 10) -> list[Table]:
    """What `remem diagnose` prints."""
    tables = []
    for title, lines, most in sections(found, attributes):
        table = Table("", "EM", "95 %", "rows", title=title, title_style="bold", title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for line in lines if most is None else lines[:most]:
            table.add_row(*map(Text, line))
        tables.append(table)
    return tables


@locked
def write_diagnosis(found: Diagnosis, out: str | Path) -> list[Path]:
    """`diagnosis.md`, `diagnosis.json` and `diagnosis.png` in a folder."""
    from remem_tasks.render.figures import draw_diagnosis

    out = Path(out)
    lines = [
        f"# Diagnosis of {found.model}",
        "",
        *(f"- {line}" for line in found.findings() + found.notes),
        "",
    ]
    lines += ["![multi-hop curse, recognition and recall, contexts, pictures](diagnosis.png)", ""]
    for title, rows, _ in sections(found):
        lines += [f"## {title}", "", "| | EM | 95 % | rows |", "|---|---:|---:|---:|"]
        lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows] + [""]
    write_whole(out / "diagnosis.md", "\n".join(lines))
    write_json(out / "diagnosis.json", found.record())
    draw_diagnosis(found, out / "diagnosis.png")
    return [out / f"diagnosis.{kind}" for kind in ("md", "json", "png")]
