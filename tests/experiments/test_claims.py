"""The paper's claims: each rule by hand, on both sides of it and between."""

import json
import re

import pytest

from remem_tasks.errors import RememError
from unlearning.experiments.claims import study as module
from unlearning.experiments.claims import verdicts
from unlearning.experiments.claims.study import SHAPES, ClaimsPlan, claims, read_sweep
from unlearning.experiments.claims.verdicts import Name, Verdict, pooled
from unlearning.experiments.scale import ScaleStudy

HOLDS, NOT, OPEN = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.NOT_DECIDED


def share(right, rows=100):
    return {"right": right, "rows": rows}


def cell(right, **more):
    made = {
        "taught": {"1": share(right)},
        "em": {"1": share(right)},
        "trained_em": {"1": share(99)},
        "given": {},
    }
    return {"qa": 20, "ratio": 0.7, "images": 20, **made, **more}


def test_depths_are_pooled_by_rows():
    found = pooled({"1": share(3, 4), "2": share(1, 6)}, "all")
    assert (found.right, found.rows, found.value) == (4, 10, 0.4)


# Wilson's interval of 50 of 100 is .40 to .60, of 80 of 100 .71 to .87, of 63 of 100 .53 to .72.
@pytest.mark.parametrize(("old", "verdict"), [(50, HOLDS), (63, OPEN), (71, OPEN), (80, NOT), (90, NOT)])
def test_older_shapes(old, verdict):
    found = verdicts.shapes({"fiubench": cell(40), "clear": cell(old), "remem": cell(80)})
    assert found.verdict is verdict and found.name is Name.SHAPES
    assert found.figures["remem"]["value"] == 0.8 and list(found.figures) == ["remem", "fiubench", "clear"]


@pytest.mark.parametrize(("deep", "verdict"), [(50, HOLDS), (75, OPEN), (80, NOT)])
def test_the_curse_is_judged_by_the_deepest_that_there_is(deep, verdict):
    given = {"2": share(90), "3": share(deep), "4": share(0, 0)}
    assert verdicts.curse(cell(80, given=given)).verdict is verdict


def test_a_curse_without_rows_is_not_decided():
    found = verdicts.curse(cell(80, given={"2": share(0, 0)}))
    assert found.verdict is OPEN and "no row to judge by" in found.why


def test_models_that_learned_nothing_decide_nothing():
    nothing, little = cell(0, given={"2": share(0)}), cell(9, given={"2": share(9)})
    for judged in (
        verdicts.shapes({"fiubench": little, "remem": nothing}),
        verdicts.curse(nothing),
        verdicts.peak([{**one, "ratio": ratio} for one, ratio in ((little, 0.4), (nothing, 0.7))]),
        verdicts.overfit([{**one, "qa": amount} for one, amount in ((nothing, 20), (little, 60))]),
    ):
        assert judged.verdict is OPEN and "nothing was learned" in judged.why
    assert verdicts.shapes({"fiubench": cell(10), "remem": nothing}).verdict is NOT


@pytest.mark.parametrize(
    ("ems", "verdict"),
    [
        ((50, 80, 50), HOLDS),
        ((50, 80, 75), OPEN),  # no better than single hops alone
        ((85, 80, 50), OPEN),  # another share is higher, but not surely
        ((95, 60, 50), NOT),
    ],
)
def test_the_peak(ems, verdict):
    cells = [cell(em, ratio=ratio) for ratio, em in zip((0.4, 0.7, 1.0), ems)]
    assert verdicts.peak(cells[::-1]).verdict is verdict


@pytest.mark.parametrize(
    ("ems", "trained", "verdict"),
    [
        ((50, 80, 50), 99, HOLDS),
        ((50, 80, 50), 60, OPEN),  # it did not learn its own rows either: under-trained
        ((50, 80, 75), 99, OPEN),
        ((50, 70, 80), 99, NOT),
    ],
)
def test_many_questions(ems, trained, verdict):
    cells = [cell(em, qa=qa) for qa, em in zip((20, 60, 160), ems)]
    cells[-1]["trained_em"] = {"1": share(trained)}
    assert verdicts.overfit(cells).verdict is verdict
    assert verdicts.overfit(cells[:1]).verdict is OPEN


def swept(exposures, outcome="at gold's level"):
    def method(number, exposure):
        figures = {"forget_em": {"mean": 0.0}, "forget_exposure": {"mean": exposure}}
        return {"method": f"m{number}", "outcome": outcome, "figures": figures}

    gold = {"reporting": {"forget_em": 0.0, "forget_exposure": 0.05}}
    return {
        "plan": {"tolerance": 0.05},
        "gold": gold,
        "methods": [method(*one) for one in enumerate(exposures)],
    }


@pytest.mark.parametrize(
    ("exposures", "verdict"),
    [((0.9, 0.5, 0.0), HOLDS), ((0.9, 0.0, 0.1), NOT), ((0.9, 0.9), OPEN)],
)
def test_exposure_is_deeper_than_em(exposures, verdict):
    found = verdicts.deeper(swept(exposures))
    assert found.verdict is verdict and found.figures["gold"] == {"em": 0.0, "exposure": 0.05}
    assert verdicts.deeper(swept(exposures, "above gold's level")).verdict is OPEN
    assert verdicts.deeper({**swept(exposures), "gold": None}).verdict is OPEN


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"ratios": (0.4, 0.7)}, "--ratios needs three shares or more, 1.0 among them"),
        ({"amounts": (20,)}, "--amounts needs two numbers or more"),
        ({"images": 50}, "--images 50 is more than the fewest questions"),
    ],
)
def test_what_rules_cannot_be_asked_of_is_refused(bad, message, tmp_path):
    with pytest.raises(RememError, match=re.escape(message)):
        claims(ClaimsPlan(**bad), tmp_path / "out")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_all_five_from_cells_that_are_trained_once_each(tmp_path, monkeypatch):
    asked = []

    def scale_study(scale, out, say):
        (one,) = scale.cells()
        asked.append(one)
        made = dict(zip(("qa", "ratio", "images"), one))
        return [cell(80 if one[1] == 0.7 else 50, given={"3": share(10)}, **made)]

    monkeypatch.setattr(module, "scale_study", scale_study)
    file = tmp_path / "sweep" / "results.json"
    file.parent.mkdir()
    file.write_text(json.dumps(swept((0.9, 0.5, 0.0))))
    plan = ClaimsPlan(scale=ScaleStudy(steps=9), sweep=str(tmp_path / "sweep"))
    found = claims(plan, tmp_path / "out", str)
    assert len(asked) == len(set(asked)) == 4 + 3 + 3 - 1  # (60, .7, 20) is of two claims
    assert [one.verdict for one in found] == [HOLDS, HOLDS, HOLDS, NOT, HOLDS]
    kept = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert list(kept) == [name.value for name in Name] and kept["multi_hop_curse"]["verdict"] == "holds"
    assert all(kept[name]["rule"] and (tmp_path / "out" / f"{name}.png").is_file() for name in kept)
    assert "| The multi-hop curse" in (tmp_path / "out" / "claims.md").read_text()
    assert set(SHAPES.values()) <= set(asked)


def test_a_sweep_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RememError, match=r"results\.json"):
        read_sweep(str(tmp_path))
