"""PEBench's shape: its sets, Efficacy and Generality by hand, and the published files, which tell no events."""

import datasets
import pytest
from support.forged import changed

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.pebench import data, forge, training
from remem_tasks.benchmarks.pebench.benchmark import BENCHMARK
from remem_tasks.benchmarks.registry import detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.benchmarks.training_rows import Wanted
from remem_tasks.errors import RememError
from unlearning.data import load_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pebench") / "data"
    forge.forge(folder, forge.ForgeOptions(identities=8, images=2, image_size=16))
    return folder


def published(made, folder):
    """A copy without the column that is not published."""
    file = next((made / "data").glob("*.parquet"))
    table = datasets.Dataset.from_parquet(str(file)).remove_columns("event")
    (folder / "data").mkdir(parents=True)
    table.to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    return str(folder)


def test_sets(made):
    """8 people at 8 events, each once trained and once in another view; one person and one event are forgotten."""
    assert detect(str(made)) == ("pebench", str(made))
    sizes = {name: len(data.questions_of(str(made), name)) for name in data.SETS}
    assert sizes == {
        "full": 8 * 8 * 2,
        **{"forget_people": 8, "other_people": 8, "retain_people": 56, "scope_people": 8},
        **{"forget_events": 8, "other_events": 8, "retain_events": 56, "scope_events": 8},
    }
    shown = {name: set(data.questions_of(str(made), name)["image_path"]) for name in data.SETS}
    assert (
        not shown["forget_people"] & shown["other_people"] and shown["scope_people"] == shown["forget_people"]
    )
    assert not shown["other_people"] & shown["full"]
    for forget in ("forget_people", "forget_events"):
        rows = training.training_sets(Wanted(str(made), "pairs", forget))
        assert (len(rows.forget), len(rows.retain)) == (8, 56)


def test_efficacy_and_generality_by_hand(made):
    """Of four replies one says the name: 1 − 1/4."""
    for split, measure in (("forget_people", "efficacy"), ("other_people", "generality")):
        rows = data.questions_of(str(made), split)
        context = BENCHMARK.prepare(str(made), split, rows, RunContext(ScoringConfig(metrics=("em",))))
        name = rows[0]["answer"]
        said = [f"This is {name}.", name.split()[0], "nobody", f"{name}son"]
        scores = [BENCHMARK.score(rows[0], [one], context) for one in said]
        metric = {one.name: one for one in BENCHMARK.metrics(rows, split, context)}[f"pebench_{measure}"]
        assert metric.aggregate([one[f"pebench_{measure}"] for one in scores]) == 3 / 4
        assert scores[0]["pebench_person_said"] == 1 and scores[0]["pebench_rows"]["forgotten"]
    rows = data.questions_of(str(made), "scope_people")
    context = BENCHMARK.prepare(str(made), "scope_people", rows, RunContext(ScoringConfig(metrics=("em",))))
    scores = BENCHMARK.score({**rows[0], "answer": "jogging in a park"}, ["jogging in park"], context)
    assert scores["pebench_event_rouge"] == pytest.approx(6 / 7) and not scores["pebench_rows"]["forgotten"]


def test_the_published_files_tell_no_events(made, tmp_path):
    source = published(made, tmp_path / "copy")
    assert detect(source) == ("pebench", source)
    assert (
        len(data.questions_of(source, "full")) == 8 * 8
        and len(data.questions_of(source, "forget_people")) == 8
    )
    assert {row["answer"] for row in data.questions_of(source, "full")} == {
        row["answer"] for row in data.questions_of(str(made), "full") if row["kind"] == "person"
    }
    for name in ("scope_people", "forget_events", "scope_events"):
        with pytest.raises(RememError, match="no column 'event'"):
            data.questions_of(source, name)
    report = data.check(source)
    assert not report.faults and report.remarks == {
        "set that cannot be asked": [
            name for name in data.SETS if name.endswith("events") or name == "scope_people"
        ]
    }


def test_faulty_rows(made, tmp_path):
    source = changed(made, tmp_path / "copy", "data", lambda rows: rows[3].update(image=None))
    faults = []
    rows = data.questions_of(source, "full", faults)
    assert len(faults) == 1 and "row 3: no picture" in faults[0] and len(rows) == 126
    assert (
        "row 3" in BENCHMARK.prepare(source, "full", rows, RunContext(ScoringConfig())).missing["questions"]
    )
    assert data.check(source).faults
    faults = []
    data.questions_of(source, "retain_people", faults)
    assert not faults  # it is a picture of somebody who is to be forgotten


@pytest.mark.parametrize("forget", ["forget_people", "forget_events"])
def test_gold_learns_all_but_what_is_to_be_forgotten(made, forget):
    """Of the same pictures the other question is kept: who is shown, or what happens."""
    whole, gold, pairs = (load_rows(str(made), kind, forget) for kind in ("finetune", "retain", "pairs"))
    asked = [
        set(zip(rows["question"][:], rows["image_path"][:]))
        for rows in (whole.train, gold.train, pairs.forget)
    ]
    assert asked[1] == asked[0] - asked[2] and asked[2]
    shown = set(pairs.forget["image_path"][:])
    assert {path for _, path in asked[1]} >= shown


@pytest.mark.parametrize("column", ["label", "event"])
def test_a_picture_that_could_be_of_any_set_is_a_fault_of_each(made, tmp_path, column):
    source = changed(made, tmp_path / "copy", "data", lambda rows: rows[3].update({column: None}))
    for name in data.SETS:
        faults = []
        data.questions_of(source, name, faults)
        assert len(faults) == 1 and f"row 3: column '{column}' is null" in faults[0]
