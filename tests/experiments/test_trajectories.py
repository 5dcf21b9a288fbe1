"""Forgetting over the whole run: which points, the ranking at each stop, what is missing is named."""

import json

import pytest

from remem_tasks.cli import main
from remem_tasks.errors import RememError
from unlearning.experiments.trajectories import Course, Courses, markdown, of_runs, of_sweep, ranking, write


def point(step, forget, retain):
    return {"step": step, "forget_em": forget, "retain_em": retain}


COURSES = Courses(
    (
        Course("npo", (point(10, 0.5, 0.9), point(20, 0.05, 0.8))),
        Course("ga", (point(10, 0.0, 0.6), point(20, 0.0, 0.1))),
        Course("idk", (point(20, 0.0, 0.8),)),
    ),
    level=0.1,
    start=(1.0, 1.0),
)


def test_the_ranking_at_every_stop_by_hand():
    # Step 10: npo .9 − (.5 − .1) = .5, ga .6. Step 20: npo .8 (below the level nothing is taken off), idk .8, ga .1.
    assert ranking(COURSES) == {10: ["ga", "npo"], 20: ["idk", "npo", "ga"]}
    lines = markdown(COURSES).splitlines()
    assert lines[-3:] == [
        "| idk | – | 0 / 80 (1) |",
        "| npo | 50 / 90 (2) | 5 / 80 (2) |",
        "| ga | 0 / 60 (1) | 0 / 10 (3) |",
    ]


def test_the_points_of_a_sweep(tmp_path):
    record = tmp_path / "tuning" / "npo" / "learning_rate0.0001_alpha10.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"points": [point(10, 0.5, 0.9)]}))
    chosen = {"method": "npo", "settings": {"learning_rate": 1e-4, "alpha": 10.0}}
    found = {
        "plan": {"tolerance": 0.05},
        "gold_level": {"tuning": 0.02},
        "start": {"tuning": {"forget_em": 0.9, "retain_em": 0.95}},
        "methods": [chosen, {"method": "ga", "settings": None}],
    }
    (tmp_path / "results.json").write_text(json.dumps(found))
    made = of_sweep(tmp_path)
    assert made.runs == (Course("npo", (point(10, 0.5, 0.9),)),) and made.start == (0.9, 0.95)
    assert made.level == pytest.approx(0.07)
    found["methods"] = found["methods"][1:]
    (tmp_path / "results.json").write_text(json.dumps(found))
    with pytest.raises(RememError, match="no method has a point yet"):
        of_sweep(tmp_path)


def test_the_points_of_trainings(tmp_path):
    for name, points in (
        ("one", [point(5, 0.4, 0.9)]),
        ("two", [point(5, 0.3, 0.8)]),
        ("three", [{"step": 5}]),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trajectory.json").write_text(json.dumps(points))
        (tmp_path / name / "run.json").write_text(json.dumps({"method": "npo"}))
    made = of_runs([str(tmp_path / "one"), str(tmp_path / "two")])
    assert [run.name for run in made.runs] == ["npo", "npo #2"] and made.start is None
    with pytest.raises(RememError, match="no point has forget and retain exact match"):
        of_runs([str(tmp_path / "three")])
    with pytest.raises(RememError, match=r"has no trajectory\.json: train with --eval_strategy"):
        of_runs([str(tmp_path)])


def test_files_and_command(tmp_path, capsys):
    found = write(COURSES, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "trajectories.json").read_text())["ranking"]["10"] == ["ga", "npo"]
    assert found["level"] == 0.1 and (tmp_path / "out" / "trajectories.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(SystemExit):
        main(["study", "trajectories", "--out", str(tmp_path / "x")])
    assert "give --sweep FOLDER, or the folders of some trainings" in capsys.readouterr().err
