"""Nothing of others that is printed is obeyed by a terminal."""

import argparse
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from remem_tasks.cli import main
from remem_tasks.terminal import Parser, clean, console, foreign, say

BAD = {
    "colour": ("\x1b[31mred\x1b[0m", "red"),
    "title": ("\x1b]0;owned\x07name", "name"),
    "link": ("\x1b]8;;http://x\x1b\\click\x1b]8;;\x1b\\", "click"),
    "eight bit": ("a\x9b2Jb", "a 2Jb"),
    "direction": ("abc\u202edef\u2066", "abc def "),
    "bell and backspace": ("a\x07\x08b", "a  b"),
    "lines": ("a\r\nb", "a  b"),
    "tags": ("a\U000e0041", "a "),
    "half a pair": ("a\ud800", "a?"),
}


@pytest.mark.parametrize("kind", BAD)
def test_sequences_and_invisible_characters_go(kind):
    text, plain = BAD[kind]
    assert clean(text) == plain and foreign(text)


@given(st.text())
def test_what_is_cleaned_is_one_line_and_stays_so(text):
    once = clean(text)
    assert clean(once) == once and not foreign(once)
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 or 0x202A <= ord(one) <= 0x202E for one in once)


@pytest.mark.parametrize("text", ["Zoë Ångström", "名字", "शर्मा", "עברית", "C++ 26,100 “x”"])
def test_words_of_any_script_stay(text):
    assert clean(text) == text and not foreign(text)


def test_tables_lines_and_messages_are_cleaned(capsys):
    out = io.StringIO()
    screen = console()
    screen.file, table = out, Table("na\x1b[31mme")
    table.add_row("x\x1b]0;owned\x07y")
    screen.print(table)
    assert "\x1b" not in out.getvalue() and "ownedy" in out.getvalue() and "na[31mme" in out.getvalue()
    say("a\x1b[2J", "b\nc")
    assert capsys.readouterr().out == "a b\nc\n"
    with pytest.raises(SystemExit):
        Parser(prog="p").parse_args(["--\x1b[31mx"])
    assert "\x1b" not in capsys.readouterr().err
    assert isinstance(Parser().add_subparsers().add_parser("x"), argparse.ArgumentParser)


def test_a_path_that_holds_sequences_is_named_without_them(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(tmp_path / "no\x1b[31mwhere\u202e")])
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "\x1b" not in said and "\u202e" not in said and "nowhere" in said
