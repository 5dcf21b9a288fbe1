"""Digests that tie results to samples: what is bound, and every change that is found."""

import json

import pytest
import torch
from support.made import row, write_run

from remem_tasks.binding import (
    KEY,
    digest_of_weights,
    parse_json,
    read_results,
    samples_of,
    seal,
    verify,
)
from remem_tasks.errors import RememError


@pytest.fixture
def results(tmp_path):
    file = write_run(tmp_path, {"forget1": [row(0), row(1, em=1.0)]}, sealed=False)
    seal(file, logged=True)
    return file


def changed(file, change):
    raw = json.loads(file.read_text())
    change(raw)
    file.write_text(json.dumps(raw))
    return raw


def test_what_a_run_wrote_is_bound_and_passes(results):
    raw = read_results(results)
    assert verify(results, raw, "remem_forget1") == "" == verify(results, raw)
    assert raw[KEY]["data"] == {"remem_forget1": "f" * 16} and len(raw[KEY]["samples"]["remem_forget1"]) == 64
    assert seal(results) == raw[KEY]  # again: the same


CHANGES = {
    "a score": (lambda raw: raw["results"]["remem_forget1"].update({"remem_em,none": 0.0}), "numbers"),
    "how many rows": (lambda raw: raw["n-samples"]["remem_forget1"].update(effective=1), "numbers"),
    "the data": (
        lambda raw: raw["configs"]["remem_forget1"]["metadata"].update(fingerprint="0" * 16),
        "numbers",
    ),
    "the weights": (lambda raw: raw[KEY].update(weights="0" * 32), "numbers"),
    "the checkpoint": (lambda raw: raw["config"].update(model_args="pretrained=other"), "settings"),
    "the suite": (
        lambda raw: raw["configs"]["remem_forget1"]["metadata"]["suite"].update(rollouts=1),
        "settings",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_the_results_is_found(results, what):
    change, named = CHANGES[what]
    raw = changed(results, change)
    with pytest.raises(RememError, match=f"_results.json': its {named} are not those that the run wrote"):
        verify(results, raw, "remem_forget1")


def test_other_samples_are_found_even_where_every_mean_agrees(results):
    samples = samples_of(results, "remem_forget1")
    samples.write_text(samples.read_text().replace("I do not know.", "I did not know"))
    with pytest.raises(RememError, match="samples_remem_forget1.jsonl' is not the samples file"):
        verify(results, read_results(results), "remem_forget1")


def test_files_without_digests_are_said(tmp_path):
    file = write_run(tmp_path, {"forget1": [row(0)]}, sealed=False)
    assert "no digests in the results file" in verify(file, read_results(file), "remem_forget1")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-20], "line 2: half written or no JSON"),
        (lambda text: text.splitlines()[0] + "\n", "holds 1 rows, the results file 2"),
        (lambda text: text * 2, "holds 4 rows, the results file 2"),
        (lambda text: None, "was not written, though --log_samples"),
    ],
)
def test_the_end_of_a_run_reads_back_what_it_wrote(tmp_path, spoil, message):
    file = write_run(tmp_path, {"forget1": [row(0), row(1)]})
    samples = samples_of(file, "remem_forget1")
    text = spoil(samples.read_text())
    samples.unlink() if text is None else samples.write_text(text)
    with pytest.raises(RememError, match=message):
        seal(file, logged=True)


@pytest.mark.parametrize(
    "text", ["{", '{"a": ' + "1" * 5000 + "}", "[" * 100_000, '{"a": NaN}', "\ud800", "", "nul"]
)
def test_text_that_is_no_json_is_one_line_that_names_the_file(text):
    with pytest.raises(RememError, match="^'f.json', line 3: half written or no JSON") as caught:
        parse_json(text, "'f.json', line 3")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "raw", ["[]", '{"results": []}', '{"results": {"t": 1}}', '{"results": {}, "configs": {"t": null}}']
)
def test_json_that_is_no_results_file_is_refused(tmp_path, raw):
    (tmp_path / "x_results.json").write_text(raw)
    with pytest.raises(RememError, match="x_results.json' is not an lmms-eval results file"):
        read_results(tmp_path / "x_results.json")
    (tmp_path / "x_results.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RememError, match="byte 0 is not UTF-8"):
        read_results(tmp_path / "x_results.json")


def test_weights_have_a_digest_of_names_types_shapes_and_bytes():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    digest = digest_of_weights(model)
    assert len(digest) == 32 and digest_of_weights(model) == digest
    with torch.no_grad():
        model.bias[1] += 1e-6
    assert digest_of_weights(model) != digest
    assert digest_of_weights(torch.nn.Linear(3, 2, device="meta")) is None
    assert digest_of_weights(None) is None
