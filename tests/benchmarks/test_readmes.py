"""The commands of each benchmark's README, from the forge to the report, with a tiny checkpoint."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from remem_tasks import benchmarks

HEAD = "\n## Try it\n"
READMES = {
    file.parent.name: file.read_text(encoding="utf-8").partition(HEAD)[2]
    for folder in benchmarks.__path__
    for file in sorted(Path(folder).glob("*/README.md"))
    if HEAD in file.read_text(encoding="utf-8")
}
FIT = "--max_steps 240 --per_device_train_batch_size 12 --learning_rate 4e-3 --lr_scheduler_type cosine --save_strategy no"
SHORT = "--max_steps 4 --per_device_train_batch_size 4 --learning_rate 1e-3 --save_strategy no"
GATE = "--confidence 0.8 --em 0.5 --memo 0 --exposure 0"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(READMES))
def test_commands_run(name, checkpoints, tmp_path):
    lines = [line.strip() for line in READMES[name].splitlines() if line.startswith("    ")]
    assert any(line.startswith("remem forge") for line in lines) and any(
        "remem report" in line for line in lines
    )
    settings = {
        "BASE": str(checkpoints["llava"]),
        "FIT": FIT,
        "SHORT": SHORT,
        "GATE": GATE,
        "REMEM_METRICS": "em",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **settings, "PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])}
    for line in lines:
        if line.startswith("export "):
            variable, _, value = line.removeprefix("export ").partition("=")
            environment[variable] = value
            continue
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert (tmp_path / "report").is_dir() and any((tmp_path / "report").iterdir())
    for file in (tmp_path / "results").rglob("*_results.json"):
        for task, scores in json.loads(file.read_text())["results"].items():
            failed = scores.get(f"{name}_failed_rate,none", 0)
            assert failed == 0, (file, task, shlex.quote(str(failed)))
