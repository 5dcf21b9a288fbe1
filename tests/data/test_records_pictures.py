"""Which picture a record finds, and when the one it finds is another's."""

import pytest

from remem_tasks.data.records import Pictures, strays


@pytest.fixture
def folder(tmp_path):
    for name in ("images/p1/0.png", "images/p2/1.png", "images/p2/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def found(folder, named):
    return [Pictures(str(folder)).find(path) for path in named]


def others(folder, named):
    return list(strays(named, found(folder, named), str(folder)))


def test_who_lacks_a_picture_does_not_get_that_of_another(folder):
    """p3's 1.png is missing; p2's is found by its name, with one of three parts, where the others have all three."""
    named = ["images/p1/0.png", "images/p2/2.png", "images/p3/1.png"]
    assert found(folder, named)[2] == str(folder / "images/p2/1.png")
    assert others(folder, named) == [2]


@pytest.mark.parametrize("root", ["pictures", "data/train", "C:\\data\\pictures", "./images", "images"])
def test_all_may_be_named_from_another_folder(folder, root):
    named = [f"{root}/{name}" for name in ("p1/0.png", "p2/1.png", "p2/2.png")]
    assert None not in found(folder, named) and others(folder, named) == []


def test_a_path_that_is_told_in_part_contradicts_nothing(folder):
    assert others(folder, ["images/p1/0.png", "images/p2/2.png", "1.png", "old/images/p1/0.png"]) == []


def test_no_picture_at_all(folder):
    assert (
        found(folder, ["images/p1/9.png", ""]) == [None, None]
        and others(folder, ["images/p1/9.png", ""]) == []
    )
