"""Nothing of others that is printed is obeyed by a terminal."""

import argparse
import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from remem_tasks import terminal
from remem_tasks.cli import commands_parser, main
from remem_tasks.errors import exit_on_error
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


def test_python_callers_hear_nothing_and_commands_say_what_they_do(capsys, monkeypatch):
    with terminal.beating("working"):
        terminal.progress("halfway")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(terminal, "_program", "")
    terminal.starts("remem x")
    with terminal.beating("working", lambda: "40 %", seconds=0.01):
        time.sleep(0.2)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[:2] == ["remem x: starting (loading libraries) ...", "remem x: working ..."]
    assert lines[2] == "remem x: working: 0 s, 40 %" and len(lines) > 3


def test_the_sign_of_life_ends_with_an_error(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "_program", "remem x")
    before = threading.active_count()
    with pytest.raises(ValueError), terminal.beating("working", seconds=0.01):
        raise ValueError
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize("command", [["remem", "gate", "nowhere"], ["lmms_eval", "--tasks", "no_such_task"]])
def test_the_first_line_comes_before_the_imports(command):
    code = f"import sys; sys.argv = {command!r}; from remem_tasks import cli; (cli.main if {command[0]!r} == 'remem' else cli.lmms_eval)()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    line = process.stderr.readline()
    loaded = Path(f"/proc/{process.pid}/maps").read_text() if Path("/proc").is_dir() else ""
    process.kill()
    process.wait()
    process.stderr.close()
    assert "starting" in line and "libtorch" not in loaded


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_a_terminal_cannot_show_is_no_fault(monkeypatch, encoding):
    """As with LC_ALL=C and PYTHONUTF8=0, or a Windows code page."""
    errors = "surrogateescape" if encoding == "ascii" else "strict"  # (as Python opens them in the C locale)
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    monkeypatch.setattr("sys.stdout", written)
    assert exit_on_error(lambda: print("EM 3\u201395 % \u4eba"), "remem") == 0
    written.flush()
    said = written.buffer.getvalue().decode(encoding)
    assert said == "EM 3{}95 % {}\n".format(
        *{"utf-8": "\u2013\u4eba", "cp1252": "\u2013?"}.get(encoding, "??")
    )


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("cache --clera", "remem cache: error: unrecognized arguments: --clera; did you mean '--clear'?"),
        ("judge x --modle y", "remem judge: error: unrecognized arguments: --modle; did you mean '--model'?"),
        ("demo --sed=3", "remem demo: error: unrecognized arguments: --sed; did you mean '--seed'?"),
        ("leaderboard show it.jsonl", "remem leaderboard show: error: unrecognized arguments: it.jsonl"),
        ("gate x --qqq", "remem gate: error: unrecognized arguments: --qqq"),
    ],
)
def test_a_flag_that_there_is_not_is_told_by_its_command_with_the_nearest(typed, told, capsys):
    """Before what is missing: it is what was meant by the misspelt one."""
    with pytest.raises(SystemExit) as ended:
        commands_parser().parse_args(typed.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_flags_may_be_shortened_and_what_follows_two_dashes_or_is_a_value_is_no_flag():
    parser = terminal.Parser()
    parser.add_argument("--rows", type=int)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--training")
    found = parser.parse_args(["--ro", "3", "--", "--x"])
    assert (found.rows, found.words) == (3, ["--x"])
    assert parser.parse_args(["--training", "--max_steps 2 --lr=1"]).training == "--max_steps 2 --lr=1"
    assert parser.parse_args(["--training=--max_steps"]).training == "--max_steps"
