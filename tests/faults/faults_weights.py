"""Weights and configuration of a checkpoint that is scored."""

from __future__ import annotations

import json

import torch
from frame import Fault, cut, edit_json, edit_weights, overwrite, remove
from safetensors.torch import load_file, save_file

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
Q = "language_model.model.layers.0.self_attn.q_proj.weight"


def scored(name: str, change, says: str = "", kind: str = "weights", **more) -> Fault:
    return Fault(kind, name, lambda world: world.score(world.checkpoint(change)), says, **more)


def _key(weights: dict, part: str) -> str:
    return next(name for name in sorted(weights) if part in name)


def each(part: str, change):
    """Changes the first tensor whose name holds `part`; `change(tensor)` gives the new one, None removes it."""

    def apply(weights: dict) -> None:
        name = _key(weights, part)
        new = change(weights.pop(name))
        if new is not None:
            weights[name] = new

    return edit_weights(apply)


def rename(part: str, new: str):
    def apply(weights: dict) -> None:
        name = _key(weights, part)
        weights[name.replace(part, new)] = weights.pop(name)

    return edit_weights(apply)


def every(change):
    def apply(weights: dict) -> None:
        for name in list(weights):
            weights[name] = change(weights[name])

    return edit_weights(apply)


def in_shards(change=None):
    """The weights in two files and an index; `change(folder, index)` then breaks them."""

    def apply(folder):
        weights = load_file(folder / FILE)
        (folder / FILE).unlink()
        names = sorted(weights)
        placed = {}
        for number, half in enumerate((names[::2], names[1::2]), 1):
            file = f"model-{number:05d}-of-00002.safetensors"
            save_file({name: weights[name] for name in half}, folder / file, metadata={"format": "pt"})
            placed |= dict.fromkeys(half, file)
        index = {"metadata": {"total_size": 0}, "weight_map": placed}
        if change:
            change(folder, index)
        (folder / INDEX).write_text(json.dumps(index))

    return apply


SHARD = "model-00001-of-00002.safetensors"
PARTS = {
    "a text layer's projection": "layers.1.mlp.down_proj.weight",
    "a text layer's norm": "layers.0.input_layernorm.weight",
    "the last norm": "model.norm.weight",
    "the head": "lm_head.weight",
    "the embeddings": "embed_tokens.weight",
    "the projector's bias": "linear_1.bias",
    "a vision layer's weight": "encoder.layers.1.mlp.fc1.weight",
    "the patch embedding": "patch_embedding.weight",
}


def _lone_value(value: float):
    def change(tensor):
        tensor.view(-1)[0] = value
        return tensor

    return change


def _extra_shard(folder, index):
    weights = load_file(folder / SHARD)
    save_file(weights, folder / "model-00003-of-00003.safetensors", metadata={"format": "pt"})


def _both(folder, index):
    weights = load_file(folder / SHARD)
    save_file(weights, folder / FILE, metadata={"format": "pt"})


FAULTS = [
    *(scored(f"{name} is missing", each(part, lambda _: None)) for name, part in PARTS.items()),
    *(scored(f"{name} has another name", rename(part, f"x{part}")) for name, part in list(PARTS.items())[:4]),
    *(
        scored(f"{name} of another shape", each(part, lambda w: w[:-1].clone()))
        for name, part in PARTS.items()
    ),
    *(
        scored(
            f"{name} as {str(kind).removeprefix('torch.')}",
            each(part, lambda w, kind=kind: w.to(kind)),
            "stored as",
        )
        for kind in (torch.int8, torch.bool, torch.int64, torch.float8_e4m3fn)
        for name, part in list(PARTS.items())[:3]
    ),
    *(
        scored(f"{value} in {name}", each(part, _lone_value(value)), "NaN or infinite weights")
        for value in (float("nan"), float("inf"))
        for name, part in list(PARTS.items())[:5]
    ),
    scored("every weight as int8", every(lambda w: w.to(torch.int8)), "stored as I8"),
    scored("every weight as float64", every(lambda w: w.double())),
    scored("an unknown tensor", edit_weights(lambda w: w.update(other=torch.ones(3))), "no place"),
    scored(
        "an old rotary buffer",
        edit_weights(lambda w: w.update({"language_model.model.rotary_emb.inv_freq": torch.ones(8)})),
    ),
    scored("no tensor at all", edit_weights(lambda w: w.clear())),
    scored("the file is gone", remove(FILE)),
    scored("the file is cut", cut(FILE), FILE),
    scored("the file is cut in its header", cut(FILE, 0.01), FILE),
    scored("the file lacks its last byte", cut(FILE, 0.999999), FILE),
    scored("the file is empty", overwrite(FILE, ""), FILE),
    scored("the file is text", overwrite(FILE, "not weights at all"), FILE),
    scored("a header of 2**62 bytes", overwrite(FILE, (2**62).to_bytes(8, "little")), FILE),
    # Shards
    scored("sound shards", in_shards(), kind="shards"),
    scored("a shard is gone", in_shards(lambda f, i: (f / SHARD).unlink()), SHARD, "shards"),
    scored("a shard is cut", in_shards(lambda f, i: cut(SHARD)(f)), SHARD, "shards"),
    scored("a shard is empty", in_shards(lambda f, i: overwrite(SHARD, "")(f)), SHARD, "shards"),
    scored("a shard that the index does not name", in_shards(_extra_shard), "00003", "shards"),
    scored("a whole file beside the shards", in_shards(_both), "both", "shards"),
    scored(
        "a tensor that the index does not name",
        in_shards(lambda f, i: i["weight_map"].pop(next(iter(i["weight_map"])))),
        "the index does not",
        "shards",
    ),
    scored(
        "a tensor that only the index names",
        in_shards(lambda f, i: i["weight_map"].update(other=SHARD)),
        "other",
        "shards",
    ),
    scored(
        "a tensor placed in the other shard",
        in_shards(
            lambda f, i: i["weight_map"].update({min(i["weight_map"]): "model-00002-of-00002.safetensors"})
        ),
        kind="shards",
    ),
    scored("an index without a map", in_shards(lambda f, i: i.pop("weight_map")), "weight_map", "shards"),
    scored("a map of numbers", in_shards(lambda f, i: i.update(weight_map={"a": 3})), "weight_map", "shards"),
    scored(
        "a map that leaves the folder",
        in_shards(lambda f, i: i.update(weight_map={"a": "../x"})),
        "x",
        "shards",
    ),
    Fault(
        "shards",
        "an index that is cut",
        lambda world: world.score(world.checkpoint(lambda f: (in_shards()(f), cut(INDEX)(f)))),
        "index.json",
    ),
    # Configuration against weights
    *(
        scored(name, edit_json("config.json", **changes), kind="config")
        for name, changes in {
            "a text layer less": {"text_config__num_hidden_layers": 1},
            "no text layer": {"text_config__num_hidden_layers": 0},
            "a text layer more": {"text_config__num_hidden_layers": 3},
            "a vision layer less": {"vision_config__num_hidden_layers": 2},
            "a vision layer more": {"vision_config__num_hidden_layers": 4},
            "no projector bias": {"multimodal_projector_bias": False},
            "a narrower text model": {"text_config__hidden_size": 32},
            "a narrower feed-forward": {"text_config__intermediate_size": 16},
            "fewer key heads": {"text_config__num_key_value_heads": 2},
            "another vocabulary": {"text_config__vocab_size": 100},
            "attention biases": {"text_config__attention_bias": True},
            "feed-forward biases": {"text_config__mlp_bias": True},
            "tied embeddings": {"tie_word_embeddings": True, "text_config__tie_word_embeddings": True},
            "another model type": {"model_type": "qwen2_5_vl"},
            "no model type": {"model_type": None},
            "an unknown model type": {"model_type": "no_such_model"},
            "a text-only model type": {"model_type": "llama"},
            "another image token": {"image_token_id": 9, "image_token_index": 9},
            "an image token out of range": {"image_token_id": 10**6, "image_token_index": 10**6},
            "a text as image token": {"image_token_id": "<image>", "image_token_index": "<image>"},
            "larger pictures": {"vision_config__image_size": 112},
            "larger patches": {"vision_config__patch_size": 16},
            "a vision layer that is not there": {"vision_feature_layer": 17},
            "an unknown activation": {"text_config__hidden_act": "no_such"},
            "an unknown dtype": {"dtype": "float3"},
            "a layer number that is a text": {"text_config__num_hidden_layers": "two"},
            "no text config": {"text_config": None},
            "a list for a text config": {"text_config": []},
            "a quantisation that is none": {"quantization_config": {"quant_method": "none_such"}},
        }.items()
    ),
    scored("the config is cut", cut("config.json"), "config", "config"),
    scored("the config is a list", overwrite("config.json", "[]"), "config", "config"),
    scored("the config is empty", overwrite("config.json", ""), "config", "config"),
    scored("the config is deeply nested", overwrite("config.json", "[" * 100_000), "config", "config"),
    scored(
        "the config holds a number of 5,000 digits",
        overwrite("config.json", '{"a": ' + "9" * 5000 + "}"),
        "config",
        "config",
    ),
    scored("the config is gone", remove("config.json"), "config", "config"),
]
