"""Shared fixtures: a small data set in the published schema and tiny checkpoints, made once a session."""

from __future__ import annotations

import atexit
import gc
import hashlib
import multiprocessing.process
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import chdir, contextmanager, nullcontext, suppress
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
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background: tests press Ctrl-C all the same
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in [name for name in os.environ if name.startswith("REMEM_") and name != "REMEM_CACHE"]:
    del os.environ[name]
# The template of the docs is a benchmark like the others to every test: a folder alone makes it one.
os.environ["REMEM_BENCHMARKS"] = str(Path(__file__).parents[1] / "docs" / "benchmark_template")

# A process that hands tests out to others (`-n 2`) runs none, and need not load for ten seconds what tests need.
RUNS_TESTS = "PYTEST_XDIST_WORKER" in os.environ or not re.search(r" -n ?(?!0\b)\w", " ".join(sys.argv))
if RUNS_TESTS:
    with suppress(ImportError):
        import wandb  # noqa: F401  transformers loads it in any case, and behind torch that takes longer

import pyarrow.parquet
import pytest
import resvg_py
import torch
from filelock import FileLock

if RUNS_TESTS:
    from support.rows import PEOPLE, people_splits, rows_of, write_parquet
    from transformers import PreTrainedModel

    from remem_tasks.checkpoints import save
    from remem_tasks.tiny import build as checkpoint


def pytest_addoption(parser):
    """`--training-seed`, `--unit` and `--part`."""
    parser.addoption("--training-seed", type=int, default=42, help="of trainings whose course is asserted")
    parser.addoption("--unit", action="store_true", help="only tests without a model and without a process")
    parser.addoption(
        "--part",
        default="1/1",
        metavar="K/N",
        help="one of N parts of the tests",
    )


# Fixtures that make models, and those that make data sets.
HEAVY = {"checkpoints", "memorised", "make_trainer", "make_ready", "train_run"}
HEAVY |= {"data_dir", "clear_data", "mllmu_data", "forged", "built", "folders", "generated", "published"}


def part_of(item, parts: int) -> int:
    """Which of so many parts (from 1) has a test: by its name; if slow, by its file, whose tests share what they make."""
    whole = item.get_closest_marker("slow") and item.originalname != "test_fault"
    name = item.nodeid.partition("::")[0] if whole else item.nodeid
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % parts + 1


def pytest_collection_modifyitems(config, items):
    """With `--unit`, what is slow or asks for a model or a data set is left out; with `--part`, what is in another part."""
    given = re.fullmatch(r"(\d+)/(\d+)", config.getoption("--part"))
    part, parts = (int(number) for number in given.groups()) if given else (0, 0)
    if not 1 <= part <= parts:
        raise pytest.UsageError(f"--part {config.getoption('--part')}: K/N with K from 1 to N, such as 1/2")
    left = [item for item in items if part_of(item, parts) != part]
    if config.getoption("--unit"):
        left += [item for item in items if item.get_closest_marker("slow") or HEAVY & set(item.fixturenames)]
    if gone := set(left):
        config.hook.pytest_deselected(items=list(gone))
        items[:] = [item for item in items if item not in gone]


@contextmanager
def _no_model_and_no_process():
    """Within, a test that reaches for a model, a training, a process or a data set is skipped there, and says so."""

    def refuse(what):
        def skip(*args, **kwargs):
            pytest.skip(f"no unit test: {what}")

        return skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refuse("it starts a process"))
        patch.setattr(multiprocessing.process.BaseProcess, "start", refuse("it starts a process"))
        patch.setattr(resvg_py, "svg_to_bytes", refuse("it draws people"))
        patch.setattr(PreTrainedModel, "__init__", refuse("it makes a model"))
        patch.setattr(torch.optim.Optimizer, "__init__", refuse("it trains"))
        patch.setattr(pyarrow.parquet.ParquetWriter, "__init__", refuse("it writes a data set"))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with _no_model_and_no_process() if item.config.getoption("--unit") else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with _no_model_and_no_process() if item.config.getoption("--unit") else nullcontext():
        return (yield)


def pytest_collection_finish():
    """What is imported by now stays: a training collects garbage at its end, and would look at all of it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _what_a_module_leaves_stays():
    """The same for what the tests of a module import."""
    yield
    gc.collect()
    gc.freeze()


def pytest_report_header():
    """How this suite computes: `bench/numeric.py` runs it in other ways."""
    kinds = torch.backends.cpu.get_cpu_capability(), os.environ.get("MKL_CBWR", "as it is")
    return (
        f"numeric: {kinds[0]}, MKL {kinds[1]}, threads {torch.get_num_threads()}; torch {torch.__version__}"
    )


@pytest.fixture(autouse=True)
def _no_command_runs(monkeypatch):
    """A test that called a command in this process leaves its name as the one that a person started."""
    monkeypatch.setattr("remem_tasks.terminal._program", "")


@pytest.fixture(scope="session")
def training_seed(request):
    """Of the trainings, as a flag's value; `--training-seed` gives another, to measure what margins hold."""
    return str(request.config.getoption("--training-seed"))


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


@pytest.fixture(scope="session")
def quick_demo(tmp_path_factory):
    """The folder of a finished `remem demo --quick`, made once for all workers from a folder that is no checkout."""
    from unlearning.experiments.demo import QUICK, demo

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    (shared / "elsewhere").mkdir(exist_ok=True)
    with FileLock(shared / "quick_demo.lock"), chdir(shared / "elsewhere"):
        if not (shared / "quick_demo" / "summary.json").is_file():
            demo(shared / "quick_demo", workers=1, size=QUICK)
    return shared / "quick_demo"
