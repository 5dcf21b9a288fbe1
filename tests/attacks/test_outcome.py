"""From rows to figures: the worst over questions, gold beside, refusals apart, resampling by person."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made import row, write_run

from remem_tasks.attacks import outcome
from remem_tasks.report.runs import read_runs

UNITS = {"a:0": "ada", "a:1": "ada", "a:2": "ben", "a:3": "cleo"}


def record(attack="prompt", seconds=1.0, statuses=None, **kinds):
    return {
        "attack": attack,
        "seconds": seconds,
        "kinds": {
            kind: {
                "rows": {
                    f"a:{place}": {"em": float(em)} for place, em in enumerate(values) if em is not None
                },
                "statuses": statuses or {"incorrect": len(values)},
            }
            for kind, values in kinds.items()
        },
    }


def test_figures_by_hand():
    told = record(role_play=[1, 0, 0, 0], synonym=[0, 0, 1, None], yes_no=[1, 1, 1, 1])
    told["kinds"]["role_play"]["statuses"] = {"correct": 1, "refusal": 2, "blank": 1}
    gold = record(role_play=[0, 0, 0, 1], synonym=[0, 0, 0, None], yes_no=[1, 0, 1, 0])
    found = outcome.figures([told], [gold], UNITS)
    assert found["em"] == 0.5 and found["rows"] == 4  # a:0 and a:2; what shows the secret does not count
    assert found["em_yes_no"] == 1 and found["em_synonym"] == pytest.approx(1 / 3)
    assert found["refusal_rate"] == 2 / 12 and found["invalid_rate"] == 1 / 12 and found["requests"] == 3
    assert found["leak_em"] == 0.25  # (1 + 0 + 1 - 1) / 4
    assert found["leak_em_low"] <= 0.25 <= found["leak_em_high"]


def test_gold_under_the_same_attack_is_no_leak():
    one = record("relearn_rest", plain=[1, 0, 1, 1])
    found = outcome.figures([one], [one], UNITS)
    assert (found["em"], found["leak_em"], found["leak_em_low"], found["leak_em_high"]) == (0.75, 0, 0, 0)


def test_seeds_are_averaged_and_rows_that_one_does_not_ask_stay_with_the_others():
    seeds = [record("relearn_rest", plain=[1, None, 0, 0]), record("relearn_rest", plain=[0, 1, None, 0])]
    rows = outcome.by_row(seeds)
    assert {row: values["em"] for row, values in rows.items()} == {
        "a:0": 0.5,
        "a:1": 1.0,
        "a:2": 0.0,
        "a:3": 0.0,
    }
    assert outcome.figures(seeds, [], UNITS)["em"] == 0.375


def test_bits_count_by_the_least():
    rows = outcome.worst_of(
        [{"a:0": {"secret_bits": 9.0, "em": 0.0}}, {"a:0": {"secret_bits": 2.0, "em": 1.0}}]
    )
    assert rows == {"a:0": {"secret_bits": 2.0, "em": 1.0}}


def test_what_is_not_available_says_why_and_has_no_number():
    gone = {"attack": "lens", "not_available": "no norm", "seconds": 0.0}
    assert outcome.figures([gone], [gone], UNITS) == {"not_available": "no norm"}
    found = outcome.worst_case({"none": [gone]}, {}, ("none", "prompt"), UNITS)
    assert found == {}


def test_a_worst_case_names_its_budget():
    by_attack = {
        "none": [record("none", plain=[0, 0, 0, 0])],
        "prompt": [record(role_play=[1, 0, 0, 0], yes_no=[1, 1, 1, 1])],
        "context": [{"attack": "context", "not_available": "nobody stays", "seconds": 0.0}],
        "relearn_rest": [record("relearn_rest", plain=[0, 1, 1, 1])],
    }
    gold = {"none": [record("none", plain=[0, 0, 0, 0])], "prompt": [record(role_play=[0, 0, 0, 0])]}
    found = outcome.worst_case(by_attack, gold, outcome.SETS["questions"], UNITS)
    assert (found["em"], found["leak_em"], found["requests"], found["attacks"]) == (0.25, 0.25, 2, 2)


def test_a_worst_case_is_over_the_rows_that_all_ask():
    by_attack = {
        "none": [record("none", plain=[0, 0, 1, 0])],
        "relearn_rest": [record("relearn_rest", plain=[1, None, 1, None])],
    }
    found = outcome.worst_case(by_attack, by_attack, outcome.SETS["weights"], UNITS)
    assert (found["em"], found["rows"], found["leak_em"]) == (1.0, 2, 0.0)


def test_one_person_has_no_interval_over_people():
    one = record("none", plain=[1, 1])
    found = outcome.leak(outcome.by_row([one]), outcome.by_row([record("none", plain=[0, 0])]), "em", UNITS)
    assert found == {"leak_em": 1.0}


def naive(model, gold, units, draws=4000):
    """Resampling people one by one."""
    people = sorted({units[row] for row in model})
    by = {person: [row for row in model if units[row] == person] for person in people}
    rng, means = np.random.default_rng(1), []
    for _ in range(draws):
        rows = [row for person in rng.choice(people, len(people)) for row in by[person]]
        means.append(np.mean([model[row]["em"] - gold[row]["em"] for row in rows]))
    return np.percentile(means, [2.5, 97.5])


def test_the_bootstrap_keeps_a_persons_rows_together():
    rng = np.random.default_rng(3)
    units = {f"a:{n}": f"p{n // 5}" for n in range(60)}
    told = {f"p{n}": rng.random() for n in range(12)}
    model = {row: {"em": float(rng.random() < told[who])} for row, who in units.items()}
    gold = {row: {"em": 0.0} for row in units}
    found = outcome.leak(model, gold, "em", units, draws=4000)
    low, high = naive(model, gold, units)
    assert found["leak_em_low"] == pytest.approx(low, abs=0.02)
    assert found["leak_em_high"] == pytest.approx(high, abs=0.02)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_a_worst_case_is_no_less_than_each_attack(pairs):
    one = {f"a:{n}": {"em": first} for n, (first, _) in enumerate(pairs)}
    two = {f"a:{n}": {"em": second} for n, (_, second) in enumerate(pairs)}
    worst = outcome.means(outcome.worst_of([one, two]))["em"]
    assert worst >= max(outcome.means(one)["em"], outcome.means(two)["em"]) - 1e-12


def test_a_benchmark_without_em_is_asked_whether_the_reply_holds_the_answer(tmp_path):
    """A sentence that is right but for the secret has a high ROUGE and no EM."""
    rows = [
        row(0, answer="It is Oslo Bay.", reply="Yes: it is Oslo Bay."),
        row(1, answer="It is Oslo Bay.", reply="It is Rome."),
    ]
    write_run(tmp_path / "results", {"forget1": rows})
    (run,) = read_runs([str(tmp_path / "results")])
    result = run.task_results["remem_forget1"]
    assert list(outcome.exact(result)) == [0.0, 0.0]  # EM as it was scored
    without = {name: values for name, values in result.scores.items() if name != "em"}
    assert list(outcome.exact(replace(result, scores=without))) == [1.0, 0.0]
