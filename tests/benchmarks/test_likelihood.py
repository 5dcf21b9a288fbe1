"""Membership and memorisation of whole answers: each score by hand, what is of a set alone, what has none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.benchmarks import likelihood
from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.likelihood import MEMBERSHIP, asked_with, metrics_of, missing_of, scores_of
from remem_tasks.benchmarks.registry import BENCHMARKS, NAMES
from remem_tasks.benchmarks.scoring_config import (
    NO_ANSWERS,
    BackendCapabilities,
    ScoringConfig,
    fit,
)
from remem_tasks.errors import RememError
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult, WholeAnswer

FIU = BENCHMARKS["fiubench"]
BOTH = RunContext(ScoringConfig(metrics=("em", "membership", "memorisation")), white_box=True)
DOC = {"row_id": "forget5:0", "image_path": "7.png", "answer": "aaaa", "wrong": ["bbbb", " "]}
RIGHT = WholeAnswer([5, 6, 7, 8], [5, 9, 7, 8], [-1.0, -4.0, -2.0, -1.0], [-3.0] * 4, [1.0, 0.5, 2.0, 0.0])
WRONG = WholeAnswer([1, 2], [1, 2], [-3.0, -5.0], [-2.0, -2.0], [1.0, 1.0])


def test_the_scores_of_a_row_by_hand():
    found = scores_of(FIU, DOC, BOTH, WhiteBoxResult(wholes=[RIGHT, WRONG]))
    # Three of four tokens are the likeliest; behind the second all are, so two of four come by themselves.
    assert found["fiubench_exact_memorisation"] == 0.75 and found["fiubench_extraction_strength"] == 0.5
    right = {name: found[f"fiubench_member_{name}"]["right"] for name in MEMBERSHIP}
    assert right["loss"] == -2.0
    # zlib of "aaaa" has 12 bytes: a head of 2, a fixed block of 6 with its end, a check sum of 4
    assert right["zlib"] == pytest.approx(-2 / 12)
    # 40 % of four tokens is one, 10 % none, so one: the least likely
    assert right["mink40"] == right["mink10"] == -4.0
    # (ln p − μ)/σ: 2, −2, 0.5, and 2/0.001 with σ at least 1e-3; the lowest is −2
    assert right["minkpp40"] == right["minkpp10"] == pytest.approx(-2.0)
    assert (
        found["fiubench_member_loss"]["others"] == [-4.0]
        and found["fiubench_member_auc_loss"] is (found["fiubench_member_loss"])
    )


def test_what_a_set_says_is_over_its_rows():
    items = [{"right": -1.0, "others": [-2.0, -0.5]}, {"right": -2.0, "others": [-2.0]}]
    assert likelihood.mean_of_right(items) == -1.5
    # −1 beats two of three, −2 ties with two of three: (2 + 2 · ½) / 6
    assert likelihood.auc_of(items) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(-9, 0), st.lists(st.floats(-9, 0), min_size=1, max_size=3)), min_size=1))
def test_the_area_is_the_share_of_pairs_in_which_the_right_answer_is_likelier(rows):
    items = [{"right": right, "others": others} for right, others in rows]
    pairs = [(right, other) for right, _ in rows for _, others in rows for other in others]
    share = sum((right > other) + 0.5 * (right == other) for right, other in pairs) / len(pairs)
    assert likelihood.auc_of(items) == pytest.approx(share)


def test_a_token_that_cannot_be_said_names_the_row():
    broken = WholeAnswer([1], [2], [-math.inf], [-1.0], [1.0])
    with pytest.raises(RememError, match=r"^split 'forget5', row 0 \(7.png\): log-probabilities"):
        scores_of(FIU, DOC, BOTH, WhiteBoxResult(wholes=[broken, WRONG]))


def test_what_is_asked_is_the_answer_and_those_beside_it_that_say_something():
    own = WhiteBoxRequest("forget5:0", "x", answers=("aaaa",), by_token=1)
    asked = asked_with(own, FIU, DOC, BOTH)
    assert asked.wholes == ("aaaa", "bbbb") and asked.answers == ("aaaa",) and asked.by_token == 1
    alone = RunContext(ScoringConfig(metrics=("memorisation",)), white_box=True)
    assert asked_with(None, FIU, DOC, alone).wholes == ("aaaa",)
    for context in (RunContext(BOTH.scoring), RunContext(ScoringConfig(), white_box=True)):
        assert (
            asked_with(own, FIU, DOC, context) is own and scores_of(FIU, DOC, context, WhiteBoxResult()) == {}
        )
    assert asked_with(None, FIU, {**DOC, "answer": " "}, BOTH) is None


def test_without_other_answers_there_is_no_area_and_the_results_say_why():
    offside = BENCHMARKS["offside"]
    assert missing_of(offside, [DOC], BOTH) == {"member_auc": likelihood.NO_OTHERS}
    assert missing_of(FIU, [{**DOC, "wrong": []}, DOC], BOTH) == {}
    context = RunContext(BOTH.scoring, {"member_auc": "why"}, white_box=True)
    assert missing_of(FIU, [], context) == {}
    names = [metric.name for metric in metrics_of(FIU, "forget5", context)]
    assert len(names) == 2 + len(MEMBERSHIP) and not any("auc" in name for name in names)


def test_a_backend_without_log_probabilities_says_so():
    scoring, missing = fit(BOTH.scoring, BackendCapabilities())
    assert scoring.metrics == ("em",) and missing == dict.fromkeys(likelihood.FAMILIES, NO_ANSWERS)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_part_of_another(name):
    """The harness matches them by substring."""
    names = [metric.name for metric in metrics_of(BENCHMARKS[name], "forget", BOTH)]
    names += [
        f"{name}_{score}" for score in ("em", "memo", "mia", "minkpp", "prob", "extraction_rate", "rows")
    ]
    assert len(names) == len(set(names)) == 2 + 2 * len(MEMBERSHIP) + 7
    assert not [(a, b) for a in names for b in names if a != b and a in b]


def test_remem_takes_wrong_answers_of_the_rows_own_place():
    context = RunContext(BOTH.scoring, white_box=True, known={"wrong": {"forget1:2": ["x", "y"]}})
    remem = BENCHMARKS["remem"]
    assert remem.wrong_answers({"row_id": "forget1:2"}, context) == ("x", "y")
    assert remem.wrong_answers({"row_id": "forget1:3"}, context) == ()
