"""Other pictures: what is shown in place of a row's own."""

import pytest
from PIL import Image

from remem_tasks.attacks import pictures
from remem_tasks.benchmarks.remem.benchmark import BENCHMARK
from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.errors import RememError


@pytest.fixture
def disc():
    image = Image.new("RGB", (40, 30), (250, 10, 10))
    image.paste((10, 10, 250), (15, 10, 25, 20))
    return image


def test_changes_keep_the_size_and_change_the_picture(disc):
    for change in pictures.CHANGES.values():
        assert change(disc).size == disc.size and change(disc).tobytes() != disc.tobytes()
        for mode in ("L", "P", "RGBA", "1"):  # as files have them
            assert change(disc.convert(mode)).size == disc.size
        assert change(Image.new("RGB", (1, 1), (9, 8, 7))).size == (1, 1)


def test_changes_by_hand(disc):
    red, green, blue = pictures.recoloured(disc).getpixel((1, 1))
    assert green > 200 and max(red, blue) < 30  # a third of the wheel from red
    assert pictures.cropped(disc).getpixel((0, 0)) == disc.getpixel((5, 4))
    assert pictures.recoloured(Image.new("L", (2, 2), 55)).getpixel((0, 0)) == (200, 200, 200)


def test_whose_picture_is_shown(data_dir):
    forget, finetune = load_split(str(data_dir), "forget1"), load_split(str(data_dir), "finetune")
    test = load_split(str(data_dir), "test")
    own = BENCHMARK.images(forget[0])[0].tobytes()
    for name in pictures.NAMES:
        kept = finetune.select(range(6, 36))
        shown = pictures.shown(name, BENCHMARK, forget, [test] if name == "other_view" else [kept])
        for doc in forget:
            found = shown(doc)
            assert len(found) == (name != "none")
        if name != "none":
            assert shown(forget[0])[0].tobytes() != own
    view = pictures.other_views(
        [{"row_id": "a:0", "identity": "x", "path": "1"}],
        [[{"row_id": "t:0", "identity": "y", "path": "2"}, {"row_id": "t:1", "identity": "x", "path": "3"}]],
    )
    assert view["a:0"]["row_id"] == "t:1"


def test_nobody_else_and_no_other_view_are_told():
    one = [{"row_id": "a:0", "identity": "x", "path": "1"}]
    with pytest.raises(RememError, match="no other picture of 'x'"):
        pictures.other_views(one, [])
