"""FIUBench: its formulas by hand, its sets, and what becomes of data that is not as published."""

import json
import math
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.fiubench import data, forge
from remem_tasks.benchmarks.fiubench.benchmark import BENCHMARK, ks_quality
from remem_tasks.benchmarks.fiubench.scores import (
    forget_quality,
    keyword_share,
    utility,
    weighted_min_k,
    weighted_min_k_plus_plus,
)
from remem_tasks.benchmarks.registry import detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.data.records import Pictures, read_records
from remem_tasks.errors import RememError
from remem_tasks.whitebox import WhiteBoxResult


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fiubench") / "data"
    forge.forge(folder, forge.ForgeOptions(identities=40, qa=3, image_size=16))
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """(folder, change of one file's content)."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)

    def change(name, how):
        content = json.loads((folder / name).read_text())
        content = how(content) or content
        (folder / name).write_text(json.dumps(content))
        return str(folder)

    return change


def test_keywords_by_hand():
    assert keyword_share("Born 3 May, in OSLO", ["3 may", "oslo"]) == 1.0
    assert keyword_share("Born 3 May", ["3 may", "oslo"]) == 0.5
    assert keyword_share("may 31", ["may 3"]) == 1.0  # a substring, as published
    for wrong in ([], [" "]):
        with pytest.raises(RememError):
            keyword_share("x", wrong)


def test_mia_by_hand():
    """Ten tokens behind the first: shares hold 1, 2, 3, 4, 5 of them, whose means are −10, −9.5, −9, −8.5, −8."""
    values = [-99.0, *(-float(number) for number in range(1, 11))]
    expected = 0.3 * math.exp(-10) + 0.3 * math.exp(-9.5) + 0.2 * math.exp(-9) + 0.1 * math.exp(-8.5)
    assert weighted_min_k(values) == pytest.approx(expected + 0.1 * math.exp(-8), rel=1e-12)
    # four tokens: 10 % and 20 % hold none and count nothing; 30 % and 40 % hold the lowest, 50 % the two lowest
    expected = (0.2 + 0.1) * math.exp(-4) + 0.1 * math.exp(-3)
    assert weighted_min_k([0, -1, -2, -2, -4]) == pytest.approx(expected, rel=1e-12)
    assert weighted_min_k([-1.0]) == 0.0


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=60))
def test_mia_as_plain_loops_have_it(values):
    lowest, total = sorted(values[1:]), 0.0
    for tenth, weight in zip((1, 2, 3, 4, 5), (0.3, 0.3, 0.2, 0.1, 0.1)):
        count = len(lowest) * tenth // 10
        if count:
            total += weight * math.exp(sum(lowest[:count]) / count)
    assert weighted_min_k(values) == pytest.approx(total, abs=1e-12)


def test_mia_plus_plus_by_hand():
    """z of four tokens behind the first: (−1 + 2)/1 = 1, (−2 + 1)/2 = −.5, (−2 + 1)/.5 = −2, (−4 + 1)/0.001 = −3000."""
    found = weighted_min_k_plus_plus([-9, -1, -2, -2, -4], [0, -2, -1, -1, -1], [0, 1, 2, 0.5, 0])
    # 30 % and 40 % hold one, whose exp is 0; 50 % the two lowest
    assert found == pytest.approx(0.0, abs=1e-300)
    found = weighted_min_k_plus_plus([-9, -1, -2, -2, -4], [0, -2, -1, -1, -1], [0, 1, 2, 0.5, 6])
    # z: 1, −.5, −2, −.5
    assert found == pytest.approx((0.2 + 0.1) * math.exp(-2) + 0.1 * math.exp((-2 - 0.5) / 2), rel=1e-12)
    assert weighted_min_k_plus_plus([-1.0, -2.0], [-1.0, -1.0], [1.0, 1.0]) == 0.0
    # less certain than usual, and said all the same: above 1
    assert weighted_min_k_plus_plus([-1.0] * 11, [-3.0] * 11, [1.0] * 11) == pytest.approx(math.exp(2))


@given(st.integers(0, 1000), st.integers(2, 40))
def test_mia_plus_plus_as_plain_loops_have_it(seed, length):
    """From whole distributions, as the released code has them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(6), size=length)
    said = rng.integers(0, 6, size=length)
    z, means, sds = [], [], []
    for row, token in zip(p, said):
        mean = sum(q * math.log(q) for q in row)
        sds.append(math.sqrt(sum(q * math.log(q) ** 2 for q in row) - mean**2))
        means.append(mean)
        z.append((math.log(row[token]) - mean) / sds[-1])
    lowest, total = sorted(z[1:]), 0.0
    for tenth, weight in zip((1, 2, 3, 4, 5), (0.3, 0.3, 0.2, 0.1, 0.1)):
        if count := len(lowest) * tenth // 10:
            total += weight * math.exp(sum(lowest[:count]) / count)
    found = weighted_min_k_plus_plus(np.log(p[range(length), said]), means, sds)
    assert found == pytest.approx(total, rel=1e-6)


# Table 2 of the paper (forget5): log p, EM, MIA, APE, and the average.
TABLE = {
    "retain": (0.0, 0.133, 0.123, 0.147, 0.933),
    "ga": (-0.03, 0.140, 0.130, 0.154, 0.929),
    "gd": (-5.80, 0.189, 0.126, 0.190, 0.807),
    "kl": (-21.7, 0.412, 0.421, 0.468, 0.368),
    "po": (-4.70, 0.069, 0.642, 0.068, 0.760),
}


def test_forget_quality_gives_the_papers_column():
    """All five rows follow if the lowest log p of the table is −26.1, which is no row of those that could be read."""
    methods = {name: dict(zip(("ks", "em", "mia", "ape"), row)) for name, row in TABLE.items()}
    found = forget_quality({**methods, "lowest": {"ks": -26.1, "em": 0, "mia": 0, "ape": 0}})
    for name, row in TABLE.items():
        assert found[name] == pytest.approx(row[-1], abs=1.5e-3)
    # without it the same methods have other values: the average depends on the set of methods
    assert forget_quality(methods)["gd"] == pytest.approx(0.784, abs=1e-3)
    assert forget_quality({"one": methods["gd"]})["one"] == pytest.approx(0.5 + 0.4180, abs=1e-3)
    with pytest.raises(RememError, match="'x': no mia"):
        forget_quality({"x": {"ks": 0, "em": 0, "ape": 0}})


def test_both_utilities():
    assert utility({"rouge": 0.5, "truth": 1.0}) == {"harmonic": pytest.approx(2 / 3), "arithmetic": 0.75}


def test_a_row_by_hand(made):
    """ln p: right −1, paraphrase −2, wrong −3 and −5 a token: r = exp(−4 + 2), geometric."""
    doc = {
        **data.questions_of(str(made), "forget5")[0],
        "answer": "Oslo is the town.",
        "keywords": ["oslo", "town"],
    }
    moments = [[(-1.0, 1.0), (-2.0, 1.0), (-1.0, 2.0), (-1.0, 0.5), (-1.0, 6.0)]]
    findings = WhiteBoxResult(
        answers=[-1.0, -2.0, -3.0, -5.0], tokens=[[-1, -1, -2, -2, -4]], moments=moments
    )
    said = ["In Oslo", "oslo", "the town, Oslo", "no"]
    for forget in (True, False):
        context = RunContext(ScoringConfig(metrics=("em",)), white_box=True, known={"forget": forget})
        scores = BENCHMARK.score(doc, said, context, findings)
        assert scores["fiubench_em"] == 0.5
        assert scores["fiubench_ape"] == pytest.approx((0.5 + 1 + 0) / 3)
        assert scores["fiubench_rouge"] == 0.25
        assert scores["fiubench_mia"] == pytest.approx(0.3 * math.exp(-4) + 0.1 * math.exp(-3))
        assert scores["fiubench_rows"]["truth_ratio"] == pytest.approx(math.exp(-2))
        assert ("fiubench_minkpp" in scores) == forget
        if forget:
            expected = 0.3 * math.exp(-2) + 0.1 * math.exp(-1.25)
            names = {metric.name: metric for metric in BENCHMARK.names(None, "forget5", context)}
            found = names["fiubench_minkpp"].aggregate([scores["fiubench_minkpp"], {"value": 0.5}])
            assert found == pytest.approx((expected + 0.5) / 2)
            assert scores["fiubench_prob"] == pytest.approx(math.exp(-1))
            assert scores["fiubench_truth"] == pytest.approx(math.exp(-2))
        else:
            share = math.exp(-1) / (math.exp(-1) + math.exp(-3) + math.exp(-5))
            assert scores["fiubench_prob"] == pytest.approx(share)
            assert scores["fiubench_truth"] == pytest.approx(1 - math.exp(-2))
            names = {metric.name: metric for metric in BENCHMARK.names(None, "retain", context)}
            parts = [0.25, share, 1 - math.exp(-2), 0.5]
            harmonic = names["fiubench_utility_harmonic"].aggregate([scores["fiubench_utility_harmonic"]])
            assert harmonic == pytest.approx(4 / sum(1 / part for part in parts))
            arithmetic = names["fiubench_utility_arithmetic"].aggregate(
                [scores["fiubench_utility_arithmetic"]]
            )
            assert arithmetic == pytest.approx((0.25 + 1 - math.exp(-2)) / 2)


def test_ks_by_hand():
    """Two sets of two values without overlap: D = 1, p = 2 / C(4, 2) = 1/3."""
    items = [{"row_id": name, "truth_ratio": ratio} for name, ratio in (("a", 0.1), ("b", 0.2))]
    assert ks_quality(items, {"a": 0.8, "b": 0.9}) == pytest.approx(math.log(1 / 3))
    with pytest.raises(RememError, match="'b'"):
        ks_quality(items, {"a": 0.8})


def test_sets(made):
    assert detect(str(made))[0] == "fiubench"
    people = {name: set(data.questions_of(str(made), name)["identity"][:]) for name in data.SETS}
    assert [len(people[name]) for name in data.FORGET] == [1, 2, 4]
    assert not people["forget5"] & people["forget10"] and people["retain5"] < people["retain15"]
    assert people["retain"] == people["full"] - people["forget1"] - people["forget5"] - people["forget10"]
    assert len(data.questions_of(str(made), "full")) == 40 * 3
    assert data.size_of("forget10", 400) == 40 and data.size_of("retain15", 400) == 60


def test_casing(made, monkeypatch):
    published = data.questions_of(str(made), "forget1")[0]
    monkeypatch.setenv(data.CASING, "own")
    own = data.questions_of(str(made), "forget1")[0]
    assert own["prompt"] == own["prompt"].lower() and published["prompt"] == own["prompt"].capitalize()
    assert published["answer"] == own["answer"].capitalize() and published["wrong"] == own["wrong"]
    trained = data.training_rows(str(made), "forget1")
    assert trained[0]["answer"] == own["answer"] and trained[0]["question"] == own["prompt"]
    monkeypatch.setenv(data.CASING, "upper")
    with pytest.raises(RememError, match=data.CASING):
        data.questions_of(str(made), "forget1")


def test_what_the_secret_is():
    assert data.secret_of("Her id is x-1.", ["y", "X-1"]) == ("Her id is ", "x-1")
    assert data.secret_of("Nothing", ["y"]) == ("", "")


def faults_of(source, name="full"):
    faults = []
    rows = data.questions_of(source, name, faults)
    return rows, faults


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda people: people[7]["qa_list"][1].update(answr="x"), "unknown key 'answr'"),
        (lambda people: people[7]["qa_list"][1].pop("keywords"), "missing key 'keywords'"),
        (lambda people: people[7]["qa_list"][1].update(keywords=[]), "'keywords' holds '[]'"),
        (lambda people: people[7]["qa_list"][1].update(perturbed_answer=7), "'perturbed_answer' holds '7'"),
        (lambda people: people[7]["qa_list"][1].update(question=" "), "'question'"),
        (lambda people: people[7]["qa_list"].__setitem__(1, "x"), "is not a record"),
    ],
)
def test_one_bad_question_is_counted_and_named(copied, spoil, told):
    """1 of 120 is below 1 %; twice as many are not."""

    def change(people):
        spoil(people)

    source = copied("full.json", change)
    rows, faults = faults_of(source)
    assert len(rows) == 119 and len(faults) == 1
    assert told in faults[0] and "full.json', row 7 (" in faults[0]
    context = RunContext(ScoringConfig(), white_box=False)
    assert "row 7" in BENCHMARK.prepare(source, "full", rows, context).missing["questions"]
    let_pass = []
    assert len(data.training_rows(source, "full", told=let_pass)) == 119 and told in let_pass[0]
    spoiled_again = copied("full.json", lambda people: people[9]["qa_list"][0].pop("answer") and None)
    with pytest.raises(RememError, match="--faults allow"):
        BENCHMARK.prepare(spoiled_again, "full", *faults_of(spoiled_again)[:1], context)
    with pytest.raises(RememError, match="--faults allow"):
        data.training_rows(spoiled_again, "full")
    assert len(data.training_rows(spoiled_again, "full", choice="allow")) == 118


def test_a_missing_picture_costs_all_its_questions(copied):
    source = copied("full.json", lambda people: people[3].update(image_path="SFHQ/nobody.png"))
    _, faults = faults_of(source)
    assert len(faults) == 3 and "no one picture 'SFHQ/nobody.png'" in faults[0]
    with pytest.raises(RememError, match="row 3"):
        data.training_rows(source, "full")


def test_a_key_that_all_have_is_a_remark(copied):
    source = copied("full.json", lambda people: [{**one, "age": 3} for one in people])
    assert len(data.questions_of(source, "full")) == 120
    assert data.check(source).remarks == {"key that is not published": ["age"]}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda sets: sets["forget10"].pop(), "'forget10': 3 people"),
        (lambda sets: sets["forget5"].__setitem__(0, "nobody"), "'nobody' is nobody of full.json"),
        (lambda sets: sets["forget5"].__setitem__(0, sets["forget10"][0]), "which are disjoint"),
        (lambda sets: sets["retain5"].__setitem__(0, sets["retain5"][1]), "comes twice"),
        (lambda sets: sets.pop("retain15"), "no set 'retain15'"),
    ],
)
def test_a_split_that_is_not_as_published_is_refused(copied, spoil, told):
    source = copied("split.json", lambda sets: spoil(sets) and None)
    with pytest.raises(RememError, match="split.json") as caught:
        data.questions_of(source, "forget5")
    assert told in str(caught.value)
    assert data.check(source).faults["set cannot be used"]


def test_forms_of_the_file(made, tmp_path):
    records = json.loads((made / "full.json").read_text())
    for name, text in (
        ("list.json", json.dumps(records)),
        ("by_id.json", json.dumps({one["unique_id"]: one for one in records})),
        ("lines.json", "\n".join(map(json.dumps, records))),
        ("lines.jsonl", "\n".join(map(json.dumps, records))),
        ("of_windows.jsonl", "\ufeff" + "\r\n".join(map(json.dumps, records))),
        ("mark.json", "\ufeff" + json.dumps(records)),
        ("in_data.json", json.dumps({"data": records})),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_records(str(tmp_path / name)) == records
    # what Unicode calls a line break is none of JSON's
    odd = [{"a": "one\u2028two\x85three"}, {"a": "four"}]
    for name in ("odd.jsonl", "odd.json"):
        (tmp_path / name).write_text(
            "\n".join(json.dumps(one, ensure_ascii=False) for one in odd), encoding="utf-8"
        )
        assert read_records(str(tmp_path / name)) == odd
    for text in ('{"a": 1', '[{"a": 1}, 3]', '"x"', '[{"a": NaN}]'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(RememError, match="bad.json"):
            read_records(str(tmp_path / "bad.json"))


def test_pictures_are_found_below_the_folder_alone(tmp_path):
    folder = tmp_path / "data"
    for path in ("a/one.png", "b/one.png", "c/two.png"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    (tmp_path / "secret.png").write_bytes(b"no")
    with zipfile.ZipFile(folder / "human.zip", "w") as archive:
        archive.writestr("human/three.png", b"three")
        archive.writestr("../../four.png", b"four")
        archive.writestr("c/two.png", b"packed")
    pictures = Pictures(str(folder))
    assert pictures.find("dataset/a/one.png") == str(folder / "a/one.png")
    assert pictures.find("one.png") is None  # two have that name
    assert pictures.find("images\\c\\two.png") == str(folder / "c/two.png")  # unpacked before packed
    assert Path(pictures.find("human/three.png")).read_bytes() == b"three"
    assert not (tmp_path / "four.png").exists()
    assert Path(pictures.find("four.png")).read_bytes() == b"four"
    for path in ("../secret.png", str(tmp_path / "secret.png"), "", "a", "."):
        assert pictures.find(path) is None
