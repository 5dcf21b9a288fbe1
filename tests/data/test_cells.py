"""Cells as texts and lists of texts, whoever wrote the table."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.data.cells import emptiness, list_column, text_column, texts_of, visible
from remem_tasks.errors import RememError


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("Oslo Bay", ["Oslo Bay"]),
        ('["a", " b "]', ["a", "b"]),
        ("['a', \"it's\"]", ["a", "it's"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        (str(np.array(["Oslo Bay", "it's"])), ["Oslo Bay", "it's"]),
        (repr(np.array(["a", "b"], dtype=object)), ["a", "b"]),
        ("['say \"a\" \"b\"', 'c']", ['say "a" "b"', "c"]),
        (["a", 7], ["a", "7"]),
        (7, ["7"]),
        ("(555) 0101", ["(555) 0101"]),
        ("(1, 2)", ["(1, 2)"]),
        ("[redacted] by hand", ["[redacted] by hand"]),
        ("one; two", ["one; two"]),
        ("[]", []),
        ("  ", []),
        (None, []),
    ],
)  # fmt: skip
def test_lists_of_every_hand_are_read(cell, texts):
    assert texts_of(cell) == texts


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('["a", ', "none that can be read"),
        ("[a, b]", "none that can be read"),
        ('[["a"], "b"]', "a list in a list"),
        ([["a"]], "a list in a list"),
        ('["a", null]', "null in it"),
        (["a", None], "null in it"),
        (["a", " "], "an empty text"),
        (["a", "\u200b"], "a text that shows nothing"),
        ("[1.5]", "a number"),
        ('{"a": 1}', "a record"),
        (1.5, "a number"),
    ],
)
def test_what_means_nothing_sure_is_refused_in_true_words(cell, said):
    with pytest.raises(RememError, match=said) as stop:
        texts_of(cell)
    assert "is empty" not in str(stop.value)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).map(str.strip).filter(visible)))
def test_what_json_python_and_arrow_write_comes_back(texts):
    assert texts_of(json.dumps(texts)) == texts
    assert texts_of(texts) == texts
    if texts:
        assert texts_of(repr(texts)) == texts


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        assert all((isinstance(one, str) and visible(one)) or one == text.strip() for one in texts_of(text))
    except RememError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("Oslo", ""),
        ("", "is empty"),
        (" \t", "holds only blanks"),
        ("\u200b\u2060", "holds only characters that show nothing"),
        ("\u3164", "holds only characters that show nothing"),
        ("\u2800\u00ad", "holds only characters that show nothing"),
        (None, "is null"),
        (["a"], "holds a list of 1, not a text"),
        (7.5, "holds a number (7.5), not a text"),
    ],
)
def test_why_a_cell_is_no_text(cell, why):
    assert emptiness(cell) == why


def chunked(*values, kind=None):
    return pa.chunked_array([pa.array(list(values), kind)])


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (chunked(26100, None), ["26100", None]),
        (chunked("a", kind=pa.large_string()), ["a"]),
        (chunked(None, kind=pa.null()), [None]),
        (pa.chunked_array([pa.array(["a", "b"]).dictionary_encode()]), ["a", "b"]),
        (chunked(["a", "b"], ["c"]), ['["a", "b"]', '["c"]']),
    ],
)
def test_columns_of_other_types_become_texts(column, texts):
    assert text_column(column, "keywords", "split 'x'").to_pylist() == texts


@pytest.mark.parametrize("column", [chunked("a"), chunked(1.5), chunked(True), chunked({"a": 1})])
def test_columns_that_hold_no_texts_are_named_with_their_row(column):
    if pa.types.is_string(column.type):
        assert text_column(column, "answer", "split 'x'") is column
        return
    with pytest.raises(RememError, match=r"split 'x', row 0: column 'answer' holds .*, not a text"):
        text_column(column, "answer", "split 'x'")


def test_list_columns():
    assert list_column(chunked('["a"]', "['b' 'c']", None), "options", "x").to_pylist() == [
        ["a"],
        ["b", "c"],
        None,
    ]
    with pytest.raises(RememError, match="x, row 1: column 'options' holds a list in a list"):
        list_column(chunked('["a"]', '[["b"]]'), "options", "x")
