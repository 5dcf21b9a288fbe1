"""The command line in this process: tasks and models found, one clear line for bad input, the exit status."""

import functools
import json
import os
import shutil
import sys
import types
from argparse import Namespace
from pathlib import Path

import lmms_eval.tasks
import pytest
from lmms_eval import evaluator, models
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.tasks import TaskManager
from safetensors.torch import load_file, save_file
from support.rows import people_splits, write_parquet
from support.scripted import Scripted, run

from remem_tasks import binding
from remem_tasks.errors import RememError
from remem_tasks.harness import exit_status, llava, loaded, plugin
from remem_tasks.harness.remem_hf import RememHF


def test_entry_point_gives_models_and_tasks():
    assert models.get_model("remem_hf") is RememHF
    assert models.get_model("llava").__name__ == "Llava"
    assert "remem_forget3" in TaskManager(include_defaults=False).all_tasks


def test_install_is_idempotent_and_keeps_the_users_folders(tmp_path):
    (tmp_path / "own.yaml").write_text("task: own\ndataset_path: x\n")
    before = TaskManager.initialize_tasks
    ours = sum(len(list(Path(folder).rglob("*.yaml"))) for folder in plugin.TASKS_FOLDERS)
    plugin.install()
    plugin.register()
    assert TaskManager.initialize_tasks is before
    for include in (str(tmp_path), [str(tmp_path)], [str(tmp_path), plugin.TASKS_FOLDERS[0] + "/"]):
        names = TaskManager(include_path=include, include_defaults=False).all_tasks
        assert {"own", "remem", "remem_test", "lvlm_unlearning"} <= set(names)
        assert len(names) == len(set(names)) == ours + 2  # `own`, and the tag


@pytest.mark.parametrize(
    ("asked", "all_of_them"),
    [
        ("remem_forget1,lvlm_unlearning", False),
        ("own", True),
        ("remem_forget1,mme", True),
        ("remem_*", True),
        ("", True),
    ],
)
def test_lmms_evals_own_files_are_read_where_they_may_be_asked_for(monkeypatch, tmp_path, asked, all_of_them):
    (tmp_path / "own.yaml").write_text("task: own\ndataset_path: x\n")
    (tmp_path / "theirs.yaml").write_text("task: remem_retain\ndataset_path: x\n")
    read = []
    one_folder = TaskManager._get_task_and_group

    def told(self, folder):
        read.append(os.path.realpath(folder))
        upstream = read[-1] == os.path.dirname(os.path.realpath(lmms_eval.tasks.__file__))
        return {"mme": {"type": "task", "yaml_path": "x"}} if upstream else one_folder(self, folder)

    monkeypatch.setattr(TaskManager, "_get_task_and_group", told)
    monkeypatch.setattr(loaded, "asked", list(filter(None, asked.split(","))))
    manager = TaskManager(include_path=str(tmp_path))
    assert ("mme" in manager.all_tasks) is all_of_them
    assert {"own", "remem_test"} <= set(manager.all_tasks) and len(read) == len(set(read))
    assert manager.task_index["remem_retain"]["yaml_path"] == str(tmp_path / "theirs.yaml")


def test_a_run_from_the_command_line(remem_data, checkpoints, command_line, tmp_path):
    status, out, err = command_line(
        f"--model remem_hf --model_args pretrained={checkpoints['llava']},device=cpu --batch_size 4 "
        f"--tasks remem_forget1,remem_retain --gen_kwargs max_new_tokens=4 --output_path {tmp_path} --log_samples"
    )
    assert (status, "error" in err) == (0, False)
    assert "remem_2hop_em" not in out and "Scores in per cent" in out
    assert f"remem report {tmp_path} --out report" in out
    assert (
        "remem_2hop_em"
        in command_line(
            f"--model remem_hf --model_args pretrained={checkpoints['llava']},device=cpu --batch_size 4 "
            "--tasks remem_forget1 --gen_kwargs max_new_tokens=4 --long_table"
        )[1]
    )
    (results,) = tmp_path.rglob("*_results.json")
    raw = binding.read_results(results)
    assert len(raw[binding.KEY]["weights"]) == 32
    assert [binding.verify(results, raw, task) for task in ("remem_forget1", "remem_retain")] == ["", ""]
    results = json.loads(results.read_text())
    assert results["results"]["remem_retain"]["remem_rows,none"] == 12
    assert results["configs"]["remem_retain"]["metadata"]["data"] == str(remem_data)
    samples = [
        json.loads(line) for file in tmp_path.rglob("*samples_remem_forget1.jsonl") for line in file.open()
    ]
    assert [sample["remem_rows"]["identity"] for sample in samples] == ["ada_birch"] * 6


def without(folder, checkpoint, name):
    shutil.copytree(checkpoint, folder)
    for file in folder.glob(name):
        file.unlink()
    return folder


def test_bad_input_is_one_line_and_status_1(remem_data, checkpoints, command_line, tmp_path, monkeypatch):
    good = f"--model remem_hf --model_args pretrained={checkpoints['llava']},device=cpu --limit 2"
    few, blind = people_splits(), people_splits()
    del few["retain"]
    write_parquet(tmp_path / "few", few)
    blind["forget1"][1]["image"]["bytes"] = b"not a picture"
    blind["retain"][0]["keywords"] = ""
    write_parquet(tmp_path / "blind", blind)
    broken = without(tmp_path / "broken", checkpoints["llava"], "model.safetensors")
    weights = load_file(checkpoints["llava"] / "model.safetensors")
    name = next(name for name in weights if "lm_head" in name)
    weights[name][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    mute = without(tmp_path / "mute", checkpoints["llava"], "*processor*")
    (tmp_path / "file").write_text("")
    cases = [
        (f"{good} --tasks remem_retain", tmp_path / "few", "has no split 'retain'; it has finetune, forget1"),
        (f"{good} --tasks remem_forget1", "/no/where", "Either set REMEM_DATA=<folder>"),
        (f"{good} --tasks remem_forget1", None, "or set REMEM_DATA=<Hub id> (default herbwood27/Remem)"),
        (f"{good} --tasks remem_retain", tmp_path / "blind", "row 0: column 'keywords' is empty"),
        (
            f"{good} --tasks remem_forget1",
            tmp_path / "blind",
            "row 1 (images/ada_birch/0001.png): column 'image'",
        ),
        (
            f"{good} --tasks remem_forget9",
            remem_data,
            "no task 'remem_forget9' (there are remem_forget1, remem_forget2, remem_forget3, remem_forget4); all names: lmms_eval --tasks list",
        ),
        (good, remem_data, "no task"),
        (
            f"{good} --tasks remem_forget1 --output_path {tmp_path}/file/x",
            remem_data,
            "is not a folder that can be",
        ),
        (
            f"{good} --tasks remem_forget1 --gen_kwargs top_n=3",
            remem_data,
            "generation setting top_n unknown",
        ),
        ("--model remem_hf --tasks remem_forget1", remem_data, "no checkpoint"),
        (
            f"--model remem_hf --model_args pretrained={mute} --tasks remem_forget1",
            remem_data,
            "no processor",
        ),
        (
            f"--model remem_hf --model_args pretrained={broken} --tasks remem_test",
            remem_data,
            "NaN or infinite",
        ),
    ]
    for number, (line, data, message) in enumerate(cases):
        monkeypatch.delenv("REMEM_DATA")
        monkeypatch.setenv("REMEM_DATA", str(data)) if data else None
        folder = tmp_path / f"out{number}"
        line += "" if "--output_path" in line else f" --output_path {folder}"
        status, out, err = command_line(line)
        monkeypatch.setenv("REMEM_DATA", "")
        errors = [text for text in err.splitlines() if text.startswith("lmms_eval: error: ")]
        assert status == 1, line
        assert len(errors) == 1 and message in errors[0], (line, err)
        assert "Traceback" not in out + err, line
        assert not list(tmp_path.rglob("*_results.json")) and not folder.exists(), line


def test_debug_keeps_the_traceback(remem_data, command_line):
    with pytest.raises(RememError, match="no checkpoint"):
        command_line("--model remem_hf --tasks remem_forget1 --verbosity DEBUG")


def test_flags_of_the_suite(remem_data, tiny, command_line, tmp_path, monkeypatch):
    for line, said in {
        "--tasks x --estimator foo": "estimator 'foo' unknown; choose from exact, distinct, frequency",
        "--tasks x --metrics em,rouge": "metrics 'rouge' unknown; choose from em, memo, exposure",
        "--rollouts many": "rollouts 'many' is not a whole number",
        "--rollouts 0": "rollouts 0 is out of range",
    }.items():
        status, _, err = command_line(line)
        assert status == 2 and said in err and "Traceback" not in err
    status, out, _ = command_line("--help")
    assert status == 0 and "--cloze_context" in out and "--estimator" in out
    monkeypatch.setenv("REMEM_ROLLOUTS", "7")
    monkeypatch.setattr(RememHF, "create_from_arg_string", classmethod(lambda cls, *arguments: tiny()))
    flags = "--metrics em,exposure --memo_stride 9 --forget forget2 --gen_kwargs max_new_tokens=2"
    status, _, err = command_line(f"--model remem_hf --tasks remem_test --output_path {tmp_path} {flags}")
    assert status == 0, err
    (file,) = tmp_path.rglob("*_results.json")
    results = json.loads(file.read_text())
    suite = results["configs"]["remem_test"]["metadata"]["suite"]
    assert (suite["metrics"], suite["rollouts"], suite["forget"]) == (["em", "exposure"], 7, "forget2")
    scores = {name.split(",")[0] for name in results["results"]["remem_test"]}
    assert {"remem_exposure", "remem_forgotten_em"} <= scores and not [
        name for name in scores if "memo" in name
    ]
    # and nothing of it stays behind
    assert os.environ["REMEM_ROLLOUTS"] == "7" and "REMEM_METRICS" not in os.environ


@pytest.fixture
def scripted(monkeypatch):
    """scripted(reply): what `--model remem_hf` is, from now on."""
    return lambda reply: monkeypatch.setattr(
        RememHF, "create_from_arg_string", classmethod(lambda cls, *arguments: Scripted(reply))
    )


def test_failed_replies_fail_the_run_and_leave_the_results(remem_data, scripted, command_line, tmp_path):
    scripted(lambda row: GenerationResult("", None) if row["row_id"] == "retain:3" else row["answer"])
    line = f"--model remem_hf --tasks remem_forget1,remem_retain --output_path {tmp_path}"
    status, out, err = command_line(line)
    assert status == 1 and "remem_retain: 8.3% of the replies failed (at most 1% may)" in err
    assert "remem_forget1:" not in err and "failed" in out
    (results,) = tmp_path.rglob("*_results.json")
    assert json.loads(results.read_text())["results"]["remem_retain"][
        "remem_failed_rate,none"
    ] == pytest.approx(1 / 12)
    assert command_line(f"{line}/p --predict_only")[0] == 1
    scripted(lambda row: GenerationResult("", TokenCounts(output_tokens=1)))  # honest blanks are a result
    status, _, err = command_line(f"{line}/b")
    assert status == 3 and "replies are blank" in err and list((tmp_path / "b").rglob("*_results.json"))


def test_the_limit_is_one_percent():
    def lines(share):
        task = Namespace(
            benchmark=Namespace(name="remem"), config=Namespace(task="t"), replies=0, failed_replies=0
        )
        return exit_status.failed_reply_lines({"results": {"t": {"remem_failed_rate,none": share}}}, [task])

    assert (len(lines(0.01)), len(lines(0.0101)), lines(0.0)) == (0, 1, [])
    assert exit_status.failed_reply_lines(None, [object()]) == []  # a rank other than 0


def test_results_that_cannot_be_written(remem_data, scripted, command_line, tmp_path, monkeypatch):
    from lmms_eval.loggers import EvaluationTracker

    scripted(lambda row: row["answer"])
    monkeypatch.setattr(EvaluationTracker, "save_results_aggregated", lambda self, **kwargs: None)
    status, _, err = command_line(f"--model remem_hf --tasks remem_forget1 --output_path {tmp_path}")
    assert status == 1 and "could not be written" in err


def test_samples_that_were_cut_end_the_run_with_status_1(
    remem_data, scripted, command_line, tmp_path, monkeypatch
):
    from lmms_eval.loggers import EvaluationTracker

    scripted(lambda row: row["answer"])
    save = EvaluationTracker.save_results_samples

    def cut(self, task_name, samples):
        save(self, task_name, samples)
        (file,) = tmp_path.rglob("*_samples_*.jsonl")
        file.write_bytes(file.read_bytes()[:-40])

    monkeypatch.setattr(EvaluationTracker, "save_results_samples", cut)
    status, _, err = command_line(
        f"--model remem_hf --tasks remem_forget1 --output_path {tmp_path} --log_samples"
    )
    assert status == 1 and "half written" in err and "samples_remem_forget1.jsonl', line 6" in err


def test_one_failed_run_of_a_config_does_not_stop_the_others(remem_data, scripted, command_line, tmp_path):
    scripted(lambda row: row["answer"])
    config = tmp_path / "runs.yaml"
    config.write_text(
        f"- {{model: remem_hf, tasks: remem_nothing, output_path: {tmp_path}/a}}\n"
        f"- {{model: remem_hf, tasks: remem_forget1, output_path: {tmp_path}/b}}\n"
    )
    status, _, err = command_line(f"--config {config}")
    assert status == 1 and "no task 'remem_nothing'" in err
    assert len(list(tmp_path.rglob("*_results.json"))) == 1


def test_other_ways_to_leave(command_line, monkeypatch):
    assert command_line("version")[0] == 0
    assert command_line("--tasks list")[0] == 0
    status, out, _ = command_line("tasks list")
    assert status == 0 and "remem_forget4" in out
    assert command_line("--no-such-option")[0] == 2
    monkeypatch.setattr("lmms_eval.cli.dispatch.main", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert command_line("")[0] == 130


# The plain command line


def plain(results=None, error=None):
    """(the wrapped command line of a module like lmms_eval.__main__, what it ran)."""
    ran = []

    def cli_evaluate_single(args):
        ran.append(args)
        if error:
            raise error
        return results, None

    module = types.ModuleType("stand_in")
    module.cli_evaluate_single = cli_evaluate_single
    module.make_table = lambda results, *rest: ""

    def cli_evaluate(args):
        try:
            module.cli_evaluate_single(args)
        except Exception:
            ran.append("traceback")

    module.cli_evaluate = cli_evaluate
    module.__class__ = plugin._CommandLineModule
    return module, ran


def arguments(**given):
    return Namespace(**{"model": "x", "tasks": "mmmu", "verbosity": "INFO", "output_path": None, **given})


@pytest.mark.parametrize(
    ("given", "error", "status", "traceback"),
    [
        ({}, ValueError("theirs"), None, True),  # as ever
        ({"model": "remem_hf"}, ValueError("a defect"), 1, True),
        ({"tasks": "mme,remem_test"}, ValueError("a defect"), 1, True),
        ({"tasks": "remem_test"}, RememError("a fault"), 1, False),
        ({"tasks": "remem_test", "verbosity": "DEBUG"}, RememError("a fault"), 1, True),
        ({"model": "remem_hf", "tasks": None}, None, 1, False),
        ({"tasks": None}, None, None, False),
        ({"tasks": "remem_test"}, None, None, False),
    ],
)
def test_status_of_the_plain_command_line(capsys, given, error, status, traceback):
    module, ran = plain(error=error)
    if status:
        with pytest.raises(SystemExit) as left:
            module.cli_evaluate(arguments(**given))
        assert left.value.code == status
    else:
        module.cli_evaluate(arguments(**given))
    assert ("traceback" in ran) == traceback
    said = capsys.readouterr().err
    assert ("lmms-eval: error: a fault" in said) == (isinstance(error, RememError) and not traceback)
    assert module.cli_evaluate_single.__name__ == "cli_evaluate_single"


def test_a_rank_among_others_leaves_at_once(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    module, _ = plain(error=RememError("a fault"))
    with pytest.raises(SystemExit):
        module.cli_evaluate(arguments(model="remem_hf"))
    assert "a fault" in capsys.readouterr().err


def test_the_library_raises_and_never_exits(remem_data, monkeypatch):
    monkeypatch.setenv("REMEM_DATA", "/no/where")
    with pytest.raises(RememError, match="/no/where"):
        run(Scripted(lambda row: "x"), "remem_forget1")
    monkeypatch.setenv("REMEM_DATA", str(remem_data))
    results = run(Scripted(lambda row: None), "remem_forget1")  # failed replies: told in the results
    assert results["results"]["remem_forget1"]["remem_failed_rate,none"] == 1.0
    assert evaluator.simple_evaluate.__module__ == "lmms_eval.evaluator"
    assert sys.exit.__name__ == "exit"


# --model llava


def test_llava_without_the_package(checkpoints, monkeypatch, capsys):
    asked = []

    @functools.wraps(RememHF.__init__)
    def note(self, pretrained="", **kwargs):
        asked.append((pretrained, kwargs))

    monkeypatch.setattr(RememHF, "__init__", note)
    for arguments_ in ("", "pretrained=liuhaotian/llava-v1.5-13b,peft=a", "pretrained=/some/folder"):
        models.get_model("llava").create_from_arg_string(arguments_, {"batch_size": "2", "device": None})
    assert [name for name, _ in asked] == [
        "llava-hf/llava-1.5-7b-hf",
        "llava-hf/llava-1.5-13b-hf",
        "/some/folder",
    ]
    assert asked[1][1] == {"peft": "a", "batch_size": "2"}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "llava-1.5-7b-hf through remem_hf, because the package 'llava'" in lines[0]
    assert models.get_model("llava").is_simple is False


def test_llava_by_the_issues_own_words(remem_data, checkpoints, command_line):
    status, out, err = command_line(
        f"--tasks remem_forget1,remem_retain --model llava --model_args pretrained={checkpoints['llava']} "
        "--gen_kwargs max_new_tokens=3 --limit 2"
    )
    assert status == 0 and "EM" in out and "not installed" in err
    status, _, err = command_line("--tasks remem_forget1 --model llava")
    assert status == 1 and "llava-hf/llava-1.5-7b-hf" in err and "Traceback" not in err


def fake_llava(folder, builder):
    """A package with the modules that lmms-eval's class imports."""
    files = {
        "__init__": "",
        "constants": "DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX = '<image>', -200",
        "conversation": "conv_templates = {}",
        "mm_utils": "get_model_name_from_path = process_images = tokenizer_image_token = None",
        "model/__init__": "",
        "model/builder": builder,
    }
    for name, text in files.items():
        file = folder / "llava" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def no_llava_modules(monkeypatch):
    for name in [name for name in sys.modules if name == "llava" or name.startswith("llava.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "lmms_eval.models.simple.llava", raising=False)
    yield
    for name in [name for name in sys.modules if name == "llava" or name.startswith("llava.")]:
        del sys.modules[name]
    sys.modules.pop("lmms_eval.models.simple.llava", None)


def test_llava_with_the_package(tmp_path, monkeypatch, capsys, no_llava_modules):
    (tmp_path / "plain" / "llava").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "plain")
    assert not llava.has_llava_next()  # a folder that happens to be called so
    fake_llava(tmp_path / "next", "def load_pretrained_model(*args, **kwargs): raise SystemError('theirs')")
    monkeypatch.syspath_prepend(tmp_path / "next")
    assert llava.has_llava_next()
    manifest = llava.manifest()
    registry = type(models.MODEL_REGISTRY_V2)()
    for known in (*models._build_builtin_manifests(), manifest):
        registry.register_manifest(known, overwrite=True)
    theirs = registry.get_model_class("llava")
    assert theirs.__module__ == "lmms_eval.models.simple.llava" and theirs.is_simple
    assert "lmms-eval's own class, because the package 'llava'" in capsys.readouterr().err


def test_llava_with_a_broken_package(tmp_path, monkeypatch, no_llava_modules):
    fake_llava(tmp_path, "import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        RememError, match="cannot be imported .No module named 'no_such_module_at_all'.*remem_hf"
    ):
        _ = llava.UpstreamLlava
    with pytest.raises(AttributeError):
        _ = llava.nothing


def test_a_model_that_nobody_knows_is_one_line_and_what_is_nearest(remem_data, command_line):
    status, _, err = command_line("--model remem_fh --tasks remem_forget1")
    assert status == 1 and "Traceback" not in err
    assert err.splitlines()[-1] == (
        "lmms_eval: error: no model 'remem_fh'; did you mean 'remem_hf'? (any checkpoint: --model remem_hf)"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("just a text", "holds no settings"),
        ("", "holds no settings"),
        ("- tasks: remem_forget1\n- 3", "holds no settings"),
        ("tasks: [remem", "is not YAML"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("taks: remem_forget1", "Unknown keys in config file: ['taks']"),
        ("env: nothing\ntasks: remem_forget1", "'env' in config must be a dict"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_one_line(remem_data, command_line, tmp_path, text, says):
    file = tmp_path / "run.yaml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, _, err = command_line(f"--config {file}")
    lines = [line for line in err.splitlines() if line.startswith("lmms_eval: error:")]
    assert status == 2 and len(lines) == 1 and "Traceback" not in err
    assert "--config" in lines[0] and str(file) in lines[0] and says in lines[0]
