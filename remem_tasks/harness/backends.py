"""What a backend of lmms-eval can do beside greedy replies."""

from __future__ import annotations

import json
from typing import Any

from remem_tasks.benchmarks.scoring_config import NO_TURN, BackendCapabilities
from remem_tasks.binding import digest_of_json
from remem_tasks.chat_template import unguarded
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.harness.remem_openai import RememOpenAI

ANCESTRAL = {"do_sample": True, "temperature": 1.0, "top_p": 1.0}

ENGINES = ("vllm", "vllm_generate", "sglang")
"""Modules (lmms-eval 0.7.3) that pass temperature and top_p on, to engines that cut no top-k by themselves."""

CLIENTS = ("openai", "async_openai")
"""Modules that pass them on to a server, which may add a checkpoint's own top-k, or stay greedy."""
SERVED = "a server's own sampling settings add to those that are sent: --model remem_openai sends all of them"

PASS_TOP_K = ("qwen2_5_vl",)
"""Modules whose `generate` gets the top_k of the settings."""

NEUTRAL: dict[str, tuple] = {
    "min_p": (None, 0, 0.0),
    "typical_p": (None, 1, 1.0),
    "epsilon_cutoff": (None, 0, 0.0),
    "eta_cutoff": (None, 0, 0.0),
    "repetition_penalty": (None, 1, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "sequence_bias": (None,),
}
"""Settings of a checkpoint's generation config that leave p as it is."""


def capabilities_of(lm: Any) -> BackendCapabilities:
    """What a model of lmms-eval can do.

    A backend that samples from something else than p gives no rollouts: transformers cuts at top-k 50
    unless it is told otherwise, and a checkpoint's own generation config may say more.
    """
    if isinstance(lm, RememHF):
        return BackendCapabilities(white_box="", rollouts="", rollout_options=ANCESTRAL)
    if isinstance(lm, RememOpenAI):
        return lm.capabilities
    module = type(lm).__module__.rpartition(".")[2]
    if type(lm).__module__.startswith("lmms_eval.models.chat.") and module in (*ENGINES, *CLIENTS):
        return BackendCapabilities(NO_TURN, SERVED if module in CLIENTS else "", ANCESTRAL)
    config = getattr(getattr(lm, "model", None), "generation_config", None)
    if config is None:
        return BackendCapabilities()
    options = dict(ANCESTRAL)
    if module in PASS_TOP_K:
        options["top_k"] = 0
    elif config.top_k != 0:
        return BackendCapabilities(
            NO_TURN,
            f"it samples with top-k {config.top_k or 50}: set top_k to 0 in the checkpoint's "
            "generation_config.json, or use remem_hf",
        )
    return passing_on(config, options)


def passing_on(config: Any, options: dict[str, Any]) -> BackendCapabilities:
    """What a backend can do that hands settings on to `generate`.

    Args:
        config: the checkpoint's generation config, which adds to them.
        options: settings with which `generate` alone would sample from p.
    """
    for name, neutral in NEUTRAL.items():
        if getattr(config, name, None) not in neutral:
            return BackendCapabilities(
                NO_TURN, f"it samples with {name} {getattr(config, name)}, from its generation_config.json"
            )
    return BackendCapabilities(NO_TURN, "", options)


PICTURES = (
    "size", "crop_size", "do_resize", "do_center_crop", "do_pad", "do_normalize", "image_mean", "image_std", "rescale_factor", "resample",
    "min_pixels", "max_pixels", "image_grid_pinpoints", "patch_size", "merge_size",
)  # fmt: skip
"""Settings of an image processor on which what a model sees depends."""


def _asked_by(lm: Any) -> dict[str, str]:
    """Digests of what makes prompts of questions and pictures: the chat template, the image processor's settings."""
    processor = getattr(lm, "processor", None)
    found = {}
    # (A guardrail is a part of the checkpoint that is scored, not of how it is asked.)
    template = unguarded(getattr(processor, "chat_template", None))
    if isinstance(template, str):
        found["chat template"] = digest_of_json(template)[:8]
    images = getattr(processor, "image_processor", None)
    if images is not None and hasattr(images, "to_dict"):
        told = {name: value for name, value in images.to_dict().items() if name in PICTURES}
        found["picture processing"] = digest_of_json(json.loads(json.dumps(told, default=str)))[:8]
    return found


def computed_by(lm: Any) -> dict[str, str]:
    """How a model in memory computes: dtype, attention and quantisation, and how it is asked (`_asked_by`).

    Without what a backend does not tell.

    Numbers of one checkpoint differ with each of them, so results that differ in one are not compared.
    """
    model = getattr(lm, "model", None)
    config = getattr(model, "config", None)
    if config is None:
        return {}
    found = _asked_by(lm)
    if (dtype := getattr(model, "dtype", None)) is not None:
        found["dtype"] = str(dtype).removeprefix("torch.")
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if isinstance(attention := getattr(text, "_attn_implementation", None), str):
        found["attention"] = attention
    quantised = getattr(config, "quantization_config", None)
    if quantised is None:
        found["quantisation"] = "none"
    else:
        told = quantised if isinstance(quantised, dict) else quantised.to_dict()
        method = str(told.get("quant_method", "unknown")).rpartition(".")[2]
        bits = "4 bit" if told.get("load_in_4bit") else "8 bit" if told.get("load_in_8bit") else ""
        bits = bits or (f"{told['bits']} bit" if told.get("bits") else "")
        found["quantisation"] = " ".join(
            filter(None, (method.lower(), bits, told.get("bnb_4bit_quant_type")))
        )
    return found
