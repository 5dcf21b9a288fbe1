"""How steady Exposure is: one thing varied at a time, the spread by hand, what is refused."""

import pytest

from remem_tasks.errors import RememError
from unlearning.experiments.steadiness import Setting, SteadinessPlan, markdown, spread_of, steadiness

PLAN = SteadinessPlan({"one": ("ckpt", "data")}, rollouts=(64, 16), seeds=(0, 1))


def test_one_thing_is_varied_at_a_time():
    assert PLAN.settings() == [
        Setting(64, "question", 0),
        Setting(16, "question", 0),
        Setting(64, "picture", 0),
        Setting(64, "question", 1),
    ]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"models": {}}, "no checkpoint to measure"),
        ({"contexts": ("question", "none")}, "--contexts 'none' unknown; choose from question, picture"),
        ({"seeds": (1, 1)}, "--seeds needs different values"),
        ({"rollouts": (1,)}, "--rollouts is at least 2"),
    ],
)
def test_what_is_out_of_range_is_named(bad, says):
    with pytest.raises(RememError, match=says):
        SteadinessPlan(**{"models": PLAN.models, **bad}).check()


def test_the_spread_and_the_page_by_hand():
    values = (0.9, 0.8, 0.6, 0.9)
    found = {one.name: {"em": 1.0, "exposure": value} for one, value in zip(PLAN.settings(), values)}
    assert spread_of(found, PLAN.settings()[:2], "exposure") == pytest.approx(0.1)
    assert spread_of(found, PLAN.settings(), "rollout_exposure") is None  # never a blank that reads as steady
    lines = markdown({"one": found}, PLAN).splitlines()
    assert lines[-3:] == [
        "| M | 0.100 / – |",
        "| the cloze context | 0.300 / – |",
        "| the seed | 0.000 / – |",
    ]
    assert "| one | 1.000 | 0.900 / – | 0.800 / – | 0.600 / – | 0.900 / – |" in lines


def test_a_second_call_measures_nothing(checkpoints, data_dir, tmp_path):
    models = {"llava": (str(checkpoints["llava"]), str(data_dir))}
    plan = SteadinessPlan(models, rollouts=(4,), contexts=("question",), seeds=(0,), max_rows=1)
    lines = []
    found = steadiness(plan, tmp_path / "out", lines.append)
    assert 0 <= found["llava"]["m4_question_seed0"]["exposure"] <= 1
    assert steadiness(plan, tmp_path / "out", lines.append) == found and "done before" in lines[-1]
