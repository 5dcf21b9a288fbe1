"""`leaderboard.jsonl`: what may be appended and what not."""

import copy
import json
import multiprocessing

import pytest
from support.made import SUITE, model

from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.report.leaderboard import append, check_entry, entries_of, read_board
from remem_tasks.report.summary import report_of


@pytest.fixture
def runs(tmp_path):
    model(tmp_path / "runs", "start", [1.0] * 30, [1.0] * 30)
    model(tmp_path / "runs", "gold", [0.0] * 30, [1.0] * 30)
    model(tmp_path / "runs", "npo", [0.0] * 29 + [1.0], [1.0] * 29 + [0.0])
    model(tmp_path / "runs", "ga", [0.0] * 30, [0.0] * 30)
    return tmp_path / "runs"


def entries(runs, *names, start="start", gold="gold"):
    return entries_of(
        report_of([str(runs / name) for name in names], str(runs / gold), start and str(runs / start))
    )


def test_entries_hold_what_the_report_says(runs):
    (entry,) = entries(runs, "npo")
    assert entry["name"] == "npo" and entry["start"]["gate"] == {"passed": True, "reasons": []}
    em = entry["scores"]["remem_forget1"]["em"]
    assert em["value"] == pytest.approx(1 / 30, abs=1e-6) == em["remaining"] and em["rows"] == 30
    assert entry["suite"]["remem_forget1"]["rollouts"] == 64 and entry["data"]["remem_forget1"]["rows"] == 30
    assert entry["to_gold"]["remem_forget1"]["ks"] == pytest.approx(1 / 30, abs=1e-6)
    assert check_entry(json.loads(json.dumps(entry)), "here") == entry


def test_entries_are_appended_and_read_back(runs, tmp_path):
    board = tmp_path / "board.jsonl"
    assert append(board, entries(runs, "npo")) == 1
    board.write_text(board.read_text().rstrip("\n"))  # edited by hand, without its last line break
    assert append(board, entries(runs, "ga")) == 2
    assert [entry["name"] for entry in read_board(board)] == ["npo", "ga"]
    with pytest.raises(RememError, match="there already, as line 1"):
        append(board, entries(runs, "npo"))
    assert len(board.read_text().splitlines()) == 2


def test_all_or_none(runs, tmp_path):
    board = tmp_path / "board.jsonl"
    append(board, entries(runs, "npo"))
    with pytest.raises(RememError, match="there already"):
        append(board, [*entries(runs, "ga"), *entries(runs, "npo")])
    assert len(read_board(board)) == 1


def test_a_start_that_had_not_memorised_is_refused_unless_asked_for(runs, tmp_path):
    board = tmp_path / "board.jsonl"
    with pytest.raises(RememError, match="not shown to have memorised: remem_forget1, all: not memorised"):
        append(board, entries(runs, "npo", start="ga"))
    with pytest.raises(RememError, match="no starting model was given"):
        append(board, entries(runs, "npo", start=None))
    assert append(board, entries(runs, "npo", start="ga"), no_gate=True) == 1
    assert read_board(board)[0]["start"]["gate"]["passed"] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "0" * 16}, "is other data"),
        ({"suite": {**SUITE, "rollouts": 128}}, "rollouts 128, the board 64"),
        ({"generation": {"max_new_tokens": 3}}, "remem_forget1: max_new_tokens 3, the board None"),
        ({"told": ",dtype=float16"}, "remem_forget1: dtype float16, the board None"),
        ({"backend": "vllm"}, "remem_forget1: backend vllm, the board remem_hf"),
    ],
)
def test_other_data_or_settings_are_refused(runs, tmp_path, change, message):
    board = tmp_path / "board.jsonl"
    append(board, entries(runs, "npo"))
    other = tmp_path / "other"
    for name, em in (("start", 1.0), ("gold", 0.0), ("new", 0.5)):
        model(other, name, [em] * 30, [1.0] * 30, **change)
    with pytest.raises(RememError, match=message):
        append(board, entries(other, "new"))


def test_as_many_other_rows_are_other_data(runs, tmp_path):
    """`--limit 10` and `--limit 10 --offset 10` of one set."""
    board = tmp_path / "board.jsonl"
    (first,) = entries(runs, "npo")
    append(board, [first])
    moved = json.loads(json.dumps(first)) | {"name": "other", "samples": "0" * 16}
    moved["data"]["remem_forget1"]["ids"] = "1" * 16
    with pytest.raises(RememError, match="remem_forget1 is other data"):
        append(board, [moved])
    del moved["data"]["remem_forget1"]["ids"]  # of a version that did not note them
    assert append(board, [moved]) == 2


def path(entry, *keys):
    for key in keys[:-1]:
        entry = entry[key]
    return entry, keys[-1]


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), 1, "format 1, this version reads 2"),
        (("name",), "", "'name' has to be one line"),
        (("name",), "a\nb", "'name' holds control or bidirectional characters"),
        (("name",), "\u202eopn", "'name' holds control or bidirectional"),
        (("method",), "\x1b[31mnpo", "'method' holds control or bidirectional"),
        (("checkpoint",), "a\x9b2J", "'checkpoint' holds control or bidirectional"),
        (("start", "name"), "a\x00", "'start name' holds control"),
        (("start", "gate", "reasons"), None, "no list of reasons"),
        (("start", "gate", "passed"), False, "did not pass, without a reason"),
        (
            ("start", "gate", "reasons"),
            ["remem_forget1, all: not memorised"],
            "passed, with reasons against it",
        ),
        (("to_gold", "remem_forget1", "ks"), float("nan"), "ks is nan, not a number"),
        (("to_gold", "remem_forget1"), {}, "ks is None, not a number"),
        (("scores", "remem_forget1", "em", "remaining"), float("inf"), "remaining is inf, not a number"),
        (("data", "remem_forget1", "rows"), True, "lacks fingerprint or rows"),
        (("generation",), {}, "'generation' and 'data' name other sets"),
        (("samples",), "zz", "no digest"),
        (("scores", "remem_forget1", "em", "value"), 1.5, "outside \\[0, 1\\]"),
        (("scores", "remem_forget1", "em", "value"), True, "not a number"),
        (("scores", "remem_forget1", "em", "value"), float("nan"), "not a number"),
        (("scores", "remem_forget1", "em", "low"), 0.9, "outside its interval"),
        (("scores", "remem_forget1", "em", "rows"), 31, "31 rows of 30"),
        (("scores", "remem_forget1"), {}, "without em"),
        (("data", "remem_forget1", "fingerprint"), "", "lacks fingerprint"),
        (("data",), {}, "name other sets"),
        (("start",), {"gate": {}}, "lacks its name, its samples"),
        (("more",), 1, "unknown field more"),
        (("scores",), [], "'scores' is \\[\\]"),
    ],
)
def test_an_entry_that_does_not_hold_together_is_refused(runs, keys, value, message):
    entry = copy.deepcopy(entries(runs, "npo")[0])
    place, key = path(entry, *keys)
    place[key] = value
    with pytest.raises(RememError, match=message):
        check_entry(entry, "here")


def test_a_missing_field_and_a_broken_line_are_named(runs, tmp_path):
    (entry,) = entries(runs, "npo")
    del entry["suite"]
    with pytest.raises(RememError, match="here: without suite"):
        check_entry(entry, "here")
    board = tmp_path / "board.jsonl"
    append(board, entries(runs, "npo"))
    board.write_text(board.read_text() + "{half")
    with pytest.raises(RememError, match="line 2: half written or no JSON"):
        append(board, entries(runs, "ga"))


def _append(board, entry):
    append(board, [entry])


def test_two_who_append_at_once_do_not_mix_their_lines(runs, tmp_path):
    board = tmp_path / "board.jsonl"
    (first,) = entries(runs, "npo")
    several = [{**first, "name": f"n{i}", "samples": f"{i:016x}"} for i in range(6)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(board, entry)) for entry in several]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {entry["name"] for entry in read_board(board)} == {f"n{i}" for i in range(6)}


def test_the_commands(runs, tmp_path, capsys):
    board = str(tmp_path / "b.jsonl")
    add = [
        "leaderboard",
        "add",
        "--file",
        board,
        "--start",
        str(runs / "start"),
        "--gold",
        str(runs / "gold"),
    ]
    with pytest.raises(SystemExit) as ended:
        main([*add, str(runs / "npo"), "--name", "NPO, 80 steps"])
    assert ended.value.code == 0 and "NPO, 80 steps added, 1 entries" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([*add, str(runs / "npo")])
    assert ended.value.code == 1 and "there already" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "show", "--file", board])
    assert ended.value.code == 0 and "1 entries, no faults" in capsys.readouterr().out


def test_an_entry_is_verified_against_its_results_and_samples(runs, tmp_path, capsys):
    board = tmp_path / "b.jsonl"
    append(board, entries(runs, "npo"))
    argv = ["leaderboard", "verify", "--file", str(board), "--start", str(runs / "start")]
    argv += ["--gold", str(runs / "gold"), str(runs / "npo")]
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 0 and "'npo' holds: " in capsys.readouterr().out
    entry = json.loads(board.read_text())
    entry["scores"]["remem_forget1"]["em"]["value"] = entry["scores"]["remem_forget1"]["em"]["low"]
    board.write_text(json.dumps(entry) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 1
    assert "scores remem_forget1 em value is" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--name", "other"])
    assert "the board has no entry 'other'" in capsys.readouterr().err


def test_a_board_that_cannot_be_read_or_written_is_one_line(runs, tmp_path):
    board = tmp_path / "b.jsonl"
    board.write_bytes(b"\xff\n")
    with pytest.raises(RememError, match="b.jsonl' cannot be read: byte 0 is not UTF-8"):
        read_board(board)
    board.write_text('{"format": ' + "1" * 5000 + "}\n")
    with pytest.raises(RememError, match="line 1: half written or no JSON .a number of 5000 digits"):
        read_board(board)
    (tmp_path / "file").write_text("")
    with pytest.raises(RememError, match="cannot be written"):
        append(tmp_path / "file" / "b.jsonl", entries(runs, "npo"))
