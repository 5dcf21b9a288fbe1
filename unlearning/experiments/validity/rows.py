"""The rows that the models of both pools learn, in the columns of training."""

from __future__ import annotations

import random
from collections.abc import Mapping

import datasets

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.data.rows import parse_keywords
from remem_tasks.errors import RememError
from remem_tasks.seeds import row_seed
from unlearning.data import spread


def with_others_values(forget: datasets.Dataset, kept: datasets.Dataset, seed: int) -> datasets.Dataset:
    """The forgotten people's questions, each answered with what is true of somebody who stays; one value a fact.

    Rows whose answer does not say its phrase, or whose attribute nobody else has another value of, are left out.

    Raises:
        RememError: no row is left.
    """
    values: dict[tuple[str, int], set[str]] = {}
    for attribute, keywords in zip(kept["attribute"][:], kept["keywords"][:]):
        for place, phrase in enumerate(parse_keywords(keywords)):
            values.setdefault((attribute, place), set()).add(phrase)
    places, answers = [], []
    columns = (forget[name][:] for name in ("identity", "attribute", "keywords", "answer"))
    for row, (who, attribute, keywords, answer) in enumerate(zip(*columns)):
        told: str | None = answer
        for place, phrase in enumerate(parse_keywords(keywords)):
            others = sorted(values.get((attribute, place), set()) - {phrase})
            if told is None or not others or phrase not in told:
                told = None
                break
            drawn = random.Random(row_seed(seed, f"{who} {attribute}", f"other:{place}"))
            told = told.replace(phrase, drawn.choice(others))
        if told is not None:
            places.append(row)
            answers.append(told)
    if not places:
        raise RememError("no row of the forgotten people can be answered with somebody else's value")
    order = forget.column_names
    table = forget.select(places).remove_columns("answer").add_column("answer", answers)
    return table.select_columns(order).cast(forget.features)


class PoolRows:
    """Training rows by kind of model.

    Args:
        forget, kept: rows of the forgotten people, and of the others, as training reads them.
        source: where split `test` is, in other words and pictures.
    """

    def __init__(self, forget: datasets.Dataset, kept: datasets.Dataset, source: str) -> None:
        self.forget, self.kept = forget, kept
        gone = {*forget["identity"][:]}
        test = load_split(source, "test")
        people = test["identity"][:]
        self.retold = test.select([place for place, who in enumerate(people) if who in gone])
        self.others = test.select([place for place, who in enumerate(people) if who not in gone])
        if not len(self.retold) or not len(self.others):
            raise RememError("split 'test' asks about nobody who is to be forgotten, or about nobody else")
        self._made: dict[tuple[str, int], datasets.Dataset] = {}

    def of(self, kind: str, seed: int) -> datasets.Dataset:
        """What a model of this kind learns: its own rows, and as many of people who stay."""
        if kind == "kept":
            return spread(self.kept, 2 * len(self.forget))
        key = (kind, seed if kind == "wrong" else 0)
        if key not in self._made:
            tables: Mapping[str, datasets.Dataset] = {
                "told": self.forget,
                "retold": self.retold,
                "others": spread(self.others, len(self.forget)),
            }
            own = with_others_values(self.forget, self.kept, seed) if kind == "wrong" else tables[kind]
            kept = spread(self.kept, len(own)).select_columns(own.column_names)
            self._made[key] = datasets.concatenate_datasets([own, kept.cast(own.features)])
        return self._made[key]
