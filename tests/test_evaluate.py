"""Scoring a checkpoint, as a process and here: the same numbers, sealed results, one line for what fails."""

import pytest

from remem_tasks import evaluate
from remem_tasks.binding import KEY, read_results
from remem_tasks.errors import RememError
from remem_tasks.report.results import newest_results, read_scores


@pytest.mark.slow
def test_a_process_and_this_one_score_alike(checkpoints, data_dir, tmp_path):
    model, variables = checkpoints["llava"], {"REMEM_DATA": str(data_dir), "REMEM_METRICS": "em"}
    file = evaluate.score(model, ["remem_forget1"], tmp_path / "process", variables)
    found = evaluate.score_here(model, ["remem_forget1"], tmp_path / "here", variables)
    scores = read_scores(file)
    assert scores == read_scores(newest_results(tmp_path / "here"))
    assert scores["remem_forget1"]["remem_em"] == found["results"]["remem_forget1"]["remem_em,none"]
    for folder in ("process", "here"):
        sealed = read_results(newest_results(tmp_path / folder))[KEY]
        assert set(sealed["samples"]) == {"remem_forget1"}


def test_a_process_that_fails_is_told_in_one_line(tmp_path, monkeypatch):
    def failing(command, environment, output):
        assert environment["REMEM_DATA"] == "d" and "REMEM_METRICS" not in environment
        output.write("Traceback\nRememError: no such thing\n")
        return 1

    monkeypatch.setenv("REMEM_METRICS", "memo")
    monkeypatch.setattr(evaluate, "run", failing)
    with pytest.raises(RememError, match="ended with status 1: RememError: no such thing"):
        evaluate.score("m", ["remem_test"], tmp_path / "s", {"REMEM_DATA": "d", "REMEM_METRICS": None})


def test_flags():
    assert evaluate.arguments("m", ["a", "b"], "out", metrics="em,memo") == [
        *("--model", "remem_hf", "--model_args", "pretrained=m,device=cpu", "--tasks", "a,b"),
        *("--output_path", "out", "--log_samples", "--metrics", "em,memo"),
    ]
