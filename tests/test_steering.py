"""A steering file beside the weights: what it does to states by hand, who applies it, who refuses it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from remem_tasks import checkpoints, checksums, steering
from remem_tasks.engine.cache import hash_of_model
from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.steering import FILE, Steering


def by_hand(scale=0.0, threshold=0.5, layer=0):
    """Two features of three numbers: the first number less 1, and the sum of the others."""
    return Steering(
        layer, scale, threshold,
        encoder=torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), bias=torch.tensor([0.0, -1.0]),
        decoder=torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]]), centre=torch.tensor([1.0, 0.0, 0.0]),
    )  # fmt: skip


def test_what_is_added_by_hand():
    """a of (3, 1, 2) is (2, 2), of (1.4, 0, 1) (.4, 0), both off; the change is (scale − 1) Σ z d."""
    states = torch.tensor([[[3.0, 1.0, 2.0], [1.4, 0.0, 1.0]]])
    assert by_hand().change(states).tolist() == [[[-2.0, -1.0, 0.0], [0.0, 0.0, 0.0]]]
    assert by_hand(scale=0.5).change(states)[0, 0].tolist() == [-1.0, -0.5, 0.0]
    assert by_hand(scale=-1.0).change(states)[0, 0].tolist() == [-4.0, -2.0, 0.0]
    assert not by_hand(scale=1.0).change(states).any()
    low = by_hand(threshold=0.3).change(states)[0, 1]
    assert low.tolist() == pytest.approx([-0.4, 0.0, 0.0])
    assert by_hand().change(states.bfloat16()).dtype == torch.bfloat16


def of_width(model, scale=0.0, layer=1):
    """Sixteen random features of a model's states."""
    width = model.get_input_embeddings().weight.shape[1]
    draw = torch.Generator().manual_seed(0)
    encoder, decoder = torch.randn(2, 16, width, generator=draw)
    return Steering(layer, scale, 0.1, encoder, torch.zeros(16), decoder, torch.zeros(width))


@pytest.fixture(scope="module")
def steered(checkpoints_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("steered") / "model"
    model = checkpoints.load_model(str(checkpoints_of))
    steering.save(model, of_width(model), folder)
    checkpoints.load_processor(str(checkpoints_of)).save_pretrained(folder)
    checksums.write(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints_of(checkpoints):
    return checkpoints["llava"]


def test_the_harness_model_applies_it_and_a_plain_loader_finds_no_weights(steered, checkpoints_of):
    """Weights that read as the model before unlearning would be a failure that looks like a result."""
    ours = RememHF(str(steered), device="cpu").model
    plain = checkpoints.load_model(str(checkpoints_of))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before, after = (model.eval()(input_ids=ids).logits for model in (plain, ours))
        steering.put_on(plain, steering.read(steered / FILE))
        again = plain(input_ids=ids).logits
    assert (after - before).abs().max() > 1e-3 and torch.equal(after, again)
    with pytest.raises(OSError, match="model.safetensors"):
        AutoModelForImageTextToText.from_pretrained(steered)


def test_training_and_merging_from_it_are_refused_in_one_line(steered):
    for load in (checkpoints.load_model, checkpoints.load_merged):
        with pytest.raises(
            RememError, match="is steered by its steering.safetensors, which training"
        ) as error:
            load(str(steered))
        assert "\n" not in str(error.value)


def test_what_is_kept_of_a_model_is_not_taken_for_the_steered_one(steered, checkpoints_of):
    processor = checkpoints.load_processor(str(checkpoints_of))
    model = checkpoints.load_model(str(steered), steered=True)
    seen = {hash_of_model(model, processor)}
    for scale in (0.5, 0.25):
        steering.steering_of(model).scale = scale
        seen.add(hash_of_model(model, processor))
    assert len(seen) == 3


def test_a_file_beside_plain_weights_counts_too(checkpoints_of, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoints_of, folder)
    steering.write(of_width(checkpoints.load_model(str(folder))), folder)
    if (folder / checksums.FILE).exists():
        (folder / checksums.FILE).unlink()
    assert steering.steering_of(RememHF(str(folder), device="cpu").model) is not None
    with pytest.raises(RememError, match="is steered"):
        checkpoints.load_model(str(folder))


def damaged(folder, kind):
    file = folder / FILE
    if kind == "lost":
        file.unlink()
        return "has lost steering.safetensors: without it, it is the model before unlearning"
    tensors, told = load_file(file), {"format": "1", "layer": "1", "scale": "0.0", "threshold": "0.1"}
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:200])
        return "damaged or cut short"
    if kind == "version":
        told["format"] = "2"
    if kind == "layer":
        told["layer"] = "7"
    if kind == "word":
        told["scale"] = "none"
    if kind == "nan":
        tensors["encoder"][0, 0] = float("nan")
    if kind == "shape":
        tensors["bias"] = tensors["bias"][:3]
    if kind == "width":
        tensors |= {name: tensors[name][..., :5].contiguous() for name in ("encoder", "decoder", "centre")}
    if kind == "missing":
        del tensors["centre"]
    save_file(tensors, file, told)
    return {
        "version": "no steering file of this version", "layer": "for decoder layer 7; the model has layers 0 to 1",
        "word": "cannot be read", "nan": "not a finite number", "shape": "its tensors are not", "missing": "cannot be read",
        "width": "states of 5 numbers",
    }[kind]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["lost", "cut", "version", "layer", "word", "nan", "shape", "width", "missing"]
)
def test_a_damaged_file_is_named_and_nothing_is_scored(steered, tmp_path, kind):
    folder = tmp_path / "model"
    shutil.copytree(steered, folder)
    (folder / checksums.FILE).unlink()
    why = damaged(folder, kind)
    with pytest.raises(RememError, match=why) as error:
        RememHF(str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_a_file_that_was_changed_since_is_told_by_its_checksum(steered, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(steered, folder)
    model = checkpoints.load_model(str(folder), steered=True)
    steering.write(of_width(model, scale=0.9), folder)
    with pytest.raises(
        RememError, match="steering.safetensors' is damaged, or another file than was written"
    ):
        RememHF(str(folder), device="cpu")


def test_weights_in_shards_are_found_under_their_name(checkpoints_of, tmp_path):
    model = checkpoints.load_model(str(checkpoints_of))
    folder = tmp_path / "model"
    model.config.remem_steering = steering.VARIANT
    model.save_pretrained(folder, variant=steering.VARIANT, max_shard_size="100KB")
    steering.write(of_width(model), folder)
    assert len(list(folder.glob("model.steered-*.safetensors"))) > 1
    found = checkpoints.load_model(str(folder), steered=True)
    assert all(torch.equal(one, other) for one, other in zip(found.parameters(), model.parameters()))
    assert json.loads((folder / "config.json").read_text())["remem_steering"] == "steered"
    with pytest.raises(RememError, match="steered already"):
        steering.put_on(found, of_width(model))
