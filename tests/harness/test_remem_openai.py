"""`remem_openai` against a server in this process: what is sent, what is tried again, and what counts as failed."""

import base64
import io
import json

import pytest
from lmms_eval.api.instance import GenerationResult
from PIL import Image
from support import scripted
from support.served import server

from remem_tasks.data.pictures import decode_image
from remem_tasks.errors import RememError
from remem_tasks.harness.backends import SERVED, capabilities_of
from remem_tasks.harness.remem_openai import MOST_IN_A_ROW, NO_SAMPLING, RememOpenAI, _content, replies_of

MODELS = {"data": [{"id": "m", "owned_by": "someone"}]}


def said(text, tokens=3, end="stop", **message):
    """A chat completion."""
    usage = {} if tokens is None else {"usage": {"prompt_tokens": 7, "completion_tokens": tokens}}
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": end}
    return 200, {}, json.dumps({"choices": [choice], **usage}).encode()


def serving(answer, models=MODELS, health=(404, {}, b"")):
    """A server that lists models, and whose chat completions are `answer(body, times before)`."""

    def all_of_it(body, before):
        if body == "/v1/models":
            return 200, {}, json.dumps(models).encode()
        return health if body == "/health" else answer(body, before)

    return server(all_of_it)


def model(url, **more):
    return RememOpenAI(url, **{"wait": 0.0, "retries": 2, "timeout": 5.0, **more})


def chats(asked):
    return [body for body, _ in asked if isinstance(body, dict)]


def test_prompts_pictures_and_scores(remem_data):
    """Every row is asked once, with its picture bit by bit, and the right answer is right."""
    from remem_tasks.benchmarks.remem.data import load_split

    rows = load_split(str(remem_data), "forget1")
    answers = {row["question"]: row["answer"] for row in rows}

    def right(body, before):
        (question,) = [part["text"] for part in body["messages"][0]["content"] if part["type"] == "text"]
        return said(answers[question])

    with serving(right) as (url, asked):
        found = scripted.run(model(url), "remem_forget1", log_samples=True)
        bodies = chats(asked)
    assert scripted.value(found, "remem_forget1", "remem_em") == 1
    assert scripted.value(found, "remem_forget1", "remem_failed_rate") == 0
    assert len(bodies) == 6 and {body["model"] for body in bodies} == {"m"}
    assert all(body["temperature"] == 0 and body["max_tokens"] == 128 for body in bodies)
    first = next(body for body in bodies if body["messages"][0]["content"][-1]["text"] == rows[0]["question"])
    picture = first["messages"][0]["content"][0]["image_url"]["url"].removeprefix("data:image/png;base64,")
    shown = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    assert shown.tobytes() == decode_image(rows[0]["image"], "row 0").convert("RGB").tobytes()
    told = found["configs"]["remem_forget1"]["metadata"]["not_available"]
    assert {"memo", "exposure"} == set(told)


PASSING = {
    "too many requests": (429, {"Retry-After": "0"}, b"{}"),
    "an error of the server": (500, {}, b"oops"),
    "a reply that is cut off": (200, {"Content-Length": "9999"}, b'{"choices": ['),
    "no choice": (200, {}, b'{"choices": []}'),
    "no JSON": (200, {}, b"<html>"),
    "no text": said(None),
    "a blank that nobody said": said("", tokens=0),
    "a blank without a count": said(" ", tokens=None),
    "thought alone": said("", reasoning_content="Hm."),
    "a filter": said("I", end="content_filter"),
    "an end by an abort": said("", end="abort"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(remem_data, fault):
    with serving(lambda body, before: said("A reply.") if before else fault) as (url, asked):
        found = scripted.run(model(url), "remem_forget1", log_samples=True, limit=1)
        assert len(chats(asked)) == 2
    assert scripted.texts(found, "remem_forget1") == ["A reply."]


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_does_not_pass_is_counted_and_no_reply(remem_data, fault):
    with serving(lambda body, before: fault) as (url, asked):
        found = scripted.run(model(url), "remem_forget1", log_samples=True, limit=2)
        assert len(chats(asked)) == 6
    assert scripted.value(found, "remem_forget1", "remem_failed_rate") == 1
    assert scripted.value(found, "remem_forget1", "remem_blank_rate") == 0


def test_a_server_that_is_late(remem_data):
    import time

    def late(body, before):
        time.sleep(0 if before else 0.3)
        return said("A reply.")

    with serving(late) as (url, _):
        found = scripted.run(model(url, timeout=0.1), "remem_forget1", log_samples=True, limit=1)
    assert scripted.texts(found, "remem_forget1") == ["A reply."]


def test_a_model_that_ends_at_once_has_said_nothing(remem_data):
    with serving(lambda body, before: said("", tokens=1)) as (url, _):
        found = scripted.run(model(url), "remem_forget1", limit=2)
    assert scripted.value(found, "remem_forget1", "remem_blank_rate") == 1
    assert scripted.value(found, "remem_forget1", "remem_failed_rate") == 0


@pytest.mark.parametrize(("status", "says"), [(401, "answers HTTP 401"), (404, "answers HTTP 404")])
def test_a_refusal_of_every_request_stops_the_run(remem_data, status, says):
    with serving(lambda body, before: (status, {}, b"no")) as (url, _), pytest.raises(RememError, match=says):
        scripted.run(model(url), "remem_forget1", limit=2)


def test_a_server_that_has_gone_stops_the_run(data_dir, monkeypatch):
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    with (
        serving(lambda body, before: (503, {}, b"")) as (url, _),
        pytest.raises(RememError, match=f"gave no answer to {MOST_IN_A_ROW} requests one after the other"),
    ):
        scripted.run(model(url, retries=0), "remem_test")


def test_a_row_that_is_refused_is_counted_without_another_try(remem_data):
    with serving(lambda body, before: (400, {}, b"too long")) as (url, asked):
        found = scripted.run(model(url), "remem_forget1", limit=1)
        assert len(chats(asked)) == 1
    assert scripted.value(found, "remem_forget1", "remem_failed_rate") == 1


# Sampling


@pytest.fixture
def frequency(remem_data, monkeypatch):
    for name, value in {"METRICS": "em,exposure", "ESTIMATOR": "frequency", "ROLLOUTS": "3"}.items():
        monkeypatch.setenv(f"REMEM_{name}", value)


VLLM = {"data": [{"id": "m", "owned_by": "vllm", "root": "x"}]}
TRANSFORMERS = (200, {"x-request-id": "1"}, b'{"status": "ok"}')


def test_rollouts_of_a_vllm_server_have_no_cut_of_the_checkpoints(frequency):
    with serving(lambda body, before: said("A reply."), VLLM) as (url, asked):
        found = scripted.run(model(url), "remem_forget1", limit=1)
        sampled = [body for body in chats(asked) if body["temperature"]]
    assert len(sampled) == 3 and len({body["seed"] for body in sampled}) == 3
    for body in sampled:
        told = {name: body[name] for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")}
        assert told == {"temperature": 1, "top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}
    assert "remem_prompted_exposure,none" in found["results"]["remem_forget1"]


def test_transformers_serve_is_told_by_its_generation_config(frequency):
    """(Its checkpoint's own says that it decodes greedily, whatever the temperature of a request.)"""
    nothing = {"data": []}
    with serving(lambda body, before: said("A reply."), nothing, TRANSFORMERS) as (url, asked):
        made = model(url)
        assert made.server == "transformers"
        scripted.run(made, "remem_forget1", limit=1)
        bodies = chats(asked)
    assert not any("model" in body for body in bodies)
    settings = [json.loads(body["generation_config"]) for body in bodies]
    drawn = [one for one in settings if one["do_sample"]]
    assert len(drawn) == 3 and all(
        (one["top_k"], one["top_p"], one["temperature"]) == (0, 1, 1) for one in drawn
    )
    assert all(one["repetition_penalty"] == 1 for one in settings)


def test_a_server_of_which_nothing_is_known_gives_no_rollouts(frequency):
    with serving(lambda body, before: said("A reply.")) as (url, asked):
        found = scripted.run(model(url), "remem_forget1", limit=1)
        assert len(chats(asked)) == 1
    assert found["configs"]["remem_forget1"]["metadata"]["not_available"]["exposure"] == NO_SAMPLING


def test_lmms_evals_own_client_gives_no_rollouts():
    """It passes a temperature on, and a server may stay greedy or cut at a top-k of the checkpoint's."""
    from lmms_eval.models.chat.openai import OpenAICompatible

    assert capabilities_of(OpenAICompatible.__new__(OpenAICompatible)).rollouts == SERVED


# Arguments


def test_no_server_and_no_model():
    with pytest.raises(RememError, match="no server: --model_args base_url="):
        RememOpenAI()
    with pytest.raises(RememError, match="no server at 'http://127.0.0.1:1/v1': no connection"):
        model("http://127.0.0.1:1/v1", retries=0)
    with pytest.raises(RememError, match="is no address of the form"):
        model("127.0.0.1:8000")
    several = {"data": [{"id": "a"}, {"id": "b"}]}
    with serving(lambda body, before: said("x"), several) as (url, _):
        with pytest.raises(RememError, match="lists 2 models; say which"):
            model(url)
        assert model(url, model="b").name == "b"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("concurrency=0", "concurrency '0' is not a whole number of at least 1"),
        ("timeout=soon", "timeout 'soon' is not a number of at least"),
        ("retries=-1", "retries '-1.0' is not a whole number of at least 0"),
        ("server=mine", "server 'mine' unknown; choose from auto"),
        ("batch=3", "model_args batch unknown; known: base_url, model"),
    ],
)
def test_arguments_that_cannot_be(arguments, says):
    with pytest.raises(RememError, match=says):
        RememOpenAI.create_from_arg_string(f"base_url=http://127.0.0.1:1/v1,{arguments}")


def test_the_key_goes_along_and_into_no_message(remem_data, monkeypatch):
    monkeypatch.setenv("REMEM_API_KEY", "sk-secret")
    with serving(lambda body, before: (401, {}, b"sk-secret is wrong")) as (url, asked):
        with pytest.raises(RememError) as raised:
            scripted.run(model(url), "remem_forget1", limit=1)
        assert all(headers["Authorization"] == "Bearer sk-secret" for _, headers in asked)
    assert "sk-secret" not in str(raised.value)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "L"])
def test_a_picture_of_any_kind_is_sent_as_its_colours(mode):
    shown = Image.new("RGBA", (4, 4), (200, 30, 10, 0)).convert("RGB").convert(mode)
    (part,) = _content([{"type": "image", "image": shown}])
    sent = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
    assert sent.mode == "RGB" and sent.tobytes() == shown.convert("RGB").tobytes()


def test_a_reply_by_hand():
    body = json.loads(said(" Oslo. ", tokens=4)[2])
    (found,) = replies_of(body)
    assert isinstance(found, GenerationResult) and found.text == " Oslo. "
    assert (found.token_counts.input_tokens, found.token_counts.output_tokens) == (7, 4)
    with pytest.raises(ValueError, match="the body is no chat completion"):
        replies_of({"choices": [{}]})


def test_the_command_line_ends_with_a_status(remem_data, command_line, tmp_path):
    with serving(lambda body, before: (500, {}, b"")) as (url, _):
        status, _, err = command_line(
            f"--model remem_openai --model_args base_url={url},retries=0 --tasks remem_forget1 --output_path {tmp_path}"
        )
    assert status == 1 and "remem_forget1: 100.0% of the replies failed" in err
