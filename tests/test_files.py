"""Output folders: complete under their own name, or not there at all."""

import pytest

from remem_tasks.errors import RememError
from remem_tasks.files import new_folder


def test_a_folder_appears_when_the_block_ends_well(tmp_path):
    with new_folder(tmp_path / "a" / "out") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a" / "out").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    assert (tmp_path / "a" / "out" / "x").read_text() == "1"


def test_a_stopped_block_leaves_nothing_under_the_name_and_nothing_for_the_next(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), new_folder(out) as folder:
        (folder / "old").write_text("1")
        raise KeyboardInterrupt
    assert not out.exists()
    with new_folder(out) as folder:
        (folder / "new").write_text("1")
    assert [path.name for path in out.iterdir()] == ["new"]


def test_an_empty_folder_is_filled_and_another_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
    for taken in (tmp_path / "out", tmp_path / "out" / "x"):
        with pytest.raises(RememError, match="not empty"), new_folder(taken):
            pass
    assert (tmp_path / "out" / "x").read_text() == "1"
