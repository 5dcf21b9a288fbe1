"""Tiny checkpoints of every shape load like real ones."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from remem_tasks.checkpoints import load_model, load_processor, save
from remem_tasks.engine.prompts import Chat, Prompts
from remem_tasks.errors import RememError
from support import architectures as shapes
from support.chats import TEXTS, chats


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_a_saved_folder_loads_with_the_auto_classes_and_gives_the_same_logits(shape, tmp_path):
    model, processor = shapes.build(shape, TEXTS)
    assert 1e5 < sum(weight.numel() for weight in model.parameters()) < 5e5
    save(model, processor, tmp_path)
    _, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    rows = chats(3)
    inputs, again = (Prompts(one).encode(rows) for one in (processor, load_processor(str(tmp_path))))
    assert inputs.keys() == again.keys()
    assert all(torch.equal(inputs[name], again[name]) for name in inputs)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, load_model(str(tmp_path)).eval()(**again).logits)
    lengths = inputs["attention_mask"].sum(-1).tolist()
    assert len(set(lengths)) == 3 and inputs["attention_mask"][:, -1].all()


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_a_seed_makes_the_weights_and_the_picture_reaches_the_model(shape):
    model, processor = shapes.build(shape, TEXTS, seed=1)
    same, other = (shapes.build(shape, TEXTS, seed=seed)[0] for seed in (1, 2))
    weights, again, third = (one.lm_head.weight for one in (model, same, other))
    assert torch.equal(weights, again) and not torch.equal(weights, third)
    prompts = Prompts(processor)
    red, navy = chats(2)
    content = [navy.messages[0]["content"][0], *red.messages[0]["content"][1:]]
    swapped = Chat([{"role": "user", "content": content}], "row")
    with torch.no_grad():
        logits = [model(**prompts.encode([one])).logits[0, -1] for one in (red, swapped)]
    assert not torch.allclose(*logits, atol=1e-6)


def test_an_unknown_shape_is_refused():
    with pytest.raises(RememError, match="unknown shape 'gpt'; choose from llava, qwen2_5_vl, llava_next"):
        shapes.build("gpt", [])
