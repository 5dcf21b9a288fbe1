"""Random damage: whatever stands in rows, cells, configs, cache lines and results files, it is read or refused in one line."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lmms_eval.api.instance import GenerationResult, TokenCounts
from safetensors.torch import save_file

from remem_tasks.benchmarks.remem.schema import COLUMNS
from remem_tasks.checkpoint_files import check_files, read_json, tensors_of
from remem_tasks.engine.cache import Cache
from remem_tasks.errors import RememError
from remem_tasks.report.results import read_scores

QUICK, LONG = 25, 2500
SURROGATES = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | SURROGATES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SURROGATES, inner, max_size=4),
    max_leaves=8,
)


def examples(**strategies):
    """The test twice: with a few examples always, with many in the slow suite."""

    def decorate(function):
        @pytest.mark.parametrize("number", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
        def test(number, tmp_path):
            @settings(
                max_examples=number, deadline=None, suppress_health_check=list(HealthCheck), database=None
            )
            @given(**strategies)
            def one(**values):
                function(tmp_path, **values)

            one()

        test.__doc__ = function.__doc__
        return test

    return decorate


def one_line(call) -> object:
    """What the call gives, or None if it was refused in one line; anything else that it raises fails."""
    try:
        return call()
    except RememError as error:
        assert str(error).strip() and len(str(error).splitlines()) == 1, str(error)
        return None


@examples(raw=st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_configs(folder, raw):
    (folder / "config.json").write_bytes(raw)
    found = one_line(lambda: read_json(folder / "config.json"))
    assert found is None or found == json.loads(raw) or isinstance(found, dict)
    assert one_line(lambda: check_files(folder)) is None


@examples(
    raw=st.binary(max_size=120)
    | JSON.map(lambda value: struct.pack("<Q", len(json.dumps(value))) + json.dumps(value).encode())
)
def test_weights(folder, raw):
    (folder / "model.safetensors").write_bytes(raw)
    found = one_line(lambda: tensors_of(folder / "model.safetensors"))
    assert found is None or all(isinstance(kind, str) for kind in found.values())


@examples(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_byte_of_the_header(folder, place, byte):
    file = folder / "model.safetensors"
    if not file.is_file():
        save_file({"a": torch.ones(3), "b": torch.zeros(2, 2)}, file)
    raw = bytearray(file.read_bytes())
    raw[int(place * (len(raw) - 1))] = byte
    (folder / "other.safetensors").write_bytes(raw)
    one_line(lambda: tensors_of(folder / "other.safetensors"))


@examples(place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_byte_of_the_cache(folder, place, byte, cut):
    """A kept reply is the one that was written, or none: no byte of the file makes another one."""
    answers = {
        f"k{n}": [GenerationResult(f"He lives in {n}.", TokenCounts(input_tokens=9, output_tokens=n))]
        for n in range(4)
    }
    if not (folder / "m").is_dir():
        made = Cache(folder, "m")
        for key, value in answers.items():
            made.put([(key, value)])
        made.close()
    (file,) = (folder / "m").glob("*.jsonl")
    raw = bytearray(file.read_bytes())
    at = int(place * (len(raw) - 1))
    changed = raw[:at] if cut else raw[:at] + bytes([byte]) + raw[at + 1 :]
    (folder / "n").mkdir(exist_ok=True)
    (folder / "n" / file.name).write_bytes(changed)
    found = Cache(folder, "n").kept
    assert all(found[key] == answers[key] for key in found) and len(found) >= 2 * (not cut)


@examples(value=JSON, raw=st.binary(max_size=60), as_json=st.booleans())
def test_results_files(folder, value, raw, as_json):
    file = folder / "20260101_000000_results.json"
    file.write_bytes(json.dumps(value).encode() if as_json else raw)
    one_line(lambda: read_scores(file))


@examples(cells=st.dictionaries(st.sampled_from(sorted(COLUMNS)), JSON, max_size=4))
def test_cells(folder, cells):
    """A row with any cells loads as it is, or is refused with its row."""
    import datasets
    import pyarrow as pa
    from support.rows import rows_of

    from remem_tasks.benchmarks.remem.data import load_split

    row = {**rows_of("ada_birch")[0], **cells}
    (folder / "data").mkdir(exist_ok=True)
    try:
        table = datasets.Dataset.from_list([row])
        table.to_parquet(folder / "data" / "forget1-00000-of-00001.parquet")
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
        return  # no parquet file holds such a cell
    loaded = one_line(lambda: load_split(str(folder), "forget1"))
    assert loaded is None or len(loaded) == 1
