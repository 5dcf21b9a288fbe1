"""Work that others do: the same ledger, what was done before is not done again, a process that ends is no record."""

import argparse
import os
import sys

import pytest
import torch

from remem_tasks import preloaded
from remem_tasks.cli.engine import add_engine, engine_of
from remem_tasks.errors import RememError
from remem_tasks.training import call
from unlearning.experiments import handing_out
from unlearning.experiments.handing_out import (
    ENGINES,
    HERE,
    Cluster,
    Engine,
    hand_out,
    options_of,
    told_to_others,
)
from unlearning.experiments.ledger import Records


class Ours(Cluster):
    """Does a piece in this process when it is asked for; the first `gone` tries of `b` end without a record."""

    gone = 0
    closed = 0

    def __init__(self, *unused):
        self.begun, self.seen = [], []

    def start(self, name, work, job):
        self.begun.append((name, work, job))
        self.seen.append(name)

    def ended(self):
        name, work, job = self.begun.pop()
        if name == "b" and Ours.gone:
            Ours.gone -= 1
            yield name, None
        else:
            yield name, call(work, *job)

    def close(self):
        Ours.closed += 1


@pytest.fixture
def ours(monkeypatch):
    monkeypatch.setattr(handing_out, "_Submitit", Ours)
    Ours.gone = Ours.closed = 0
    return Engine("processes", workers=2)


JOBS = {name: (number,) for number, name in enumerate("abcd")}


def test_records_are_kept_and_found_again(ours, tmp_path):
    records, said = Records(tmp_path), []
    records.keep("a", {"before": True})
    made = hand_out(ours, "support.handed:double", JOBS, records, said.append)
    assert made == {
        name: {"number": number, "twice": 2 * number} for number, name in enumerate("abcd") if number
    }
    assert records.found("a") == {"before": True} and records.found("d") == {"number": 3, "twice": 6}
    assert len(said) == 3 and Ours.closed == 1
    assert hand_out(ours, "support.handed:double", JOBS, records) == {} and Ours.closed == 1


def test_more_workers_here_are_forks(tmp_path, monkeypatch):
    """Each piece in a process of its own, that shares the threads; one that is killed is begun again; an error ends all."""
    monkeypatch.setattr(preloaded, "LIBRARIES", "support.handed")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    records, said = Records(tmp_path / "out"), []
    monkeypatch.setenv("HANDED", "heron")
    jobs = {name: (number, str(tmp_path)) for number, name in enumerate("abcd")}
    made = hand_out(Engine("here", 2), "support.handed:of_process", jobs, records, said.append)
    assert {name: one["twice"] for name, one in made.items()} == {"a": 0, "b": 2, "c": 4, "d": 6}
    assert len({one["process"] for one in made.values()} - {os.getpid()}) == 4
    assert {(one["threads"], one["word"]) for one in made.values()} == {(2, "heron")}
    assert records.found("d")["twice"] == 6
    again = "'a': the process that did it ended; it is begun again"
    assert [line for line in said if "begun again" in line] == [again]
    with pytest.raises(RememError, match="'x': a number below 0"):
        hand_out(Engine("here", 2), "support.handed:double", {"x": (-1,), "y": (1,)}, records)


def test_no_forks_where_a_gpu_computes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RememError, match="--workers 2: forks can compute .* without a GPU only"):
        hand_out(Engine("here", 2), "support.handed:double", JOBS, Records(tmp_path))


def test_here_nothing_is_handed_out(tmp_path):
    assert hand_out(HERE, "nowhere:at_all", JOBS, Records(tmp_path)) == {} and not list(tmp_path.iterdir())


def test_a_piece_whose_process_ends_is_begun_again(ours, tmp_path):
    Ours.gone, said = 2, []
    assert set(hand_out(ours, "support.handed:double", JOBS, Records(tmp_path), said.append)) == set("abcd")
    assert sum("is begun again" in line for line in said) == 2


def test_but_not_for_ever(ours, tmp_path):
    Ours.gone = 3
    with pytest.raises(RememError, match="'b': the process that did it ended, 3 times"):
        hand_out(ours, "support.handed:double", JOBS, Records(tmp_path))
    assert Records(tmp_path).found("b") is None and Ours.closed == 1


def test_an_error_of_ours_names_the_piece(ours, tmp_path):
    with pytest.raises(RememError, match="'x': a number below 0"):
        hand_out(ours, "support.handed:double", {"x": (-1,)}, Records(tmp_path))
    assert Ours.closed == 1


def test_engines_that_cannot_be(monkeypatch, tmp_path):
    assert ENGINES == ("here", "ray", "slurm", "processes")
    for engine, says in (
        ({"name": "spark"}, "--engine 'spark' unknown; choose from here, ray"),
        ({"name": "ray", "workers": 0}, "--workers 0 is out of range"),
        ({"options": {"num_gpus": 1}}, "--engine_options are of another engine than here"),
    ):
        with pytest.raises(RememError, match=says):
            Engine(**engine)
    with pytest.raises(RememError, match="--engine_options 'num_gpus': not of the form"):
        options_of("num_cpus=2,num_gpus")
    for name, package in (("ray", "ray"), ("slurm", "submitit"), ("processes", "submitit")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            RememError, match=rf"--engine {name} needs .*: pip install 'remem-unlearning\[cluster\]'"
        ):
            hand_out(Engine(name), "support.handed:double", JOBS, Records(tmp_path))
    assert not os.listdir(tmp_path)


def test_flags():
    def told(*flags):
        parser = argparse.ArgumentParser()
        add_engine(parser)
        return engine_of(parser.parse_args(flags))

    assert told() == HERE
    assert told("--engine", "ray", "--engine_options", "num_gpus=1") == Engine("ray", 2, {"num_gpus": 1})
    assert told("--engine", "slurm", "--workers", "8") == Engine("slurm", 8)
    assert told("--workers", "4") == Engine("here", 4) and told("--workers", "4").apart and not HERE.apart
    assert told("--engine", "processes").workers == 2


def test_no_key_is_told_to_others():
    given = {
        "REMEM_DATA": "d",
        "REMEM_API_KEY": "k",
        "REMEM_JUDGE_KEY": "k",
        "HF_TOKEN": "t",
        "OMP_NUM_THREADS": "1",
    }
    assert told_to_others(given) == {"REMEM_DATA": "d", "OMP_NUM_THREADS": "1"}
