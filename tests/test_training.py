"""Which `unlearning` a process of ours imports; what `remem train` launches; a wheel outside a checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remem_tasks import training
from remem_tasks.errors import RememError
from remem_tasks.training import launch_command, program

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd, path=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)


SHAPES = {
    "package": "unlearning/__init__.py",
    "folder": "unlearning/mine.py",
    "module": "unlearning.py",
}


@pytest.fixture(params=SHAPES)
def foreign(request, tmp_path):
    """A folder with a user's own `unlearning`: a package, a plain folder, a module."""
    file = tmp_path / SHAPES[request.param]
    file.parent.mkdir(exist_ok=True)
    file.write_text("MINE = True\n")
    return tmp_path


@pytest.mark.parametrize("ahead", [False, True], ids=["started there", "on PYTHONPATH"])
def test_our_commands_import_our_package_wherever_they_are_started(foreign, ahead):
    code = (
        "import json; from remem_tasks.training import find_ours; find_ours(); import unlearning;"
        "print(unlearning.__file__)"
    )
    path = os.pathsep.join([*([str(foreign)] if ahead else []), str(ROOT)])
    done = run(sys.executable, "-c", code, cwd=foreign, path=path)
    assert done.stdout.strip() == str(ROOT / "unlearning" / "__init__.py"), done.stderr


def test_a_foreign_package_that_is_imported_already_is_refused_by_name(tmp_path):
    (tmp_path / "unlearning").mkdir()
    (tmp_path / "unlearning" / "__init__.py").touch()
    code = (
        "import unlearning; from remem_tasks.cli import main; main(['demo', '--out', 'x', '--until', 'none'])"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"the package 'unlearning' of '{tmp_path / 'unlearning'}' is imported already" in done.stderr


def test_an_installation_without_the_training_half_says_so(monkeypatch):
    monkeypatch.setattr(training, "PARENT", None)
    with pytest.raises(RememError, match="lacks its folder 'unlearning'"):
        training.find_ours()


@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (ROOT / "unlearning/configs/accelerate").glob("*.yaml"))
)
def test_launch_configurations_go_by_name(name, monkeypatch):
    monkeypatch.setattr(training, "_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = launch_command(["--accelerate", name, "--method", "npo", "--seed", "3"])
    file = ROOT / "unlearning" / "configs" / "accelerate" / f"{name}.yaml"
    threads = {
        "cpu": ["--num_cpu_threads_per_process", "6"],
        "cpu2": ["--num_cpu_threads_per_process", "3"],
        "cpu2_fsdp2": ["--num_cpu_threads_per_process", "3"],
    }
    script = [str(ROOT / "unlearning" / "train.py"), "--method", "npo", "--seed", "3"]
    launch = [sys.executable, "-P", "-m", "accelerate.commands.launch", "--quiet", "--config_file", str(file)]
    assert command == [*launch, *threads.get(name, []), *script]


@pytest.mark.parametrize(("asked", "threads"), [("3", "3"), ("", "6"), ("many", "6"), ("0", "6")])
def test_threads_are_those_asked_for_else_the_cores(asked, threads, monkeypatch):
    monkeypatch.setattr(training, "_cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    command = launch_command(["--accelerate", "cpu"])
    assert command[command.index("--num_cpu_threads_per_process") + 1] == threads


def test_a_file_of_accelerate_and_a_number_of_processes(tmp_path):
    file = tmp_path / "mine.yaml"
    file.touch()
    command = launch_command(["--num_processes", "2", "--method", "npo", "--accelerate", str(file)])
    launch = command[command.index("--quiet") + 1 :]
    assert launch[:4] == ["--config_file", str(file), "--num_processes", "2"]
    assert launch[4].endswith("train.py") and launch[5:] == ["--method", "npo"]
    assert "--config_file" not in launch_command(["--method", "npo"])


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ["--accelerate", "tpu"],
            "--accelerate 'tpu' is neither a file nor one of cpu, cpu2, cpu2_fsdp2, ddp",
        ),
        (["--num_processes", "0"], "--num_processes 0: at least 1"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(argv, says):
    with pytest.raises(RememError, match=says):
        launch_command(argv)


def test_commands_without_a_console_script_are_python_and_a_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert program("remem") == [str(tmp_path / "python"), "-m", "remem_tasks"]
    assert program("lmms_eval")[1] == "-c"
    (tmp_path / "remem").touch()
    assert program("remem") == [str(tmp_path / "remem")]
    monkeypatch.chdir(tmp_path)
    assert program("remem") == ["remem"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that a built wheel is installed to."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "dist", ROOT]
    done = run(*build, cwd=folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").iterdir()
    done = run(
        *pip, "install", "-q", "--no-deps", "--no-compile", "--target", folder / "site", wheel, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_a_wheel_hides_nobodys_package_and_holds_all_files(foreign, installed):
    """-S: of this environment only the wheel, as if it had been installed there."""
    name = "unlearning.mine" if (foreign / "unlearning" / "mine.py").exists() else "unlearning"
    done = run(sys.executable, "-S", "-c", f"import {name}; print({name}.MINE)", cwd=foreign, path=installed)
    assert done.stdout.strip() == "True", done.stderr
    tracked = subprocess.run(
        ["git", "ls-files", "remem_tasks", "unlearning"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    packaged = installed / "remem_tasks" / "packaged"
    missing = [
        file
        for file in tracked
        if not ((packaged if file.startswith("unlearning/") else installed) / file).is_file()
    ]
    assert not missing
    assert not (installed / "unlearning").exists()


@pytest.mark.slow
@pytest.mark.parametrize("foreign", ["package"], indirect=True)
def test_a_wheel_trains_by_recipe_from_any_folder(foreign, installed):
    """Up to the data, which are missing: the recipe gives the method, the launcher's file the process."""
    argv = ["train", "--accelerate", "cpu", "--config", "npo", "--data", "nowhere"]
    argv += ["--model_name_or_path", "absent", "--output_dir", "x"]
    done = run(sys.executable, "-m", "remem_tasks", *argv, cwd=foreign, path=installed)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("unlearning: error: data 'nowhere'"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("foreign", ["package"], indirect=True)
@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("demo --quick --until npo --out out", "out/models/npo/run.json"),
        ("reproduce clear --quick --methods npo --no-l1 --out out", "out/clear.md"),
    ],
)
def test_a_wheel_demonstrates_and_reproduces_outside_a_checkout(command, made, foreign, installed):
    done = run(sys.executable, "-m", "remem_tasks", *command.split(), cwd=foreign, path=installed)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (foreign / made).is_file()


LISTS = {
    "lmms-eval tasks list": ("-c", "from lmms_eval.cli.dispatch import main; main()", "tasks", "list"),
    "python -m lmms_eval tasks list": ("-m", "lmms_eval", "tasks", "list"),
    "lmms-eval models": ("-c", "from lmms_eval.cli.dispatch import main; main()", "models"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", LISTS)
def test_plain_lmms_eval_lists_what_is_ours(command, installed, tmp_path):
    """Its console script is that line of Python. Entry points are the wheel's, which comes first on the path."""
    done = run(sys.executable, *LISTS[command], cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stderr
    words = set(done.stdout.split())
    ours = {"remem_hf"} if "models" in command else {"remem", "remem_forget1", "clear_retain90", "mllmu_test"}
    assert ours <= words
