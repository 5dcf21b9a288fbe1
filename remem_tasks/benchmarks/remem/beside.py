"""What can stand beside rows of one's own (config `perturbed`): the table's paraphrases, and other people's values."""

from __future__ import annotations

import re
from collections.abc import Sequence

from remem_tasks.benchmarks.remem.perturbed import perturbed_faults
from remem_tasks.benchmarks.remem.wording import as_sentence
from remem_tasks.data.rows import parse_keywords

MOST = 5  # wrong answers of a row
REFUSAL = "I do not know that."


def beside(rows: Sequence[dict], everybody: Sequence[dict]) -> list[dict] | None:
    """The perturbed rows of a split; None unless every row of it has paraphrases and wrong answers without a fault.

    Args:
        rows: in ReMem's columns, with `asked`: the other wordings of each row's question.
        everybody: all rows, whose values of the same attribute are wrong for another person.
    """
    found = []
    for row in rows:
        phrases = parse_keywords(row["keywords"])
        value = phrases[0]
        others = dict.fromkeys(
            parse_keywords(other["keywords"])[0]
            for other in everybody
            if other["attribute"] == row["attribute"]
        )
        swap = re.compile(re.escape(value), re.IGNORECASE)
        one = {
            "question": row["question"],
            "image_path": row["image_path"],
            "paraphrased_question": list(dict.fromkeys(row["asked"])),
            "paraphrased_answer": f"It is {value}."
            if row["answer"] == as_sentence(value)
            else as_sentence(value),
            "perturbed_answer": [
                swap.sub(lambda _, other=other: other, row["answer"]) for other in others if other != value
            ][:MOST],
            "refusal": REFUSAL,
        }
        if len(phrases) > 1 or perturbed_faults(one, phrases):
            return None
        found.append(one)
    return found
