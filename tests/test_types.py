"""The ratchet of type errors: what it counts, and that it only falls."""

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def types(monkeypatch, tmp_path):
    loader = SourceFileLoader("ci_types", str(ROOT / ".ci" / "types"))
    module = module_from_spec(spec_from_loader("ci_types", loader))
    loader.exec_module(module)
    monkeypatch.setattr(module, "LEDGER", tmp_path / "types.json")
    module.LEDGER.write_text(json.dumps({"unlearning": 1, "remem_tasks/engine": 2}))
    return module


def lines(*files):
    return [f"{file}:3: error: wrong  [misc]" for file in files]


def run(types, monkeypatch, plain, strict=(), arguments=()):
    monkeypatch.setattr(types, "errors", lambda *given: list(strict) if "--strict" in given else list(plain))
    monkeypatch.setattr("sys.argv", ["types", *arguments])
    return types.main()


def test_what_is_committed_passes_and_one_more_does_not(types, monkeypatch, capsys):
    same = lines("unlearning/run.py", "remem_tasks/engine/tree.py", "remem_tasks/engine/trie.py")
    assert run(types, monkeypatch, same) == 0
    assert run(types, monkeypatch, [*same, *lines("unlearning/data.py")]) == 1
    assert "unlearning: 2 type errors, 1 are allowed" in capsys.readouterr().out
    assert run(types, monkeypatch, [*same, *lines("remem_tasks/new/a.py")]) == 1
    assert "remem_tasks/new: 1 type errors, 0 are allowed" in capsys.readouterr().out


def test_one_strict_error_fails(types, monkeypatch, capsys):
    assert run(types, monkeypatch, [], lines("unlearning/losses.py")) == 1
    assert "unlearning/losses.py:3: error: wrong" in capsys.readouterr().out


def test_writing_lowers_and_never_raises(types, monkeypatch, capsys):
    fewer = lines("remem_tasks/engine/tree.py")
    assert (
        run(types, monkeypatch, fewer) == 0
        and "fewer than committed in unlearning" in capsys.readouterr().out
    )
    assert run(types, monkeypatch, fewer, arguments=["--write"]) == 0
    assert json.loads(types.LEDGER.read_text()) == {"remem_tasks/engine": 1}
    assert run(types, monkeypatch, lines("unlearning/run.py"), arguments=["--write"]) == 1
    assert json.loads(types.LEDGER.read_text()) == {"remem_tasks/engine": 1}


def test_a_checker_that_cannot_run_is_not_a_pass(types, monkeypatch):
    monkeypatch.setattr(types.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit, match="mypy could not run"):
        types.errors("x")


def test_what_is_strict_exists(types):
    assert all((ROOT / name).exists() for name in types.STRICT)
