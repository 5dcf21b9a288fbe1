"""MLUBench: its eight files, ROUGE-L by hand, and what becomes of records that are not as published."""

import json
import shutil
from functools import partial

import pytest
from support.forged import spoiled

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.mlubench import data, forge, training
from remem_tasks.benchmarks.mlubench.benchmark import BENCHMARK
from remem_tasks.benchmarks.registry import detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.benchmarks.training_rows import Wanted
from remem_tasks.errors import RememError
from unlearning.data import load_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlubench") / "data"
    forge.forge(folder, forge.ForgeOptions(identities=10, images=30, qa=4, image_size=16))
    return folder


@pytest.fixture
def copied(made, tmp_path):
    return partial(spoiled(made, tmp_path / "copy"), "Tasks/TaskC/taskC_retain.json")


def test_files_and_sets(made, tmp_path):
    assert detect(str(made)) == ("mlubench", str(made))
    counts = {name: len(data.questions_of(str(made), name)) for name in data.SETS}
    assert counts["forget_a"] == counts["retain_a"] == 240 and counts["forget_b"] == 120
    assert counts["full"] == 10 * 30 * 4
    people = [set(data.questions_of(str(made), name)["identity"]) for name in data.FILES]
    assert len(set.union(*people)) == sum(map(len, people)) == 10
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in made.glob("Tasks/*/*.json"):
        shutil.copy(file, flat)
    shutil.copytree(made / "downloaded_images", flat / "pictures" / "downloaded_images")
    assert len(data.questions_of(str(flat), "full")) == counts["full"]


def test_the_published_sizes():
    assert sum(data.ROWS.values()) == 15414
    assert (data.ROWS["forget_a"], data.ROWS["retain_a"], data.ROWS["retain_d"]) == (2442, 1680, 1134)


def test_no_data_are_named(monkeypatch):
    monkeypatch.delenv(data.VARIABLE, raising=False)
    with pytest.raises(RememError, match=f"on no Hub: set {data.VARIABLE}"):
        BENCHMARK.load(None, "forget_a")


def test_training_sets_follow_one_another(made):
    for task in data.ORDER:
        rows = training.training_sets(Wanted(str(made), "pairs", f"forget_{task}"))
        assert data.retain_of(f"forget_{task}") == f"retain_{task}"
        assert (
            len(rows.forget)
            and len(rows.retain)
            and not set(rows.forget["identity"]) & set(rows.retain["identity"])
        )
    with pytest.raises(RememError, match="has a picture"):
        data.training_rows(str(made), "forget_a", "text")


def test_scores_by_hand(made):
    """Longest common run 3 of the reply's 3 words and of the answer's 4: precision 1, recall 3/4, F 6/7."""
    doc = {**data.questions_of(str(made), "forget_a")[0], "answer": "the town of oslo"}
    scores = BENCHMARK.score(
        doc, ["the town oslo"], RunContext(ScoringConfig(metrics=("em",)), known={"forget": True})
    )
    found = [scores[f"mlubench_rouge_{part}"] for part in ("precision", "recall", "f")]
    assert found == pytest.approx([1, 3 / 4, 6 / 7])
    assert scores["mlubench_rows"]["forgotten"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row: row.update(img="x"), "unknown key 'img'"),
        (lambda row: row["conversations"][0].update(val="x"), "unknown key 'val'"),
        (lambda row: row["conversations"].pop(), "one turn of a human and one of gpt"),
        (lambda row: row["conversations"][1].update(value=" "), "value of gpt"),
        (lambda row: row.update(image="downloaded_images/Discs/X/image_1.png"), "no one picture"),
        (lambda row: row.pop("image"), "no one picture"),
    ],
)
def test_a_bad_record_is_counted_and_named(copied, spoil, told):
    source = copied(lambda rows: spoil(rows[7]))
    faults = []
    rows = data.questions_of(source, "retain_c", faults)
    assert len(rows) == 119 and len(faults) == 1
    assert told in faults[0] and "taskC_retain.json', row 7" in faults[0]
    assert (
        told in BENCHMARK.prepare(source, "retain_c", rows, RunContext(ScoringConfig())).missing["questions"]
    )
    source = copied(lambda rows: [spoil(row) for row in rows[8:10]])
    with pytest.raises(RememError, match="--faults allow"):
        BENCHMARK.prepare(source, "retain_c", rows, RunContext(ScoringConfig()))


def test_entities_of_two_files_and_missing_files(copied):
    source = copied(lambda rows: rows.extend(json.loads(json.dumps(rows[:1]))))
    (twice,) = data.check(source, pictures=False).faults.values()
    assert len(twice) == 1 and "same picture as row 0" in twice[0]
    others = json.loads(open(f"{source}/Tasks/TaskA/taskA_forget.json").read())  # noqa: SIM115
    source = copied(lambda rows: rows.append(others[0]))
    assert "entity of two files" in data.check(source, pictures=False).faults
    shutil.rmtree(f"{source}/Tasks/TaskD")
    assert len(data.check(source, pictures=False).faults["file that is missing"]) == 2


def test_gold_learns_all_but_what_is_to_be_forgotten(made):
    """The other tasks' entities too, which the task's own retain set does not hold."""
    whole, gold, pairs = (load_rows(str(made), kind, "forget_a") for kind in ("finetune", "retain", "pairs"))
    asked = [
        set(zip(rows["question"][:], rows["image_path"][:]))
        for rows in (whole.train, gold.train, pairs.forget)
    ]
    assert asked[1] == asked[0] - asked[2] and len(gold.train) == len(whole.train) - len(pairs.forget)
    assert len(pairs.retain) < len(gold.train)
