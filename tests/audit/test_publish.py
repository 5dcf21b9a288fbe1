"""`remem push`: everything below a folder, each to its repository."""

import shutil
import subprocess
import sys

import pytest
from support.hub_mirror import TOKEN, HubMirror

from remem_tasks.audit.publish import items_of, publish
from remem_tasks.errors import RememError


def checkpoint(folder, card=True, weights=True, config="config.json"):
    folder.mkdir(parents=True)
    (folder / config).write_text("{}")
    if weights:
        (folder / "model.safetensors").write_bytes(b"weights")
    if card:
        (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n# npo\n")
    return folder


@pytest.fixture
def demo(tmp_path):
    """A folder as the demo leaves it, with what resumes a training in it."""
    root = tmp_path / "demo"
    for name in ("gold", "npo"):
        checkpoint(root / "models" / name)
    checkpoint(root / "models" / "base", card=False)
    checkpoint(root / "models" / "npo" / "checkpoint-10")
    (root / "models" / "npo" / "checkpoint-10" / "optimizer.pt").write_bytes(b"x")
    (root / "models" / "npo" / "training_args.bin").write_bytes(b"x")
    (root / "models" / "npo" / "run.json").write_text("{}")
    (root / "models" / "npo" / ".secret").write_text("x")
    return root


def test_what_is_published_and_what_is_not(demo):
    items = {item.name: item for item in items_of(demo)}
    assert set(items) == {"demo-base", "demo-gold", "demo-npo"}
    assert "no card" in items["demo-base"].missing and not items["demo-npo"].missing
    assert [item.name for item in items_of(demo / "models" / "npo")] == ["npo"]


def test_a_dry_run_needs_no_token_and_no_network(demo, monkeypatch):
    monkeypatch.setattr("remem_tasks.audit.publish.HfApi", lambda *_: pytest.fail("it called the Hub"))
    told = {item.name: page for item, page in publish(demo, "me", dry_run=True)}
    assert told["demo-npo"] == "me/demo-npo" and told["demo-base"].startswith("left out: ")


def test_names_are_names_that_the_hub_takes(tmp_path):
    checkpoint(tmp_path / "a run (2)!" / "models" / "lr=1e-4..x")
    (item,) = items_of(tmp_path / "a run (2)!")
    assert item.name == "a-run-2-lr-1e-4-x"


def test_two_of_one_name_are_refused(tmp_path):
    for place in ("a", "b"):
        checkpoint(tmp_path / "x" / place / "npo")
    with pytest.raises(RememError, match="two checkpoints would be 'x-npo'"):
        list(publish(tmp_path / "x", "me", dry_run=True))


@pytest.mark.parametrize(
    "make, says", [(lambda folder: None, "nothing to publish"), (shutil.rmtree, "is not a folder")]
)
def test_nothing_there(tmp_path, make, says):
    folder = tmp_path / "empty"
    folder.mkdir()
    make(folder)
    with pytest.raises(RememError, match=says):
        list(items_of(folder))


@pytest.mark.slow
def test_a_pushed_folder_is_on_the_hub(demo, data_dir, tmp_path):
    shutil.copytree(data_dir, demo / "data")
    (tmp_path / "repos").mkdir()
    with HubMirror(tmp_path / "repos") as mirror:
        environment = {**mirror.environment(tmp_path / "cache"), "HF_TOKEN": TOKEN}
        argv = [sys.executable, "-m", "remem_tasks", "push", str(demo), "--namespace", "tester"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "left out: it has no card" in done.stdout
        sent = {
            path.name for path in (tmp_path / "repos" / "tester" / "demo-npo").rglob("*") if path.is_file()
        }
        assert sent - {".gitattributes"} == {"README.md", "config.json", "model.safetensors", "run.json"}
        assert (tmp_path / "repos" / "tester" / "demo-data" / "README.md").is_file()
        assert not (tmp_path / "repos" / "tester" / "demo-base").exists()
        environment["HF_TOKEN"] = "hf_wrong"
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1 and "error:" in done.stderr and "Traceback" not in done.stderr
