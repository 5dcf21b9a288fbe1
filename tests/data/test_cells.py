"""Cells as texts and lists of texts, whoever wrote the table."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.data.cells import (
    emptiness,
    is_written_list,
    list_column,
    oddity,
    text_column,
    texts_of,
)
from remem_tasks.errors import RememError
from remem_tasks.seen import visible


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
        (float("nan"), "holds NaN, not a text"),
        (float("-inf"), "holds an infinite number, not a text"),
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


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([["She lives in Oslo."], ["a"]], ["She lives in Oslo.", "a"]),
        ([["a"], ["a", "b"]], "row 5: column 'answer' holds a list of 2, not a text"),
        ([["a"], []], "row 5: column 'answer' holds an empty list, not a text"),
        ([["a"], [None]], "row 5: column 'answer' holds a list of 1, not a text"),
    ],
)
def test_a_list_is_no_text_to_be_taught_with_its_brackets(cells, said):
    column = pa.chunked_array([pa.array(cells, pa.list_(pa.string()))])
    if isinstance(said, list):
        assert text_column(column, "answer", "x").to_pylist() == said
        return
    with pytest.raises(RememError, match=said):
        text_column(column, "answer", "x", first=4)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_bytes_that_are_no_utf8_are_named_with_their_row(kind):
    raw = pa.array([b"Oslo", "Malm\u00f6".encode("latin-1")], pa.binary())
    raw = raw.cast(pa.large_binary()) if kind == pa.large_string() else raw
    text = pa.Array.from_buffers(kind, 2, raw.buffers())
    with pytest.raises(RememError, match="x, row 8: column 'answer' holds bytes that are no UTF-8"):
        text_column(pa.chunked_array([text]), "answer", "x", first=7)


def test_categories_of_no_texts_are_named_with_their_row_in_the_split():
    column = pa.chunked_array([pa.array([1.5, 2.5]).dictionary_encode()])
    with pytest.raises(RememError, match=r"x, row 3: column 'answer' holds a number \(1.5\)"):
        text_column(column, "answer", "x", first=3)


@pytest.mark.parametrize(
    "text",
    ['c("a", "b")', "Index(['a', 'b'], dtype='object')", "tensor(['a', 'b'])", 'ARRAY["a","b"]', '\ufeff["a", "b"]', "array(['a' 'b'], dtype=object)", '{"a","b"}'],
)  # fmt: skip
def test_lists_of_other_writers(text):
    assert texts_of(text) == ["a", "b"] and is_written_list(text)


@pytest.mark.parametrize("text", ["c(a)", "Index card (blue)", "list of two", "ARRAY", "set(tings)"])
def test_words_that_writers_of_lists_use_are_texts(text):
    assert texts_of(text) == [text] and not is_written_list(text)


@pytest.mark.parametrize("text", ['["Oslo"]', "['a', 'b']", "('a', 'b')", "['a' 'b']", "[]"])
def test_texts_that_are_lists_are_known(text):
    assert is_written_list(text) and is_written_list(f" {text}\n")


@pytest.mark.parametrize(
    "text", ["Oslo", "(555) 0101", "[redacted] by hand", "[sic]", "{x}", '"Oslo"', 7, None]
)
def test_plain_texts_with_brackets_are_no_lists(text):
    assert not is_written_list(text)


@pytest.mark.parametrize(
    "mark",
    [
        "<image>",
        "</s>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|image_1|>",
        "<end_of_turn>",
        "[/INST]",
        "[IMG]",
        "[IMG_BREAK]",
        "<img>",
        "</img>",
        "<ImageHere>",
        "<｜end▁of▁sentence｜>",
        "<｜User｜>",
        "</image>",
        "<im_patch>",
        "<row_1_col_2>",
        "<global-img>",
        "<extra_id_0>",
        "<|begin_of_image|>",
        "<|START_OF_TURN_TOKEN|>",
        "<begin_of_image>",
        "<loc0123>",
        "<ref>",
        "[SEP]",
        "[SYSTEM_PROMPT]",
    ],
)
def test_tokens_of_chat_templates_are_known(mark):
    assert mark in oddity(f"Oslo {mark} Bay")


@pytest.mark.parametrize(
    "text",
    [
        "a < b > c",
        "<3",
        "x|y",
        "[sic]",
        "<Oslo>",
        "I said <hello world>",
        "a<|b",
        "<location>",
        "[s]",
        "<imagery>",
        "[unk]nown",
    ],
)
def test_plain_signs_are_none(text):
    assert oddity(text) == ""
