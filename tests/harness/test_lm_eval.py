"""lm_eval (EleutherAI's harness) asks the same rows the same way and comes to the same scores, row by row."""

import json
import subprocess
import sys

import lm_eval
import pytest
import torch
from lm_eval.models.hf_vlms import HFMultimodalLM
from lm_eval.tasks import TaskManager
from support import scripted
from support.rows import people_splits, write_parquet
from support.slow import others_slow

from remem_tasks.benchmarks.clear.forge import ForgeOptions, forge
from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.harness import lm_eval as harness
from remem_tasks.harness.lm_eval import model as models
from remem_tasks.harness.lm_eval.task import LmEvalTask


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The YAML files as lm_eval reads them."""
    monkeypatch.setenv("REMEM_CACHE", str(tmp_path / "cache"))
    found = harness.tasks_folder()
    monkeypatch.setenv("REMEM_CACHE", "off")
    return found


@pytest.fixture(scope="module")
def clear_data(tmp_path_factory):
    """A small forged CLEAR, some of whose rows show no picture."""
    out = tmp_path_factory.mktemp("clear") / "data"
    forge(out, ForgeOptions(identities=6, images=1, qa=1, real=2, world=2, retain_perturbed=1, image_size=56))
    return out


@pytest.fixture
def clear_here(clear_data, monkeypatch):
    monkeypatch.setenv("REMEM_CLEAR_DATA", str(clear_data))


@pytest.fixture
def evaluate(folder):
    """evaluate(model, tasks, **options) -> what lm_eval's `simple_evaluate` gives, samples too."""

    def call(model, tasks, **options):
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        return lm_eval.simple_evaluate(
            model=model, tasks=tasks.split(","), task_manager=manager, bootstrap_iters=0, **options
        )

    return call


@pytest.fixture
def own(tiny):
    """own(arch) -> `remem_hf` as lm_eval's model."""
    return lambda arch="llava", **arguments: models.RememLM(tiny(arch, cache="off", **arguments))


@pytest.fixture
def theirs(checkpoints):
    """theirs(arch) -> lm_eval's own `hf-multimodal`."""
    return lambda arch="llava", **more: HFMultimodalLM(
        pretrained=str(checkpoints[arch]), device="cpu", dtype="float32", batch_size=1, **more
    )


SUMS = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")
HASHES = ("doc_hash", "prompt_hash", "target_hash")


def _scores(results, task):
    """Of each row, in order: every score that lm_eval kept."""
    return [
        {name: value for name, value in sample.items() if name not in (*SUMS, *HASHES)}
        for sample in sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    ]


def _lmms_scores(results, task):
    found = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return found


@pytest.mark.parametrize(
    "tasks",
    others_slow(
        ["remem_forget1,remem_test", "clear_real_faces,clear_retain90"], "clear_real_faces,clear_retain90"
    ),
)
def test_remem_hf_gives_every_row_the_scores_that_it_has_in_lmms_eval(
    evaluate, own, tiny, remem_data, clear_here, tasks
):
    here = evaluate(own(), tasks)
    there = scripted.run(tiny(cache="off"), tasks, log_samples=True)
    for task in tasks.split(","):
        mine, other = _scores(here, task), _lmms_scores(there, task)
        assert len(mine) == len(other) > 0
        for row, sample in zip(mine, other):
            assert row and {name: sample[name] for name in row} == row
        means = {
            name: value
            for name, value in there["results"][task].items()
            if name.endswith(",none") and "stderr" not in name
        }
        assert means == {name: here["results"][task][name] for name in means}
    assert tasks.startswith("clear") or "remem_exposure,none" in here["results"]["remem_forget1"]


@pytest.mark.parametrize(("arch", "tokens"), others_slow([("llava", 3), ("qwen2_5_vl", 128)], ("llava", 3)))
def test_lm_evals_own_model_says_and_scores_the_same(evaluate, theirs, tiny, remem_data, arch, tokens):
    """(A LLaVA of random weights says its picture token fourth, which is no reply of ours.)"""
    here = evaluate(
        theirs(arch), "remem_forget1", apply_chat_template=True, limit=4, gen_kwargs={"max_gen_toks": tokens}
    )
    there = scripted.run(
        tiny(arch, cache="off"),
        "remem_forget1",
        log_samples=True,
        limit=4,
        gen_kwargs=f"max_new_tokens={tokens}",
    )
    mine = sorted(here["samples"]["remem_forget1"], key=lambda sample: sample["doc_id"])
    other = _lmms_scores(there, "remem_forget1")
    assert [row["filtered_resps"][0].strip() for row in mine] == [
        row["filtered_resps"][0].strip() for row in other
    ]
    for row, sample in zip(mine, other):
        for name in (
            "remem_em",
            "remem_keyword_recall",
            "remem_rougel",
            "remem_blank_rate",
            "remem_coverage",
        ):
            assert row[name] == sample[name]
    told = here["configs"]["remem_forget1"]["metadata"]
    assert told["fingerprint"] == there["configs"]["remem_forget1"]["metadata"]["fingerprint"]
    assert "exposure" in told["not_available"] and not any("memo" in name for name in mine[0])


def test_prompted_exposure_by_true_sampling(evaluate, theirs, remem_data, monkeypatch):
    for name, value in {"METRICS": "em,exposure", "ESTIMATOR": "frequency", "ROLLOUTS": "5"}.items():
        monkeypatch.setenv(f"REMEM_{name}", value)
    model, settings = theirs(), []
    generate = model._model_multimodal_generate

    def noted(inputs, max_length, stop, **options):
        settings.append(options)
        return generate(inputs, max_length, stop, **options)

    model._model_multimodal_generate = noted
    found = evaluate(model, "remem_forget1", apply_chat_template=True, limit=2)
    sampled = [one for one in settings if one["do_sample"]]
    assert len(sampled) == 10 and all(
        (one["temperature"], one["top_p"], one["top_k"]) == (1.0, 1.0, 0) for one in sampled
    )
    rows = found["samples"]["remem_forget1"]
    assert all(0 <= row["remem_prompted_exposure"] <= 1 for row in rows)
    assert sorted(len(resps) for resps in rows[0]["resps"]) == [1, 5]


def test_a_checkpoint_that_samples_from_something_else_gives_no_rollouts(
    evaluate, theirs, remem_data, monkeypatch
):
    monkeypatch.setenv("REMEM_METRICS", "em,exposure")
    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    model = theirs()
    model.model.generation_config.repetition_penalty = 1.3
    found = evaluate(model, "remem_forget1", apply_chat_template=True, limit=1)
    told = found["configs"]["remem_forget1"]["metadata"]["not_available"]
    assert any("repetition_penalty 1.3" in reason for reason in told.values())


def test_chosen_rows_are_asked_with_their_own_pictures(evaluate, own, remem_data):
    """(With --samples, lm_eval counts the chosen rows, not the set's. Row by row: beside others, two tokens that a model
    which knows nothing finds as likely change places.)"""
    whole = {
        row["doc"]["row_id"]: row
        for row in evaluate(own(batch_size=1), "remem_forget1")["samples"]["remem_forget1"]
    }
    some = evaluate(own(batch_size=1), "remem_forget1", samples={"remem_forget1": [1, 4]})["samples"][
        "remem_forget1"
    ]
    assert [row["doc"]["row_id"] for row in some] == ["forget1:1", "forget1:4"]
    for row in some:
        assert row["resps"] == whole[row["doc"]["row_id"]]["resps"]


def test_groups_limits_and_a_users_settings(evaluate, own, remem_data):
    found = evaluate(own(), "remem", limit=2, gen_kwargs={"max_gen_toks": 1})
    assert {"remem_forget1", "remem_retain", "remem_test"} <= set(found["results"])
    assert all(len(rows) == 2 for rows in found["samples"].values())
    said = [row["filtered_resps"][0] for row in found["samples"]["remem_forget1"]]
    assert all(len(text.split()) <= 1 for text in said)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "--apply_chat_template is needed"),
        (
            {"apply_chat_template": True, "cache_requests": True},
            "--cache_requests keeps requests by the task's name",
        ),
        ({"apply_chat_template": True, "num_fewshot": 2}, "few-shot prompts are not offered"),
        ({"apply_chat_template": True, "gen_kwargs": {"max_gen_toks": 4000}}, "are longer than the model's"),
    ],
)
def test_what_would_ask_something_else_is_refused(evaluate, theirs, remem_data, monkeypatch, options, says):
    monkeypatch.setattr(models, "_latest", None)
    with pytest.raises(RememError, match=says):
        evaluate(theirs(), "remem_forget1", limit=1, **options)


def test_a_question_that_holds_the_picture_mark_is_refused(evaluate, theirs, tmp_path, monkeypatch):
    splits = people_splits()
    splits["forget1"][0]["question"] += " <image>"
    write_parquet(tmp_path / "data", splits)
    monkeypatch.setenv("REMEM_DATA", str(tmp_path / "data"))
    with pytest.raises(RememError, match="question holds '<image>'"):
        evaluate(theirs(), "remem_forget1", apply_chat_template=True, limit=1)
    monkeypatch.setenv("REMEM_FAULTS", "allow")
    with pytest.raises(RememError, match="task 'remem_forget1', row 0: its text holds '<image>'"):
        evaluate(theirs(), "remem_forget1", apply_chat_template=True, limit=1)


def test_rows_without_a_picture_need_remem_hf(evaluate, theirs, own, clear_here):
    with pytest.raises(RememError, match="shows no picture.*use --model remem_hf"):
        evaluate(theirs(), "clear_retain90+tofu", apply_chat_template=True, gen_kwargs={"max_gen_toks": 2})
    assert evaluate(own(), "clear_retain90+tofu", limit=3)["samples"]["clear_retain90+tofu"]


@pytest.mark.slow
def test_kept_replies_depend_on_rows_settings_and_weights(evaluate, own, remem_data, tmp_path, monkeypatch):
    """lm_eval's own cache keeps a reply by what a request tells of itself."""
    kept = str(tmp_path / "kept")
    first = _scores(evaluate(own(), "remem_forget1", use_cache=kept, limit=3), "remem_forget1")
    asked = []
    ask = models.RememLM.generate_until
    monkeypatch.setattr(
        models.RememLM,
        "generate_until",
        lambda self, requests, **k: asked.extend(requests) or ask(self, requests),
    )
    assert _scores(evaluate(own(), "remem_forget1", use_cache=kept, limit=3), "remem_forget1") == first
    assert not asked
    evaluate(own("qwen2_5_vl"), "remem_forget1", use_cache=kept, limit=3)
    assert len(asked) == 6
    monkeypatch.setenv("REMEM_ROLLOUTS", "7")
    evaluate(own(), "remem_forget1", use_cache=kept, limit=3)
    assert len(asked) == 12


def test_the_device_that_nobody_named_is_taken_where_it_is_there(checkpoints):
    made = models.RememLM.create_from_arg_obj(
        {"pretrained": str(checkpoints["llava"]), "cache": "off"}, {"device": "cuda:0", "batch_size": 1}
    )
    assert made.inner.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(RememError, match="device 'cuda:7' is not there"):
        models.RememLM.create_from_arg_string(f"pretrained={checkpoints['llava']}", {"device": "cuda:7"})


def test_remem_hf_answers_this_packages_tasks_alone(own):
    from lm_eval.api.instance import Instance

    with pytest.raises(RememError, match="task 'other': remem_hf answers the tasks of this package only"):
        own().generate_until([Instance("generate_until", {}, ("hello", {}), 0, ("other", 0, 1))])
    for ask in ("loglikelihood", "loglikelihood_rolling"):
        with pytest.raises(RememError, match="does not offer loglikelihood"):
            getattr(own(), ask)([])


def test_settings_that_would_change_what_is_asked(remem_data):
    config = {
        "task": "x",
        "test_split": "forget1",
        "metadata": {"benchmark": "remem"},
        "description": "Hello.",
    }
    with pytest.raises(RememError, match="task 'x': description is not offered under lm_eval"):
        LmEvalTask(config)


def test_every_task_of_lmms_eval_is_there(folder):
    from lmms_eval.tasks import TaskManager as Lmms

    from remem_tasks.harness import plugin

    plugin.install()
    ours = set(Lmms(include_defaults=False).all_tasks)
    assert ours == set(TaskManager(include_path=str(folder), include_defaults=False).all_tasks) and ours


def test_the_folder_is_made_once_and_mended(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("REMEM_CACHE", str(tmp_path / "cache"))
    file = next(folder.rglob("remem_forget1.yaml"))
    file.write_text("task: other\n")
    with pytest.raises(SystemExit):
        main(["tasks-path", "lm_eval"])
    assert capsys.readouterr().out.strip() == str(folder) and "test_split: forget1" in file.read_text()


@pytest.mark.slow
def test_the_command_lines(checkpoints, data_dir, tmp_path):
    """`lm_eval` itself with the folder, and `remem lm_eval` with `remem_hf`."""
    import os

    environment = {**os.environ, "REMEM_DATA": str(data_dir), "REMEM_CACHE": str(tmp_path / "cache")}

    def call(*command):
        return subprocess.run(
            [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, check=False
        )

    told = call("remem_tasks", "tasks-path", "lm_eval")
    assert told.returncode == 0 and told.stderr == ""
    common = ["--device", "cpu", "--tasks", "remem_forget1", "--limit", "2", "--log_samples"]
    made = f"pretrained={checkpoints['llava']}"
    done = call(
        *(
            "lm_eval",
            "run",
            "--include_path",
            told.stdout.strip(),
            "--model",
            "hf-multimodal",
            "--model_args",
        ),
        *(
            f"{made},dtype=float32",
            "--apply_chat_template",
            *common,
            "--output_path",
            str(tmp_path / "theirs"),
        ),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    done = call(
        *("remem_tasks", "lm_eval", "run", "--model", "remem_hf", "--model_args", made, *common),
        *("--output_path", str(tmp_path / "ours")),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    values = {}
    for name in ("theirs", "ours"):
        (file,) = (tmp_path / name).rglob("results_*.json")
        values[name] = json.loads(file.read_text())["results"]["remem_forget1"]
    assert values["theirs"]["remem_em,none"] == values["ours"]["remem_em,none"]
    assert "remem_exposure,none" in values["ours"] and "remem_exposure,none" not in values["theirs"]
    done = call(
        "remem_tasks",
        "lm_eval",
        "run",
        "--model",
        "remem_hf",
        "--model_args",
        "pretrained=nowhere",
        *common[:-1],
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("remem lm_eval: error: ")]
    assert done.returncode == 1 and len(lines) == 1 and "nowhere" in lines[0]
    assert "Traceback" not in done.stderr
