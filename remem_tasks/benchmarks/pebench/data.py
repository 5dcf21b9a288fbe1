"""PEBench (arXiv 2503.12545, Hub `xuzhaopan/PEBench`): pictures of people at events. The Hub has pictures and the people's names only.

Questions and sets are this project's. Of pictures made by `remem forge` the column `event` says what happens; without it
(the published files) only people are asked about.
"""

from __future__ import annotations

from collections import Counter

import datasets

from remem_tasks.benchmarks.asked import ROW, TEXT, training_of
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.cells import emptiness, oddity
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import identity_key
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.data.source import check_columns, count_images, non_empty, read_config, table_of
from remem_tasks.errors import RememError

FEATURES = {"default": datasets.Features({"image": datasets.Image(), "label": TEXT, "event": TEXT})}
HOME = DatasetSource("PEBench", "xuzhaopan/PEBench", "REMEM_PEBENCH_DATA", ("default",), FEATURES)
KNOWN_BY = ("default",)
KNOWN_COLUMNS = ("label",)
FINETUNE = "full"
WHO, WHAT = "Who is the person in the image?", "What is happening in the image?"  # ours
SHARE = 0.05  # of the people, and of the events, that are to be forgotten: the first ones (ours)
SETS = {
    "full": ("person", "event"),
    "forget_people": ("person",),
    "other_people": ("person",),
    "retain_people": ("person",),
    "scope_people": ("event",),
    "forget_events": ("event",),
    "other_events": ("event",),
    "retain_events": ("event",),
    "scope_events": ("person",),
}
"""Set → the kinds of its questions."""
ASKED = datasets.Features(ROW)


def first(values: list[str]) -> set[str]:
    """Which values are to be forgotten: the first SHARE of them in the order of the rows, at least one."""
    distinct = list(dict.fromkeys(values))
    return set(distinct[: max(1, round(SHARE * len(distinct)))])


def _belongs(name: str, forgotten: tuple[bool, bool], trained: bool) -> bool:
    """Whether a picture is of a set.

    Args:
        forgotten: whether its person, its event is to be forgotten.
        trained: whether training shows it, or it is another view.
    """
    way, _, of = name.partition("_")
    if way == "full":
        return trained
    gone = forgotten[of == "events"]
    return (way != "retain") == gone and trained == (way != "other")


def _of_events(name: str) -> bool:
    """Whether a set can be asked only where the data tell events."""
    return "person" not in SETS[name] or name.endswith("events")


def questions_of(source: str, name: str, faults: list[str] | None = None) -> datasets.Dataset:
    """The questions of a set.

    Of each person's pictures (at one event, where events are told) every other one, the second to begin with, is another
    view that training never shows.

    Args:
        faults: gets the faults, and the rows they are in are left out; without it the first one is raised.

    Raises:
        RememError: no such set, or no events in the data; a row that cannot be asked.
    """
    if name not in SETS:
        raise RememError(f"PEBench has no set '{name}'; it has {', '.join(SETS)}")
    table = read_config(source, "default", HOME)
    check_columns(table, ("image", "label"), source, "default")
    told = "event" in table.column_names
    if not told and _of_events(name):
        raise RememError(f"{source}: no column 'event', so nothing can be asked about events ('{name}')")
    labels = table["label"][:]
    held = table["event"][:] if told else [""] * len(labels)
    people = [identity_key(one) if non_empty(one) else "" for one in labels]
    events = [one.strip() if non_empty(one) else "" for one in held]
    gone = first([one for one in people if one]), first([one for one in events if one]) if told else set()
    pictures, asked = count_images(table), []
    seen: Counter[tuple[str, str]] = Counter()
    for place, (person, event, shown) in enumerate(zip(people, events, pictures)):
        trained = seen[person, event] % 2 == 0
        seen[person, event] += 1
        where = f"{source}, config 'default', row {place}"
        cells = [("label", labels[place])] + [("event", held[place])] * told
        problem = next(
            (f"column '{name}' {why}" for name, cell in cells if (why := emptiness(cell) or oddity(cell))), ""
        )
        # (What lacks a label or an event belongs to no set: it is a fault of each.)
        if not problem and not _belongs(name, (person in gone[0], event in gone[1]), trained):
            continue
        problem = problem or ("" if shown else "no picture")
        if problem:
            if faults is None:
                raise RememError(f"{where}: {problem}")
            faults.append(f"{where}: {problem}")
            continue
        for kind in SETS[name]:
            if kind == "event" and not told:
                continue
            path = f"{person}/{place}"
            asked.append(
                {
                    **dict.fromkeys(("cloze", "secret"), ""),
                    "row_id": f"{name}/{kind}:{place}",
                    "identity": person,
                    "kind": kind,
                    "modality": "image",
                    "prompt": WHO if kind == "person" else WHAT,
                    "answer": labels[place].strip() if kind == "person" else event,
                    "image_path": path,
                    "source": source,
                    "config": "default",
                    "place": place,
                    "picture": 0,
                }
            )
            if kind == "person":
                asked[-1]["secret"] = asked[-1]["answer"]
    return table_of(asked, ASKED)


training_rows = training_of("PEBench", HOME, questions_of)


FORGET_SETS = ForgetSets("PEBench", {"forget_people": "retain_people", "forget_events": "retain_events"})
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read the pictures and their labels and report on them.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    report = ConfigReport()
    table = read_config(source, "default", HOME)

    def lacking(name: str) -> str:
        told = "event" in table.column_names or not _of_events(name)
        return "" if told else "set that cannot be asked"

    counts = distinct(people="identity")
    for _ in report.walk(SETS, source, questions_of, counts, lacking=lacking, told=FINETUNE.__eq__):
        pass
    if pictures:
        report.check_pictures(table, "config 'default'")
    return report
