"""UnLOK-VQA by its Hub id: the facts are fetched, the pictures lie in a folder here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.hub_mirror import HubMirror

from remem_tasks.benchmarks.unlok import data, forge

CODE = """
from remem_tasks.benchmarks.unlok.benchmark import BENCHMARK
from remem_tasks.benchmarks.registry import detect
assert detect("vaidehi99/UnLOK-VQA") == ("unlok", "vaidehi99/UnLOK-VQA")
rows, source = BENCHMARK.load(None, "forget")
print(source, len(rows), BENCHMARK.images(rows[0])[0].size)
"""


@pytest.mark.slow
def test_by_its_hub_id(tmp_path):
    forge.forge(tmp_path / "data", forge.ForgeOptions(identities=40, image_size=16))
    there = tmp_path / "repos" / "vaidehi99" / "UnLOK-VQA"
    there.mkdir(parents=True)
    shutil.copy(tmp_path / "data" / data.PUBLISHED, there / "any_name.json")
    with HubMirror(tmp_path / "repos") as mirror:
        environment = mirror.environment(tmp_path / "cache") | {"PYTHONPATH": str(Path(__file__).parents[3])}
        for variable in (data.VARIABLE, data.CHOSEN, "REMEM_BENCHMARKS"):
            environment.pop(variable, None)
        environment[data.PICTURES] = str(tmp_path / "data")
        outputs = []
        for more in ({}, {"HF_HUB_OFFLINE": "1"}):
            done = subprocess.run(
                [sys.executable, "-c", CODE], env={**environment, **more}, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-2000:]
            outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == f"vaidehi99/UnLOK-VQA 2 (16, 16){os.linesep}"
