"""The vision pre-training: who it shows, what it learns, what it leaves alone."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForImageTextToText

from remem_tasks.errors import RememError
from remem_tasks.forge.faces import PARTS
from remem_tasks.forge.people import make_people
from remem_tasks.tiny import build as checkpoint
from remem_tasks.tiny import pretrain, strangers


def test_corpus_is_about_other_people():
    text = " ".join(pretrain.corpus(people=5, seed=0))
    benchmark = make_people(5, seed=0)
    assert not any(person.name in text for person in benchmark)


def test_pictures_are_the_same_for_one_seed_and_any_workers():
    one, labels = strangers.draw_people(6, seed=0, workers=1)
    two, same = strangers.draw_people(6, seed=0, workers=2)
    assert [p.tobytes() for p in one] == [p.tobytes() for p in two]
    assert labels == same and [len(row) for row in labels] == [len(PARTS)] * 6
    assert all(0 <= value < len(values) for row in labels for value, values in zip(row, PARTS.values()))


def test_who_draws_loads_no_torch():
    code = "import sys, remem_tasks.tiny.strangers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arch", checkpoint.ARCHS)
def test_features_of_a_picture_do_not_depend_on_its_batch(arch):
    model, processor = checkpoint.build(arch, ["x"], width=64, vocab_size=400)
    pictures, _ = strangers.draw_people(3, 0, 1)
    batch = pretrain._prepare(processor, pictures)
    with torch.no_grad():
        together = pretrain.image_features(model, batch(torch.tensor([0, 1, 2])))
        alone = pretrain.image_features(model, batch(torch.tensor([1])))
    assert together.shape[0] == 3 and together.shape[2] == 64
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("arch", checkpoint.ARCHS)
def test_it_learns_to_see_and_leaves_the_language_model_alone(arch):
    model, processor = checkpoint.build(arch, ["x"], width=64, vocab_size=400)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = pretrain.pretrain(model, processor, pictures=400, epochs=10, seed=0, workers=1, size=24)
    for name, value in model.state_dict().items():
        language = ".language_model." in name or "lm_head" in name
        assert torch.equal(value, before[name]) == (language or ("post_layernorm" in name)), name
    # Chance is 1 in 5 for the skin and 1 in 8 for the hair's colour.
    assert report["held_out_accuracy"]["skin"] > 0.4
    assert report["held_out_accuracy"]["hair_colour"] > 0.2


@pytest.mark.slow
def test_base_checkpoint_is_complete_and_never_overwrites(tmp_path):
    kwargs = {"pictures": 40, "epochs": 1, "image_size": 56, "seed": 0, "workers": 1}
    report = pretrain.make_base(tmp_path / "base", "llava", **kwargs)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    assert sum(p.numel() for p in model.parameters()) == report["parameters"] > 1_000_000
    assert (tmp_path / "base" / "model.safetensors").stat().st_size <= 6 * 2**20
    with pytest.raises(RememError, match="not empty"):
        pretrain.make_base(tmp_path / "base", "llava", **kwargs)
