"""Tiny checkpoints in the shapes of real ones: LLaVA-1.5 and Qwen2.5-VL with about a million parameters.

They are Hugging Face folders like any other (config, safetensors, tokenizer, processor, chat
template), so nothing that loads them knows that they are tiny.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AddedToken,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from remem_tasks.errors import RememError

# The turns of LLaVA-1.5: like the released template, it puts no end-of-sequence after an answer.
LLAVA_TEMPLATE = """\
{%- for message in messages -%}
{{ message['role'].upper() }}: {# images come first, each on a line of its own #}
{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' %}<image>{{ '\\n' }}{% endfor -%}
{%- for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor -%}
{%- endif -%}
{%- if not loop.last or add_generation_prompt %}{{ ' ' }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}ASSISTANT:{% endif -%}
"""

# The turns of Qwen2.5-VL (ChatML, one vision block for each picture).
QWEN_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}{{ '\\n' }}
{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\\n' }}{%- endif -%}
"""

SPECIAL = {
    "llava": ["<s>", "</s>", "<pad>", "<image>"],
    "qwen2_5_vl": [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ],
}
ARCHS = tuple(SPECIAL)
WIDTH = 192
"""Hidden size of a tiny language model."""


def byte_level(texts: Iterable[str], special: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE with single digits and the given special tokens, which come first."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return core


def train_tokenizer(arch: str, texts: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with single digits, so that any text can be written with it.

    Args:
        arch: whose special tokens it gets.
        texts: what the merges are learned from.
        vocab_size: upper bound, special tokens and 256 bytes included.
    """
    core = byte_level(texts, SPECIAL[arch], vocab_size)
    if arch == "llava":
        extra = {"image_token": "<image>"}
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    else:
        extra = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, extra_special_tokens=extra, **names)


def _llava(tokenizer: PreTrainedTokenizerFast, image_size: int, width: int, layers: int):
    patch = 8
    processor = LlavaProcessor(
        CLIPImageProcessor(
            size={"height": image_size, "width": image_size},
            crop_size={"height": image_size, "width": image_size},
        ),
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 16 * 16,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=patch,
        projection_dim=64,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(image_size // patch) ** 2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    return LlavaForConditionalGeneration(config), processor


def _qwen2_5_vl(tokenizer: PreTrainedTokenizerFast, image_size: int, width: int, layers: int):
    ids = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in {
            "image_token_id": "<|image_pad|>",
            "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|vision_start|>",
            "vision_end_token_id": "<|vision_end|>",
        }.items()
    }
    pixels = {"shortest_edge": image_size**2, "longest_edge": image_size**2}
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=pixels, **sizes),
        tokenizer,
        Qwen2VLVideoProcessor(size=pixels, **sizes),
        chat_template=QWEN_TEMPLATE,
    )
    head = width // 4
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": width * 8 // 3 // 16 * 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [head // 4, head // 8, head // 8],
            },
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_heads": 4,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 16,
            "fullatt_block_indexes": [0, 1, 2],
            "out_hidden_size": width,
        },
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **ids,
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def build(
    arch: str,
    texts: Iterable[str],
    *,
    image_size: int = 56,
    width: int = WIDTH,
    layers: int = 2,
    vocab_size: int = 1024,
    seed: int = 0,
):
    """A randomly initialised tiny model and its processor.

    Args:
        arch: `llava` or `qwen2_5_vl`.
        texts: what the tokenizer is trained on.
        image_size: side of the square picture in pixels; must divide into patches of 8.
        width: hidden size of the language model, which has four heads: a multiple of 32.
        layers: its depth.

    Returns:
        (model, processor), in float32 on the CPU.
    """
    if arch not in ARCHS:
        raise RememError(f"unknown architecture '{arch}'; choose from {', '.join(ARCHS)}")
    if image_size % 8:
        raise RememError(f"image size {image_size} does not divide into patches of 8")
    if width < 32 or width % 32:
        raise RememError(f"width {width} is no multiple of 32")
    tokenizer = train_tokenizer(arch, texts, vocab_size)
    torch.manual_seed(seed)
    model, processor = {"llava": _llava, "qwen2_5_vl": _qwen2_5_vl}[arch](
        tokenizer, image_size, width, layers
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), processor
