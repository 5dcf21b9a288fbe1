"""Replies kept by the model's weights: what is found again, and what must not be."""

import json
import os
import signal
import subprocess
import sys
import time
from types import ModuleType

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from support.rows import people_splits, write_parquet
from support.scripted import run, texts, value
from support.slow import others_slow

from remem_tasks import cli
from remem_tasks.engine import cache as caching
from remem_tasks.engine.cache import Answer, Cache, folder_of, hash_of, hash_of_model
from remem_tasks.harness.remem_hf import RememHF

SHORT = "max_new_tokens=6"
MODEL = "a" * 32


@pytest.fixture
def worked(monkeypatch):
    """The numbers of rows that models have worked on since."""
    rows = []
    work = RememHF._work

    def counted(self, state, chats, *others):
        rows.append(len(chats))
        return work(self, state, chats, *others)

    monkeypatch.setattr(RememHF, "_work", counted)
    return rows


@pytest.fixture
def score(checkpoints, data_dir, tmp_path, monkeypatch, worked):
    """score(…) -> (results, rows that had to be worked on)."""
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    for name, few in {"ROLLOUTS": "4", "RANK_BUDGET": "16", "MEMO_TOKENS": "8"}.items():
        monkeypatch.setenv(f"REMEM_{name}", few)

    def call(task="remem_forget1", change=None, gen_kwargs=SHORT, **arguments):
        worked.clear()
        model = RememHF(
            str(checkpoints["llava"]), device="cpu", **{"cache": str(tmp_path / "cache"), **arguments}
        )
        if change:
            change(model)
        return run(model, task, gen_kwargs=gen_kwargs), sum(worked)

    return call


def scores_of(results, task="remem_forget1"):
    return {name: one for name, one in results["results"][task].items() if isinstance(one, float)}


def test_a_repeated_run_is_read(score):
    first, rows = score()
    again, none = score()
    assert (rows, none) == (6, 0)
    assert scores_of(again) == scores_of(first) and value(again, "remem_forget1", "remem_memo") >= 0
    assert texts(again, "remem_forget1") == texts(first, "remem_forget1")
    counts = [sample["token_counts"] for sample in first["samples"]["remem_forget1"]]
    assert [sample["token_counts"] for sample in again["samples"]["remem_forget1"]] == counts
    assert score(batch_size=2)[1] == score(cache="off")[1] - 6 == 0


def test_what_is_asked_beside_is_worked_on_alone(score, monkeypatch):
    monkeypatch.setenv("REMEM_METRICS", "em")
    plain, rows = score()
    monkeypatch.delenv("REMEM_METRICS")
    whole, more = score()
    assert (rows, more) == (6, 6)  # the replies are there, the white-box requests are not
    assert texts(plain, "remem_forget1") == texts(whole, "remem_forget1")
    monkeypatch.setenv("REMEM_METRICS", "em")
    assert score()[1] == 0


@pytest.mark.parametrize(
    "variable",
    others_slow(
        [
            "REMEM_ROLLOUTS=5",
            "REMEM_ROLLOUT_SEED=1",
            "REMEM_ESTIMATOR=frequency",
            "REMEM_RANK_BUDGET=1",
            "REMEM_MEMO_STRIDE=9",
        ],
        "REMEM_ROLLOUTS=5",
        "REMEM_ESTIMATOR=frequency",
    ),
)
def test_other_options_do_not_hit(score, monkeypatch, variable):
    score()
    monkeypatch.setenv(*variable.split("="))
    assert score()[1] == 6


def test_other_settings_do_not_hit(score):
    score()
    assert score(gen_kwargs="max_new_tokens=7")[1] == 6
    assert score(system_prompt="Be brief.")[1] == 6
    assert score(dtype="bfloat16")[1] == 6
    assert score(gen_kwargs="temperature=1,max_new_tokens=6")[1] == 6
    assert score()[1] == 0


def test_other_weights_do_not_hit(score):
    def nudge(model):
        model.model.lm_head.weight.data[7, 3] += 1e-3

    def adapt(model):
        config = LoraConfig(r=2, target_modules=r".*language_model.*q_proj")
        torch.manual_seed(0)
        model._model = get_peft_model(model._model, config).eval()

    def swap(model):  # the same numbers elsewhere
        rows = model.model.lm_head.weight.data
        rows[[5, 6]] = rows[[6, 5]]

    score()
    for change in (nudge, adapt, swap):
        assert score(change=change)[1] == 6
        assert score(change=change)[1] == 0
    assert score()[1] == 0


CHANGES = {
    "end tokens of generation_config.json": lambda folder, model: setattr(
        model.model.generation_config, "eos_token_id", [model.processor.tokenizer.eos_token_id, 5]
    ),
    "the tokenizer's end token": lambda folder, model: setattr(model.processor.tokenizer, "eos_token", ":"),
    "a token that is no text": lambda folder, model: model.processor.tokenizer.add_special_tokens(
        {"additional_special_tokens": ["Oslo"]}
    ),
    "the chat template": lambda folder, model: setattr(
        model.processor, "chat_template", model.processor.chat_template.replace(".upper()", ".title()")
    ),
    "the size of pictures": lambda folder, model: setattr(
        model.processor.image_processor, "size", {"height": 28, "width": 28}
    ),
    "how pictures are scaled": lambda folder, model: setattr(model.processor.image_processor, "resample", 0),
    "the picture's place": lambda folder, model: setattr(
        model.processor, "vision_feature_select_strategy", "full"
    ),
    "configuration": lambda folder, model: setattr(model.model.config, "vision_feature_layer", -99),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_all_that_a_reply_depends_on_is_in_the_name(checkpoints, tmp_path, change):
    hashes = []
    for changed in (False, False, True):
        model = RememHF(str(checkpoints["llava"]), device="cpu")
        if changed:
            change(tmp_path, model)
        hashes.append(hash_of_model(model.model, model.processor))
    assert hashes[0] == hashes[1] != hashes[2]


def test_code_that_comes_with_a_checkpoint_is_in_the_name(checkpoints, tmp_path, monkeypatch):
    (tmp_path / "modeling.py").write_text("a = 1")
    module = ModuleType("transformers_modules.mine.modeling")
    module.__file__ = str(tmp_path / "modeling.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    model = RememHF(str(checkpoints["llava"]), device="cpu")
    plain = hash_of_model(model.model, model.processor)
    monkeypatch.setattr(type(model.model), "__module__", module.__name__)
    first = hash_of_model(model.model, model.processor)
    (tmp_path / "layers.py").write_text("b = 1")
    assert len({plain, first, hash_of_model(model.model, model.processor)}) == 3


def test_other_data_does_not_hit(score, tmp_path, monkeypatch):
    score()
    splits = people_splits()
    splits["forget1"][2]["question"] = "Who is it?"
    splits["forget1"][4]["image"] = splits["test"][0]["image"]
    write_parquet(tmp_path / "other", splits)
    monkeypatch.setenv("REMEM_DATA", str(tmp_path / "other"))
    assert score()[1] == 2


def test_a_run_that_stopped_goes_on(score, monkeypatch, tmp_path):
    expected = scores_of(score(cache=str(tmp_path / "whole"))[0])
    work = RememHF._work
    done = []

    def stops(self, *arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return work(self, *arguments)

    monkeypatch.setattr(RememHF, "_work", stops)
    with pytest.raises(KeyboardInterrupt):
        score(batch_size=2)
    monkeypatch.setattr(RememHF, "_work", work)
    [file] = (tmp_path / "cache").glob("*/*.jsonl")
    assert len(file.read_text().splitlines()) == 2  # two batches
    with file.open("a") as opened:
        opened.write('{"key": "half a li')  # and what a kill leaves behind
    results, rows = score(batch_size=2)
    assert scores_of(results) == pytest.approx(expected, abs=1e-6)
    assert rows == 2


@pytest.mark.slow
def test_a_killed_process_goes_on(checkpoints, data_dir, tmp_path):
    """kill −9 while replies come in; the second run works on the rest and ends with the same results."""
    command = [sys.executable, "-c", "from remem_tasks.cli import lmms_eval; lmms_eval()"]
    command += ["--model", "remem_hf", "--tasks", "remem_test", "--batch_size", "1"]
    command += ["--model_args", f"pretrained={checkpoints['llava']},device=cpu", "--log_samples"]

    def start(name, out):
        environment = {**os.environ, "REMEM_DATA": str(data_dir), "REMEM_CACHE": str(tmp_path / name)}
        environment |= {"OMP_NUM_THREADS": "1", "REMEM_ROLLOUTS": "8"}
        line = [*command, "--output_path", str(tmp_path / out)]
        return subprocess.Popen(
            line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def kept():
        return sum(file.read_text().count("\n") for file in (tmp_path / "a").glob("*/*.jsonl"))

    first = start("a", "killed")
    while kept() < 4 and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = kept()
    assert first.returncode == -signal.SIGKILL and 4 <= before < 36
    scores = []
    for name, out in (("a", "resumed"), ("b", "whole")):
        process = start(name, out)
        assert process.wait() == 0, process.stderr.read()
        [results] = (tmp_path / out).rglob("*_results.json")
        scores.append(json.loads(results.read_text())["results"])
    assert scores[0] == scores[1] and kept() == 36


def test_a_disk_that_takes_no_more_stops_nothing(score, tmp_path, capfd, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    results, rows = score(cache=str(blocked))
    assert rows == 6 and value(results, "remem_forget1", "remem_failed_rate") == 0
    assert "no more replies are kept" in capfd.readouterr().err


def test_where_it_is(monkeypatch, tmp_path):
    assert folder_of("off") is None and folder_of() is None  # off in tests
    monkeypatch.setenv("REMEM_CACHE", str(tmp_path))
    assert folder_of() == tmp_path and folder_of("/elsewhere").as_posix() == "/elsewhere"
    monkeypatch.delenv("REMEM_CACHE")
    assert folder_of().name == "remem"


def test_hashes():
    picture = Image.new("RGB", (2, 2), "red")
    values = [("ab", "c"), ("a", "bc"), ("abc",), (b"abc",), (1,), ("1",), (None,), (picture,), ([], {})]
    assert len({hash_of(*one) for one in values}) == len(values)
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 2, "b": 1})
    wide, other = (np.zeros((40, 40, 3), dtype=np.uint8) for _ in range(2))
    other[20, 20] = 1  # which numpy does not print
    apart = [(["a"], "b"), (["a", "b"],), ([["a"], []],), ([[], ["a"]],), (wide,), (other,), (wide.tolist(),)]
    assert len({hash_of(*one) for one in apart}) == len(apart)
    assert hash_of(wide) == hash_of(wide.copy())
    assert hash_of(picture) == hash_of(picture.copy()) != hash_of(Image.new("RGB", (2, 2), "blue"))


def test_weights_that_are_not_in_memory_have_no_hash(checkpoints):
    model = RememHF(str(checkpoints["llava"]), device="cpu")
    assert len(hash_of_model(model.model, model.processor)) == 32
    assert hash_of_model(model.model.to("meta"), model.processor) is None


def test_the_file(tmp_path):
    kept = Cache(tmp_path, MODEL)
    answers = [Answer("a\n“ü”", read=3, said=2)]
    assert kept.get("k") is None
    kept.put([("k", answers)])
    assert Cache(tmp_path, MODEL).get("k") == answers and Cache(tmp_path, "n").get("k") is None
    kept.close()
    assert caching.size_of(tmp_path)[0] == 1
    (tmp_path / "mine.txt").write_text("keep")
    caching.clear(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_holds_other_files_loses_none(tmp_path):
    """$REMEM_CACHE may name a folder of results by mistake, or hold links."""
    kept = Cache(tmp_path / "cache", MODEL)
    kept.put([("k", [Answer("a", 1, 1)])])
    kept.close()
    others = [
        tmp_path / "cache" / "run" / "20260101_samples_remem_forget1.jsonl",
        tmp_path / "cache" / MODEL / "notes.jsonl",
    ]
    for file in others:
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}\n")
    (tmp_path / "cache" / ("b" * 32)).symlink_to(tmp_path / "cache" / MODEL)
    assert caching.size_of(tmp_path / "cache")[0] == 1
    caching.clear(tmp_path / "cache")
    assert all(file.is_file() for file in others) and caching.size_of(tmp_path / "cache") == (0, 0)


@pytest.mark.parametrize(
    "batch",
    [
        [[["k"], [["a", 1, 1]]]],
        [["k", []]],
        [["k", [["a", 1]]]],
        [["k", [[None, 1, 1]]]],
        [["k", [["a", -1, 1]]]],
        [["k", [["a", True, 1]]]],
        [["k", [["a", 1, 10**400]]]],
        ["k"],
        {"k": 1},
        None,
    ],
)
def test_a_line_with_a_right_checksum_and_no_answers_is_dropped(tmp_path, batch):
    folder = tmp_path / MODEL
    folder.mkdir()
    record = {"batch": batch}
    (folder / "1-1.jsonl").write_text(json.dumps({**record, "sum": hash_of(record)}) + "\n")
    read = Cache(tmp_path, MODEL)
    assert read.kept == {} and read.dropped == 1


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REMEM_CACHE", str(tmp_path))
    Cache(tmp_path, MODEL).put([("k", [])])
    for arguments, said in (
        (["cache"], "1 model"),
        (["cache", "--clear"], "cleared"),
        (["cache"], "0 models"),
    ):
        monkeypatch.setattr("sys.argv", ["remem", *arguments])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
        assert said in capsys.readouterr().out
