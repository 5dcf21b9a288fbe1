"""Steps that need one another: order, side by side, what is done again, what failure and a stop leave."""

import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from remem_tasks.errors import RememError, Terminated
from unlearning.experiments import demo, steps
from unlearning.experiments.steps import Runner, Step, needed


def shell(name, script, needs=(), **more):
    """A step that runs a shell script in the experiment's folder, and leaves a folder of its name."""
    return Step(name, ["sh", "-c", f'cd "$OUT" && mkdir -p {name} && {script}'], name, needs, **more)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(steps, lanes) → what was printed."""
    (tmp_path / "steps").mkdir()
    monkeypatch.setattr(steps, "POLL", 0.01)

    def call(todo, lanes=2, **console):
        printed = io.StringIO()
        runner = Runner(tmp_path, Console(file=printed, width=100, **console), {"OUT": str(tmp_path)}, lanes)
        try:
            runner.run(todo)
        finally:
            call.seconds, call.printed = runner.seconds, printed.getvalue()
        return call.printed

    return call


def test_two_run_side_by_side_and_what_needs_them_afterwards(run, tmp_path):
    """a and b each wait for the other's file: one after the other they would not end."""
    wait = "for i in $(seq 500); do [ -e {} ] && break; sleep .01; done; [ -e {} ]"
    todo = [
        shell("a", "touch a.there; " + wait.format("b.there", "b.there")),
        shell("b", "touch b.there; " + wait.format("a.there", "a.there")),
        shell("c", "[ -e steps/a.json ] && [ -e steps/b.json ]", ("a", "b")),
    ]
    printed = run(todo)
    assert list(run.seconds) == ["a", "b", "c"]
    assert printed.index("[1/3] a") < printed.index("[2/3] b") < printed.index("[3/3] c")
    assert json.loads((tmp_path / "steps" / "a.json").read_text())["command"] == todo[0].command
    assert "done before" in run(todo)


def test_a_demo_goes_on_from_another_folder(tmp_path, monkeypatch):
    """Neither the way to the program nor that to the output, as they are typed there, makes its steps other steps."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin").mkdir()
    for name in ("remem", "lmms_eval"):
        (tmp_path / "bin" / name).touch()
    asked = []
    for folder, out in (
        (tmp_path, "runs/demo"),
        (tmp_path / "runs", "demo"),
        (tmp_path / "bin", tmp_path / "runs/demo"),
    ):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        asked.append([steps._asked(step, Path(out)) for step in demo.steps(Path(out), "llava", 2)])
    assert asked[0] == asked[1] == asked[2]
    assert asked[0][0][:4] == ["remem", "forge", "--out", "<out>/data"]
    assert "pretrained=<out>/models/memorised,device=cpu" in asked[0][3] and asked[0][3][0] == "lmms_eval"
    other = demo.steps(Path("demo"), "llava", 2, seed=1)
    assert [steps._asked(step, Path("demo")) for step in other] != asked[0]


def test_one_lane_and_a_step_that_wants_all_cores_run_alone(run, tmp_path):
    alone = "[ $(ls running | wc -l) = 0 ] && touch running/{0} && sleep .1 && rm running/{0}"
    (tmp_path / "running").mkdir()
    run([shell(name, alone.format(name)) for name in "ab"], lanes=1)
    beside = "touch running/{0} && sleep .1 && rm running/{0}"
    run(
        [
            shell("c", beside.format("c")),
            shell("d", alone.format("d"), alone=True),
            shell("e", alone.format("e"), ("d",)),
        ]
    )


def test_cores_are_shared_by_lanes_unless_the_user_says_how_many(run, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tell = "echo $OMP_NUM_THREADS > {}.threads"
    todo = [shell("a", tell.format("a")), shell("b", tell.format("b"), alone=True)]
    run(todo, lanes=3)
    assert [(tmp_path / f"{name}.threads").read_text() for name in "ab"] == ["2\n", "6\n"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run([shell("c", tell.format("c"), variables={"WORD": "a heron"})])
    assert (tmp_path / "c.threads").read_text() == "5\n" and "$ WORD='a heron' sh -c" in run.printed


def test_only_what_needs_a_new_step_is_done_again(run, tmp_path):
    def todo(word):
        said = [("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ())]
        return [
            shell(name, f"echo {name} {word if name == 'b' else ''} >> ran", needs) for name, needs in said
        ]

    run(todo("one"), lanes=1)
    run(todo("two"), lanes=1)
    assert (tmp_path / "ran").read_text().split() == ["a", "b", "one", "c", "d", "b", "two", "c"]


def test_a_failure_is_told_with_its_last_lines_and_lets_the_others_end(run, tmp_path):
    todo = [
        shell("a", "printf '10%%\\r20%%\\r\\033[1mno rows\\n'; exit 4"),
        shell("b", "sleep .3; touch b.ended"),
        shell("c", "touch c.ran", ("a",)),
        shell("d", "touch d.ran"),
    ]
    with pytest.raises(RememError, match=r"step 'a' ended with status 4; all that it printed is in .*a\.log"):
        run(todo)
    assert "  no rows" in run.printed.splitlines()
    assert (tmp_path / "b.ended").exists() and list(run.seconds) == ["b"]
    assert not (tmp_path / "c.ran").exists() and not (tmp_path / "d.ran").exists()


def test_a_collapsed_model_is_a_result_of_a_step_that_scores_alone(run):
    assert "says nothing real" in run([shell("a", "exit 3", scores=True)])
    with pytest.raises(RememError, match="status 3"):
        run([shell("b", "exit 3")])


def test_a_stop_ends_all_that_runs(run, tmp_path):
    todo = [shell(name, f"echo $$ > {name}.pid; sleep 60") for name in "ab"]

    def stop():
        while not all((tmp_path / f"{name}.pid").exists() for name in "ab"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    def told(*_):
        raise Terminated

    before = signal.signal(signal.SIGTERM, told)
    try:
        threading.Thread(target=stop, daemon=True).start()
        with pytest.raises(Terminated):
            run(todo)
    finally:
        signal.signal(signal.SIGTERM, before)
    for name in "ab":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"{name}.pid").read_text()), 0)
    assert not run.seconds


@pytest.mark.parametrize("watched", [True, False])
def test_what_runs_is_told_while_it_runs(run, monkeypatch, watched):
    monkeypatch.setattr(steps, "TOLD_EVERY", 0.05)
    printed = run([shell("a", "echo step 7 of 9; sleep .5")], force_terminal=watched)
    assert "a, 0 s: step 7 of 9" in printed


def test_what_a_step_needs_comes_before_it(run):
    with pytest.raises(ValueError, match="a needs what does not come before it: b"):
        run([shell("a", "true", ("b",)), shell("b", "true")])


def test_what_one_step_needs():
    todo = [shell("a", ""), shell("b", ""), shell("c", "", ("a",)), shell("d", "", ("b", "c"))]
    assert [step.name for step in needed(todo, "c")] == ["a", "c"]
    assert [step.name for step in needed(todo, "d")] == ["a", "b", "c", "d"]
    with pytest.raises(RememError, match="there is no step 'x': a, b, c, d"):
        needed(todo, "x")
