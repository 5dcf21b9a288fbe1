"""Ctrl-C, SIGTERM and kill −9, at every stage of what writes: one line, its status, and nothing that reads as finished."""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from adapter import made
from faults_outputs import FORGE, LMMS, REMEM, TRAIN, child, ended, ready
from faults_training import killed, npo, weights_of, whole
from frame import End, Fault, World

from remem_tasks.run_record import GONE, read_record

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
WORD = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def sends(world: World, where: str, number: signal.Signals, call: int = 1) -> None:
    """At the call of that order of `where` (`module:attribute`), this process is sent a signal, before it works."""
    module, _, path = where.partition(":")
    owner = importlib.import_module(module)
    *above, name = path.split(".")
    for one in above:
        owner = getattr(owner, one)
    inner, calls = getattr(owner, name), []

    def outer(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
            time.sleep(0.05)
        return inner(*args, **kwargs)

    world.monkeypatch.setattr(owner, name, outer)


def _nothing(out: Path) -> None:
    assert not out.exists(), f"{out} was left under its own name: {sorted(out.rglob('*'))[:5]}"


def _no_running(out: Path) -> None:
    record = read_record(out)
    assert record.get("status") in (None, "interrupted"), record.get("status")
    assert not (out / "README.md").is_file()


def _no_results(out: Path) -> None:
    """No results, or whole ones."""
    for file in out.rglob("*_results.json"):
        json.loads(file.read_text())


def _train(world: World, out: Path) -> End:
    return npo(world, out)


def _score(world: World, out: Path) -> End:
    return world.score(out=out, right={})


def _forge(world: World, out: Path) -> End:
    return world.remem("forge", "--out", out, *FORGE)


def _merge(world: World, out: Path) -> End:
    return world.remem("merge", "--adapter", made(world.sound), "--out", out)


def _report(world: World, out: Path) -> End:
    return world.remem("report", ready(world), "--out", out, "--no-pictures")


def _diagnose(world: World, out: Path) -> End:
    return world.remem("diagnose", ready(world), "--out", out)


def _board(world: World, out: Path) -> End:
    return world.remem("leaderboard", "add", ready(world, "x", 0.0), "--no-gate", "--file", out)


def _pull(world: World, out: Path) -> End:
    return world.remem("data", "pull", world.data_dir, "--split", "forget1", "--out", out)


COMMANDS: dict[str, tuple[Callable[[World, Path], End], Callable[[Path], None]]] = {
    "train": (_train, _no_running),
    "score": (_score, _no_results),
    "forge": (_forge, _nothing),
    "merge": (_merge, _nothing),
    "report": (_report, lambda out: None),
    "diagnose": (_diagnose, lambda out: None),
    "leaderboard": (_board, lambda out: None),
    "data pull": (_pull, lambda out: None),
}


def stopped(command: str, told: str, where: str, call: int = 1) -> list[Fault]:
    """Both signals at a place in a command."""
    act, after = COMMANDS[command]

    def run(world: World, number: signal.Signals) -> End:
        out = world.folder / "out"
        ready(world)
        ready(world, "x", 0.0)
        made(world.sound)
        sends(world, where, number, call)
        end = act(world, out)
        assert end.status == STATUS[number], f"status {end.status}\n{end.out[-500:]}\n{end.err[-2000:]}"
        after(out)
        assert not list(out.parent.glob(".out.lock")), "the lock is held"
        return end

    return [
        Fault("signals", f"{command}: {number.name} {told}", lambda w, n=number: run(w, n), WORD[number])
        for number in STATUS
    ]


def _twice(world: World) -> End:
    """A second signal while the first is being told in the record: one line all the same."""
    sends(world, "unlearning.trainer:UnlearnTrainer.training_step", signal.SIGTERM, 3)
    sends(world, "unlearning.weights:mark_interrupted", signal.SIGTERM)
    end = npo(world, world.folder / "out")
    assert end.status == 143
    assert read_record(world.folder / "out")["status"] == "interrupted"
    return end


def _goes_on(world: World) -> End:
    """What a signal left is gone on from, to the same weights."""
    known = weights_of(whole(world))
    with world.monkeypatch.context() as patch:
        before, world.monkeypatch = world.monkeypatch, patch
        sends(world, "unlearning.trainer:UnlearnTrainer.training_step", signal.SIGTERM, 4)
        end = npo(world, world.folder / "out")
        world.monkeypatch = before
    assert end.status == 143
    end = npo(world, world.folder / "out", "--resume_from_checkpoint", "true")
    return End(end.status, end.out, end.err, end.numbers, known)


def _gone(world: World) -> End:
    """kill −9: the record says `running`; the same command goes on, and says what was there."""
    folder = killed(world)
    assert read_record(folder)["stopped"] == GONE
    end = npo(world, folder, "--resume_from_checkpoint", "true")
    assert GONE in end.out and "before" in read_record(folder)["notes"]
    return End(end.status, end.out, end.err, end.numbers, weights_of(whole(world)))


def _gone_and_anew(world: World) -> End:
    """kill −9, and the command without --resume_from_checkpoint: the line says what is there."""
    return npo(world, killed(world))


# In processes of their own


def _argv(world: World, command: str, out: Path) -> list:
    world.monkeypatch.setenv("REMEM_DATA", str(world.data_dir))
    if command == "train":
        argv = [TRAIN, "--method", "sft", "--model_name_or_path", world.sound, "--data", world.data_dir]
        return [
            *argv,
            "--output_dir",
            out,
            "--max_steps",
            "4000",
            "--report_to",
            "none",
            "--save_strategy",
            "no",
        ]
    if command == "score":
        argv = [LMMS, "--model", "remem_hf", "--model_args", f"pretrained={world.sound},device=cpu"]
        return [
            *argv,
            "--tasks",
            "remem_test",
            "--output_path",
            out,
            "--log_samples",
            "--gen_kwargs",
            "max_new_tokens=400",
        ]
    return [REMEM, "forge", "--out", out, "--identities", "40", "--qa", "100", "--images", "100"]


def _process(command: str, seconds: float, numbers: tuple[signal.Signals, ...], begun: str = "") -> Fault:
    """Signals to a process after `seconds`, or as soon as the file `begun` is in its output."""

    def act(world: World) -> End:
        out = world.folder / "out"
        process = child(world, *_argv(world, command, out))
        deadline = time.time() + 120
        while (
            begun and not list(world.folder.glob(begun)) and process.poll() is None and time.time() < deadline
        ):
            time.sleep(0.02)
        time.sleep(seconds)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.02)
        end = ended(process)
        if signal.SIGKILL in numbers:
            assert end.status == -signal.SIGKILL and read_record(out)["stopped"] == GONE
            return End(1, "", "unlearning: terminated")
        assert end.status in {STATUS[number] for number in numbers}, f"{end.status} {end.err[-2000:]}"
        COMMANDS[command][1](out)
        return end

    names = " and ".join(number.name for number in numbers)
    place = "once it works" if begun else f"after {seconds:g} s"
    return Fault("signals", f"{command}: {names} to a process {place}", act, slow=True)


TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL
STEP = "unlearning.trainer:UnlearnTrainer.training_step"

FAULTS = [
    *stopped("train", "while rows are read", "unlearning.run:load_rows"),
    *stopped("train", "while the model is loaded", "remem_tasks.checkpoints:load_model"),
    *stopped("train", "while the trainer is made", "unlearning.run:build_trainer"),
    *stopped("train", "while the reference is made", "unlearning.mechanisms.reference:sequence_nll"),
    *stopped("train", "in the first step", STEP),
    *stopped("train", "after a checkpoint", STEP, 3),
    *stopped("train", "while a checkpoint is saved", "unlearning.trainer:UnlearnTrainer._save_optimizer_and_scheduler"),
    *stopped("train", "while a checkpoint's checksums are made", "remem_tasks.checksums:write"),
    *stopped("train", "while the method finishes", "unlearning.trainer:UnlearnTrainer.finish"),
    *stopped("train", "while the weights are saved", "unlearning.trainer:UnlearnTrainer.save_model", 3),
    *stopped("train", "while the weights are read back", "unlearning.run:check_written"),
    *stopped("train", "while the record is finished", "unlearning.run:write_record", 2),
    *stopped("score", "while the model is loaded", "remem_tasks.harness.remem_hf:load_model"),
    *stopped("score", "in the first batch", "remem_tasks.harness.remem_hf:RememHF._work"),
    *stopped("score", "while rows are scored", "remem_tasks.harness.task:BenchmarkTask.process_results", 3),
    *stopped("score", "while the results are bound", "remem_tasks.harness.exit_status:seal"),
    *stopped("forge", "while people are made", "remem_tasks.benchmarks.remem.forge:make_people"),
    *stopped("forge", "while it is read back", "remem_tasks.benchmarks.remem.forge:rows_written"),
    *stopped("merge", "while the base is loaded", "remem_tasks.checkpoints:load_merged"),
    *stopped("merge", "while the weights are saved", "remem_tasks.checkpoints:save"),
    *stopped("report", "while runs are read", "remem_tasks.report.runs:read_run"),
    *stopped("report", "while it is written", "remem_tasks.render.text:write_whole"),
    *stopped("diagnose", "while it is written", "remem_tasks.render.diagnosis:write_json"),
    *stopped("leaderboard", "while an entry is written", "remem_tasks.report.leaderboard:write_whole"),
    *stopped("data pull", "while it is written", "remem_tasks.audit.pull:write_whole"),
    Fault("signals", "train: SIGTERM, and again while it is told", _twice, "terminated"),
    Fault("signals", "train: SIGTERM, and the same command goes on", _goes_on),
    Fault("signals", "train: kill -9, and the same command goes on", _gone),
    Fault("signals", "train: kill -9, and the same command anew", _gone_and_anew, "interrupted"),
    _process("train", 1.0, (TERM,)),
    _process("train", 1.0, (TERM,), "out/run.json"),
    _process("train", 0.5, (INT,), "out/run.json"),
    _process("train", 0.5, (INT, TERM), "out/run.json"),
    _process("train", 0.5, (KILL,), "out/run.json"),
    _process("score", 1.0, (INT,)),
    _process("score", 12.0, (TERM,)),
    _process("score", 12.0, (INT, INT)),
    _process("forge", 0.2, (INT,), "out.partial/parts/*"),
    _process("forge", 0.2, (TERM, TERM), "out.partial/parts/*"),
]  # fmt: skip
