"""Reading results and samples row by row: what is refused, what is kept apart."""

import json
import shutil

import numpy as np
import pytest
from support.made import SUITE, model, row, write_run

from remem_tasks.binding import KEY
from remem_tasks.errors import RememError
from remem_tasks.metrics.refusal import Status
from remem_tasks.report.compare import groups_of, select_run
from remem_tasks.report.runs import find_runs, read_run, read_runs


def test_rows_scores_and_replies_are_those_of_the_file_in_the_order_of_row_ids(tmp_path):
    samples = [
        row(10, em=1.0, exposure=0.5, reply="Oslo Bay", rank=8, hop=2, attribute="pet"),
        row(2, em=0.0, exposure=0.25, bits=None),
    ]
    run = read_run(write_run(tmp_path, {"forget1": samples}), "a")
    task_result = run.task_results["remem_forget1"]
    assert task_result.ids == ("forget1:2", "forget1:10")
    assert task_result.scores["em"].tolist() == [0, 1] and task_result.scores["exposure"].tolist() == [
        0.25,
        0.5,
    ]
    assert set(task_result.scores) == {
        *("em", "rougel", "memo", "exposure", "blank_rate", "failed_rate", "refusal_rate", "coverage")
    }
    assert task_result.statuses == (Status.REFUSAL, Status.CORRECT)
    assert task_result.mean("refusal_rate") == 0.5 == task_result.mean("coverage")
    assert (task_result.rows[1].hop, task_result.rows[1].attribute, task_result.rows[1].forgotten) == (
        2,
        "pet",
        True,
    )
    assert task_result.replies[1].text == "Oslo Bay" and task_result.replies[1].ranks == (8,)
    assert task_result.replies[0].bits == (None,) and task_result.replies[0].guesses == (
        ((" Oslo Bay", -0.25),),
    )
    assert run.checkpoint == "made/up" and task_result.rollouts == 64
    assert task_result.mean("exposure") == 0.375 and task_result.mean("none") is None


def test_a_score_that_a_row_lacks_is_not_counted(tmp_path):
    samples = [row(0, em=1.0), row(1, em=1.0)]
    samples[1]["remem_reference_exposure"] = 0.5
    task_result = read_run(write_run(tmp_path, {"forget1": samples}), "a").task_results["remem_forget1"]
    assert (
        np.isnan(task_result.scores["reference_exposure"][0])
        and task_result.mean("reference_exposure") == 0.5
    )


def spoil(file, change):
    """Change the samples of a results file, or its text."""
    samples = next(file.parent.glob("*samples*"))
    change(samples)
    return file


def rewritten(samples, **more):
    lines = [{**json.loads(line), **more} for line in samples.read_text().splitlines()]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))


def without_em(samples):
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    samples.write_text(
        "".join(json.dumps({k: v for k, v in one.items() if k != "remem_em"}) + "\n" for one in lines)
    )


def ranked(samples, ranks):
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    for line in lines:
        line["remem_rows"]["guess_rank"] = ranks
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))


SPOILT = {
    "half written": (lambda file: file.write_text(file.read_text()[:-30]), "line 2: half written"),
    "missing": (lambda file: file.unlink(), "score with --log_samples"),
    "empty": (lambda file: file.write_text(""), "holds no samples"),
    "cut at a line": (lambda file: file.write_text(file.read_text().splitlines()[0] + "\n"), "1 rows, the results file 2"),
    "without ids": (lambda file: rewritten(file, remem_rows=None), "no row ids"),
    "a row twice": (
        lambda file: file.write_text(file.read_text().splitlines()[0] + "\n" + file.read_text().splitlines()[0] + "\n"),
        "row 'forget1:0' for the second time",
    ),
    "NaN": (lambda file: file.write_text(file.read_text().replace('"remem_memo": 0.0', '"remem_memo": NaN')), "NaN is not a score"),
    "infinity": (lambda file: file.write_text(file.read_text().replace('"remem_memo": 0.0', '"remem_memo": 1e999')), "not a finite number"),
    "a text for a score": (lambda file: rewritten(file, remem_memo="1.0"), "remem_memo is '1.0'"),
    "null": (lambda file: rewritten(file, remem_memo=None), "line 1: remem_memo is None, not a finite number"),
    "more than all": (lambda file: rewritten(file, remem_exposure=1.5), "line 1: remem_exposure is 1.5, outside"),
    "less than nothing": (lambda file: rewritten(file, remem_exposure=-0.5), "line 1: remem_exposure is -0.5, outside"),
    "another metric at 0": (lambda file: rewritten(file, remem_exposure=0.0), "their remem_exposure differs"),
    "rank 0": (lambda file: ranked(file, [0]), "line 1: guess rank 0 is out of range: 1 to 65"),
    "a rank past M + 1": (lambda file: ranked(file, [66]), "line 1: guess rank 66 is out of range: 1 to 65"),
    "no rank": (lambda file: ranked(file, [None]), "line 1: guess rank None is out of range"),
    "half a rank": (lambda file: ranked(file, [1.5]), "line 1: guess rank 1.5 is out of range"),
    "5,000 digits": (
        lambda file: file.write_text(file.read_text().replace('"remem_memo": 0.0', '"remem_memo": ' + "7" * 5000)),
        "line 1: half written or no JSON .a number of 5000 digits",
    ),
    "deep": (lambda file: file.write_text("[" * 100_000 + "\n"), "line 1: half written or no JSON .nested too deep"),
    "no UTF-8": (lambda file: file.write_bytes(b"\xff\xfe{}"), "no UTF-8"),
    "a hop of a million": (
        lambda file: rewritten(file, remem_rows={"row_id": "forget1:0", "identity": "a", "hop": 10**6}),
        "line 1: hop 1000000 is out of range",
    ),
    "another run's, with the same means": (
        lambda file: rewritten(file, filtered_resps=["Bergen"]),
        "is not the samples file that was written with the results",
    ),
    "a list": (lambda file: file.write_text("[]\n"), "not a sample of lmms-eval"),
    "another run's": (lambda file: rewritten(file, remem_em=1.0), "their remem_em differs"),
    "no em": (without_em, "a row without remem\'s em"),
    "other types in the row": (
        lambda file: rewritten(file, remem_rows={"row_id": "forget1:0", "identity": "a", "hop": "two"}),
        "cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILT)
def test_bad_samples_are_refused_by_name(tmp_path, kind):
    change, message = SPOILT[kind]
    file = spoil(write_run(tmp_path, {"forget1": [row(0, exposure=0.5), row(1, exposure=0.5)]}), change)
    with pytest.raises(RememError, match=message) as caught:
        read_run(file, "a")
    assert "samples_remem_forget1.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_half_written_results_are_refused(tmp_path):
    file = write_run(tmp_path, {"forget1": [row(0)]})
    file.write_text(file.read_text()[:50])
    with pytest.raises(RememError, match="is not an lmms-eval results file"):
        read_runs([str(tmp_path)])


def test_results_of_other_tasks_alone_hold_no_rows(tmp_path):
    file = write_run(tmp_path, {"forget1": [row(0)]})
    raw = json.loads(file.read_text())
    del raw["results"]["remem_forget1"]["remem_rows,none"], raw[KEY]
    file.write_text(json.dumps(raw))
    with pytest.raises(RememError, match="no row ids"):
        read_run(file, "a")


def test_failed_replies_are_said(tmp_path):
    run = read_run(write_run(tmp_path, {"forget1": [row(0, failed=1.0), row(1)]}), "a")
    assert "remem_forget1: 50.0% of the replies failed in the engine and score 0" in run.notes
    assert "remem_forget1: 1 of 2 replies are refusals, not other answers" in run.notes
    assert run.task_results["remem_forget1"].statuses == (Status.FAILED, Status.REFUSAL)


def test_what_older_results_lack_is_said(tmp_path):
    run = read_run(write_run(tmp_path, {"forget1": [row(0, reply="Bergen")]}, sealed=False), "a")
    (note,) = run.notes
    assert note.startswith("no digests in the results file") and run.weights is None


def test_runs_are_found_and_named(tmp_path):
    for name in ("gold", "npo/checkpoint-100", "npo/checkpoint-20"):
        model(tmp_path / "runs", name, [0.0], [1.0])
    model(tmp_path, "alone", [0.0], [1.0])
    model(tmp_path / "runs", "gold", [1.0], [1.0], stamp="20260102_000000")  # newer: it counts
    names = [name for name, _, _ in find_runs([str(tmp_path / "runs"), str(tmp_path / "alone")])]
    assert names == ["gold", "npo/checkpoint-20", "npo/checkpoint-100", "alone"]
    runs = read_runs([f"x={tmp_path / 'runs'}"])
    assert [run.name for run in runs] == ["x/gold", "x/npo/checkpoint-20", "x/npo/checkpoint-100"]
    assert [run.step for run in runs] == [None, 20, 100]
    assert runs[0].date == "20260102_000000" and runs[0].task_results["remem_forget1"].mean("em") == 1
    with pytest.raises(RememError, match="'nowhere' is not there"):
        find_runs(["nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RememError, match="no \\*_results.json below"):
        find_runs([str(tmp_path / "empty")])


def test_one_name_for_several_runs_makes_seeds(tmp_path):
    for seed in "ab":
        model(tmp_path, f"npo_{seed}", [0.0], [1.0])
    runs = read_runs([f"npo={tmp_path / 'npo_a'}", f"npo={tmp_path / 'npo_b'}"])
    assert [(run.name, run.model) for run in runs] == [("npo #1", "npo"), ("npo #2", "npo")]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fingerprint": "0" * 16}, "other data (fingerprint 0000000000000000, not ffffffffffffffff)"),
        ({"suite": {**SUITE, "rollouts": 128}}, "rollouts 128, not 64"),
        ({"suite": {**SUITE, "rollout_seed": 1}}, "rollout_seed 1, not 0"),
        ({"suite": {**SUITE, "estimator": "frequency"}}, "estimator frequency, not distinct"),
        ({"generation": {"max_new_tokens": 3}}, "max_new_tokens 3, not None"),
        ({"generation": {"do_sample": True, "temperature": 0.7}}, "do_sample True, not None"),
        ({"generation": {"num_beams": 4}}, "num_beams 4, not None"),
        ({"backend": "llava_hf"}, "backend llava_hf, not remem_hf"),
        ({"told": ",dtype=torch.bfloat16"}, "dtype bfloat16, not None"),
        ({"told": ",attn_implementation=eager"}, "attention eager, not None"),
        ({"told": ",conv_template=plain"}, "conv_template plain, not None"),
        ({"told": ",system_prompt=Be brief"}, "system_prompt Be brief, not None"),
        ({"told": ",use_flash_attention_2=True"}, "attention use_flash_attention_2, not None"),
        ({"told": ",chat_template=other.jinja"}, "chat template other.jinja, not None"),
        ({"suite": {**SUITE, "caption_questions": "published"}}, "caption_questions published, not own"),
        ({"told": ",load_in_4bit=True,dtype=auto"}, "quantisation load_in_4bit, not None"),
    ],
)
def test_runs_that_cannot_be_compared_stand_apart(tmp_path, change, why):
    model(tmp_path, "a", [0.0, 1.0], [1.0])
    model(tmp_path, "b", [0.0, 1.0], [1.0], **change)
    model(tmp_path, "c", [1.0, 1.0], [1.0])
    groups = groups_of(read_runs([str(tmp_path)]))
    assert [[run.name for run in group.runs] for group in groups] == [["a", "c"], ["b"]]
    assert groups[1].why == f"'b' differs from 'a' in remem_forget1: {why}"


def test_options_that_change_no_reply_may_differ(tmp_path):
    model(tmp_path, "a", [0.0, 1.0], [1.0])
    model(tmp_path, "b", [0.0, 1.0], [1.0], told=",device_map=auto,batch_size=4,processor=models/p,cache=off")
    assert len(groups_of(read_runs([str(tmp_path)]))) == 1


def test_other_generation_settings_are_said(tmp_path):
    file = model(tmp_path, "a", [0.0, 1.0], [1.0], sealed=False)
    raw = json.loads(file.read_text())
    raw["config"]["gen_kwargs"] = "max_new_tokens=3"
    file.write_text(json.dumps(raw))
    notes = read_run(file, "a").notes
    assert "scored with --gen_kwargs 'max_new_tokens=3', not as the tasks ask" in notes


MEMORY = {
    "chat template": "0" * 8,
    "pictures": "0" * 16,
    "dtype": "float32",
    "attention": "sdpa",
    "quantisation": "none",
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dtype": "bfloat16"}, "dtype bfloat16, not float32"),
        ({"attention": "eager"}, "attention eager, not sdpa"),
        ({"chat template": "1" * 8}, f"chat template {'1' * 8}, not {'0' * 8}"),
        ({"pictures": "1" * 16}, f"pictures {'1' * 16}, not {'0' * 16}"),
        ({"gold": "1" * 16}, ""),  # the other names none
        ({"quantisation": "bitsandbytes 4 bit nf4"}, "quantisation bitsandbytes 4 bit nf4, not none"),
        ({}, ""),
    ],
)
def test_what_the_model_was_in_memory_counts_not_how_it_was_asked_for(tmp_path, change, why):
    """`dtype=auto` of a bfloat16 checkpoint and `dtype=bfloat16` are one; of a float32 checkpoint they are two."""
    model(tmp_path, "a", [0.0, 1.0], [1.0], computed=MEMORY, told=",dtype=float32")
    model(tmp_path, "b", [0.0, 1.0], [1.0], computed={**MEMORY, **change})
    groups = groups_of(read_runs([str(tmp_path)]))
    assert len(groups) == 1 + bool(why)
    assert not why or groups[1].why == f"'b' differs from 'a' in remem_forget1: {why}"


def test_results_from_before_computing_was_noted_are_compared_by_what_they_were_told(tmp_path):
    model(tmp_path, "a", [0.0, 1.0], [1.0], computed=MEMORY)
    model(tmp_path, "b", [0.0, 1.0], [1.0])
    assert len(groups_of(read_runs([str(tmp_path)]))) == 1


def test_other_rows_stand_apart(tmp_path):
    model(tmp_path, "a", [0.0, 1.0], [1.0])
    model(tmp_path, "b", [0.0], [1.0])  # --limit 1
    groups = groups_of(read_runs([str(tmp_path)]))
    assert len(groups) == 2 and "other rows (1, not 2)" in groups[1].why


def test_a_suite_without_exposure_may_differ_in_what_it_did_not_measure(tmp_path):
    for name, suite in (("a", SUITE), ("b", {**SUITE, "rollouts": 128})):
        rows = [row(0)]
        if name == "b":
            del rows[0]["remem_exposure"], rows[0]["remem_memo"]
        write_run(tmp_path / name, {"forget1": rows}, suite=suite)
    assert len(groups_of(read_runs([str(tmp_path)]))) == 1


def test_roles_come_from_names_paths_or_the_record(tmp_path):
    checkpoint = tmp_path / "models" / "g"
    checkpoint.mkdir(parents=True)
    (checkpoint / "run.json").write_text(json.dumps({"method": "gold", "seed": 7}))
    write_run(tmp_path / "runs" / "g", {"forget1": [row(0)]}, checkpoint=str(checkpoint))
    model(tmp_path / "runs", "b", [1.0], [1.0])
    runs = read_runs([str(tmp_path / "runs")])
    assert select_run(runs, None, "gold").name == "g" and select_run(runs, None, "gold").seed == 7
    assert select_run(runs, None, "sft") is None
    assert select_run(runs, "b", "sft").name == "b"
    assert select_run(runs, str(tmp_path / "runs" / "b"), "sft").name == "b"
    with pytest.raises(RememError, match="'z' is none of the runs: b, g"):
        select_run(runs, "z", "sft")


def test_the_record_is_found_from_another_folder(tmp_path, monkeypatch):
    """A relative checkpoint is looked for above its results, then where we are."""
    (tmp_path / "project" / "models" / "npo").mkdir(parents=True)
    (tmp_path / "project" / "models" / "npo" / "run.json").write_text(
        '{"method": "npo", "steps": 31, "stopped": "rule"}'
    )
    file = write_run(tmp_path / "project" / "results" / "npo", {"forget1": [row(0)]}, "models/npo")
    monkeypatch.chdir(tmp_path)
    run = read_run(file, "npo")
    assert (run.method, run.steps, run.stopped) == ("npo", 31, "rule")
    (tmp_path / "models" / "npo").mkdir(parents=True)  # of the same name, and another's
    assert read_run(file, "npo").method == "npo"
    shutil.rmtree(tmp_path / "project" / "models")
    assert read_run(file, "npo").method is None
    (tmp_path / "run.json").write_text('{"method": "not ours"}')
    assert read_run(write_run(tmp_path / "b", {"forget1": [row(0)]}, ""), "b").method is None


@pytest.mark.parametrize("given", ["", "x=", "=somewhere", "="])
def test_a_run_of_no_name_or_no_place_is_refused(given, tmp_path, monkeypatch):
    """Its path of nothing would be the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RememError, match="names no run"):
        find_runs([given])


@pytest.mark.parametrize("given", ["resluts", "resluts/npo", "results/np"])
def test_a_mistyped_folder_is_told_what_is_like_it(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "npo").mkdir(parents=True)
    with pytest.raises(RememError, match=r"is not there; did you mean 'results"):
        find_runs([given])
