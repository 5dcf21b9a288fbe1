"""Output folders: complete under their own name, or not there at all."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remem_tasks.errors import RememError
from remem_tasks.files import Locked, lock, locked, new_folder, rows_written, write_whole


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


def test_an_output_is_one_process_alone(tmp_path):
    out = tmp_path / "out"
    with lock(out):
        with pytest.raises(Locked, match=r"out' is being written by another process"), new_folder(out):
            pass
        with lock(tmp_path / "other"):
            pass
    assert not list(tmp_path.iterdir())  # no lock is left behind
    with new_folder(out):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_function_holds_its_output(tmp_path):
    @locked
    def make(what, out="nowhere"):
        with pytest.raises(Locked), lock(tmp_path / "out"):
            pass
        return what

    assert make(3, out=tmp_path / "out") == make(3, tmp_path / "out") == 3


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    write_whole(tmp_path / "a.txt", "old")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(RememError, match=r"b\.txt' cannot be written"):
        write_whole(tmp_path / "b.txt", "new")
    with pytest.raises(RememError, match=r"cannot be written"):
        write_whole(tmp_path / "a.txt" / "below", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_tables_are_read_back(tmp_path):
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "x.parquet")
    assert rows_written(tmp_path) == {"x.parquet": 3}
    (tmp_path / "y.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-8])
    with pytest.raises(RememError, match=r"y\.parquet' was not written whole"):
        rows_written(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder here that not even root can write to")
def test_where_nothing_can_be_written_nobody_is_said_to_hold_the_lock():
    with pytest.raises(RememError, match="cannot be written") as caught, lock("/proc/out"):
        pass
    assert not isinstance(caught.value, Locked)
