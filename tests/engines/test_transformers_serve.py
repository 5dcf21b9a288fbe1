"""A real `transformers serve` on this machine, scored through `remem_openai`."""

import os
import signal
from collections import Counter

import pytest
from support import scripted
from support.engines import free_port, scores_side_by_side, serving, show

from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.harness.remem_openai import RememOpenAI

SCORES = (
    "em",
    "keyword_recall",
    "rougel",
    "rouge_recall",
    "blank_rate",
    "failed_rate",
    "refusal_rate",
    "coverage",
)


@pytest.fixture
def serve(python_of, tmp_path):
    """serve(checkpoint) -> a context with the server's address; within, `serve.process` is the server."""

    def start(checkpoint):
        port = free_port()
        command = [python_of("serve"), "-m", "transformers.cli.transformers", "serve", str(checkpoint)]
        options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
        return serving([*command, *options], port, tmp_path / "serve.log")

    return start


def test_portable_scores_are_those_of_remem_hf(serve, taught, remem_data, capfd):
    tasks = "remem_forget1,remem_test"
    with serve(taught) as (url, _):
        model = RememOpenAI(url)
        assert model.server == "transformers"
        here = scripted.run(model, tasks, log_samples=True)
    there = scripted.run(RememHF(str(taught), device="cpu", dtype="float32"), tasks, log_samples=True)
    of = (there, here)
    value = lambda side, name: scripted.value(of[side], "remem_test", f"remem_{name}")  # noqa: E731
    show(capfd, "remem_test: score, remem_hf, transformers serve", scores_side_by_side(SCORES, value))
    for task in tasks.split(","):
        assert scripted.texts(here, task) == scripted.texts(there, task)
        for name in SCORES:
            assert scripted.value(here, task, f"remem_{name}") == scripted.value(there, task, f"remem_{name}")
        for one, other in zip(here["samples"][task], there["samples"][task]):
            assert one["doc_id"] == other["doc_id"] and one["remem_em"] == other["remem_em"]
    assert (
        scripted.value(here, "remem_test", "remem_em") > 0.2
    )  # it has learned something, and ends its replies
    assert {"memo", "exposure"} == set(here["configs"]["remem_test"]["metadata"]["not_available"])


def test_rollouts_are_drawn_and_not_cut(serve, wide, remem_data, monkeypatch):
    """Of 60 draws of one token from p that is nearly flat over 400, half are none of the 50 likeliest, which a top-k would leave."""
    for name, value in {"METRICS": "em,exposure", "ESTIMATOR": "frequency", "ROLLOUTS": "60"}.items():
        monkeypatch.setenv(f"REMEM_{name}", value)
    monkeypatch.setattr("remem_tasks.benchmarks.remem.benchmark.ROLLOUT_TOKENS", 1)
    chats = []
    with serve(wide["qwen2_5_vl"]) as (url, _):
        model = RememOpenAI(url)
        make = model.chat
        model.chat = lambda request: chats.append(make(request)) or chats[-1]
        found = scripted.run(model, "remem_forget1", log_samples=True, limit=1, gen_kwargs="max_new_tokens=3")
    drawn = max(found["samples"]["remem_forget1"][0]["resps"], key=len)
    own = RememHF(str(wide["qwen2_5_vl"]), device="cpu", dtype="float32")
    asked = Counter(chat.messages[-1]["content"][-1]["text"] for chat in chats).most_common(1)[0]
    assert (asked[1], len(drawn)) == (60, 60)
    chat = next(one for one in chats if one.messages[-1]["content"][-1]["text"] == asked[0])
    likeliest = own.decoder.prefill([chat]).logp[0].topk(50).indices.tolist()
    texts = {own.tokenizer.decode([token], skip_special_tokens=True).strip() for token in likeliest}
    assert len([text for text in drawn if text.strip() not in texts]) > 10
    assert 0 <= scripted.value(found, "remem_forget1", "remem_prompted_exposure") <= 1


def test_a_server_that_ends_in_the_middle(serve, wide, remem_data):
    with serve(wide["qwen2_5_vl"]) as (url, process):
        model = RememOpenAI(url, retries=0, concurrency=1)
        ask, asked = model._reply, []

        def reply(request, number):
            asked.append(request)
            if len(asked) == 3:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return ask(request, number)

        model._reply = reply
        found = scripted.run(model, "remem_forget1", log_samples=True, gen_kwargs="max_new_tokens=3")
        assert scripted.value(found, "remem_forget1", "remem_failed_rate") == pytest.approx(4 / 6)
        assert scripted.value(found, "remem_forget1", "remem_blank_rate") == 0
        with pytest.raises(RememError, match="no server at"):
            RememOpenAI(url, retries=0)
