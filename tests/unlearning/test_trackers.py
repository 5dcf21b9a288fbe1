"""`--report_to` of what is not installed is refused before anything is loaded."""

import pytest

from remem_tasks.errors import RememError
from unlearning import run


@pytest.mark.parametrize("name", sorted(run.TRACKERS))
@pytest.mark.parametrize("given", [lambda name: name, lambda name: ["none", name]], ids=["text", "list"])
def test_a_tracker_that_is_not_installed_is_named_with_its_mend(monkeypatch, name, given):
    monkeypatch.setattr(run, "find_spec", lambda package: None)
    with pytest.raises(RememError, match=rf"--report_to {name}: .* pip install {name}"):
        run.check_trackers(given(name))


def test_one_package_of_several_will_do(monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda package: package == "tensorboardX" or None)
    run.check_trackers(["tensorboard"])


@pytest.mark.parametrize("given", ["none", [], ["none"], "all", ["mlflow"]])
def test_others_are_left_to_transformers(monkeypatch, given):
    monkeypatch.setattr(run, "find_spec", lambda package: None)
    run.check_trackers(given)


def test_a_run_is_refused_before_the_model_is_loaded(checkpoints, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda package: None)
    monkeypatch.setattr(run, "load_models", lambda *_: pytest.fail("it was loaded"))
    argv = [
        "--method",
        "ga",
        "--model_name_or_path",
        str(checkpoints["llava"]),
        "--data",
        str(data_dir),
        "--no_gate",
    ]
    with pytest.raises(RememError, match="tensorboard"):
        run.run([*argv, "--output_dir", str(tmp_path / "out"), "--report_to", "tensorboard"])
    assert not (tmp_path / "out").exists()
