"""Stars, by hand."""

import pytest

from remem_tasks.forge.shapes import star


def test_a_star_begins_above_and_goes_around():
    first, second, *_ = found = star(10, 20, 4, 2)
    assert len(found) == 4 and first == (10, 16)
    assert second == pytest.approx((10 + 4 * 0.45, 20))
    assert found[2] == pytest.approx((10, 24)) and found[3] == pytest.approx((10 - 4 * 0.45, 20))
    turned = star(10, 20, 4, 2, 1.5707963267948966)
    assert turned[0] == pytest.approx((14, 20))
