"""Tiny checkpoints load like real ones and write any text."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.errors import RememError
from remem_tasks.tiny import build as checkpoint

TOKENIZERS = {
    arch: checkpoint.train_tokenizer(arch, ["the phone of Ada is 555 0101"] * 3, 400)
    for arch in checkpoint.ARCHS
}


@pytest.mark.parametrize("arch", checkpoint.ARCHS)
def test_saved_folder_loads_with_the_auto_classes_and_gives_the_same_logits(arch, checkpoints):
    model, info = AutoModelForImageTextToText.from_pretrained(checkpoints[arch], output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    processor = AutoProcessor.from_pretrained(checkpoints[arch])
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who is this?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(images=[Image.new("RGB", (90, 60))], text=[text], return_tensors="pt")
    again = AutoModelForImageTextToText.from_pretrained(checkpoints[arch])
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs).logits, again.eval()(**inputs).logits)
    assert (checkpoints[arch] / "model.safetensors").is_file()
    image_tokens = (
        inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    ).sum()
    assert image_tokens > 1, "the processor expands one placeholder to one token a patch"


@pytest.mark.parametrize("arch", checkpoint.ARCHS)
@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_tokenizer_writes_any_text(arch, text):
    tokenizer = TOKENIZERS[arch]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    special = any(token in text for token in checkpoint.SPECIAL[arch])
    assert special or tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("arch", checkpoint.ARCHS)
def test_digits_are_single_tokens(arch):
    tokens = TOKENIZERS[arch].tokenize("555")
    assert tokens == ["5", "5", "5"]


def test_turns_follow_the_released_templates(checkpoints):
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Who?"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Ada."}]},
    ]
    llava, qwen = (AutoProcessor.from_pretrained(checkpoints[arch]) for arch in ("llava", "qwen2_5_vl"))
    assert llava.apply_chat_template(turns, tokenize=False) == "USER: <image>\nWho? ASSISTANT: Ada."
    assert llava.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True).endswith(
        "Who? ASSISTANT:"
    )
    assert qwen.apply_chat_template(turns, tokenize=False).endswith("<|im_start|>assistant\nAda.<|im_end|>\n")


def test_unknown_architecture_and_size_are_refused():
    with pytest.raises(RememError, match="unknown architecture 'gpt'"):
        checkpoint.build("gpt", [])
    with pytest.raises(RememError, match="patches of 8"):
        checkpoint.build("llava", [], image_size=50)
    for width in (0, 16, 100):
        with pytest.raises(RememError, match=f"width {width} is no multiple of 32"):
            checkpoint.build("llava", [], width=width)
