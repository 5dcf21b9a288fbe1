"""Reading lmms-eval's results files."""

import json
import os

import pytest

from remem_tasks.errors import RememError
from remem_tasks.report.results import newest_results, read_scores

RESULTS = {
    "results": {
        "remem_forget1": {
            "alias": "remem_forget1",
            "remem_em,none": 0.25,
            "remem_em_stderr,none": "N/A",
            "remem_em_stderr_clt,none": 0.1,
            "remem_rows,none": 60,
            "samples": 60,
        },
        "remem": {" ": " ", "alias": "remem"},
    }
}


def test_scores_are_the_metrics_alone(tmp_path):
    file = tmp_path / "x_results.json"
    file.write_text(json.dumps(RESULTS))
    assert read_scores(file) == {"remem_forget1": {"remem_em": 0.25, "remem_rows": 60}, "remem": {}}


def test_newest_file_is_taken_whatever_its_folder(tmp_path):
    for stamp, folder in (("20260102_000000", "a"), ("20260103_000000", "b"), ("20260101_000000", "c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{stamp}_results.json").write_text("{}")
    os.utime(tmp_path / "b" / "20260103_000000_results.json", (0, 0))
    assert newest_results(tmp_path).parent.name == "b"


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", '{"results": 3}', '{"results": {"t": {"m,none": NaN}}}']
)
def test_what_is_no_results_file_is_named(tmp_path, text):
    file = tmp_path / "x_results.json"
    file.write_text(text)
    with pytest.raises(RememError, match="x_results.json"):
        read_scores(file)


def test_no_results_is_an_error(tmp_path):
    with pytest.raises(RememError, match="no \\*_results.json below"):
        newest_results(tmp_path)
