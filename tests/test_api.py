"""The front doors from Python."""

import inspect
import math
import subprocess
import sys
import typing

import pytest
from support.made import model

import remem_tasks as remem
from remem_tasks import api


@pytest.fixture
def runs(tmp_path):
    model(tmp_path, "start", [1.0] * 30, [1.0] * 30)
    model(tmp_path, "npo", [1.0] * 3 + [0.0] * 27, [1.0] * 24 + [0.0] * 6, exposure=[0.5] * 30)
    return tmp_path


def test_every_door_opens_and_is_typed():
    assert set(api.__all__) == {name for name in remem.__all__ if name != "__version__"}
    assert set(remem.__all__) <= set(dir(remem))
    for name in remem.__all__:
        door = getattr(remem, name)
        if inspect.isfunction(door):
            hints = inspect.signature(door)
            assert hints.return_annotation is not inspect.Signature.empty
            assert all(one.annotation is not inspect.Parameter.empty for one in hints.parameters.values())
            assert (door.__doc__ and "Returns" in door.__doc__) or name in ("train", "trainer")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        remem.nothing  # noqa: B018
    assert typing.TYPE_CHECKING is False


def test_scores_become_a_dataframe(runs):
    table = remem.read_results(runs, start="start")
    found = table.query("run == 'npo' and task == 'remem_forget1' and metric == 'em' and part == 'all'")
    assert found.value.tolist() == [0.1] and found.rows.tolist() == [30]  # 3 of 30
    assert found.remaining.tolist() == [0.1] and found.role.tolist() == [""]
    kept = table.query("run == 'npo' and task == 'remem_retain' and metric == 'em' and part == 'all'")
    assert kept.value.item() == 0.8
    assert str(table.value.dtype) == "float64" and set(table.run) == {"start", "npo"}


def test_rows_become_a_dataframe_whose_means_are_the_scores(runs):
    rows = remem.read_rows(runs / "npo", runs / "start")
    assert len(rows) == 4 * 30
    means = rows.groupby(["run", "task"]).em.mean()
    assert means["npo", "remem_forget1"] == pytest.approx(0.1)
    assert rows.query("run == 'npo' and task == 'remem_forget1'").exposure.unique().tolist() == [0.5]
    assert {"row_id", "identity", "question", "reply", "status", "forgotten"} <= set(rows)


def test_a_name_that_looks_like_a_formula_or_like_nothing_stays_itself(tmp_path):
    for name in ("=1+1", "None", "-x"):
        model(tmp_path, name, [1.0], [1.0])
    assert set(remem.read_results(tmp_path).run) == {"=1+1", "None", "-x"}


@pytest.mark.parametrize("read", [remem.read_results, remem.read_rows])
def test_what_is_not_there_is_one_line(read, tmp_path):
    with pytest.raises(remem.RememError, match="is not there"):
        read(tmp_path / "nothing")
    with pytest.raises(remem.RememError, match="no runs given"):
        read()


def test_metrics_and_losses_are_the_packages_own():
    import torch

    assert remem.metrics.exposure(1, 64) == 1.0
    assert remem.losses.npo(torch.tensor([3.0]), torch.tensor([3.0]), 0.1).item() == pytest.approx(
        20 * math.log(2), rel=1e-6
    )


def test_flags_go_to_the_script_by_their_names():
    argv = api._arguments(
        "npo", "m", "o", None, {"learning_rate": 1e-4, "stop_on": ["a<1", "b<2"], "seed": None}
    )
    assert argv == ["--method", "npo", "--model_name_or_path", "m", "--output_dir", "o", "--learning_rate", "0.0001",
        "--stop_on", "a<1", "b<2"]  # fmt: skip


def test_a_trainer_trains(data_dir, checkpoints, tmp_path):
    flags = {"max_steps": 1, "per_device_train_batch_size": 2, "save_strategy": "no", "no_gate": True, "report_to": "none",
        "disable_tqdm": True, "use_cpu": True}  # fmt: skip
    trainer = remem.trainer("grad_diff", checkpoints["llava"], tmp_path / "a", data=data_dir, **flags)
    trainer.train()
    assert trainer.state.global_step == 1
    with pytest.raises(remem.RememError, match="gade_diff"):
        remem.trainer("gade_diff", checkpoints["llava"], tmp_path / "b", data=data_dir)


def test_a_run_leaves_its_record(data_dir, checkpoints, tmp_path):
    record = remem.train("ga", checkpoints["llava"], tmp_path / "a", data=data_dir, max_steps=1, no_gate=True,
        per_device_train_batch_size=2, save_strategy="no", report_to="none", use_cpu=True)  # fmt: skip
    assert (
        record["status"] == "finished"
        and record["steps"] == 1
        and (tmp_path / "a" / "model.safetensors").is_file()
    )


@pytest.mark.slow
def test_the_package_is_light_until_a_door_is_opened():
    code = "import sys, remem_tasks; assert 'torch' not in sys.modules; remem_tasks.metrics; print('ok')"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "ok\n"
    )
