"""`remem_vllm` against the parts of vLLM's interface that it asks for, in this process; the real one: tests/engines/."""

import pytest
from support import scripted
from support.served import completion, server
from support.vllm_double import VLLMDouble

from remem_tasks.engine.prompts import Chat
from remem_tasks.errors import RememError
from remem_tasks.harness.backends import capabilities_of
from remem_tasks.harness.remem_vllm import NO_MOMENTS, NO_SEARCH, Findings, RememVLLM
from remem_tasks.whitebox import WhiteBoxRequest

ASKED = {"METRICS": "em,memo,exposure,membership,memorisation", "ESTIMATOR": "frequency", "ROLLOUTS": "3",
         "MEMO_TOKENS": "4"}  # fmt: skip


@pytest.fixture
def asked(remem_data, monkeypatch):
    for name, value in ASKED.items():
        monkeypatch.setenv(f"REMEM_{name}", value)


@pytest.fixture(scope="module")
def double(checkpoints):
    return VLLMDouble(checkpoints["llava"])


def model(url, **more):
    return RememVLLM(url, **{"wait": 0.0, "retries": 1, "timeout": 60.0, **more})


def test_its_scores_are_those_of_remem_hf(double, tiny, asked):
    settings = {"log_samples": True, "limit": 2, "gen_kwargs": "max_new_tokens=3"}
    with server(double) as (url, _):
        here = scripted.run(model(url, logprobs=-1), "remem_forget1", **settings)
    there = scripted.run(tiny(cache="off"), "remem_forget1", **settings)
    found, wanted = here["results"]["remem_forget1"], there["results"]["remem_forget1"]
    compared = [
        name for name, value in wanted.items()
        if isinstance(value, float) and "stderr" not in name and "rollout" not in name
    ]  # fmt: skip
    assert {"remem_memo,none", "remem_secret_bits,none", "remem_member_minkpp40,none"} <= set(compared)
    for name in compared:
        assert found[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-6), name
    assert scripted.texts(here, "remem_forget1") == scripted.texts(there, "remem_forget1")
    assert set(found) == set(wanted)


def test_what_it_cannot_give(double, asked, monkeypatch):
    monkeypatch.setenv("REMEM_ESTIMATOR", "exact,distinct")
    with server(double) as (url, _):
        made = model(url)
        assert capabilities_of(made).without["membership"] == NO_MOMENTS
        monkeypatch.setenv("REMEM_METRICS", "em,exposure,membership")
        found = scripted.run(made, "remem_forget1", limit=1, gen_kwargs="max_new_tokens=2")
    told = found["configs"]["remem_forget1"]["metadata"]
    wanted = {"exact": NO_SEARCH, "distinct": NO_SEARCH, "membership": NO_MOMENTS}
    assert {name: told["not_available"][name] for name in wanted} == wanted


def test_a_white_box_request_without_an_answer_stops_the_run(double, asked):
    def broken(body, before):
        if isinstance(body, dict) and body.get("prompt_logprobs"):
            return 500, {}, b"{}"
        return double(body, before)

    with (
        server(broken) as (url, _),
        pytest.raises(RememError, match="row 0.*the server did not answer: HTTP 500"),
    ):
        scripted.run(model(url, concurrency=1), "remem_forget1", limit=1, gen_kwargs="max_new_tokens=2")


def test_a_server_that_reads_another_prompt_is_refused(double, checkpoints, asked):
    with server(double) as (url, _):
        wrong = model(url, pretrained=str(checkpoints["qwen2_5_vl"]))
        with pytest.raises(RememError, match="row 0.*the server reads a prompt of .* tokens"):
            scripted.run(wrong, "remem_forget1", limit=1)


def test_another_server_and_arguments_that_cannot_be(double):
    def other(body, before):
        return (200, {}, b'{"data": [{"id": "m"}]}') if body == "/v1/models" else completion("x")

    with (
        server(other) as (url, _),
        pytest.raises(RememError, match="is no vLLM; --model remem_openai takes any"),
    ):
        model(url)
    for given, says in (
        ({"logprobs": 0}, "logprobs '0' is neither -1 nor"),
        ({"seeded": "no"}, "seeded 'no' is neither"),
    ):
        with pytest.raises(RememError, match=says):
            model("http://127.0.0.1:1/v1", **given)


def test_a_beginning_that_no_request_can_hold(double, tiny, remem_data):
    """What the template puts before an answer is a token of its own; the next one says what is left. Nothing is cut short."""
    own = tiny(cache="off")
    chat = Chat([{"role": "user", "content": [{"type": "text", "text": "Who?"}]}], "row")
    prompts = own.decoder.prompts
    (begun,) = prompts.beginnings([(chat, "The heron.", [1, 2])])
    held = [prompts.text(one.tokens).strip() for one in begun]
    assert "" in held, begun  # (else this test is of nothing)
    state = own.decoder.prefill([chat])
    behind, first, given = own.decoder.begun(state, [0] * len(begun), begun)
    wanted = [
        prompts.text_behind(one, reply.tokens)
        for one, reply in zip(given, own.decoder.greedy(behind, [5] * len(begun), first))
    ]
    with server(double) as (url, _):
        request = WhiteBoxRequest("r", "row", answer="The heron.", cuts=(1, 2), memo_tokens=5)
        found = Findings(model(url), chat, request).all().continuations
    assert all(found) and [len(one) > 2 for one in found] == [True, True]
    assert found[0][:3] == wanted[0][:3] and found[1][:3] == wanted[1][:3]
