"""FIUBench by its Hub id: JSON and archive are fetched once, and found again without a network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.hub_mirror import HubMirror

from remem_tasks.benchmarks.fiubench import forge

CODE = """
from remem_tasks.benchmarks.fiubench import data
from remem_tasks.benchmarks.fiubench.benchmark import BENCHMARK
from remem_tasks.benchmarks.registry import detect
assert detect("gray311/FIUBench") == ("fiubench", "gray311/FIUBench")
rows, source = BENCHMARK.load(None, "forget10")
print(source, len(rows), BENCHMARK.images(rows[0])[0].size)
"""


@pytest.mark.slow
def test_by_its_hub_id(tmp_path):
    made = tmp_path / "repos" / "gray311" / "FIUBench"
    made.parent.mkdir(parents=True)
    forge.forge(tmp_path / "data", forge.ForgeOptions(identities=12, qa=2, image_size=16))
    shutil.copytree(tmp_path / "data", made)
    with HubMirror(tmp_path / "repos") as mirror:
        environment = mirror.environment(tmp_path / "cache") | {"PYTHONPATH": str(Path(__file__).parents[3])}
        for variable in ("REMEM_FIUBENCH_DATA", "REMEM_BENCHMARKS"):
            environment.pop(variable, None)
        outputs = []
        for more in ({}, {"HF_HUB_OFFLINE": "1"}):
            done = subprocess.run(
                [sys.executable, "-c", CODE], env={**environment, **more}, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-2000:]
            outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == f"gray311/FIUBench 2 (16, 16){os.linesep}"
