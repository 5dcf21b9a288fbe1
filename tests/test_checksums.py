"""What a training wrote is what is used, file by file."""

import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks import checksums
from remem_tasks.errors import RememError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "run.json").write_text("{}")
    with zipfile.ZipFile(tmp_path / "optimizer.pt", "w") as archive:
        archive.writestr("state", b"state" * 100)
    checksums.write(tmp_path, {"method": "npo"})
    return tmp_path


def test_what_is_as_it_was_written_passes(folder):
    assert checksums.check(folder) == {"method": "npo"}
    assert checksums.check(folder, checksums.WEIGHTS) == {"method": "npo"}
    (folder / "run.json").write_text("another")  # written anew beside a checkpoint
    (folder / "README.md").write_text("a card")
    assert checksums.check(folder) == {"method": "npo"}


def test_a_folder_without_checksums_is_taken_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert checksums.check(tmp_path) is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "optimizer.pt"])
def test_what_was_changed_lost_or_added_is_named(folder, name):
    was = (folder / name).read_bytes()
    (folder / name).write_bytes(b"x" + was)
    if name != "optimizer.pt":  # an archive may have something before it
        with pytest.raises(RememError, match=f"{name}' is damaged, or another file than was written"):
            checksums.check(folder)
    (folder / name).unlink()
    with pytest.raises(RememError, match=f"has lost {name}"):
        checksums.check(folder)
    assert checksums.check(folder, lossy=True)
    (folder / name).write_bytes(was)
    (folder / "added.json").write_text("{}")
    with pytest.raises(RememError, match="added.json' was put there later"):
        checksums.check(folder)
    assert checksums.check(folder, checksums.WEIGHTS), "not among what is read"


def test_an_archive_of_other_contents_is_another(folder):
    with zipfile.ZipFile(folder / "optimizer.pt", "w") as archive:
        archive.writestr("state", b"stave" * 100)
    with pytest.raises(RememError, match="optimizer.pt"):
        checksums.check(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": 1}', '{"format": 2, "files": {}, "identity": null}',
     '{"format": 1, "files": [], "identity": null}', '{"format": 1, "files": {}, "identity": 3}'],
)  # fmt: skip
def test_checksums_that_are_none_are_refused(folder, text):
    (folder / checksums.FILE).write_text(text)
    with pytest.raises(RememError, match="checksums.json"):
        checksums.check(folder)


@given(raw=st.binary(max_size=200), place=st.integers(0, 10**6), byte=st.integers(1, 255))
def test_every_byte_counts(tmp_path_factory, raw, place, byte):
    file = tmp_path_factory.mktemp("one") / "f"
    file.write_bytes(raw)
    before = checksums.checksum_of(file)
    assert len(before) == 32 and checksums.checksum_of(file) == before
    other = bytearray(raw or b"\0")
    if raw:
        other[place % len(raw)] ^= byte
    file.write_bytes(bytes(other))
    assert checksums.checksum_of(file) != before


def test_a_part_that_cannot_be_read_is_named(folder):
    record = json.loads((folder / checksums.FILE).read_text())
    assert set(record["files"]) == {"config.json", "model.safetensors", "tokenizer.json", "optimizer.pt"}
    with pytest.raises(RememError, match="nowhere"):
        checksums.checksum_of(folder / "nowhere")
