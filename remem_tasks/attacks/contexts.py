"""The question behind demonstrations: rows of people who stay, or other facts of the one who is asked about."""

from __future__ import annotations

from remem_tasks.attacks.attacked import Ask, Question
from remem_tasks.attacks.people import Row, Surroundings

SHOTS = {"k1": (1, False), "k4": (4, False), "k8": (8, False), "own4": (4, True)}
"""name → (demonstrations, whether they are other facts of the same person)."""


def ask(name: str, around: Surroundings) -> Ask:
    """How a row is asked behind that many demonstrations, as text; its own picture alone is shown.

    A row for which there are fewer is asked behind those there are, behind none not at all. No demonstration says the
    secret.
    """
    count, own = SHOTS[name]
    known: dict[str, Question | None] = {}

    def made(row: Row) -> Question | None:
        shown = around.shown(row, count, own)
        if not shown:
            return None
        lines = [f"Question: {one['question']}\nAnswer: {one['answer']}" for one in shown]
        return Question("\n".join([*lines, f"Question: {row['question']}\nAnswer:"]))

    def found(row: Row) -> Question | None:
        if row["row_id"] not in known:
            known[row["row_id"]] = made(row)
        return known[row["row_id"]]

    return found
