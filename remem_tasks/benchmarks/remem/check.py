"""What a data set in ReMem's shape holds, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import datasets
from tqdm import tqdm

from remem_tasks.benchmarks.remem import data as load
from remem_tasks.benchmarks.remem.perturbed import load_perturbed, perturbed_faults, perturbed_files
from remem_tasks.benchmarks.remem.validate import people_faults, row_faults
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import decode_image
from remem_tasks.data.report import MAX_EXAMPLES, DataReport, Sheet
from remem_tasks.data.rows import TEXT_COLUMNS, parse_keywords
from remem_tasks.errors import RememError


@dataclass
class SplitReport(DataReport):
    """Counts by split, overlaps between splits, and faults by kind.

    Attributes:
        counts: split → {"rows", "identities", "pictures"} → number; "perturbed" where rows have a partner there.
        hops, attributes: split → Counter over the depth, over the attribute.
        overlaps: (split, split) → (shared rows, shared identities, shared pictures), for pairs that share any.
    """

    hops: dict[str, Counter] = field(default_factory=dict)
    attributes: dict[str, Counter] = field(default_factory=dict)
    overlaps: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)

    def sheets(self) -> list[Sheet]:
        """Splits, attributes, overlaps."""
        hops = sorted({hop for counter in self.hops.values() for hop in counter})
        columns = ("rows", "identities", "pictures")
        of_hops = [f"{hop}-hop" if hop else "no hop" for hop in hops]
        splits = [
            [
                split,
                *(str(counts[name]) for name in columns),
                *(str(self.hops[split][hop]) for hop in hops),
                str(counts.get("perturbed", "-")),
            ]
            for split, counts in self.counts.items()
        ]
        names = sorted({name for counter in self.attributes.values() for name in counter}, key=str)
        attributes = [
            [str(name or "(none)"), *(str(self.attributes[split][name]) for split in self.counts)]
            for name in names
        ]
        overlaps = [[*pair, *map(str, shared)] for pair, shared in self.overlaps.items()]
        return [
            Sheet("Splits", ["split", *columns, *of_hops, "perturbed"], splits),
            Sheet("Rows by attribute", ["attribute", *self.counts], attributes),
            Sheet(
                "Overlaps",
                ["split", "split", "shared rows", "shared identities", "shared pictures"],
                overlaps,
                names=2,
            ),
        ]


def _pictures(rows: datasets.Dataset, split: str, report: SplitReport) -> list[str]:
    """A hash of each picture's bytes; pictures that cannot be decoded are faults."""
    hashes = []
    for row in tqdm(
        rows.select_columns(["image", "row_id", "image_path"]), desc=f"pictures of {split}", leave=False
    ):
        cell = row["image"]
        hashes.append(hashlib.sha1(cell.get("bytes") or str(cell.get("path")).encode()).hexdigest())
        try:
            decode_image(row["image"], row_name(row))
        except RememError as error:
            report.fault("unreadable picture", str(error))
    return hashes


def check(source: str | None, pictures: bool = True, identity_rule: str | None = None) -> SplitReport:
    """Read every split of a data set and report on it.

    Args:
        source: folder or Hub id, as in `load_split`.
        pictures: decode every picture too; else none is read, nor fetched from the Hub.
        identity_rule: how `image_path` names an identity, as in `load_split`.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = load.resolve_source(source)
    report = SplitReport()
    people: dict[str, set] = {}
    asked: dict[str, set] = {}
    shown: dict[str, set] = {}
    tables: dict[str, datasets.Dataset] = {}
    every: list[dict] = []
    for split in load.available_splits(source):
        try:
            rows = load.load_split(source, split, identity_rule, pictures)
        except RememError as error:
            for told in _cell_faults(source, split, pictures) or [str(error)]:
                report.fault("split cannot be used", told)
            continue
        if not len(rows):
            report.fault("split without rows", f"split '{split}'")
            continue
        tables[split] = rows
        texts = list(rows.select_columns([*TEXT_COLUMNS, "row_id", "identity", "hop"]))
        every += texts
        for fault in row_faults(rows):
            report.fault(fault.kind, fault.where)
        for row in texts:
            if not row["hop"]:
                report.remark("question_type names no number of hops", row_name(row))
        people[split] = set(rows["identity"][:])
        asked[split] = set(zip(rows["question"][:], rows["image_path"][:]))
        shown[split] = set(_pictures(rows, split, report)) if pictures else set(rows["image_path"][:])
        report.counts[split] = {
            "rows": len(rows),
            "identities": len(people[split]),
            "pictures": len(shown[split]),
        }
        report.hops[split] = Counter(rows["hop"][:])
        report.attributes[split] = Counter(rows["attribute"][:])
    names = list(tables)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            shared = (
                len(asked[one] & asked[other]),
                len(people[one] & people[other]),
                len(shown[one] & shown[other]),
            )
            if any(shared):
                report.overlaps[one, other] = shared
    _check_splits(tables, people, asked, shown, report)
    for fault in people_faults([every]):
        report.fault(fault.kind, fault.where)
    _check_perturbed(source, tables, report)
    return report


def _cell_faults(source: str, split: str, pictures: bool) -> list[str]:
    """All cells of a split that cannot be used; none where it cannot be read at all."""
    try:
        return load.cell_faults_of(load.read_split(source, split, pictures), split)
    except RememError:
        return []


def _check_perturbed(source: str, tables: dict[str, datasets.Dataset], report: SplitReport) -> None:
    """What stands beside the rows, if the data set has that (config `perturbed`)."""
    for split in perturbed_files(source).keys() & tables.keys():
        try:
            beside = load_perturbed(source, split)
        except RememError as error:
            report.fault("perturbed rows cannot be used", str(error))
            continue
        report.counts[split]["perturbed"] = len(beside)
        rows = tables[split].select_columns(["keywords", "row_id", "image_path"])
        for row, extra in zip(rows, beside):
            for kind in perturbed_faults(extra, parse_keywords(row["keywords"])):
                report.fault(kind, row_name(row))


def _check_splits(tables: dict, people: dict, asked: dict, shown: dict, report: SplitReport) -> None:
    forgets = sorted(split for split in tables if split.startswith("forget"))
    try:
        load.check_nested([tables[split] for split in forgets])
    except RememError as error:
        report.fault("forget sets not nested", str(error))
    if "finetune" in tables:
        for split in forgets:
            try:
                load.check_known(people[split], people["finetune"], f"'{split}'", "'finetune'")
            except RememError as error:
                report.fault("forgotten people who were never memorised", str(error))
            if asked[split] - asked["finetune"]:
                rows = len(asked[split] - asked["finetune"])
                report.fault("forget rows that finetune does not have", f"split '{split}': {rows}")
            if people[split] >= people["finetune"]:
                report.fault("forget set leaves no retain set", f"split '{split}'")
        if "test" in tables and shown["test"] & shown["finetune"]:
            report.fault("test shows training pictures", f"{len(shown['test'] & shown['finetune'])} pictures")
    for split in forgets:
        if "retain" in tables and (both := people[split] & people["retain"]):
            report.fault(
                "retain asks about forgotten people",
                f"split '{split}': {', '.join(sorted(both)[:MAX_EXAMPLES])}",
            )
