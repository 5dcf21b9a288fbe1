"""Shared fixtures: a small data set in the published schema and tiny checkpoints, made once a session."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# No test may look for a hub, send telemetry, or leave anything in the user's cache.
CACHE = tempfile.mkdtemp(prefix="remem-tests-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
os.environ.update(
    HF_DATASETS_CACHE=CACHE,
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    TQDM_DISABLE="1",
    REMEM_CACHE="off",
)
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # one core each: threads of several workers would be in each other's way
    os.environ["OMP_NUM_THREADS"] = "1"
for name in [name for name in os.environ if name.startswith("REMEM_") and name != "REMEM_CACHE"]:
    del os.environ[name]
# The template of the docs is a benchmark like the others to every test: a folder alone makes it one.
os.environ["REMEM_BENCHMARKS"] = str(Path(__file__).parents[1] / "docs" / "benchmark_template")

import pytest
from support.rows import PEOPLE, people_splits, rows_of, write_parquet

from remem_tasks.checkpoints import save
from remem_tasks.tiny import build as checkpoint


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder of parquet files with the seven splits (36 rows in finetune, 6 in forget1, 12 in retain, 36 in test)."""
    folder = tmp_path_factory.mktemp("data")
    write_parquet(folder, people_splits())
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """{arch: folder}: a randomly initialised checkpoint (about 0.3 M parameters) of each tiny architecture."""
    texts = [row["question"] + " " + row["answer"] for slug in PEOPLE for row in rows_of(slug)]
    folders = {}
    for arch in checkpoint.ARCHS:
        folders[arch] = tmp_path_factory.mktemp(arch)
        model, processor = checkpoint.build(arch, texts, width=64, layers=2, vocab_size=400)
        save(model, processor, folders[arch])
    return folders
