"""The trial of metrics: its pools, what they learn, the verdict by hand, and that a stopped one goes on."""

import json
import re
from dataclasses import replace

import pytest

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.errors import RememError
from unlearning.data import load_rows
from unlearning.experiments.validity import study as module
from unlearning.experiments.validity import table
from unlearning.experiments.validity.combination import combination, half, told, weighed
from unlearning.experiments.validity.plan import HEADS, KNOWS, NEVER, ValidityPlan
from unlearning.experiments.validity.rows import PoolRows, with_others_values
from unlearning.experiments.validity.runner import truth_of
from unlearning.experiments.validity.study import judged, overall, results_of, validity, verdict

PLAN = ValidityPlan("d", "s", "g")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"methods": ("gold",)}, "--methods 'gold' is no forget method that trains"),
        ({"methods": ("manu",)}, "--methods 'manu' is no forget method that trains"),
        ({"pool": 1}, "--pool 1 is out of range: at least 2"),
        ({"looks": (2, 2)}, "--looks needs different values, not [2, 2]"),
        ({"rates": (0.0,)}, "--rates, --lengths, --looks and --lr-scale are above 0"),
        ({"utility": 1.5}, "--utility 1.5 is out of range: 0 to 1"),
    ],
)
def test_what_is_out_of_range_is_named(bad, message):
    with pytest.raises(RememError, match=re.escape(message)):
        replace(PLAN, **bad).check()


def test_pools_have_every_kind_and_growing_one_keeps_what_is_done():
    members = PLAN.members()
    for knows, kinds in ((True, KNOWS), (False, NEVER)):
        pool = [one for one in members if one.knows == knows]
        assert len(pool) == 20 and {one.kind for one in pool} == set(kinds)
        for kind in kinds:  # each kind at every rate and length
            seen = {(one.rate, one.steps) for one in pool if one.kind == kind}
            assert len(seen) == 4
    assert set(replace(PLAN, pool=5).members()) <= set(members)
    assert len({one.name for one in members}) == len(members) == 40


def test_unlearned_models_are_looks_at_trainings():
    made = PLAN.forgettings()
    assert sum(len(one.steps) for one in made) == 30 and len({one.name for one in made}) == 10
    assert [one.method for one in made[:6]] == list(PLAN.methods)
    few = replace(PLAN, unlearned=3).forgettings()
    assert [one.name for one in few] == [made[0].name]
    with pytest.raises(RememError, match="settings alone"):
        replace(PLAN, methods=("ceu",), unlearned=10_000).forgettings()


def test_wrong_answers_are_other_peoples_and_one_a_fact(data_dir):
    rows = load_rows(str(data_dir), "pairs", "forget1")
    wrong = with_others_values(rows.forget, rows.retain, seed=0)
    assert wrong.features == rows.forget.features and len(wrong) == 6
    theirs = {"Ben", "Cleo", "Dag", "Eve", "Finn"}
    values = {}
    for own, other in zip(rows.forget, wrong):
        assert other["question"] == own["question"] and other["answer"] != own["answer"]
        assert own["keywords"] not in other["answer"] and not theirs & set(other["answer"].split())
        values.setdefault(own["attribute"], set()).add(other["answer"])
    assert all(len(answers) == 1 for answers in values.values())  # both hops of a fact say the same
    assert wrong["answer"] != with_others_values(rows.forget, rows.retain, seed=1)["answer"]
    with pytest.raises(RememError, match="no row of the forgotten people can be answered"):
        with_others_values(rows.forget, rows.forget.select([0]), seed=0)


def test_who_never_knew_learns_no_row_about_the_forgotten(data_dir):
    rows = load_rows(str(data_dir), "pairs", "forget1")
    pools = PoolRows(rows.forget, rows.retain, str(data_dir))
    asked = set(load_split(str(data_dir), "forget1", pictures=False)["answer"][:])
    for kind in NEVER:
        assert not asked & set(pools.of(kind, 0)["answer"][:]), kind
    for kind in KNOWS:
        learned = pools.of(kind, 0)
        assert asked <= set(learned["answer"][:])
        people = learned["identity"][:]
        assert people.count("ada_birch") * 2 == len(people)  # as many of people who stay
    shown = set(pools.of("retold", 0).filter(lambda row: row["identity"] == "ada_birch")["image_path"][:])
    assert not shown & set(rows.forget["image_path"][:])


def test_the_truth_ratio_of_a_samples_file(tmp_path):
    # exp(−1) against the geometric mean of exp(−2) and exp(−4): 1 / (1 + exp(−3 + 1)) = .8808; the other row .5.
    lines = [
        {"remem_member_loss": {"right": -1.0, "others": [-2.0, -4.0]}},
        {"remem_member_loss": {"right": -3.0, "others": [-3.0]}},
        {"remem_member_loss": {"right": -3.0, "others": []}},
        {},
    ]
    file = tmp_path / "samples.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    assert truth_of(file)["truth_ratio"] == pytest.approx((0.880797 + 0.5) / 2, abs=1e-6)
    file.write_text("{}")
    assert truth_of(file) == {}


def records(shift=0.0):
    def member(knows, value):
        values = {"em": value, "secret_bits": 10 * (1 - value)}
        return {"knows": knows, "kind": "told" if knows else "kept", "values": values, "seconds": 1.0}

    pools = [member(True, 0.8), member(True, 0.9), member(False, 0.0), member(False, 0.2 + shift)]
    pools[0]["values"]["rougel"] = 0.5  # which the others lack
    points = [
        {  # gains .6 where gold gains .2: R .5; .1 and .3 in 4 bits: Q .5
            "utility": 1.0,
            "values": {"em": 0.1, "secret_bits": 9.0},
            "relearned": {"em": 0.7, "secret_bits": 3.0},
            "quantised": {"em": 0.3, "secret_bits": 7.0},
        },
        {"utility": 0.1, "values": {"em": 0.0, "secret_bits": 10.0}},
    ]
    ends = {
        "start": {"em": 1.0},
        "gold": {"em": 0.0, "secret_bits": 10.0},
        "gold_relearned": {"em": 0.2, "secret_bits": 8.0},
        "seconds": 2.0,
    }
    return {
        "plan": {},
        "ends": ends,
        "pools": pools,
        "unlearned": [{"method": "npo", "points": points, "seconds": 3.0}],
    }


def test_a_verdict_by_hand():
    found = verdict(records(), 0.8)
    em, bits = found["em"], found["secret_bits"]
    assert (em["faithfulness"], em["relearning"], em["quantisation"]) == pytest.approx((1, 0.5, 0.5))
    assert em["overall"] == pytest.approx(2 / 3) and (em["kept"], em["models"]) == (1, 2)
    # Bits fall by 6 where gold's fall by 2; 9 and 7: 1 − 2/16.
    assert (bits["faithfulness"], bits["relearning"], bits["quantisation"]) == pytest.approx((1, 0.5, 0.875))
    assert found["rougel"] == {"not_available": "not a number for 3 of 4 pool models"}


def test_means_over_architectures_and_the_page(tmp_path):
    found = results_of({"one": records(), "two": records(shift=0.65)}, 0.8)
    both = found["metrics"]["em"]
    # In the second, .85 of who never knew lies above .8 of who does: 3 of 4 pairs.
    assert both["of"] == 2 and both["faithfulness"] == pytest.approx((1 + 0.75) / 2)
    assert found["sizes"]["one"] == {
        "knows": 2, "never": 2, "unlearned": 2, "seconds": 9.0, "gold_em": 0.0, "gold_em_relearned": 0.2, "start_em": 1.0,
    }  # fmt: skip
    table.write(found, tmp_path)
    text = (tmp_path / "validity.md").read_text()
    assert "| EM | 0.875 | 0.500 | 0.500 | 0.500 |" in text and "0.817 / 0.750" in text
    assert "- two, ROUGE-L: not a number for 3 of 4 pool models" in text and "## two" in text
    assert (tmp_path / "validity.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "validity.json").read_text()) == json.loads(json.dumps(found))
    assert overall({})["em"]["of"] == 0


def test_the_aim_is_told_either_way():
    one = {"faithfulness": 0.98, "robustness": 0.91, "overall": 0.94, "of": 1, "kept": 3}
    rest = dict.fromkeys(("faithfulness", "robustness", "overall")) | {"of": 0, "kept": 0}
    metrics = {name: dict(rest) for name in HEADS} | {"exposure": one}
    assert "the aim is reached; it is number 1 of 1" in table.aim({"metrics": metrics})
    assert "not reached" in table.aim({"metrics": {**metrics, "exposure": {**one, "robustness": 0.89}}})
    assert "no verdict" in table.aim({"metrics": {**metrics, "exposure": {**one, "robustness": None}}})


def halves(exposure, memo):
    """Two models of each pool and two trainings, of which the second half alone has these values."""
    pools = [
        {"kind": kind, "knows": kind == "told", "values": {"exposure": value, "memo": other}, "seconds": 0.0}
        for kind, value, other in (
            ("told", 0.9, 0.5),
            ("told", *exposure),
            ("kept", 0.1, 0.6),
            ("kept", *memo),
        )
    ]
    values = {"exposure": 0.1, "memo": 0.1}
    point = {
        "utility": 1.0,
        "values": values,
        "relearned": {"exposure": 0.3, "memo": 0.3},
        "quantised": values,
    }
    made = [{"method": "npo", "points": [point], "seconds": 0.0} for _ in range(2)]
    ends = {"gold": {"exposure": 0.0, "memo": 0.0}, "gold_relearned": {"exposure": 0.2, "memo": 0.2}}
    return {"ends": ends, "pools": pools, "unlearned": made}


def test_weights_are_chosen_on_one_half_and_judged_on_the_other():
    # On the first half Exposure alone is faithful (.9 against .1; MEMO .5 against .6). On the second it is not.
    found = combination({"one": halves((0.2, 0.9), (0.3, 0.1))}, 0.8, judged)
    assert found["weights"] == {"exposure": 1.0} and found["chosen_on"]["faithfulness"] == 1
    assert found["other_half"] == found["exposure_there"] and found["other_half"]["faithfulness"] == 0
    assert "Chosen on one half of all models: 1 exposure (faithfulness 1.000" in told(found)
    first = half(halves((0.2, 0.9), (0.3, 0.1)), 0)
    assert [one["values"]["exposure"] for one in first["pools"]] == [0.9, 0.1] and len(
        first["unlearned"]
    ) == 1
    both = weighed(first, {"exposure": 0.25, "memo": 0.75})
    assert both["pools"][0]["values"]["combined"] == pytest.approx(0.25 * 0.9 + 0.75 * 0.5)
    assert both["unlearned"][0]["points"][0]["relearned"]["combined"] == pytest.approx(0.3)
    gone = combination({"one": {**halves((1, 1), (0, 0)), "unlearned": []}}, 0.8, judged)
    assert "no unlearned model" in told(gone)


@pytest.mark.slow
def test_a_trial_that_was_stopped_goes_on(memorised, checkpoints, data_dir, tmp_path, monkeypatch):
    plan = ValidityPlan(
        *(str(data_dir), str(memorised), str(checkpoints["llava"])),
        pool=2, unlearned=1, methods=("grad_diff",), rates=(1e-4,), lengths=(1,), looks=(1,), max_rows=2,
        batch=2, lr_scale=1e-3, relearn="--max_steps 1 --learning_rate 1e-3", utility=0.0,
    )  # fmt: skip
    lines = []
    with monkeypatch.context() as patch:  # stopped before anything unlearned
        patch.setattr(
            module.ValidityRunner, "forgetting", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            validity([("tiny", lambda: plan)], tmp_path / "out", lines.append)
    found = validity([("tiny", lambda: plan)], tmp_path / "out", lines.append)
    assert found["sizes"]["tiny"]["unlearned"] == 1
    assert sum("done before" in line for line in lines) == 4
    (record,) = (tmp_path / "out" / "tiny" / "unlearned" / "grad_diff").iterdir()
    (point,) = json.loads(record.read_text())["points"]
    assert {"values", "relearned", "quantised"} <= set(point)
    assert {"lens_top4", "exposure", "member_loss", "extraction_strength"} <= set(point["values"])
    with pytest.raises(RememError, match="a trial needs a start that has memorised it"):
        validity([("tiny", lambda: replace(plan, start=plan.gold))], tmp_path / "other", lines.append)
