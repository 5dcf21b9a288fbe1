"""Where the training half lives, and how a process of ours comes to import it and no other `unlearning`.

The import package `unlearning` has a common name. A wheel keeps it in `remem_tasks/packaged/`, which is not on
Python's path: an `import unlearning` in a user's own project never meets it. In a checkout it lies beside
`remem_tasks/`. Importing this module makes `import unlearning` mean ours in this process, whatever folder of that
name the process was started in; the commands do so first.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError

NAME = "unlearning"
_PACKAGE = Path(__file__).resolve().parent
PARENT = next(
    (folder for folder in (_PACKAGE / "packaged", _PACKAGE.parent) if (folder / NAME / "train.py").is_file()),
    None,
)
"""The folder that holds our `unlearning/`; None if this installation lacks it."""


def find_ours() -> Path:
    """Make `import unlearning` find our package, also in child processes that inherit `sys.path`; its folder.

    Where Python's path leads to ours, nothing changes. Otherwise our parent folder goes right before the entry
    that would have been taken.

    Raises:
        RememError: another `unlearning` is imported already, or ours is not installed.
    """
    if PARENT is None:
        raise RememError(f"this installation of remem-unlearning lacks its folder '{NAME}': install it anew")
    ours = PARENT / NAME
    if (module := sys.modules.get(NAME)) is not None:
        if (where := _folder_of(module.__spec__)) != ours:
            raise RememError(
                f"the package '{NAME}' of '{where}' is imported already, and hides that of remem-unlearning ('{ours}')"
            )
        return ours
    if _folder_of(PathFinder.find_spec(NAME)) != ours:
        taken = (place for place, entry in enumerate(sys.path) if PathFinder.find_spec(NAME, [entry]))
        sys.path.insert(next(taken, len(sys.path)), str(PARENT))
    return ours


def _folder_of(spec) -> Path | None:
    """The folder of a package's or namespace's spec; of a module, its file."""
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or [])
    found = places[0] if places else spec.origin
    return Path(found).resolve() if found else None


def program(name: str) -> list[str]:
    """The start of a command line of ours, `remem` or `lmms_eval`, as a user would type it from here.

    The console script of this environment; where there is none (`pip install --target`), Python and a module.
    """
    script = Path(sys.executable).parent / name
    if script.is_file():
        try:
            return [str(script.relative_to(Path.cwd()))]
        except ValueError:
            return [str(script)]
    if name == "remem":
        return [sys.executable, "-m", "remem_tasks"]
    return [sys.executable, "-c", f"from remem_tasks.cli import {name}; {name}()"]


def words_of(command: Sequence[str]) -> tuple[str, list[str]] | None:
    """Which command line of ours a command is, `remem` or `lmms_eval`, and its arguments; None if it is none.

    >>> words_of([*program("remem"), "forge", "--out", "data"]), words_of(["sh", "-c", "true"])
    (('remem', ['forge', '--out', 'data']), None)
    """
    for name in ("remem", "lmms_eval"):
        start = program(name)
        if list(command[: len(start)]) == start:
            return name, list(command[len(start) :])
    return None


def _threads(processes: int) -> int:
    """Threads of each process of a training: `OMP_NUM_THREADS`, else its part of the cores that we may use."""
    if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, _cores() // processes)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch_config(name: str) -> tuple[Path, bool]:
    """accelerate's configuration of a name of `configs/accelerate/`, or a file; and whether it is for a CPU.

    Raises:
        RememError: neither.
    """
    folder = find_ours() / "configs" / "accelerate"
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if name in names:
        return folder / f"{name}.yaml", name.startswith("cpu")
    if Path(name).is_file():
        return Path(name), False
    raise RememError(f"--accelerate '{name}' is neither a file nor one of {', '.join(names)}")


def _launch(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """What accelerate's launcher is told, and the arguments of the training script.

    Raises:
        RememError: `--accelerate` or `--num_processes` with a value that cannot be.
    """
    parser = argparse.ArgumentParser(prog="remem train", add_help=False, allow_abbrev=False)
    parser.add_argument("--accelerate")
    parser.add_argument("--num_processes", type=int)
    given, others = parser.parse_known_args(argv)
    options = []
    processes = given.num_processes
    if processes is not None and processes < 1:
        raise RememError(f"--num_processes {processes}: at least 1")
    if given.accelerate is not None:
        file, on_cpu = launch_config(given.accelerate)
        options += ["--config_file", str(file)]
        if on_cpu:  # accelerate gives a process one thread unless told
            of_file = 2 if file.stem.startswith("cpu2") else 1
            options += ["--num_cpu_threads_per_process", str(_threads(processes or of_file))]
    if processes is not None:
        options += ["--num_processes", str(processes)]
    return options, others


def launch_command(argv: Sequence[str]) -> list[str]:
    """The command that `remem train ARGUMENTS` runs: `accelerate launch` of the training script.

    Raises:
        RememError: `--accelerate` or `--num_processes` with a value that cannot be.
    """
    options, others = _launch(argv)
    # -P: accelerate itself must not be looked for in the folder that we were started in.
    command = [sys.executable, "-P", "-m", "accelerate.commands.launch", "--quiet"]
    return [*command, *options, str(find_ours() / "train.py"), *others]


def launched_here(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Of `remem train ARGUMENTS` in one process: script and arguments, and the environment that accelerate's launcher gives it.

    Raises:
        RememError: as `launch_command`.
    """
    from accelerate.commands import launch

    options, others = _launch(argv)
    parser = launch.launch_command_parser()
    script = str(find_ours() / "train.py")
    told, _, _ = launch._validate_launch_command(parser.parse_args([*options, script, *others]))
    _, environment = launch.prepare_simple_launcher_cmd_env(told)
    return [script, *others], environment


LAUNCH_HELP = """usage: remem train [--accelerate NAME|FILE] [--num_processes N] --method M --model_name_or_path CKPT --output_dir OUT [...]

how it is launched
  --accelerate     gpu, ddp, fsdp2, zero2, zero3, cpu, cpu2, cpu2_fsdp2 or a file of `accelerate config`; default: accelerate's own
  --num_processes  in place of that file's

All else goes to the training script:
"""


def call(work: str, *arguments: Any) -> tuple[Any, str]:
    """What another process has a piece of work done by: (what a function gives, ""), or (None, what a user is told).

    Args:
        work: `module:function`.
    """
    find_ours()
    module, _, name = work.partition(":")
    try:
        return getattr(import_module(module), name)(*arguments), ""
    except RememError as error:
        return None, str(error) or type(error).__name__
