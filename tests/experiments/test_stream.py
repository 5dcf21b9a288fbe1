"""A stream of requests: whose rows each forgets, and that it goes on from the model before."""

import json

import pytest

from remem_tasks.errors import RememError
from unlearning.experiments import stream as module
from unlearning.experiments.stream import StreamPlan, markdown, requests_of, stream


def test_each_request_forgets_who_is_new_and_keeps_who_was_never_asked_for(data_dir):
    found = requests_of(str(data_dir), ("forget1", "forget3"))
    assert set(found["forget1"].forget["identity"][:]) == {"ada_birch"}
    assert set(found["forget3"].forget["identity"][:]) == {"ben_crane", "cleo_dunn"}
    assert found["forget3"].train["row_id"][:] == found["forget3"].forget["row_id"][:]
    assert not {"ada_birch", "ben_crane", "cleo_dunn"} & set(found["forget3"].retain["identity"][:])
    backwards = requests_of(str(data_dir), ("forget2",))
    assert set(backwards["forget2"].forget["identity"][:]) == {"ada_birch", "ben_crane"}


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        (("forget2", "forget1"), "--requests forget1: all its people were asked for before"),
        (("forget9",), "has no such split; it has finetune, forget1"),
    ],
)
def test_requests_that_cannot_be(data_dir, requests, says):
    with pytest.raises(RememError, match=says):
        requests_of(str(data_dir), requests)


def test_plans_that_cannot_be():
    for given in ({"requests": ()}, {"requests": ("a", "a")}, {"method": "sft"}, {"method": "gold"}):
        with pytest.raises(RememError):
            StreamPlan(**{"start": "s", "requests": ("forget1",), "method": "npo", **given}).check()


def test_the_table_by_hand():
    def record(name, one, two, retain, **more):
        table = {"forget1": one, "forget2": two}
        scores = {split: {"em": em, "exposure": em / 2} for split, em in table.items()}
        return {"request": name, "scores": {**scores, "retain": {"em": retain}}, "seconds": 1.0, **more}

    plan = StreamPlan("s", ("forget1", "forget2"), "npo")
    lines = markdown(
        plan,
        [
            record("start", 1, 1, 1),
            record("forget1", 0, 1, 0.9, steps=5),
            record("forget2", 0.5, 0, 0.8, steps=6),
        ],
    ).splitlines()
    assert lines[-3:] == [
        "| start | (1.00 / 0.50) | (1.00 / 0.50) | 1.00 |  | 1 |",
        "| forget1 | 0.00 / 0.00 | (1.00 / 0.50) | 0.90 | 5 | 1 |",
        "| forget2 | 0.50 / 0.25 | 0.00 / 0.00 | 0.80 | 6 | 1 |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("training", ["--max_steps 2", "--use_peft --lora_r 4 --max_steps 2"])
def test_a_stream_goes_on_from_the_model_before(memorised, data_dir, tmp_path, monkeypatch, training):
    plan = StreamPlan(
        str(memorised),
        ("forget1", "forget2"),
        "grad_diff",
        str(data_dir),
        training + " --learning_rate 1e-3",
        no_gate=True,
    )
    lines = []
    with monkeypatch.context() as patch:  # stopped after the first request
        patch.setattr(module, "markdown", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stream(plan, tmp_path / "out", lines.append)
    found = stream(plan, tmp_path / "out", lines.append)
    assert [one["request"] for one in found] == ["start", "forget1", "forget2"]
    assert "done before" in lines[-2] and "done before" not in lines[-1]
    assert set(found[2]["scores"]) == {"forget1", "forget2", "retain", "test"}
    assert found[0]["scores"]["forget2"]["em"] > 0.5 and found[2]["steps"] == 2
    for name in ("forget1", "forget2"):
        config = json.loads((tmp_path / "out" / "models" / name / "config.json").read_text())
        assert (
            config["model_type"] == "llava"
            and (tmp_path / "out" / "models" / name / "processor_config.json").is_file()
        )
    assert "| forget2 |" in (tmp_path / "out" / "stream.md").read_text()
