"""CLEAR's tasks: every number of the results against one worked out here, with remem_hf and with scripted replies."""

import functools
import json
import math
from collections import Counter

import datasets
import numpy as np
import pytest
from lmms_eval.tasks import TaskManager
from rouge_score.rouge_scorer import RougeScorer
from scipy.spatial.distance import jensenshannon
from scipy.stats import hmean, ks_2samp
from support.forged import Plain, changed
from support.scripted import Scripted, run, value

from remem_tasks.benchmarks.clear import data as clear
from remem_tasks.benchmarks.clear.benchmark import forget_quality, probabilities, set_metric
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF

SHORT = {"gen_kwargs": "max_new_tokens=6"}
SETS = ["forget01", "forget05", "forget10", "retain99", "retain95", "retain90"]


def test_tasks_and_groups(clear_here):
    manager = TaskManager(include_defaults=False)
    wanted = {f"clear_{name}" for name in (*SETS, *(f"{name}+tofu" for name in SETS), "full", "full+tofu")}
    wanted |= {"clear_real_faces", "clear_real_world", "clear_real", "clear_retain_perturbed"}
    wanted |= {f"clear_{name}_perturbed" for name in SETS[:3]} | {"clear01", "clear05", "clear10"}
    assert wanted <= set(manager.all_tasks)
    results = run(Scripted(lambda row: row["answer"]), "clear05", limit=2)
    assert set(results["group_subtasks"]["clear05"]) == {
        "clear_forget05_perturbed",
        "clear_retain_perturbed",
        "clear_real",
    }


@pytest.mark.parametrize("simple", [False, True])
def test_what_is_asked_of_any_backend(clear_here, simple):
    """Texts without a picture, pictures before the question; ROUGE-L recall of the replies; nothing else to be had."""
    model = Scripted(lambda row: row["answer"].split()[0], simple=simple)
    results = run(model, "clear_forget10+tofu,clear_real_faces")
    counts = Counter(len(asked["pictures"]) for asked in model.asked)
    assert counts == {1: 6 + 3, 0: 6}
    assert all(asked["text"] == asked["row"]["question"] for asked in model.asked)
    assert all((asked["row"]["kind"] == "text") == (not asked["pictures"]) for asked in model.asked)
    for asked in model.asked:  # the row's own picture
        if asked["pictures"]:
            config = asked["row"]["config"]
            table = datasets.load_dataset(str(clear_here), config, split="train")
            assert asked["pictures"][0].tobytes() == table[asked["row"]["place"]]["image"].tobytes()
    # real names have two words, of which one is said
    assert value(results, "clear_real_faces", "clear_faces_rouge") == 0.5
    said = results["results"]["clear_forget10+tofu"]
    assert not [name for name in said if "prob" in name or "truth" in name]
    missing = results["configs"]["clear_forget10+tofu"]["metadata"]["not_available"]
    assert {"probability", "truth_ratio", "forget_metric", "forget_quality"} <= set(missing)
    assert "log-probabilities" in missing["probability"]


@functools.cache
def pictures(source, config):
    table = datasets.load_dataset(str(source), config, split="train")
    return [
        cell and cell["bytes"] for cell in table.cast_column("image", datasets.Image(decode=False))["image"]
    ]


def picture_of(source, row):
    return None if row["picture"] < 0 else pictures(source, row["config"])[row["place"]]


def worked_out(plain, source, config):
    """(all results of a task, rows) from plain forwards and the formulas of spec and paper."""
    recall = RougeScorer(["rougeL"], use_stemmer=True)
    rows, found = [], {}
    for row in clear.questions_of(str(source), config)[0]:
        picture = picture_of(source, row)
        p = lambda text: plain.mean_logprob(row["question"], picture, text)  # noqa: B023, E731
        right, wrong = p(row["answer"]), [p(text) for text in row["wrong"]]
        reply = plain.greedy(row["question"], picture, 6)
        one = {"kind": row["kind"], "row_id": row["row_id"]}
        one["rouge"] = recall.score(target=row["answer"], prediction=reply)["rougeL"].recall
        if row["kind"] in ("caption", "text"):
            one["prob"] = math.exp(right)
        else:
            one["prob"] = math.exp(right) / (math.exp(right) + sum(map(math.exp, wrong)))
        if wrong:
            base = p(row["paraphrase"]) if row["paraphrase"] else right
            one["r"] = np.mean(np.exp(wrong)) / math.exp(base)
            one["base"] = math.exp(base)
            one["truth"] = (
                min(one["r"], 1 / one["r"]) if config.startswith("forget") else max(0.0, 1 - one["r"])
            )
        rows.append(one)
    for kind in {one["kind"] for one in rows}:
        for name in ("rouge", "prob", "truth"):
            values = [one[name] for one in rows if one["kind"] == kind and name in one]
            if values:
                found[f"clear_{kind}_{name}"] = np.mean(values)
    of = "real" if config == "real" else "forget" if config.startswith("forget") else "retain"
    kinds = ("faces", "world") if of == "real" else ("caption", "name")
    parts = [found.get(f"clear_{kind}_{name}") for kind in kinds for name in ("prob", "truth")]
    if None not in parts:
        found[f"clear_{of}_metric"] = hmean(parts)
    if config in SETS:
        captions = [one for one in rows if one["kind"] == "caption"]
        found["clear_unpaired_rate"] = np.mean(["r" not in one for one in captions])
    return found, rows


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_every_number_equals_plain_forwards(clear_here, checkpoints, arch, monkeypatch):
    monkeypatch.setenv("REMEM_METRICS", "em")  # (Exposure: test_clear_exposure.py)
    configs = ["forget10", "forget01+tofu", "real", "retain_perturbed"]
    if arch != "llava":
        configs = ["forget01+tofu", "forget01"]
    tasks = [f"clear_{config}" for config in configs]
    results = run(RememHF(str(checkpoints[arch]), device="cpu"), tasks, **SHORT)
    plain = Plain(arch, checkpoints[arch])
    for config, task in zip(configs, tasks):
        found, rows = worked_out(plain, clear_here, config)
        scores = {
            name.removesuffix(",none"): score
            for name, score in results["results"][task].items()
            if name.startswith("clear_") and "stderr" not in name
        }
        assert (scores.pop("clear_rows"), scores.pop("clear_failed_rate")) == (len(rows), 0.0)
        assert scores.pop("clear_blank_rate") < 1
        for rate in ("clear_refusal_rate", "clear_coverage"):  # (tests/metrics/test_refusal.py)
            assert 0 <= scores.pop(rate) <= 1
        assert scores == pytest.approx(found, rel=1e-4, abs=1e-6), task
        kept = {sample["clear_rows"]["row_id"]: sample["clear_rows"] for sample in results["samples"][task]}
        assert set(kept) == {row["row_id"] for row in rows}
        for row in rows:
            assert ("truth_ratio" in kept[row["row_id"]]) == ("r" in row)
            if "r" in row:
                assert kept[row["row_id"]]["truth_ratio"] == pytest.approx(row["r"], rel=1e-4)


def scored(tmp_path, name, model, **options):
    """The folder that a model's samples are kept in, as `--log_samples` does, and the results."""
    results = run(model, "clear_forget10", **SHORT, **options)
    folder = tmp_path / name / "model"
    folder.mkdir(parents=True)
    lines = [json.dumps({"clear_rows": one["clear_rows"]}) for one in results["samples"]["clear_forget10"]]
    (folder / "2026_samples_clear_forget10.jsonl").write_text("\n".join(lines) + "\n")
    return folder.parent, results


def test_forget_quality_against_gold(clear_here, checkpoints, tmp_path, monkeypatch):
    """Two checkpoints of other weights: both published forms, from the row values that the test above checks."""
    gold, before = scored(tmp_path, "gold", RememHF(str(checkpoints["qwen2_5_vl"]), device="cpu"))
    assert "--gold" in before["configs"]["clear_forget10"]["metadata"]["not_available"]["forget_quality"]
    monkeypatch.setenv("REMEM_GOLD", str(gold))
    _, results = scored(tmp_path, "unlearned", RememHF(str(checkpoints["llava"]), device="cpu"))
    rows = [[one["clear_rows"] for one in run["samples"]["clear_forget10"]] for run in (results, before)]
    rows = [[row for row in of_run if row["kind"] == "caption" and "truth_ratio" in row] for of_run in rows]
    ratios, bases = (
        [[row[name] for row in of_run] for of_run in rows] for name in ("truth_ratio", "paraphrase_prob")
    )
    assert len(ratios[0]) == 5  # the sixth has no partner
    ks = math.log(ks_2samp(*ratios).pvalue)
    assert value(results, "clear_forget10", "clear_ks_quality") == pytest.approx(ks, abs=1e-9)
    assert value(results, "clear_forget10", "clear_js_quality") == pytest.approx(
        1 - jensenshannon(*bases), abs=1e-9
    )


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (None, "no samples of task 'clear_forget10' below"),
        (["{"], "is not a samples file of task 'clear_forget10'"),
        (['{"clear_rows": {"kind": "name", "row_id": "forget10/name:0"}}'], "has no truth ratio of 5 rows"),
        (
            [
                '{"clear_rows": {"kind": "caption", "row_id": "forget10:0", "truth_ratio": NaN, "paraphrase_prob": 1}}'
            ],
            "row 'forget10:0': NaN",
        ),
    ],
)
def test_gold_samples_that_do_not_serve(clear_here, checkpoints, tmp_path, monkeypatch, lines, says):
    if lines:
        (tmp_path / "1_samples_clear_forget10.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("REMEM_GOLD", str(tmp_path))
    with pytest.raises(RememError, match=says):
        run(RememHF(str(checkpoints["llava"]), device="cpu"), "clear_forget10", **SHORT)


def test_golden_values_of_a_row():
    """p(right) 1/2, paraphrase 1/4, wrong 1/8 and 3/8: mean wrong 1/4, so r = 1."""
    logs = [math.log(p) for p in (1 / 2, 1 / 4, 1 / 8, 3 / 8)]
    caption = probabilities({"kind": "caption", "paraphrase": "x"}, logs)
    assert caption == pytest.approx({"prob": 1 / 2, "truth_ratio": 1.0, "paraphrase_prob": 1 / 4})
    # of a name: 1/2 / (1/2 + 1/8 + 3/8) = 1/2, r = (1/4) / (1/2)
    name = probabilities({"kind": "name", "paraphrase": None}, [logs[0], *logs[2:]])
    assert name == pytest.approx({"prob": 1 / 2, "truth_ratio": 1 / 2})
    assert probabilities({"kind": "text", "paraphrase": None}, logs[:1]) == pytest.approx({"prob": 1 / 2})


def test_golden_values_of_a_set():
    """Captions: prob (.2 + .6)/2 = .4, truth .5 of the one row that has it. Names: .4 and 1. 4 / (2.5 + 2 + 2.5 + 1) = .5."""
    items = [
        {"kind": "caption", "prob": 0.2, "truth": 0.5},
        {"kind": "caption", "prob": 0.6},
        {"kind": "name", "prob": 0.4, "truth": 1.0},
    ]
    assert set_metric(items, "forget") == pytest.approx(0.5)
    assert set_metric([{**item, "truth": 0.0} for item in items], "retain") == 0.0
    with pytest.raises(RememError, match="no question of kind 'name' was asked; raise --limit"):
        set_metric(items[:2], "forget")
    with pytest.raises(RememError, match="no question of kind 'faces'"):
        set_metric(items, "real")


def test_quality_takes_the_rows_that_were_asked():
    gold = {str(n): {"truth_ratio": 0.1 * n, "paraphrase_prob": 0.01 * (n + 1)} for n in range(5)}
    items = [{"row_id": str(n), **gold[str(n)]} for n in (3, 1)]
    assert forget_quality(items, gold, "ks") == 0.0 and forget_quality(items, gold, "js") == 1.0


def test_without_partner_the_rest_is_scored(clear_here, checkpoints, tmp_path, monkeypatch):
    source = changed(
        clear_here,
        tmp_path / "set",
        "forget10_perturbed",
        lambda rows: [{**row, "caption": "another"} for row in rows],
    )
    monkeypatch.setenv("REMEM_CLEAR_DATA", source)
    results = run(RememHF(str(checkpoints["llava"]), device="cpu"), "clear_forget10", **SHORT)
    scores = {
        name.split(",")[0] for name in results["results"]["clear_forget10"] if name.startswith("clear_")
    }
    assert {"clear_caption_prob", "clear_unpaired_rate"} <= scores
    assert not scores & {"clear_caption_truth", "clear_forget_metric", "clear_name_prob"}
    assert value(results, "clear_forget10", "clear_unpaired_rate") == 1.0
    missing = results["configs"]["clear_forget10"]["metadata"]["not_available"]
    assert "no row of config 'forget10_perturbed'" in missing["truth_ratio"] and "forget_metric" in missing


def test_failed_replies_are_told(clear_here):
    results = run(Scripted(lambda row: None), "clear_real_world")
    assert value(results, "clear_real_world", "clear_failed_rate") == 1.0
    assert value(results, "clear_real_world", "clear_world_rouge") == 0.0


def test_where_nothing_is(monkeypatch):
    benchmark = BENCHMARKS["clear"]
    with pytest.raises(RememError, match="Either set REMEM_CLEAR_DATA=<folder>"):
        benchmark.load(None, "forget10")
    with pytest.raises(RememError, match="CLEAR has no config 'forget11'"):
        benchmark.load("/tmp", "forget11")
