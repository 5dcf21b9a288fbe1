"""What a leaderboard's entry holds beside its scores, and the board by method."""

import copy
import re

import pytest

from remem_tasks.errors import RememError
from remem_tasks.report.board_extras import check_extras
from remem_tasks.report.board_table import cells, lines_of, markdown, page
from remem_tasks.report.leaderboard import table_of

WHOLE = {
    "attacks": {
        "relearn_rest": {"em": 0.5, "leak_em": 0.4, "rows": 20.0},
        "lens": {"not_available": "no layers"},
    },
    "cost": {"train_seconds": 12.5, "steps": 80},
    "made": {"commands": ["remem train"], "versions": {"torch": "2"}, "data": "0123456789abcdef", "seed": 0},
}


def test_an_entry_with_all_of_it_or_nothing_is_whole():
    check_extras(WHOLE, "here")
    check_extras({}, "here")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.update(attacks=[]), "'attacks' is []"),
        (lambda e: e["attacks"].update(none={}), "attack none is {}"),
        (lambda e: e["attacks"].update(lens={"not_available": None}), "lens is not available without a reason"),
        (lambda e: e["attacks"]["relearn_rest"].update(em=1.5), "relearn_rest em: 1.5 is outside [0, 1]"),
        (lambda e: e["attacks"]["relearn_rest"].update(em=float("nan")), "relearn_rest em is nan, not a number"),
        (lambda e: e["attacks"]["relearn_rest"].update(em=True), "relearn_rest em is True, not a number"),
        (lambda e: e["cost"].update(steps=-1), "cost steps is -1, below 0"),
        (lambda e: e["made"].pop("seed"), "'made' without seed"),
        (lambda e: e["made"].update(commands=[]) or e["made"].update(commands="x"), "'made' has no list of commands"),
        (lambda e: e["made"].update(versions={"torch": 2}), "'made' has no versions by package"),
        (lambda e: e["made"].update(data="other"), "'made' has no fingerprint of the data"),
        (lambda e: e["made"].update(seed="0"), "the seed is"),
    ],
)  # fmt: skip
def test_what_is_of_another_form_is_named(change, says):
    entry = copy.deepcopy(WHOLE)
    change(entry)
    with pytest.raises(RememError, match=re.escape(says)):
        check_extras(entry, "here")


def entry(name, method, em, worst=None, seconds=10.0):
    scores = {"remem_forget2": {"em": {"value": em}}, "remem_retain": {"em": {"value": 0.9}}}
    attacks = {} if worst is None else {"worst_weights": {"em": worst}}
    return {
        "name": name,
        "method": method,
        "scores": scores,
        "attacks": attacks,
        "cost": {"train_seconds": seconds},
    }


BOARD = [entry("a0", "idk", 0.0, 0.6), entry("a1", "idk", 0.2, 0.8, 20.0), entry("b0", "<npo>", 0.1)]


def test_means_and_sd_over_seeds_by_hand():
    (idk, npo) = lines_of([*BOARD[2:], *BOARD[:2]])
    assert (idk.method, idk.seeds, npo.method) == ("idk", 2, "<npo>")  # without a worst case: last
    # .6 and .8: mean .7, sd .1·√2 = .1414; one value has no sd.
    mean, sd, count = idk.values["worst case EM"]
    assert (mean, sd, count) == (pytest.approx(0.7), pytest.approx(0.141421, abs=1e-6), 2)
    assert npo.values["forget EM"] == (0.1, None, 1) and "worst case EM" not in npo.values


def test_the_table_and_the_page_say_the_same():
    heads, rows = cells(BOARD)
    assert heads == ["method", "seeds", "forget EM", "retain EM", "worst case EM", "train s"]
    assert rows == [
        ["idk", "2", "10.0 ± 14.1", "90.0 ± 0.0", "70.0 ± 14.1", "15 ± 7"],
        ["<npo>", "1", "10.0", "90.0", "–", "10"],
    ]
    assert "| idk | 2 | 10.0 ± 14.1 |" in markdown(BOARD)
    text = page(BOARD)
    assert "&lt;npo&gt;" in text and "<npo>" not in text and "<script" not in text
    assert all(cell in text for cell in rows[0])


def test_a_column_that_some_seeds_lack_says_of_how_many_it_is():
    _, rows = cells([BOARD[0], entry("a1", "idk", 0.2)])
    assert rows[0][4] == "60.0 (1)"


def test_the_terminals_board_has_the_worst_case_where_there_is_one():
    def whole(one):
        return {**one, "to_gold": {}, "start": None}

    with_it = table_of([whole(one) for one in BOARD])
    (last,) = [column for column in with_it.columns if column.header == "worst case EM"]
    assert sorted(last.cells) == ["-", "0.600", "0.800"]
    assert len(table_of([whole(BOARD[2])]).columns) == len(with_it.columns) - 1
