"""The ReMem tasks in the harness, with a model whose every reply is known."""

import json
from dataclasses import replace

import pytest
from lmms_eval import utils
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.tasks import TaskManager, get_task_dict
from support.rows import PEOPLE, people_splits, write_parquet
from support.scripted import Scripted, run, value

from remem_tasks.benchmarks.base import FailedReply, RunContext
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.errors import RememError
from remem_tasks.harness.task import BenchmarkTask, failure_of
from remem_tasks.metrics.refusal import Status

TASKS = ["finetune", "forget1", "forget2", "forget3", "forget4", "retain", "test"]


def rewrite(folder, split, change):
    """The small data set with `change` applied to the rows of one split."""
    splits = people_splits()
    change(splits[split])
    write_parquet(folder, splits)
    return str(folder)


def test_names_sizes_and_group(remem_data):
    manager = TaskManager(include_defaults=False)
    assert set(manager.all_tasks) >= {f"remem_{name}" for name in TASKS} | {"remem"}
    tasks = get_task_dict([f"remem_{name}" for name in TASKS], manager)
    assert [len(tasks[f"remem_{name}"].eval_docs) for name in TASKS] == [36, 6, 12, 18, 24, 12, 36]
    results = run(Scripted(lambda row: row["answer"]), "remem")
    assert set(results["group_subtasks"]["remem"]) == {"remem_forget1", "remem_retain", "remem_test"}
    assert value(results, "remem_test", "remem_em") == 1.0


@pytest.mark.parametrize("simple", [False, True])
def test_a_model_that_knows_the_answers(remem_data, simple):
    model = Scripted(lambda row: row["answer"], simple=simple)
    results = run(model, "remem_forget1")
    for metric in ("em", "keyword_recall", "rougel", "rouge_recall", "1hop_em", "2hop_rougel"):
        assert value(results, "remem_forget1", f"remem_{metric}") == 1.0
    assert value(results, "remem_forget1", "remem_blank_rate") == 0.0
    assert value(results, "remem_forget1", "remem_failed_rate") == 0.0
    assert value(results, "remem_forget1", "remem_rows") == 6
    # both styles ask the same: the question after the row's own picture
    assert [asked["text"] for asked in model.asked] == [asked["row"]["question"] for asked in model.asked]
    assert all(asked["pictures"][0].size == (56, 56) for asked in model.asked)
    assert all(asked["settings"]["max_new_tokens"] == 128 for asked in model.asked)


def test_scores_overall_and_by_hop(remem_data):
    """1-hop rows right, 2-hop rows: one of three right, one blank, one wrong."""

    def reply(row):
        if row["hop"] == 1 or row["attribute"] == "city":
            return row["answer"]
        return " \n" if row["attribute"] == "pet" else "no idea"

    results = run(Scripted(reply), "remem_forget1")
    assert value(results, "remem_forget1", "remem_em") == pytest.approx(4 / 6)
    assert value(results, "remem_forget1", "remem_1hop_em") == 1.0
    assert value(results, "remem_forget1", "remem_2hop_em") == pytest.approx(1 / 3)
    assert value(results, "remem_forget1", "remem_blank_rate") == pytest.approx(1 / 6)
    assert value(results, "remem_forget1", "remem_failed_rate") == 0.0
    # standard error of six 0/1 values, four of them 1: sqrt(s2 / 6), s2 = 6/5 * 4/6 * 2/6
    assert results["results"]["remem_forget1"]["remem_em_stderr_clt,none"] == pytest.approx(
        (4 / 15 / 6) ** 0.5
    )


def test_rows_that_name_no_hop_count_overall_only(tmp_path, monkeypatch):
    def unname(rows):
        rows[0]["question_type"] = "open"
        rows[1]["question_type"] = "12-hop"

    monkeypatch.setenv("REMEM_DATA", rewrite(tmp_path, "forget1", unname))
    results = run(Scripted(lambda row: row["answer"] if row["hop"] else "?"), "remem_forget1")
    assert value(results, "remem_forget1", "remem_em") == pytest.approx(5 / 6)
    assert value(results, "remem_forget1", "remem_12hop_em") == 1.0
    hops = {name.split("_")[1] for name in results["results"]["remem_forget1"] if "hop_em," in name}
    assert hops == {"1hop", "2hop", "12hop"}
    first = results["samples"]["remem_forget1"][0]
    assert "remem_1hop_em" not in first and first["remem_rows"]["hop"] == 0


def test_no_metric_name_is_part_of_another(remem_data):
    rows = get_task_dict(["remem_forget1"], TaskManager(include_defaults=False))["remem_forget1"].dataset[
        "forget1"
    ]
    rows = rows.remove_columns("hop").add_column("hop", [0, 1, 2, 3, 11, 12])
    benchmark = BENCHMARKS["remem"]
    for white_box in (True, False):
        context = RunContext(ScoringConfig(), white_box=white_box)
        known = {**benchmark.prepare(str(remem_data), "test", rows, context).known}
        if "forgotten" in known:  # among the rows are forgotten people and others
            known["forgotten"] = {rows["identity"][0], "somebody else"}
        names = [metric.name for metric in benchmark.metrics(rows, "test", replace(context, known=known))]
        assert len(names) == len(set(names)) and len(names) > 40
        assert not [(a, b) for a in names for b in names if a != b and a in b]


def test_directions(remem_data):
    model = Scripted(lambda row: "x")
    higher = run(model, "remem_forget2,remem_retain,remem_test,remem_finetune")["higher_is_better"]
    directions = [
        higher[f"remem_{name}"]["remem_1hop_em"] for name in ("forget2", "retain", "test", "finetune")
    ]
    assert directions == [False, True, None, True]
    assert higher["remem_retain"]["remem_failed_rate"] is False
    assert higher["remem_retain"]["remem_rows"] is None


@pytest.mark.parametrize(
    ("text", "counts", "failed"),
    [
        ("a heron", None, False),
        ("", TokenCounts(output_tokens=1), False),  # the model ended at once
        ("", None, True),
        ("  \n", None, True),
        ("", TokenCounts(input_tokens=7), True),  # no count of what was generated
        ("None", None, True),  # what the harness makes of a reply None
        ("None", TokenCounts(output_tokens=2), False),
        (None, TokenCounts(output_tokens=2), True),
        ("[LMMS_EVAL_REQUEST_FAILED after 3 retries] 500", TokenCounts(output_tokens=0), True),
        ("[LMMS_EVAL_BUDGET_EXCEEDED]", TokenCounts(), True),
        ("", TokenCounts(output_tokens=0), True),  # even a model that ends at once says a token
        ((-1.5, True), None, False),
    ],
)
def test_which_replies_failed(text, counts, failed):
    assert isinstance(failure_of(text, counts), FailedReply) == failed


def test_failed_replies_are_not_blank_ones(remem_data):
    """Of six: one blank, one None, one swallowed error."""
    said = {0: "", 1: None, 2: GenerationResult("", None)}

    def reply(row):
        return said.get(int(row["row_id"].split(":")[1]), row["answer"])

    results = run(Scripted(reply), "remem_forget1")
    assert value(results, "remem_forget1", "remem_blank_rate") == pytest.approx(1 / 6)
    assert value(results, "remem_forget1", "remem_failed_rate") == pytest.approx(2 / 6)
    assert value(results, "remem_forget1", "remem_em") == pytest.approx(3 / 6)
    assert [sample["remem_failed_rate"] for sample in results["samples"]["remem_forget1"]] == [
        0,
        1,
        1,
        0,
        0,
        0,
    ]
    # a backend that reports no tokens at all: blank cannot be told from failed
    silent = run(Scripted(lambda row: "", counts=False), "remem_forget1")
    assert value(silent, "remem_forget1", "remem_failed_rate") == 1.0


def test_the_command_lines_reasoning_tags_do_not_hide_a_failure(remem_data):
    """The command line strips <think> blocks from every text reply by default."""
    from argparse import Namespace

    arguments = Namespace(
        reasoning_tags='[["<think>", "</think>"]]', process_with_media=False, tasks="remem_forget1", model="x"
    )
    model = Scripted(lambda row: None if row["hop"] == 1 else "<think>otter</think>" + row["answer"])
    results = run(model, "remem_forget1", cli_args=arguments)
    assert value(results, "remem_forget1", "remem_failed_rate") == 0.5
    assert value(results, "remem_forget1", "remem_2hop_em") == 1.0


def test_results_say_where_the_data_came_from(remem_data, tmp_path, monkeypatch):
    def metadata():
        results = run(Scripted(lambda row: "x"), "remem_forget1,remem_retain")
        json.dumps(results["configs"])  # plain values only
        return results["configs"]["remem_forget1"]["metadata"]

    before = metadata()
    assert before["data"] == str(remem_data) and before["rows"] == 6 and before["benchmark"] == "remem"
    changed = rewrite(tmp_path, "forget1", lambda rows: rows[3].update(answer="The city is Oslo Bay."))
    monkeypatch.setenv("REMEM_DATA", changed)
    monkeypatch.setenv("REMEM_FAULTS", "allow")
    after = metadata()
    assert "1 x keyword missing from the answer" in after["not_available"]["faultless rows"]
    assert after["data"] == changed and after["fingerprint"] != before["fingerprint"]


def test_samples_keep_what_reports_group_by(remem_data):
    sample = run(Scripted(lambda row: "x"), "remem_test")["samples"]["remem_test"][7]
    assert sample["remem_rows"] == {
        "row_id": "test:7",
        "identity": "ben_crane",
        "hop": 2,
        "attribute": "city",
        "qa_category": "personal_information",
        "forgotten": False,
        "status": "incorrect",
    }
    assert sample["target"] == f"The city of Ben Crane is {PEOPLE['ben_crane'][2]['city']}."


def test_limit_offset_predict_only_and_gen_kwargs(remem_data):
    model = Scripted(lambda row: row["answer"])
    results = run(model, "remem_forget1", limit=2, offset=1, gen_kwargs="max_new_tokens=5")
    assert value(results, "remem_forget1", "remem_rows") == 2
    assert [asked["row"]["row_id"] for asked in model.asked] == ["forget1:1", "forget1:2"]
    assert model.asked[0]["settings"]["max_new_tokens"] == 5
    only = run(Scripted(lambda row: row["answer"]), "remem_forget1", predict_only=True)
    assert len(only["samples"]["remem_forget1"]) == 6
    assert not [name for name in only["results"]["remem_forget1"] if name.startswith("remem_em")]


def test_repeats_are_averaged(remem_data):
    calls = []

    def reply(row):
        calls.append(row["row_id"])
        return row["answer"] if calls.count(row["row_id"]) <= 3 else None

    results = run(Scripted(reply), "remem_forget1", repeats=4)
    assert len(calls) == 24
    assert value(results, "remem_forget1", "remem_em") == 0.75
    assert value(results, "remem_forget1", "remem_failed_rate") == 0.25
    assert results["samples"]["remem_forget1"][0]["remem_rows"]["row_id"] == "forget1:0"


@pytest.mark.parametrize("simple", [False, True])
def test_system_instruction_reaches_the_model(remem_data, simple):
    model = Scripted(lambda row: "x", simple=simple)
    run(model, "remem_forget1", system_instruction="Be brief. ")
    asked = model.asked[0]
    question = asked["row"]["question"]
    assert (asked["system"], asked["text"]) == (
        (None, "Be brief. " + question) if simple else ("Be brief. ", question)
    )


def test_few_shot_is_refused(remem_data):
    with pytest.raises(RememError, match="few-shot"):
        run(Scripted(lambda row: "x"), "remem_forget1", num_fewshot=2)


@pytest.mark.parametrize("simple", [False, True])
def test_a_users_own_yaml(data_dir, tmp_path, simple):
    """In an included folder, or built in Python: other source, prompt, rows and filter."""
    (tmp_path / "mine.py").write_text(
        "def prompt(doc):\n    return doc['question'] + ' Answer in one word.'\n"
        "def rows(docs):\n    return docs.filter(lambda doc: doc['hop'] == 2)\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ntest_split: forget2\nclass: !function remem_tasks.harness.task.BenchmarkTask\n"
        f"metadata: {{benchmark: remem, version: 2.0}}\ndataset_path: {data_dir}\n"
        "doc_to_text: !function mine.prompt\nprocess_docs: !function mine.rows\n"
        "generation_kwargs: {max_new_tokens: 9, until: []}\n"
        "filter_list:\n- name: short\n  filter:\n  - function: lowercase\n  - function: take_first\n"
    )
    model = Scripted(
        lambda row: row["answer"].upper() if row["row_id"] != "forget2:1" else None, simple=simple
    )
    built = BenchmarkTask(config=utils.load_yaml_config(str(tmp_path / "mine.yaml")))
    for tasks, include in (("mine", str(tmp_path)), ([built], None)):
        results = run(model, tasks, include_path=include)
        scores = results["results"]["mine"]
        assert scores["remem_em,short"] == pytest.approx(5 / 6)
        assert scores["remem_failed_rate,short"] == pytest.approx(1 / 6)
        assert "remem_1hop_em,short" not in scores
        assert model.asked[-1]["text"].endswith("Answer in one word.")
        assert results["configs"]["mine"]["metadata"]["rows"] == 6


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("metadata: {version: 1}\ntest_split: forget1", "names no benchmark of remem"),
        ("metadata: {benchmark: haze}\ntest_split: forget1", "found 'haze'"),
        ("metadata: {benchmark: remem}", "no test_split"),
        ("metadata: {benchmark: remem}\ntest_split: forget9", "has no split 'forget9'"),
        (
            "metadata: {benchmark: remem}\ntest_split: forget1\ndataset_kwargs: {token: x}",
            "dataset_kwargs token",
        ),
        (
            "metadata: {benchmark: remem}\ntest_split: forget1\ndataset_path: /no/where",
            "'/no/where' is not a folder",
        ),
    ],
)
def test_bad_yaml_is_one_line(remem_data, tmp_path, yaml, message):
    (tmp_path / "bad.yaml").write_text(
        f"task: bad\nclass: !function remem_tasks.harness.task.BenchmarkTask\n{yaml}\n"
    )
    with pytest.raises(RememError, match=message) as raised:
        run(Scripted(lambda row: "x"), "bad", include_path=str(tmp_path))
    assert "\n" not in str(raised.value)


def test_bad_rows_are_named(tmp_path, monkeypatch):
    def truncate(rows):
        whole = rows[4]["image"]["bytes"]
        rows[4]["image"]["bytes"] = whole[: len(whole) - 60]

    cases = {
        "truncated": (truncate, r"row 4 .*column 'image' cannot be read"),
        "keywords": (
            lambda rows: rows[2].update(keywords="?!"),
            r"keyword without a letter or digit: split 'forget1', row 2 .*--faults allow",
        ),
        "empty": (lambda rows: rows[2].update(keywords=" "), r"row 2: column 'keywords' holds only blanks"),
        "picture": (
            lambda rows: rows[4]["image"].update(bytes=b"no png"),
            r"split 'forget1', row 4 \(images/ada_birch/0004.png\): column 'image' cannot be read",
        ),
    }
    for name, (change, message) in cases.items():
        monkeypatch.setenv("REMEM_DATA", rewrite(tmp_path / name, "forget1", change))
        with pytest.raises(RememError, match=message):
            run(Scripted(lambda row: "x"), "remem_forget1")


def test_scoring_stops_at_the_first_error_and_does_not_try_again(remem_data, monkeypatch):
    calls = []

    def score(self, doc, replies, context, findings):
        calls.append(doc["row_id"])
        raise ValueError("broken scorer")

    monkeypatch.setattr(type(BENCHMARKS["remem"]), "score", score)
    with pytest.raises(ValueError, match="broken scorer"):
        run(Scripted(lambda row: "x"), "remem_forget1", process_docs_parallel=1)
    assert len(calls) == 1


def test_several_requests_of_a_row_keep_their_order(remem_data, monkeypatch):
    """What the coming benchmarks need: a row that asks twice, and a score that sees both replies."""
    from remem_tasks.benchmarks.base import Request

    seen = []
    remem = type(BENCHMARKS["remem"])
    asks = [("And why?", {"max_new_tokens": 3}), ("Sure?", {})]
    monkeypatch.setattr(
        remem,
        "requests",
        lambda self, doc, context: (
            [Request(doc["question"])] + [Request(p, generation_kwargs=k) for p, k in asks]
        ),
    )
    monkeypatch.setattr(
        remem,
        "score",
        lambda self, doc, replies, *others: (
            seen.append((doc["row_id"], replies)) or self.reply_rates(replies, Status.INCORRECT)
        ),
    )
    for simple in (False, True):
        model, count = Scripted(lambda row: "", simple=simple), iter(range(100))
        model.reply = lambda row, count=count: "" if next(count) % 3 == 2 else str(row["hop"])
        results = run(model, "remem_forget1")
        assert [asked["text"] for asked in model.asked[:3]] == [
            model.asked[0]["row"]["question"],
            "And why?",
            "Sure?",
        ]
        assert [asked["settings"]["max_new_tokens"] for asked in model.asked[:3]] == [128, 3, 128]
        assert dict(seen)["forget1:1"] == ["2", "2", ""]
        assert value(results, "remem_forget1", "remem_blank_rate") == pytest.approx(1 / 3)


def test_the_class_is_what_the_yaml_makes(remem_data):
    task = get_task_dict(["remem_forget1"], TaskManager(include_defaults=False), "simple")["remem_forget1"]
    assert type(task) is BenchmarkTask and task.request_style == "simple"
    assert get_task_dict([task], TaskManager(include_defaults=False), "chat")
    assert task.request_style == "chat"
