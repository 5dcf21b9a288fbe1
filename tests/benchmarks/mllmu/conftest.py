"""A small forged MLLMU-Bench, made once a session: 6 people and 2 celebrities, 2 questions of each kind and modality."""

from __future__ import annotations

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest

from remem_tasks.benchmarks.mllmu.forge import ForgeOptions, forge

KNOBS = ForgeOptions(identities=6, images=2, qa=2, real=2, image_size=56)


@pytest.fixture(scope="session")
def mllmu_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mllmu") / "data"
    forge(folder, KNOBS)
    return folder


@pytest.fixture
def mllmu_here(mllmu_data, monkeypatch):
    """The forged data as $REMEM_MLLMU_DATA."""
    monkeypatch.setenv("REMEM_MLLMU_DATA", str(mllmu_data))
    return mllmu_data
