"""What a path leads to is said before anything else is asked of it."""

import json

import pytest
from transformers import LlamaConfig, ViTConfig

from remem_tasks.checkpoints import check_path, load_model, load_processor
from remem_tasks.errors import RememError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("load", [load_model, load_processor])
@pytest.mark.parametrize(
    "config, says",
    [(LlamaConfig(), "sees no pictures (a llama model)"), (ViTConfig(), "is of another kind (a vit model)")],
)
def test_another_kind_of_model_is_named(load, config, says, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(RememError) as caught:
        load(str(tmp_path))
    assert says in str(caught.value) and "give an image-text-to-text checkpoint" in str(caught.value)


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_a_folder_that_is_no_checkpoint_is_said_to_be_none(load, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RememError, match="is a folder without a usable config"):
        load(str(tmp_path))


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_a_name_that_is_nowhere_is_no_question_of_processors(load):
    with pytest.raises(RememError, match="could not be fetched from the Hub"):
        load("models/nope")


def test_a_checkpoint_without_a_processor_lacks_its_processor(checkpoints, tmp_path):
    (tmp_path / "config.json").write_text((checkpoints["llava"] / "config.json").read_text())
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llava"
    with pytest.raises(RememError, match="save one beside the weights"):
        load_processor(str(tmp_path))


def test_a_mistyped_folder_is_told_what_is_like_it(tmp_path, monkeypatch):
    """A name with an owner may be of the Hub, whatever is here: its failure says what is like it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "models" / "memorised").mkdir(parents=True)
    for name, near in (("model", "models"), ("./models/memorized", "models/memorised")):
        with pytest.raises(RememError, match=f"no such folder; did you mean '{near}'"):
            check_path(name, "checkpoint")
    assert check_path("models/memorized", "checkpoint") == check_path("gpt2", "checkpoint").replace(
        "gpt2", "models/memorized"
    )
    with pytest.raises(RememError, match=r"did you mean 'models/memorised'\?$"):
        load_model("models/memorized", local_files_only=True)
