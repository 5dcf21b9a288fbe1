"""The judge against a server on this machine: what is asked, what is tried again, what is counted, and that no score moves."""

import json
import math
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made import row, write_run
from support.served import completion, server

from remem_tasks import cli
from remem_tasks.benchmarks.views import VIEWS
from remem_tasks.endpoint import Endpoint, NotAnswered
from remem_tasks.errors import RememError
from remem_tasks.metrics.refusal import Status
from remem_tasks.report.judge import KEY, SCALES, JudgedRow, Opinion, figures, judge, rows_of, verdict_of
from remem_tasks.report.runs import read_runs


def at(url: str, **more) -> Endpoint:
    return Endpoint(url, "judge-1", **{"wait": 0.0, "timeout": 5.0, **more})


def read(text):
    return verdict_of(text, SCALES["share"])


SHARE = '{"score": 0.5}'


def content_of(body: dict) -> dict:
    return json.loads(body["messages"][1]["content"])


@pytest.fixture
def results(tmp_path):
    """Three rows to forget and one to keep; a reply that is right, one that is wrong, one that is blank."""
    forget = [
        row(0, em=1.0, reply="It is Oslo Bay.", answer="Oslo Bay."),
        row(1, reply="It is Rome.", answer="Oslo Bay."),
        row(2, reply="  ", answer="Oslo Bay."),
    ]
    keep = [row(0, "retain", em=1.0, reply="Rome.", answer="Rome.", identity="ben", forgotten=False)]
    write_run(tmp_path / "results", {"forget1": forget, "retain": keep})
    return tmp_path / "results"


def honest(body, before):
    """Says how right a reply is, as far as this test can tell."""
    about = content_of(body)
    return completion(json.dumps({"score": float(about["reference"].rstrip(".") in about["reply"])}))


def test_replies_are_judged_and_no_score_moves(results, tmp_path):
    files = {file: file.read_bytes() for file in results.rglob("*") if file.is_file()}
    with server(honest) as (url, asked):
        found = judge(tmp_path / "out", [str(results)], at(url))
        assert len(asked) == 3  # the blank reply is 0 without asking
        body, headers = next(iter(asked))
        assert body["model"] == "judge-1" and body["temperature"] == 0
        assert set(content_of(body)) == {"question", "reference", "reply"}
        assert "Authorization" not in headers
        again = judge(tmp_path / "out", [str(results)], at(url))
        assert len(asked) == 3 and sum(one.cached for one in again.verdicts) == 3  # kept
    (by_task,) = found.found.values()
    forget, keep = by_task["remem_forget1"], by_task["remem_retain"]
    assert (forget["rows"], forget["judged"], forget["failed"]) == (3, 3, 0)
    assert forget["score"]["value"] == pytest.approx(1 / 3) and keep["score"]["value"] == 1.0
    assert keep["score"]["low"] == pytest.approx(0.2065, abs=1e-4)  # Wilson's, of one row
    record = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert record["runs"] == found.found == again.found and record["model"] == "judge-1"
    lines = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert [one["values"]["score"] for one in lines] == [1.0, 0.0, 0.0, 1.0]
    assert "| remem_forget1 | 0.33 (" in (tmp_path / "out" / "judge.md").read_text()
    assert files == {file: file.read_bytes() for file in results.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"Retry-After": "0"}, b"slow down"),
        (500, {}, b"{}"),
        (503, {"Retry-After": "soon"}, b""),
        completion("I would say one half."),
        completion('{"score": 1.5}'),
        completion('{"score": true}'),
        completion('{"score": 0.5} or {"score": 1}'),
        completion('{"grade": 1}'),
        completion(None),
        (200, {}, b"<html>"),
        (200, {}, b"[]"),
        (200, {"Content-Length": "900"}, b'{"cut'),
    ],
)
def test_what_may_pass_is_tried_again_and_then_counted(results, tmp_path, trouble):
    with server(lambda body, before: completion(SHARE) if before >= 2 else trouble) as (url, asked):
        value, tries = at(url, retries=2).ask([{"role": "user", "content": "x"}], read)
        assert value == {"score": 0.5} and tries == 3 == len(asked)
    with server(lambda body, before: trouble) as (url, asked):
        found = judge(tmp_path / "out", [str(results)], at(url, retries=1), tasks=["remem_forget1"])
        assert len(asked) == 4  # two rows, twice; the blank one is not asked
    (by_task,) = found.found.values()
    forget = by_task["remem_forget1"]
    assert (forget["rows"], forget["judged"], forget["failed"]) == (3, 1, 2) and sum(
        forget["why"].values()
    ) == 2
    assert forget["score"]["value"] == 0.0  # of the one that has a verdict, and no mean over failures
    with pytest.raises(RememError, match="2 of 3 rows have no verdict"):
        found.check()
    with server(lambda body, before: completion(SHARE)) as (url, asked):  # what failed is asked again
        judge(tmp_path / "out", [str(results)], at(url), tasks=["remem_forget1"]).check()
        assert len(asked) == 2


def test_a_time_out_and_a_closed_port_are_counted():
    def slow(body, before):
        time.sleep(0.0 if before else 0.6)
        return completion(SHARE)

    with server(slow) as (url, _):
        assert at(url, timeout=0.2, retries=1).ask([], read) == ({"score": 0.5}, 2)
        closed = url
    with pytest.raises(NotAnswered, match="no connection"):
        at(closed, retries=1).ask([], read)
    late, why = pytest.raises(NotAnswered), r"no reply within 0\.1 s"
    with server(lambda body, before: (time.sleep(0.4), completion(SHARE))[1]) as (url, _), late as told:
        at(url, timeout=0.1, retries=0).ask([], read)
    assert re.search(why, str(told.value))


def test_waits_grow_and_what_the_endpoint_asks_for_is_kept_within_bounds():
    waits: list[float] = []
    headers = [{}, {"Retry-After": "7"}, {"Retry-After": "9999"}, {}]
    refused = pytest.raises(NotAnswered, match="HTTP 429")
    with server(lambda body, before: (429, headers[min(before, 3)], b"")) as (url, _), refused:
        at(url, retries=4, wait=1.0, sleep=waits.append).ask([], read)
    assert waits == [1.0, 7.0, 60.0, 8.0]


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404])
def test_what_is_wrong_for_every_row_stops_at_once_and_shows_no_key(results, tmp_path, status):
    key = "sk-very-secret"
    said = f"bad key {key}\nor address".encode()
    with server(lambda body, before: (status, {"Location": "http://127.0.0.1:1/else"}, said)) as (url, asked):
        with pytest.raises(RememError, match=f"HTTP {status}: bad key ..* or address") as told:
            judge(tmp_path / "out", [str(results)], at(url, key=key), workers=1)
        assert len(asked) <= 3 and key not in str(told.value) and "\n" not in str(told.value)
        assert next(iter(asked))[1]["Authorization"] == f"Bearer {key}"
    assert not any(key in file.read_text() for file in (tmp_path / "out").rglob("*.json*"))


def test_a_row_that_is_refused_is_counted_and_the_others_go_on(results, tmp_path):
    def choosy(body, before):
        return (400, {}, b"content filter") if "Rome" in content_of(body)["reply"] else honest(body, before)

    with server(choosy) as (url, asked):
        found = judge(tmp_path / "out", [str(results)], at(url))
        assert len(asked) == 3  # no second try
    failed = [one.failed for one in found.verdicts if one.failed]
    assert failed == ["HTTP 400: content filter"] * 2


@settings(deadline=None)
@given(st.sampled_from(list(SCALES.values())), st.data())
def test_a_verdict_is_in_its_scale_or_malformed(scale, data):
    numbers = st.sampled_from([-1, 0, 0.0, 0.25, 1, 1.5, 2, 3, -0.1, math.inf, math.nan, True, None, "1", []])
    values = data.draw(st.dictionaries(st.sampled_from([*scale.parts, "more"]), numbers, max_size=3))
    right = set(values) == set(scale.parts) and all(
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= scale.parts[name]
        and (not scale.whole or float(value).is_integer())
        for name, value in values.items()
    )
    text = f"<think>{{}} hm</think>Here: {json.dumps(values)}."
    if right:
        assert verdict_of(text, scale) == values
    else:
        with pytest.raises(ValueError):
            verdict_of(text, scale)


def test_figures_by_hand():
    def made(grade=None):
        asked = JudgedRow("m", "t", "r", ())
        return Opinion(asked, failed="late") if grade is None else Opinion(asked, {"grade": grade})

    found = figures([made(2), made(1), made(), made(0), made()], SCALES["grade"])
    assert (found["rows"], found["judged"], found["failed"], found["why"]) == (5, 3, 2, {"late": 2})
    assert found["grade"]["value"] == 1.0 and 0 <= found["grade"]["low"] < 1 < found["grade"]["high"] <= 2
    assert figures([made()], SCALES["grade"])["grade"] is None
    # all agree: Wilson's interval, on the scale from 0 to 2
    assert figures([made(2)], SCALES["grade"])["grade"]["low"] == pytest.approx(2 * 0.2065, abs=2e-4)


def test_what_is_to_be_forgotten_is_graded_by_other_words(results):
    (run,) = read_runs([str(results)])
    for scale in SCALES.values():
        kept, forgot = (
            next(rows_of(run, run.task_results[task], scale)).messages[0]["content"]
            for task in ("remem_retain", "remem_forget1")
        )
        assert (kept == forgot) == (scale.name != "grade")


def test_short_replies_of_fiubench_and_replies_that_failed_are_not_asked(results):
    (run,) = read_runs([str(results)])
    result = run.task_results["remem_retain"]  # "Rome."
    fiubench = replace(result, benchmark_view=VIEWS["fiubench"])
    assert next(rows_of(run, fiubench, SCALES["share"])).verdict == {"score": 0.0}
    assert next(rows_of(run, fiubench, SCALES["relevance"])).verdict is None
    assert next(rows_of(run, result, SCALES["share"])).verdict is None
    failed = replace(result, statuses=(Status.FAILED,))
    assert next(rows_of(run, failed, SCALES["share"])).failed == "the model gave no reply"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--endpoint", "localhost:8000"], "is no address"),
        (["--endpoint", "ftp://x/v1"], "is no address"),
        (["--endpoint", "http://[::1/v1"], "is no address"),
        (["--model", " "], "--model"),
        (["--timeout", "0"], "--timeout 0.0 is out of range"),
        (["--wait", "nan"], "--wait nan is out of range"),
        (["--retries", "-1"], "--retries -1 is out of range"),
        (["--workers", "0"], "--workers 0 is out of range"),
        (["--tasks", "remem_test"], "--tasks remem_test: the results have remem_forget1, remem_retain"),
    ],
)
def test_flags_that_cannot_be_are_refused(results, tmp_path, capsys, flags, said):
    usual = ["--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as left:
        cli.main(["judge", str(results), *usual, *flags])
    assert left.value.code == 1 and said in capsys.readouterr().err


def test_from_the_command_line(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(KEY, "sk-1")
    monkeypatch.chdir(tmp_path)

    def graded(body, before):
        forgotten = "made to forget" in body["messages"][0]["content"]
        leaks = content_of(body)["reference"].rstrip(".") in content_of(body)["reply"]
        return completion(f'{{"grade": {(0 if leaks else 2) if forgotten else 2 * leaks}}}')

    with server(graded) as (url, asked):
        command = [
            "judge",
            "results",
            "--endpoint",
            url + "/chat/completions",
            "--model",
            "m",
            "--scale",
            "grade",
        ]
        with pytest.raises(SystemExit) as left:
            cli.main(command)
        assert not left.value.code
        said = capsys.readouterr().out
        assert "0.67" in said and "2.00" in said and "judged/verdicts.jsonl" in said
        assert all(headers["Authorization"] == "Bearer sk-1" for _, headers in asked)
    with server(lambda body, before: (500, {}, b"")) as (url, _):
        fresh = [*command, "--out", "other", "--retries", "0", "--endpoint", url]
        with pytest.raises(SystemExit) as left:
            cli.main(fresh)
        said = capsys.readouterr()
        assert left.value.code == 1 and "3 of 4 rows have no verdict (such as: HTTP 500)" in said.err
