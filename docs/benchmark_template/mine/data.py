"""Rows: where they live, what each must have, what a run trains on."""

from __future__ import annotations

import datasets

from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.cells import emptiness, oddity
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.report import ConfigReport
from remem_tasks.data.source import check_columns, known_configs, read_config, training_table
from remem_tasks.errors import RememError

TEXT = datasets.Value("string")
COLUMNS = {"image": datasets.Image(), "name": TEXT, "question": TEXT, "answer": TEXT}
SETS = ("full", "forget", "retain")
FEATURES = dict.fromkeys(SETS, datasets.Features(COLUMNS))
HOME = DatasetSource("Mine", "you/mine", "REMEM_MINE_DATA", SETS, FEATURES)
KNOWN_BY = SETS  # configs; a data set with one of them is of this benchmark
FINETUNE = "full"  # what a model memorises


def questions_of(source: str, config: str) -> datasets.Dataset:
    """Every row of a set with an id, a person and a place for its picture.

    Raises:
        RememError: no such set, or a cell that is no text to be asked, with its row.
    """
    table = read_config(source, config, HOME)
    check_columns(table, COLUMNS, source, config)
    asked = []
    for place, row in enumerate(table.remove_columns("image")):
        for name, cell in row.items():
            if why := emptiness(cell) or oddity(cell):
                raise RememError(f"{source}, config '{config}', row {place}: column '{name}' {why}")
        about = {
            "row_id": f"{config}:{place}",
            "identity": row["name"],
            "image_path": f"{row['name']}/{place}",
        }
        asked.append({**row, **about, "source": source, "config": config, "place": place, "picture": 0})
    return datasets.Dataset.from_list(asked)


def training_rows(source: str, config: str, modality: str) -> datasets.Dataset:
    """A set in the columns that training reads."""
    if modality != "joint":
        raise RememError(f"--modality {modality}: every row of Mine has a picture")
    return training_table(list(questions_of(source, config)), read_config(source, config, HOME))


# Who is kept when a set is forgotten, and the sets that ask about the forgotten in the questions of training.
FORGET_SETS = ForgetSets("Mine", {"forget": "retain"})
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every set and report on it, for `remem data check`."""
    source = HOME.resolve(source)
    report = ConfigReport()
    for config in known_configs(source, HOME):
        try:
            rows = questions_of(source, config)
        except RememError as error:
            report.fault("config cannot be used", str(error))
            continue
        report.counts[config] = {"rows": len(rows), "people": len(set(rows["identity"]))}
    return report
