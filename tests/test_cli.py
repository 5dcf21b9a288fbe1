"""The command `remem`: help, wrong arguments, errors in one line, merging adapters."""

import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from remem_tasks import cli
from remem_tasks.checkpoints import load_merged


def remem(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(argv))
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


@pytest.mark.parametrize("command", ["demo", "forge", "base", "merge"])
def test_every_command_has_help(capsys, command):
    status, out, _ = remem(capsys, command, "--help")
    assert status == 0 and f"remem {command}" in out and "--out" in out
    assert command in remem(capsys, "--help")[1]


@pytest.mark.parametrize("argv", [[], ["nothing"], ["forge"], ["forge", "--out", "x", "--hops", "two"]])
def test_wrong_arguments_end_with_status_2(capsys, argv):
    status, _, err = remem(capsys, *argv)
    assert status == 2 and "usage: remem" in err


@pytest.mark.parametrize(
    "argv, near",
    [
        (["repot"], "report"),
        (["data", "chek"], "check"),
        (["data", "check", "x", "--benchmark", "claer"], "clear"),
    ],
)
def test_a_mistyped_choice_is_told_what_is_nearest(capsys, argv, near):
    status, _, err = remem(capsys, *argv)
    assert status == 2 and err.rstrip().endswith(f"did you mean '{near}'?")


def test_a_fault_is_one_line_and_status_1(capsys, tmp_path):
    status, out, err = remem(capsys, "forge", "--out", str(tmp_path / "data"), "--identities", "2")
    assert (status, out) == (1, "")
    assert err.splitlines() == ["remem forge: error: --identities 2 is out of range: 5 to 10000"]


def test_forge_says_what_it_made(capsys, tmp_path):
    knobs = [
        "--identities",
        "5",
        "--qa",
        "4",
        "--images",
        "2",
        "--test-qa",
        "2",
        "--retain-qa",
        "2",
        "--image-size",
        "32",
        "--hops",
        "1",
    ]
    status, out, _ = remem(capsys, "forge", "--out", str(tmp_path / "data"), *knobs)
    assert status == 0
    assert "finetune 20, forget1 4, forget2 8, forget3 12, forget4 16, retain 2, test 10 rows" in out


def test_a_missing_extra_is_named(capsys, tmp_path, monkeypatch):
    import remem_tasks.benchmarks.remem.forge

    monkeypatch.setitem(sys.modules, "faker", None)
    for package in (remem_tasks, remem_tasks.benchmarks.remem):  # what is imported anew is not kept
        monkeypatch.setattr(package, "forge", package.forge)
    for name in [
        name
        for name in sys.modules
        if name.startswith(("remem_tasks.forge", "remem_tasks.benchmarks.remem.forge"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    status, _, err = remem(capsys, "forge", "--out", str(tmp_path / "data"))
    assert status == 1 and "pip install 'remem-unlearning[forge]'" in err


def test_merge_writes_the_model_that_the_adapter_stands_for(capsys, tmp_path, checkpoints):
    base = AutoModelForImageTextToText.from_pretrained(checkpoints["llava"])
    torch.manual_seed(0)
    adapted = get_peft_model(
        base, LoraConfig(target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    status, _, err = remem(
        capsys, "merge", "--adapter", str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")
    )
    assert status == 0, err
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").state_dict()
    expected = load_merged(str(tmp_path / "adapter")).state_dict()
    start = AutoModelForImageTextToText.from_pretrained(checkpoints["llava"]).state_dict()
    assert all(torch.equal(merged[name], expected[name]) for name in expected)
    changed = {name for name in start if not torch.equal(start[name], merged[name])}
    assert changed and all("q_proj" in name for name in changed)
    assert (tmp_path / "merged" / "processor_config.json").is_file()
    again = remem(capsys, "merge", "--adapter", str(tmp_path / "adapter"), "--out", str(tmp_path / "merged"))
    assert again[0] == 1 and "not empty" in again[2]
    wrong = remem(capsys, "merge", "--adapter", str(checkpoints["llava"]), "--out", str(tmp_path / "x"))
    assert wrong[0] == 1 and "no adapter_config.json" in wrong[2]


@pytest.mark.slow
def test_help_is_quick_and_imports_no_torch():
    code = "import sys, remem_tasks.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "False"
