"""Tasks of installed packages: found by entry point, behind the built-in ones and those of `include_path`."""

import sys

import pytest

from lmms_eval import tasks


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed(value) -> installs a package `brings_tasks` whose entry point has that value; there are no built-in tasks."""
    monkeypatch.setattr(tasks, "__file__", str(tmp_path / "lmms_eval" / "tasks" / "__init__.py"))
    package = tmp_path / "site" / "brings_tasks"
    (package / "tasks").mkdir(parents=True)
    (package / "__init__.py").write_text("from pathlib import Path\n\nFOLDERS = [Path(__file__).parent / 'tasks']\nNOWHERE = '/no/where'\n\n\ndef folder():\n    return str(FOLDERS[0])\n")
    (package / "tasks" / "__init__.py").write_text("")
    (package / "tasks" / "brought.yaml").write_text("task: brought_task\ndataset_path: theirs\n")

    def install(value):
        info = tmp_path / "site" / "brings_tasks-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brings-tasks\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{tasks.TASK_ENTRY_POINTS}]\nbrings_tasks = {value}\n")
        return package

    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield install
    for name in [name for name in sys.modules if name.split(".")[0] == "brings_tasks"]:
        del sys.modules[name]


@pytest.mark.parametrize("value", ["brings_tasks.tasks", "brings_tasks:FOLDERS", "brings_tasks:folder"])
def test_tasks_of_an_installed_package_are_found(installed, value):
    package = installed(value)
    assert str(package / "tasks") in tasks.entry_point_task_dirs()
    assert "brought_task" in tasks.TaskManager().all_subtasks
    assert "brought_task" not in tasks.TaskManager(include_defaults=False).all_tasks


@pytest.mark.parametrize("value", ["brings_tasks.nothing", "brings_tasks:NOWHERE", "no_such_package"])
def test_an_entry_point_that_cannot_be_used_is_left_out(installed, value):
    installed(value)
    assert tasks.entry_point_task_dirs() == []
    assert "brought_task" not in tasks.TaskManager().all_tasks


def test_include_path_goes_before(installed, tmp_path):
    installed("brings_tasks.tasks")
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yaml").write_text("task: brought_task\ndataset_path: mine\n")
    manager = tasks.TaskManager(include_path=str(own))
    assert manager.task_index["brought_task"]["yaml_path"] == str(own / "mine.yaml")
