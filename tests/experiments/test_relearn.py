"""What is learned again and what is asked: never the same, by people or by facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import PEOPLE, rows_of

from remem_tasks.attacks.outcome import NotAvailable
from remem_tasks.attacks.people import tells
from unlearning.experiments.relearn import split


def rows(*slugs):
    return [
        {**row, "row_id": f"{slug}:{place}", "identity": slug}
        for slug in slugs
        for place, row in enumerate(rows_of(slug))
    ]


@given(
    st.lists(st.sampled_from(list(PEOPLE)), min_size=1, max_size=6, unique=True),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_nothing_is_asked_that_was_learned(slugs, share, seed):
    asked = rows(*slugs)
    drawn = split(asked, share, seed)
    by_id = {row["row_id"]: row for row in asked}
    learned = [by_id[row_id] for row_id in drawn.learned]
    texts = [text for row in learned for text in (row["question"], row["answer"])]
    assert not set(drawn.learned) & set(drawn.asked) and drawn.asked
    assert not any(tells(texts, by_id[row_id]) for row_id in drawn.asked)
    key = "identity" if len(slugs) > 1 else "attribute"
    assert drawn.by == ("people" if len(slugs) > 1 else "facts")
    assert not {row[key] for row in learned} & {by_id[row_id][key] for row_id in drawn.asked}
    units = len({row[key] for row in asked})
    assert len({row[key] for row in learned}) == min(units - 1, max(1, round(share * units)))


def test_what_a_learned_row_tells_is_not_asked():
    some = rows("ada_birch")
    for row in some:
        if row["attribute"] == "pet":
            row["answer"] = "The pet of Ada Birch, of Oslo Bay, is a heron."
    found = [split(some, 0.3, seed) for seed in range(20)]
    learned_pet = [one for one in found if "ada_birch:4" in one.learned]
    assert learned_pet
    for one in learned_pet:
        assert one.told == 2 and not {"ada_birch:0", "ada_birch:1"} & set(one.asked)


def test_what_cannot_be_split_is_told():
    one = [row for row in rows("ada_birch") if row["attribute"] == "city"]
    with pytest.raises(NotAvailable, match="1 facts cannot be split"):
        split(one, 0.5, 0)
    same = [{**row, "keywords": "Oslo Bay", "answer": "Oslo Bay."} for row in rows("ada_birch", "ben_crane")]
    with pytest.raises(NotAvailable, match="the rows of 1 people tell all 6 others"):
        split(same, 0.5, 0)
