"""Tiny random checkpoints in the shapes that the decoder is tested on.

Between them: one grid of patches and pictures cut into tiles, positions in one and in three
dimensions, features added to several layers, sliding windows, pictures whose tokens see each other in
both directions, few heads of keys for many of queries. Widths are small; what a forward does is the
real thing. Chat templates are shaped like the released ones, with text and pictures only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
)

from remem_tasks.errors import RememError
from remem_tasks.tiny import build as checkpoint

SIDE, PATCH = 32, 8  # pixels of a tile, and of a patch of it
PATCHES = (SIDE // PATCH) ** 2
VISION = 48  # width of the picture's encoder
QWEN = checkpoint.SPECIAL["qwen2_5_vl"]


def chat_template(user: str, assistant: str, picture: str, start: str = "", generation: str = "") -> str:
    """A template whose turns are `user` or `assistant` with `{}` for their content.

    Args:
        picture: written where a turn has an image.
        start: before the first turn.
        generation: what an assistant's turn begins with, if it is to be generated.
    """

    def say(text: str) -> str:
        return "{{ " + repr(text) + " }}"

    parts = (
        "{%- for part in m['content'] -%}"
        + "{%- if part['type'] == 'image' -%}"
        + say(picture)
        + "{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}"
        + "{%- endfor -%}"
    )
    content = "{%- if m['content'] is string -%}{{ m['content'] }}{%- else -%}" + parts + "{%- endif -%}"

    def turn(form: str) -> str:
        before, after = form.split("{}")
        return say(before) + content + say(after)

    return (
        say(start)
        + "{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}"
        + turn(assistant)
        + "{%- else -%}"
        + turn(user)
        + "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}"
        + say(generation)
        + "{%- endif -%}"
    )


def chatml(picture: str) -> str:
    """ChatML, as the Qwen family writes it (users only: no system turns)."""
    return chat_template(
        "<|im_start|>user\n{}<|im_end|>\n",
        "<|im_start|>assistant\n{}<|im_end|>\n",
        picture,
        generation="<|im_start|>assistant\n",
    )


class _Text(NamedTuple):
    """What a shape's text side is made of."""

    tokenizer: PreTrainedTokenizerFast
    width: int
    layers: int

    def id(self, token: str) -> int:
        return self.tokenizer.convert_tokens_to_ids(token)

    def config(self, **more: Any) -> dict[str, Any]:
        """Two heads of keys for four of queries."""
        return {
            "vocab_size": len(self.tokenizer),
            "hidden_size": self.width,
            "intermediate_size": self.width * 2,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "bos_token_id": self.tokenizer.bos_token_id,
            "eos_token_id": self.tokenizer.eos_token_id,
            "pad_token_id": self.tokenizer.pad_token_id,
        } | more


def _encoder(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": VISION,
        "intermediate_size": 2 * VISION,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
    } | more


PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
SQUARE = {"height": SIDE, "width": SIDE}


def _llava_next(text: _Text):
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
        ),
        text.tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template("[INST] {} [/INST]", " {}</s>", "<image>\n", start="<s>"),
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**_encoder(projection_dim=VISION)),
        text_config=MistralConfig(**text.config(sliding_window=None)),
        image_token_index=text.id("<image>"),
        vision_feature_layer=-1,
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=PATCHES,
    )
    return LlavaNextForConditionalGeneration(config), processor


def _llava_onevision(text: _Text):
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=PINPOINTS),
        text.tokenizer,
        LlavaOnevisionVideoProcessor(size=SQUARE),
        num_image_tokens=PATCHES,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>\n"),
    )
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**_encoder(vision_use_head=False)),
        text_config=Qwen2Config(**text.config()),
        image_token_index=text.id("<image>"),
        video_token_index=text.id("<video>"),
        image_grid_pinpoints=PINPOINTS,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def _qwen_ids(text: _Text) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: text.id(token) for name, token in names.items()}


def _qwen_sizes(patch: int) -> dict[str, Any]:
    """Pictures keep their proportions, so that rows have grids of their own."""
    pixels = {"shortest_edge": 32**2, "longest_edge": 64**2}
    return {"size": pixels, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}


def _qwen2_vl(text: _Text):
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**_qwen_sizes(8)),
        text.tokenizer,
        Qwen2VLVideoProcessor(**_qwen_sizes(8)),
        chat_template=chatml(QWEN_PICTURE),
    )
    head = text.width // 4
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [head // 4, head // 8, head // 8],
    }
    config = Qwen2VLConfig(
        text_config=text.config(rope_parameters=rope),
        vision_config={
            "depth": 2,
            "embed_dim": VISION,
            "hidden_size": text.width,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        **_qwen_ids(text),
    )
    return Qwen2VLForConditionalGeneration(config), processor


def _qwen3_vl(text: _Text):
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**_qwen_sizes(8)),
        text.tokenizer,
        Qwen3VLVideoProcessor(**_qwen_sizes(8)),
        chat_template=chatml(QWEN_PICTURE),
    )
    head = text.width // 4
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [head // 4, head // 8, head // 8],
        "mrope_interleaved": True,
    }
    config = Qwen3VLConfig(
        text_config=text.config(rope_parameters=rope, head_dim=head),
        vision_config={
            "depth": 2,
            "hidden_size": VISION,
            "intermediate_size": 2 * VISION,
            "num_heads": 4,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": text.width,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **_qwen_ids(text),
    )
    return Qwen3VLForConditionalGeneration(config), processor


IDEFICS = chat_template(
    "<|im_start|>User:{}<end_of_utterance>\n",
    "Assistant: {}<end_of_utterance>\n",
    "<image>",
    generation="Assistant:",
)


def _tiles(kind: type) -> Any:
    """Pictures are cut into tiles, with the whole picture behind them."""
    return kind(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})


def _idefics(text: _Text, pictures: type, config: type, model: type):
    # SmolVLM's own processor reads pictures as Idefics3's does, but cannot be made without `num2words`.
    processor = Idefics3Processor(
        _tiles(pictures), text.tokenizer, image_seq_len=PATCHES // 4, chat_template=IDEFICS
    )
    made = config(
        vision_config=_encoder(),
        text_config=text.config(model_type="llama"),
        image_token_id=text.id("<image>"),
        scale_factor=2,
        pad_token_id=text.tokenizer.pad_token_id,
    )
    return model(made), processor


def _idefics3(text: _Text):
    return _idefics(text, Idefics3ImageProcessor, Idefics3Config, Idefics3ForConditionalGeneration)


def _smolvlm(text: _Text):
    return _idefics(text, SmolVLMImageProcessor, SmolVLMConfig, SmolVLMForConditionalGeneration)


def _internvl(text: _Text):
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=4),
        text.tokenizer,
        InternVLVideoProcessor(size=SQUARE),
        image_seq_length=PATCHES // 4,
        chat_template=chatml("<IMG_CONTEXT>\n"),
    )
    config = InternVLConfig(
        vision_config=_encoder(image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH]),
        text_config=Qwen2Config(**text.config()),
        image_token_id=text.id("<IMG_CONTEXT>"),
        image_seq_length=PATCHES // 4,
    )
    return InternVLForConditionalGeneration(config), processor


def _gemma3(text: _Text):
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size=SQUARE),
        text.tokenizer,
        image_seq_length=PATCHES // 4,
        chat_template=chat_template(
            "<start_of_turn>user\n{}<end_of_turn>\n",
            "<start_of_turn>model\n{}<end_of_turn>\n",
            "<start_of_image>",
            start="<bos>",
            generation="<start_of_turn>model\n",
        ),
    )
    kinds = ["sliding_attention", "full_attention"] * text.layers
    config = Gemma3Config(
        # A window shorter than a prompt, so that it matters.
        text_config=text.config(
            head_dim=text.width // 4, sliding_window=12, layer_types=kinds[: text.layers]
        ),
        vision_config=_encoder(vision_use_head=False),
        mm_tokens_per_image=PATCHES // 4,
        boi_token_index=text.id("<start_of_image>"),
        eoi_token_index=text.id("<end_of_image>"),
        image_token_index=text.id("<image_soft_token>"),
        # Tied at random weights, the likeliest next token is the last one again, whatever was asked.
        tie_word_embeddings=False,
    )
    model = Gemma3ForConditionalGeneration(config)
    # It begins at zero, and no picture would reach the text.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.02)
    return model, processor


class Shape(NamedTuple):
    """How a shape is made.

    Attributes:
        make: its text side to (model, processor).
        special: its special tokens.
        names: the tokenizer's roles of them.
        extra: roles that a processor looks for on the tokenizer.
    """

    make: Callable[[_Text], tuple[Any, Any]]
    special: list[str]
    names: dict[str, str]
    extra: dict[str, str]


_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
_CHATML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_IDEFICS = {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|endoftext|>"}
_TILES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
_IDEFICS_SPECIAL = [
    *QWEN[:2],
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
    *_TILES,
]
_GEMMA = {"bos_token": "<bos>", "eos_token": "<end_of_turn>", "pad_token": "<pad>"}
_QWEN_EXTRA = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}

MAKERS = {
    "llava_next": Shape(_llava_next, ["<s>", "</s>", "<pad>", "<image>"], _LLAMA, {"image_token": "<image>"}),
    "llava_onevision": Shape(
        _llava_onevision,
        [*QWEN[:3], "<image>", "<video>"],
        _CHATML,
        {"image_token": "<image>", "video_token": "<video>"},
    ),
    "qwen2_vl": Shape(_qwen2_vl, QWEN, _CHATML, _QWEN_EXTRA),
    "qwen3_vl": Shape(_qwen3_vl, QWEN, _CHATML, _QWEN_EXTRA),
    "idefics3": Shape(_idefics3, _IDEFICS_SPECIAL, _IDEFICS, {"image_token": "<image>"}),
    "smolvlm": Shape(_smolvlm, _IDEFICS_SPECIAL, _IDEFICS, {"image_token": "<image>"}),
    "internvl": Shape(
        _internvl,
        [*QWEN[:3], "<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
        _CHATML,
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "gemma3": Shape(
        _gemma3,
        [
            "<pad>",
            "<bos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ],
        _GEMMA,
        {
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    ),
}
SHAPES = (*checkpoint.ARCHS, *MAKERS)


def build(shape: str, texts: Iterable[str], *, width: int = 64, layers: int = 2, seed: int = 0):
    """A randomly initialised model of 0.15 to 0.4 million parameters and its processor.

    Args:
        shape: one of SHAPES.
        texts: what the tokenizer is trained on.
        width: hidden size of the language model.
        layers: its depth.

    Returns:
        (model, processor), in float32 on the CPU, in eval mode.
    """
    if shape in checkpoint.ARCHS:
        return checkpoint.build(shape, texts, width=width, layers=layers, vocab_size=400, seed=seed)
    if shape not in MAKERS:
        raise RememError(f"unknown shape '{shape}'; choose from {', '.join(SHAPES)}")
    maker = MAKERS[shape]
    core = checkpoint.byte_level(texts, maker.special, 400)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, extra_special_tokens=maker.extra, **maker.names
    )
    torch.manual_seed(seed)
    model, processor = maker.make(_Text(tokenizer, width, layers))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), processor
