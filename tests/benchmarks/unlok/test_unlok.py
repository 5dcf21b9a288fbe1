"""UnLOK-VQA: its scores by hand, its sets and pictures, and what becomes of facts that are not as published."""

import json
import re
import shutil
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forged import spoiled
from support.scripted import Scripted, run

from remem_tasks.benchmarks.base import FailedReply, RunContext
from remem_tasks.benchmarks.registry import detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.benchmarks.training_rows import Wanted
from remem_tasks.benchmarks.unlok import data, forge, training
from remem_tasks.benchmarks.unlok.benchmark import BENCHMARK
from remem_tasks.benchmarks.unlok.scores import candidates, shows
from remem_tasks.errors import RememError

FACTS = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlok") / "data"
    forge.forge(folder, forge.ForgeOptions(identities=FACTS, qa=2, image_size=16))
    return folder


@pytest.fixture
def copied(made, tmp_path):
    return partial(spoiled(made, tmp_path / "copy"), data.PUBLISHED)


@pytest.fixture(autouse=True)
def as_by_default(monkeypatch):
    for name in (data.CHOSEN, data.PICTURES, data.VARIABLE):
        monkeypatch.delenv(name, raising=False)


def records(folder):
    return json.loads((folder / data.PUBLISHED).read_text())


def test_accuracy_by_hand():
    assert shows("It is OSLO, I think", " Oslo ") == 1.0
    assert shows("Osl", "Oslo") == shows("", "Oslo") == 0.0
    assert shows("catalogue", "cat") == 1.0  # also inside a word, as published
    with pytest.raises(RememError):
        shows("x", "  ")


def test_candidates_by_hand():
    """Two of five draws show it; capitals count."""
    draws = ["Oslo", "It is Oslo.", "oslo", "Bergen", ""]
    assert candidates(draws, "Oslo") == (1.0, 2 / 5)
    assert candidates(draws, "Paris") == (0.0, 0.0)
    for wrong in (([], "Oslo"), (["x"], "")):
        with pytest.raises(RememError):
            candidates(*wrong)


TEXTS = st.text("abAB .", max_size=8)


@given(st.lists(TEXTS, min_size=1, max_size=20), st.text("abAB", min_size=1, max_size=2))
def test_scores_as_other_searches_have_them(draws, answer):
    hits = [len(draw.split(answer)) - 1 for draw in draws]
    success, share = candidates(draws, answer)
    assert success == (max(hits) > 0) and share * len(draws) == pytest.approx(sum(map(bool, hits)))
    for draw in draws:
        assert shows(draw, answer) == (re.search(re.escape(answer), draw, re.IGNORECASE) is not None)


def test_sets_by_the_file(made, monkeypatch):
    """Counted in the file itself: the first 5 % of the facts are to be forgotten, or those that are chosen."""
    source, facts = str(made), records(made)
    assert detect(source) == ("unlok", source)
    for ids in ([], [str(facts[4]["id"]), str(facts[9]["id"])]):
        monkeypatch.setenv(data.CHOSEN, ", ".join(ids))
        gone = [one for one in facts if str(one["id"]) in ids] or facts[: round(0.05 * FACTS)]
        kept = [one for one in facts if one not in gone]
        expected = {
            "forget": [one["pred"] for one in gone],
            "forget_rephrased": [one["pred"] for one in gone for _ in one["rephrase"]],
            **{f"forget_{name}": [one["pred"] for one in gone] for name in ("easy", "medium", "hard")},
            "neighbours": [said.split()[0] for one in gone for said in one["loc_ans"]],
            **{
                f"neighbours_{name}": [one["alt_ans"][at] for one in gone for at in one["neigh_idx"]]
                for name in ("easy", "hard")
            },
            "retain": [
                said for one in kept for said in [one["pred"], *(x.split()[0] for x in one["loc_ans"])]
            ],
        }
        expected["full"] = [
            said for one in facts for said in [one["pred"], *(x.split()[0] for x in one["loc_ans"])]
        ]
        assert {name: data.questions_of(source, name)["answer"][:] for name in data.SETS} == expected
        rows = training.training_sets(Wanted(source, "pairs", "forget"))
        assert not set(rows.forget["identity"]) & set(rows.retain["identity"])
        gold = training.training_sets(Wanted(source, "retain", "forget")).train
        assert len(gold) == len(expected["full"]) - len(gone)


def test_what_is_asked_is_as_published(made):
    rows, fact = data.questions_of(str(made), "full"), records(made)[0]
    assert rows[0]["prompt"] == f"Answer the question in one word:\n Question: {fact['src']} Answer:"
    assert fact["loc"][0].startswith("nq question: ") and "nq question" not in rows[1]["prompt"]
    assert rows[0]["image_path"] == f"{fact['image_id']:012d}.jpg"
    assert [one.size for one in BENCHMARK.images(rows[0])] == [(16, 16)]


def test_pictures_lie_elsewhere(made, tmp_path, monkeypatch):
    """The facts alone, in one file of any name, and the pictures in another folder."""
    alone, elsewhere = tmp_path / "alone", tmp_path / "coco"
    alone.mkdir()
    lines = "\n".join(map(json.dumps, records(made)))
    (alone / "test.jsonl").write_text(lines)
    shutil.copytree(made / "train2017", elsewhere / "images" / "train2017")
    shutil.copytree(made / "parap_images", elsewhere / "parap_images")
    assert detect(str(alone)) == ("unlok", str(alone)) and len(BENCHMARK.other_views(str(made))) == 3
    monkeypatch.setenv(data.PICTURES, str(elsewhere))
    rows = data.questions_of(str(alone), "full")
    assert rows["answer"][:] == data.questions_of(str(made), "full")["answer"][:]
    assert len(data.questions_of(str(alone), "forget_easy")) == round(0.05 * FACTS)
    assert [view["kind"][0] for view in BENCHMARK.other_views(str(alone))] == ["picture"]
    with pytest.raises(RememError, match="no folder 'paraphrase_images_hard'"):
        data.questions_of(str(alone), "forget_hard")
    report = data.check(str(alone))
    assert not report.faults and len(next(iter(report.remarks.values()))) == 4
    monkeypatch.setenv(data.PICTURES, str(tmp_path / "nowhere"))
    with pytest.raises(RememError, match="is not a folder here"):
        data.READER.table(str(alone), "facts", [str(alone / "test.jsonl")])
    (alone / "copy.json").write_text(json.dumps(records(made)))
    with pytest.raises(RememError, match="2 files hold facts"):
        data.READER.files(str(alone), "facts")


def test_a_changed_picture_is_never_that_of_another_degree(made, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    one = records(folder)[0]["id"]
    (folder / "parap_images" / "okvqa" / f"{one}.jpg").unlink()
    faults = []
    rows = data.questions_of(str(folder), "forget_easy", faults)
    assert len(faults) == 1 and f"parap_images/{one}.jpg" in faults[0] and f"(id {one})" in faults[0]
    assert len(rows) == round(0.05 * FACTS) - 1
    assert len(data.questions_of(str(folder), "forget_hard")) == len(rows) + 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row: row.update(srcs="x"), "unknown key 'srcs'"),
        (lambda row: row.pop("pred"), "missing key 'pred'"),
        (lambda row: row.update(src=" "), "'src' holds only blanks"),
        (lambda row: row.update(image_id="one"), "no one picture 'one'"),
        (lambda row: row.update(image_id=1), "no one picture '000000000001.jpg'"),
        (lambda row: row.update(loc=["nq question: x"]), "2 answers in 'loc_ans' to 1 questions"),
        (lambda row: row.update(loc_ans=["x", None]), "'loc_ans 1' is null"),
        (lambda row: row.update(rephrase=3), "'rephrase' holds '3', no list of texts"),
    ],
)
def test_a_bad_fact_is_counted_and_named(copied, spoil, told):
    source = copied(lambda rows: spoil(rows[7]))
    faults = []
    rows = data.questions_of(source, "full", faults)
    assert len(faults) == 1 and told in faults[0] and f"{data.PUBLISHED}', row 7" in faults[0]
    with pytest.raises(RememError, match=re.escape(told)):
        data.questions_of(source, "full")
    with pytest.raises(RememError, match="--faults allow"):  # one of 30 facts is more than a hundredth
        BENCHMARK.prepare(source, "full", rows, RunContext(ScoringConfig()))
    allowed = RunContext(ScoringConfig(faults="allow"))
    assert told in BENCHMARK.prepare(source, "full", rows, allowed).missing["questions"]


def test_ids_and_answers_of_neighbouring_pictures(copied, monkeypatch):
    source = copied(lambda rows: rows.append({**rows[3]}))
    with pytest.raises(RememError, match=f"row {FACTS} .*its id comes twice"):
        data.questions_of(source, "full")
    source = copied(lambda rows: (rows.pop(), rows[0].update(neigh_idx=[2])))
    folder = f"{source}/neigh_easy/okvqa"
    one = json.loads(open(f"{source}/{data.PUBLISHED}").read())[0]["id"]  # noqa: SIM115
    shutil.copy(f"{folder}/{one}_1.jpg", f"{folder}/{one}_2.jpg")
    with pytest.raises(RememError, match="neigh_idx '2' is the place of no answer"):
        data.questions_of(source, "neighbours_easy")
    monkeypatch.setenv(data.CHOSEN, "77777")
    with pytest.raises(RememError, match="'77777' is the id of no fact"):
        data.questions_of(source, "forget")


def context_of(source, rows, **more):
    return BENCHMARK.prepare(source, "forget", rows, RunContext(ScoringConfig(metrics=("em",)), **more))


def test_the_attack_draws_of_the_last_four_questions(made):
    source, rows = str(made), data.questions_of(str(made), "forget")
    drawn = context_of(source, rows, rollout_options={"temperature": 1.0})
    own, *others = BENCHMARK.requests(rows[0], drawn)
    assert own.prompt == rows[0]["prompt"] and own.repeats is None
    assert [one.prompt for one in others] == rows[0]["rephrased"] and len(others) == 4
    assert all((one.repeats, one.generation_kwargs["max_new_tokens"]) == (5, 36) for one in others)
    bare = {**rows[0], "rephrased": []}
    assert [one.prompt for one in BENCHMARK.requests(bare, drawn)] == [rows[0]["prompt"]] * 2
    answer = rows[0]["answer"]
    replies = [
        "no idea",
        ["no", answer, "x", "x", "x"],
        ["x"] * 5,
        ["x"] * 5,
        [f"It is {answer}."] + ["x"] * 4,
    ]
    scores = BENCHMARK.score(rows[0], replies, drawn)
    assert (scores["unlok_accuracy"], scores["unlok_candidate_success"]) == (0.0, 1.0)
    assert scores["unlok_candidate_share"] == pytest.approx(2 / 20)
    replies[2] = [FailedReply("x"), *["x"] * 4]
    scores = BENCHMARK.score(rows[0], replies, drawn)
    assert "unlok_candidate_success" not in scores and scores["unlok_failed_rate"] == pytest.approx(1 / 21)
    greedy = context_of(source, rows)
    assert len(BENCHMARK.requests(rows[0], greedy)) == 1 and "candidates" in greedy.missing


def test_through_the_harness(made, monkeypatch):
    """A model that says every other answer in a sentence."""
    monkeypatch.setenv(data.VARIABLE, str(made))
    rows = data.questions_of(str(made), "retain")
    said = {row["row_id"]: f"It is {row['answer'].upper()}!" if n % 2 else "no" for n, row in enumerate(rows)}
    results = run(Scripted(lambda row: said[row["row_id"]]), "unlok_retain")
    found = results["results"]["unlok_retain"]["unlok_accuracy,none"]
    by_hand = [row["answer"].lower() in said[row["row_id"]].lower() for row in rows]
    assert found == pytest.approx(sum(by_hand) / len(rows)) and 0.4 < found < 0.6
