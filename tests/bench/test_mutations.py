"""The breaks that `bench/mutations.py` tries are still where it looks for them, and its tests are there."""

import mutations
import pytest


@pytest.mark.parametrize("one", mutations.BREAKS, ids=lambda one: one.what)
def test_a_break_breaks_one_place_and_code_that_still_parses(one):
    text = (mutations.ROOT / one.file).read_text()
    assert text.count(one.old) == 1 and one.new != one.old
    compile(text.replace(one.old, one.new), one.file, "exec")
    assert all((mutations.ROOT / name).is_file() for name in one.tests)


def test_ten_are_tried_in_all_three_parts():
    assert len(mutations.BREAKS) == 10
    parts = {one.file.split("/")[-1] for one in mutations.BREAKS}
    assert {"losses.py", "trainer.py", "frontiers.py", "draw.py"} <= parts
