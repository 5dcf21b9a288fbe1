"""What two scorings must share before their numbers stand side by side: the suite, how replies were made and computed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from remem_tasks.benchmarks.scoring_config import ScoringConfig

ALWAYS = ("forget", "shots", "caption_questions")
MEMO = ("memo_stride", "memo_tokens")
UNCOMPARED = ("metrics", "gold")  # which scores there are; what CLEAR's forget quality is held against
COMPARED = tuple(one.name for one in fields(ScoringConfig) if one.name not in UNCOMPARED)
"""Settings of a suite: each new one is compared unless it is named above."""
GREEDY = {"max_gen_toks": "max_new_tokens"}  # other names of a setting
SAMPLED = ("temperature", "top_p", "top_k")  # say nothing of greedy replies
SEEDS = ("random_seed", "numpy_seed", "torch_seed")
WHERE = (
    "pretrained", "peft", "processor", "tokenizer", "model", "model_name", "model_version", "revision", "name", "path", "base_url", "api_key", "cache",
    "device", "device_map", "batch_size", "max_batch_size", "trust_remote_code", "low_cpu_mem_usage", "parallelize", "tensor_parallel_size",
    "data_parallel_size", "gpu_memory_utilization", "num_workers", "threads", "timeout", "continual_mode", "response_persistent_folder",
)  # fmt: skip
"""Options of --model_args that say which model it is, where it lies and how fast it answers; each other one may change replies."""
COMPUTED = {
    "dtype": ("dtype", "torch_dtype"),
    "attention": ("attn_implementation", "use_flash_attention_2"),
    "chat template": ("chat_template",),
    "quantisation": ("load_in_4bit", "load_in_8bit", "quantization", "bnb_4bit_quant_type"),
}
"""How a model computes and is asked, and the options of --model_args that say so."""
USUAL = ("auto", "False", "false", "None", "")  # as if it were not said


def option_of(model_args: object, name: str) -> str | None:
    """One of `--model_args`, given as a mapping or as `a=1,b=2`."""
    if isinstance(model_args, Mapping):
        value = model_args.get(name)
        return None if value is None else str(value)
    match = re.search(rf"(?:^|,){name}=([^,]+)", str(model_args or ""))
    return match.group(1) if match else None


def _arguments(model_args: object) -> dict[str, str]:
    """`--model_args`, given as a mapping or as `a=1,b=2`."""
    if isinstance(model_args, Mapping):
        return {str(name): str(value) for name, value in model_args.items() if value is not None}
    pairs = (pair.partition("=") for pair in str(model_args or "").split(",") if "=" in pair)
    return {name.strip(): value for name, _, value in pairs}


def generation_of(raw: Mapping, task: str) -> dict[str, Any]:
    """How the replies of a task were made: every setting that can change one, without those that cannot.

    Args:
        raw: a results file.

    Returns:
        generation settings (the task's, under --gen_kwargs), number of repeats, few-shot examples, system
        instruction, every option of `--model_args` but those in WHERE, of sampled replies the seeds; the backend and
        COMPUTED: what `--model_args` says of each, and under `computed` what was so of the model in memory.
    """
    config, own = raw.get("config") or {}, (raw.get("configs") or {}).get(task) or {}
    told = config.get("resolved_cli_args")
    told = told if isinstance(told, Mapping) else {}
    found: dict[str, Any] = {}
    for settings in (own.get("generation_kwargs"), config.get("gen_kwargs")):
        if isinstance(settings, str):
            settings = dict(pair.split("=", 1) for pair in settings.split(",") if "=" in pair)
        for name, value in (settings if isinstance(settings, Mapping) else {}).items():
            found[GREEDY.get(name, name)] = _number(value)
    sampled = found.pop("do_sample", None)
    sampled = bool(found.get("temperature")) if sampled is None else bool(sampled)
    if sampled:
        found |= {name: config.get(name) for name in SEEDS} | {"do_sample": True}
    else:
        found = {name: value for name, value in found.items() if name not in SAMPLED}
    if found.get("num_beams") == 1:
        del found["num_beams"]
    if (own.get("repeats") or 1) != 1:
        found["repeats"] = own["repeats"]
    found["num_fewshot"] = own.get("num_fewshot") or None
    found["system instruction"] = told.get("system_instruction")
    known = {*WHERE, *(option for options in COMPUTED.values() for option in options)}
    options = _arguments(config.get("model_args"))
    found |= {name: value for name, value in options.items() if name not in known and value not in USUAL}
    found["backend"] = config.get("model")
    arguments = config.get("model_args")
    for name, choices in COMPUTED.items():
        told_so = [(option, option_of(arguments, option)) for option in choices]
        said = [_spelled(option, value) for option, value in told_so if value not in (None, *USUAL)]
        found[name] = ", ".join(said)
    metadata = own.get("metadata")
    found["computed"] = metadata.get("computed") if isinstance(metadata, Mapping) else None
    return {name: value for name, value in sorted(found.items()) if value not in (None, "", [], {}, "None")}


def _spelled(option: str, value: str) -> str:
    """A setting of COMPUTED as `dtype=torch.bfloat16` and `load_in_4bit=True` mean it."""
    return option if value.lower() == "true" else value.removeprefix("torch.")


def _number(value: object) -> object:
    """`"4"` and 4.0 are 4: a command line and a YAML file write one setting in two ways."""
    if isinstance(value, str):
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _set(suite: Mapping, name: str) -> object:
    """A setting; its default where the results are from before there was such an option."""
    value = suite.get(name)
    return getattr(ScoringConfig, name) if value is None else value


def unlike(
    suites: tuple[Mapping, Mapping], generation: tuple[Mapping, Mapping], scores: Collection[str]
) -> str:
    """The first setting in which two scorings of a task differ, as `rollouts 16, not 64`; empty if none.

    Args:
        suites, generation: of the first and the second.
        scores: the scores that both have: what did not matter to any of them may differ.
    """
    asked = list(ALWAYS)
    if any(name.startswith("memo_") or name == "memo" for name in scores):
        asked += MEMO
    if any("exposure" in name or name == "extraction_rate" for name in scores):
        asked += [name for name in COMPARED if name not in (*ALWAYS, *MEMO)]
    for name in (name for name in COMPARED if name in asked):
        first, second = (_set(suite, name) for suite in suites)
        if first != second:
            return f"{name} {second}, not {first}"
    in_memory = [of.get("computed") or {} for of in generation]
    both = in_memory[0].keys() & in_memory[1].keys()
    names = {*generation[0], *generation[1], *COMPUTED, *both} - {"computed"}
    for name in sorted(names):
        # As it was in memory where both say so, else as it was asked for.
        first, second = (of.get(name) for of in (in_memory if name in both else generation))
        if first != second:
            return f"{name} {second}, not {first}"
    return ""
