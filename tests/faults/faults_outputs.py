"""Where results go: no room, no right, something else in the place, another process in it."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from adapter import made
from faults_results import run_of
from frame import End, Fault, World

from remem_tasks.files import lock
from remem_tasks.report.runs import read_run

FORGE = (
    "--identities",
    "5",
    "--qa",
    "8",
    "--images",
    "2",
    "--test-qa",
    "4",
    "--retain-qa",
    "2",
    "--image-size",
    "32",
)


@contextmanager
def file_limit(size: int):
    """Within, no file grows above `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def ready(world: World, name: str = "start", em: float = 1.0) -> Path:
    """The folder of a made-up run, made once in a world."""
    there = world.folder / name / f"models__{name}"
    return there if there.is_dir() else run_of(world, name=name, em=em)


def _forge(world: World, out: Path) -> End:
    return world.remem("forge", "--out", out, *FORGE)


def _report(world: World, out: Path) -> End:
    return world.remem("report", ready(world), "--out", out, "--no-pictures")


def _diagnose(world: World, out: Path) -> End:
    return world.remem("diagnose", ready(world), "--out", out)


def _merge(world: World, out: Path) -> End:
    return world.remem("merge", "--adapter", made(world.sound), "--out", out)


def _pull(world: World, out: Path) -> End:
    return world.remem("data", "pull", world.data_dir, "--split", "forget1", "--out", out)


def _sheet(world: World, out: Path) -> End:
    return world.remem("data", "sheet", world.data_dir, "--out", f"{out}.png")


def _board(world: World, out: Path) -> End:
    return world.remem("leaderboard", "add", ready(world, "x", 0.0), "--no-gate", "--file", out)


def _train(world: World, out: Path) -> End:
    argv = ["--method", "sft", "--model_name_or_path", world.sound, "--data", world.data_dir]
    return world.train(*argv, "--output_dir", out, "--max_steps", "1")


def _score(world: World, out: Path) -> End:
    return world.score(out=out)


COMMANDS: dict[str, tuple[Callable[[World, Path], End], int]] = {
    "forge": (_forge, 20_000),
    "report": (_report, 5_000),
    "diagnose": (_diagnose, 5_000),
    "merge": (_merge, 200_000),
    "data pull": (_pull, 5_000),
    "data sheet": (_sheet, 2_000),
    "leaderboard": (_board, 1_000),
    "train": (_train, 200_000),
    "score": (_score, 0),
}
"""Commands that write, and the bytes of a file that are too few for what they write."""


def _busy(world: World, out: Path, act) -> End:
    """While another part of this process holds the output."""
    with lock(f"{out}.png" if act is _sheet else out):
        return act(world, out)


def _loop(out: Path) -> None:
    out.symlink_to(out.name)


def _something_else(out: Path) -> None:
    out.mkdir()
    (out / "mine.txt").write_text("x")


def placed(command: str, told: str, place, says: str = "", **more) -> Fault:
    """A command whose output is `place(world)`, made ready."""
    act, _ = COMMANDS[command]

    def run(world: World) -> End:
        out = place(world)
        end = act(world, out)
        if command == "score":
            return end
        written = end.status == 0 and (out.exists() or Path(f"{out}.png").exists())
        return End(end.status, end.out, end.err, written, True)

    return Fault("outputs", f"{command}: {told}", run, says, **more)


def _file_above(world: World) -> Path:
    (world.folder / "file").write_text("x")
    return world.folder / "file" / "below" / "out"


def _file_there(world: World) -> Path:
    for name in ("out", "out.png"):
        (world.folder / name).write_text("x")
    return world.folder / "out"


def _folder_there(world: World) -> Path:
    for name in ("out", "out.png"):
        _something_else(world.folder / name)
    return world.folder / "out"


def _symlink_loop(world: World) -> Path:
    for name in ("out", "out.png"):
        _loop(world.folder / name)
    return world.folder / "out"


def limited(command: str) -> Fault:
    act, size = COMMANDS[command]

    def run(world: World) -> End:
        out = world.folder / "out"
        ready(world)
        ready(world, "x", 0.0)
        if command == "merge":
            made(world.sound)
        with file_limit(size):
            end = act(world, out)
        whole = not out.is_file() or out.stat().st_size != size
        assert end.status and whole, f"status {end.status}, a cut file: {not whole}"
        return end

    return Fault("outputs", f"{command}: files may have {size:,} bytes", run)


def child(world: World, *argv, limit: int | None = None) -> subprocess.Popen:
    """A command of ours in a process of its own."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # What it prints goes through a pipe, which has no limit of its own.
    return subprocess.Popen(
        [sys.executable, "-c", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=restrict,
    )


def ended(process: subprocess.Popen) -> End:
    said, _ = process.communicate(timeout=300)
    return End(process.returncode, "", said)


LMMS = "from remem_tasks.cli import lmms_eval; lmms_eval()"
REMEM = "from remem_tasks.cli import main; main()"
TRAIN = "import sys; from unlearning.train import main; sys.exit(main())"


def scoring(world: World, out: Path, tasks: str = "remem_forget1") -> list[str]:
    world.monkeypatch.setenv("REMEM_DATA", str(world.data_dir))
    argv = [
        LMMS,
        "--model",
        "remem_hf",
        "--model_args",
        f"pretrained={world.sound},device=cpu",
        "--tasks",
        tasks,
    ]
    return [*argv, "--output_path", out, "--log_samples", "--gen_kwargs", "max_new_tokens=8"]


def _limited_scoring(size: int) -> Fault:
    def run(world: World) -> End:
        return ended(child(world, *scoring(world, world.folder / "out"), limit=size))

    return Fault("outputs", f"score: files may have {size:,} bytes", run, slow=True)


def _two_scorings(world: World) -> End:
    """Two into one folder, at once: both are there, and each can be read."""
    out = world.folder / "out"
    both = [child(world, *scoring(world, out)) for _ in range(2)]
    ends = [ended(one) for one in both]
    assert [end.status for end in ends] == [0, 0], "".join(end.err for end in ends)
    runs = [read_run(file, str(file)) for file in out.rglob("*_results.json")]
    return End(0, "", "", [len(run.task_results["remem_forget1"].rows) for run in runs], [6, 6])


def _two_trainings(world: World) -> End:
    """Two into one folder, at once: one trains, the other says why not."""
    out = world.folder / "out"
    argv = [TRAIN, "--method", "sft", "--model_name_or_path", world.sound, "--data", world.data_dir]
    argv += ["--output_dir", out, "--max_steps", "3", "--report_to", "none"]
    ends = [ended(one) for one in [child(world, *argv) for _ in range(2)]]
    good, bad = sorted(ends, key=lambda end: end.status)
    assert good.status == 0 and (out / "model.safetensors").is_file(), good.err
    return bad


def _two_forges(world: World) -> End:
    """Two into one folder, at once: one set is whole, the other call says why not (or finds it finished)."""
    argv = [REMEM, "forge", "--out", world.folder / "out", *FORGE]
    ends = [ended(one) for one in [child(world, *argv) for _ in range(2)]]
    good, bad = sorted(ends, key=lambda end: end.status)
    assert good.status == 0, good.err
    checked = world.remem("data", "check", world.folder / "out", "--no-pictures")
    assert checked.status == 0, checked.err
    return End(0, "", "", 1, 1) if bad.status == 0 else bad


def _two_boards(world: World) -> End:
    """Eight entries by eight processes at once: all of them are there."""
    file = world.folder / "board.jsonl"
    runs = [run_of(world, name=f"m{i}", em=i / 20) for i in range(8)]
    argv = [REMEM, "leaderboard", "add", "--no-gate", "--file", file]
    ends = [ended(one) for one in [child(world, *argv, f"m{i}={run}") for i, run in enumerate(runs)]]
    return End(max(e.status for e in ends), "", ends[0].err, len(file.read_text().splitlines()), 8)


def _two_names_of_one(world: World) -> End:
    """One folder by two names, one of them a link."""
    (world.folder / "real").mkdir()
    (world.folder / "link").symlink_to("real")
    with lock(world.folder / "real"):
        return _train(world, world.folder / "link")


FAULTS = [
    *(placed(name, "a file in its place", _file_there, "out") for name in COMMANDS if name != "data sheet"
      and name != "leaderboard"),
    *(placed(name, "a file above it", _file_above, "") for name in COMMANDS),
    *(placed(name, "a folder of others in its place", _folder_there, "") for name in COMMANDS),
    *(placed(name, "a link to itself", _symlink_loop, "") for name in COMMANDS),
    *(placed(name, "a name of 300 characters", lambda w: w.folder / ("x" * 300), "") for name in COMMANDS),
    *(placed(name, "a place where nothing can be made", lambda w: Path("/proc/remem/out"), "") for name in COMMANDS),
    *(
        Fault("outputs", f"{name}: another is writing it", lambda w, a=act: _busy(w, w.folder / "out", a), "written by another")
        for name, (act, _) in COMMANDS.items()
        if name not in ("leaderboard", "score", "data sheet")
    ),
    *(limited(name) for name in COMMANDS if name != "score"),
    *map(_limited_scoring, (0, 1000, 6000)),
    Fault("outputs", "train: one folder by two names", _two_names_of_one, "written by another"),
    Fault("two at once", "two scorings into one folder", _two_scorings, slow=True),
    Fault("two at once", "two trainings into one folder", _two_trainings, "written by another|not empty", slow=True),
    Fault("two at once", "two forges into one folder", _two_forges, "written by another", slow=True),
    Fault("two at once", "eight entries to one board", _two_boards, slow=True),
]  # fmt: skip
