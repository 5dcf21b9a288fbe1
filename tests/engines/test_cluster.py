"""A sweep, attacks and a study whose runs a real Ray cluster and submitit do: the files of one process, a worker lost."""

import json
import os
import subprocess
import textwrap

import pytest
from support.engines import show

from remem_tasks.checkpoints import save
from remem_tasks.tiny import build as checkpoint

SWEEP = "--data {data} --base {base} --gold 0.1 --methods ga,npo --budget 2 --steps 2,4 --batch 2 --seeds 0 --max-rows 4"
"""Six trainings of a few steps."""

TWO_NODES = """
import signal, sys, threading, time, os
from pathlib import Path
from ray.cluster_utils import Cluster
here = {"node_ip_address": "127.0.0.1", "include_dashboard": False}

def started(make):
    for left in range(4, -1, -1):  # (Ray waits 30 s for a node, which is not enough for a machine with much else to do.)
        try:
            return make()
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise

cluster = started(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **here}))
nodes = [started(lambda: cluster.add_node(num_cpus=1, **here)) for _ in range(2)]
os.environ["RAY_ADDRESS"] = cluster.address
out = Path(sys.argv[sys.argv.index("--out") + 1])

def lose_one():
    while not list(out.glob("tuning/*/*.json")):
        time.sleep(0.02)
    cluster.remove_node(nodes[0], allow_graceful=False)
    (out.parent / "lost").write_text(str(len(list(out.glob("tuning/*/*.json")))))

threading.Thread(target=lose_one, daemon=True).start()
from remem_tasks.cli import main
try:
    main(sys.argv[1:])
finally:
    cluster.shutdown()
"""


def _run(python, arguments, *start, **more):
    told = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": more.pop("tmp", "/tmp"), **more}
    told.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.run(
        [python, *(start or ("-m", "remem_tasks")), *arguments.split()],
        env={**told, "PYTHONPATH": os.pathsep.join(["."])},
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
        capture_output=True,
        text=True,
        timeout=560,
    )


def _bare(value):
    """Without times."""
    if isinstance(value, dict):
        return {name: _bare(one) for name, one in value.items() if name != "seconds"}
    return [_bare(one) for one in value] if isinstance(value, list) else value


def _table(out, name="results.json"):
    """What an experiment's file says, without times."""
    return _bare(json.loads((out / name).read_text()))


@pytest.fixture(scope="module")
def alone(python_of, taught, data_dir, tmp_path_factory):
    """(the sweep's command, its table from one process)."""
    out = tmp_path_factory.mktemp("alone") / "sweep"
    command = "sweep " + SWEEP.format(data=data_dir, base=taught)
    done = _run(python_of("ray"), f"{command} --out {out}")
    assert done.returncode == 0, done.stderr[-3000:]
    return command, _table(out)


def test_ray_with_a_node_lost_in_the_middle(python_of, alone, tmp_path, capfd):
    command, wanted = alone
    script = tmp_path / "two_nodes.py"
    script.write_text(textwrap.dedent(TWO_NODES))
    out = tmp_path / "sweep"
    done = _run(python_of("ray"), f"{command} --out {out} --engine ray", str(script))
    assert done.returncode == 0, done.stderr[-3000:]
    show(capfd, "remem sweep --engine ray", done.stdout.splitlines())
    assert (tmp_path / "lost").is_file() and int((tmp_path / "lost").read_text()) < 4
    assert _table(out) == wanted
    assert done.stdout.count("(ray)") == 6


def test_processes_through_submitit(python_of, alone, tmp_path):
    command, wanted = alone
    out = tmp_path / "sweep"
    done = _run(python_of("ray"), f"{command} --out {out} --engine processes --workers 2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert _table(out) == wanted and done.stdout.count("(processes)") == 6
    again = _run(python_of("ray"), f"{command} --out {out} --engine processes --workers 2")
    assert (
        again.returncode == 0 and "(processes)" not in again.stdout and again.stdout.count("done before") == 6
    )


def test_slurm_that_is_not_there_is_refused_in_a_line(python_of, alone, tmp_path):
    done = _run(python_of("ray"), f"{alone[0]} --out {tmp_path / 'sweep'} --engine slurm")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "remem sweep: error: --engine slurm: " in done.stderr


def test_attacks_by_ray(python_of, taught, wide, data_dir, tmp_path):
    """(The local cluster that Ray starts by itself.)"""
    python, out = python_of("ray"), {name: tmp_path / name for name in ("here", "ray")}
    save(*checkpoint.build("llava", ["Who is it? Ada."], width=64, seed=1), tmp_path / "gold")
    command = (
        f"attack forgot={wide['llava']} --gold {tmp_path / 'gold'} --start {taught} --data {data_dir} --no_gate "
        "--attacks quantise_int8,prompt --seeds 42"
    )
    for name, engine in (("here", "here"), ("ray", "ray")):
        done = _run(python, f"{command} --out {out[name]} --engine {engine}")
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    here, there = (_table(out[name], "attacks.json") for name in ("here", "ray"))
    assert here == there and set(here) == {"gold", "forgot"}
