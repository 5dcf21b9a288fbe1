"""Fixtures of tests against real components, each in an environment of its own: `make test-engines` makes them."""

from __future__ import annotations

from pathlib import Path

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
from safetensors.torch import load_file, save_file
from support.engines import ENGINES
from support.memorised import train_run  # noqa: F401  fixture
from support.rows import PEOPLE, rows_of

from remem_tasks.checkpoints import save
from remem_tasks.tiny import build as checkpoint


def pytest_collection_modifyitems(items):
    """All of them start processes."""
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def python_of():
    """python_of(name) -> the interpreter of an environment; the test is left out where it is not there."""

    def find(name: str) -> str:
        found = ENGINES / name / "bin" / "python"
        if not found.is_file():
            pytest.skip(f"no {name} in {ENGINES}: `make test-engines` installs it")
        return str(found)

    return find


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """{arch: folder}: tiny random checkpoints with heads of 32, which vLLM's attention on a CPU wants at least."""
    texts = [row["question"] + " " + row["answer"] for slug in PEOPLE for row in rows_of(slug)]
    folders = {}
    for arch in checkpoint.ARCHS:
        folders[arch] = tmp_path_factory.mktemp(f"wide_{arch}")
        save(*checkpoint.build(arch, texts, width=128, layers=2, vocab_size=400), folders[arch])
        _as_released(folders[arch])
    return folders


def _as_released(folder: Path) -> None:
    """Name the vision tower's tensors as in LLaVA's releases; vLLM knows no other names.

    (transformers writes a checkpoint with the names that it was read with; one made from nothing has its own.)
    """
    file = folder / "model.safetensors"
    tower = "vision_tower."
    tensors = {
        name.replace(tower, f"{tower}vision_model.") if name.startswith(tower) else name: value
        for name, value in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture(scope="session")
def taught(wide, train_run, tmp_path_factory):  # noqa: F811
    """A llava that has learned the 36 rows."""
    folder = tmp_path_factory.mktemp("taught") / "model"
    flags = "--max_steps 120 --per_device_train_batch_size 12 --learning_rate 3e-3 --lr_scheduler_type cosine"
    train_run(folder, "sft", wide["llava"], *flags.split(), "--save_strategy", "no")
    return folder


@pytest.fixture
def remem_data(data_dir, monkeypatch):
    """REMEM_DATA set to the small data set."""
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    return data_dir
