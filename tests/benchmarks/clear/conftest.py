"""A small forged CLEAR, made once a session: 6 people with 2 pictures and 2 texts each, 3 strangers, 4 places."""

from __future__ import annotations

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest

from remem_tasks.benchmarks.clear.forge import ForgeOptions, forge

KNOBS = ForgeOptions(identities=6, images=2, qa=2, real=3, world=4, retain_perturbed=1, image_size=56)


@pytest.fixture(scope="session")
def clear_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clear") / "data"
    forge(folder, KNOBS)
    return folder


@pytest.fixture
def clear_here(clear_data, monkeypatch):
    """The forged data as $REMEM_CLEAR_DATA."""
    monkeypatch.setenv("REMEM_CLEAR_DATA", str(clear_data))
    return clear_data
