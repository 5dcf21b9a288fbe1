"""What becomes of each flag of TRL and transformers: it works, it is refused, or the result does not depend on it.

python -m unlearning.flags > docs/flags.md
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

from trl import ModelConfig, SFTConfig

from remem_tasks.errors import RememError

_OWN_LOSS = "the loss is the method's, over answer tokens"
_OWN_DATA = (
    "rows are encoded by the checkpoint's own processor and chat template, as they are when it is scored"
)
_OWN_EVAL = "evaluations measure NLL and exact match by themselves (see --eval_rows, --eval_em)"
_PAIRS = "rows are drawn in pairs, every forget row once an epoch"
_HOOKS = "a forward takes hooks (head, layers), which a compiled or patched model passes over"
_QUANTISED = "of bases in fewer bits, those in 4 are supported (QLoRA: --use_peft --load_in_4bit true)"

# Why a flag may have no other value than its default.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("label_smoothing_factor", "loss_type", "completion_only_loss", "assistant_only_loss"), _OWN_LOSS
    ),
    "router_aux_loss_coef": _OWN_LOSS,
    "average_tokens_across_devices": "means are always over the whole step, all processes together",
    **dict.fromkeys(("train_sampling_strategy", "length_column_name", "shuffle_dataset"), _PAIRS),
    **dict.fromkeys(
        ("packing", "packing_strategy", "padding_free", "eval_packing", "pad_to_multiple_of"), _OWN_DATA
    ),
    **dict.fromkeys(
        ("truncation_mode", "dataset_text_field", "dataset_kwargs", "dataset_num_proc"), _OWN_DATA
    ),
    **dict.fromkeys(("chat_template_path", "eos_token", "pad_token", "label_names"), _OWN_DATA),
    "max_length": "cutting text would cut picture tokens off their pixels",
    "remove_unused_columns": "examples hold no columns",
    **dict.fromkeys(("prediction_loss_only", "include_for_metrics", "batch_eval_metrics"), _OWN_EVAL),
    **dict.fromkeys(
        ("eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"), _OWN_EVAL
    ),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), _OWN_EVAL),
    **dict.fromkeys(
        ("do_train", "do_eval", "do_predict"), "a run trains, and evaluates if --eval_strategy says so"
    ),
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), _HOOKS),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), _HOOKS),
    "use_cache": "a training step has no use for a cache",
    "auto_find_batch_size": "what a step is made of would depend on the memory that was free",
    "parallelism_config": "tensor and context parallel training are not supported (FSDP and DeepSpeed are accelerate's)",
    "logging_nan_inf_filter": "a loss that is not finite ends the run",
    **dict.fromkeys(("load_in_8bit", "bnb_4bit_quant_storage"), _QUANTISED),
    "lora_task_type": "the model is one that generates",
    "lora_target_parameters": "an adapter is put on modules (--lora_target_modules)",
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed"),
        "how weights are spread is said at the launch (remem train --accelerate fsdp2, or accelerate launch --config_file)",
    ),
}

# Values beside the default that say what happens anyway.
SAYS_THE_SAME: Mapping[str, tuple[Any, ...]] = {"completion_only_loss": (True,), "eval_packing": (False,)}

# Where a run computes, what it writes and what it shows: weights and scores do not depend on these (but for rounding).
ASIDE = frozenset(
    [
        "activation_checkpointing",
        "activation_checkpointing_kwargs",
        "activation_offloading",
        "ddp_backend",
        "ddp_broadcast_buffers",
        "ddp_bucket_cap_mb",
        "ddp_find_unused_parameters",
        "ddp_static_graph",
        "ddp_timeout",
        "debug",
        "disable_tqdm",
        "dataloader_in_order",
        "dataloader_multiprocessing_context",
        "dataloader_num_workers",
        "dataloader_persistent_workers",
        "dataloader_pin_memory",
        "dataloader_prefetch_factor",
        "enable_jit_checkpoint",
        "eval_delay",
        "eval_on_start",
        "eval_steps",
        "eval_strategy",
        "full_determinism",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "hub_always_push",
        "hub_model_id",
        "hub_private_repo",
        "hub_revision",
        "hub_strategy",
        "hub_token",
        "include_num_input_tokens_seen",
        "local_rank",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "logging_first_step",
        "logging_steps",
        "logging_strategy",
        "output_dir",
        "per_device_eval_batch_size",
        "project",
        "push_to_hub",
        "report_to",
        "restore_callback_states_from_checkpoint",
        "run_name",
        "save_on_each_node",
        "save_only_model",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "skip_memory_metrics",
        "torch_empty_cache_steps",
        "trackio_bucket_id",
        "trackio_space_id",
        "trackio_static_space_id",
        "use_cpu",
    ]
)

# What the result depends on.
WORKS = frozenset(
    [
        "accelerator_config",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "attn_implementation",
        "bf16",
        "bnb_4bit_quant_type",
        "data_seed",
        "dataloader_drop_last",
        "dtype",
        "fp16",
        "gradient_accumulation_steps",
        "greater_is_better",
        "ignore_data_skip",
        "learning_rate",
        "load_in_4bit",
        "load_best_model_at_end",
        "lora_alpha",
        "lora_dropout",
        "lora_modules_to_save",
        "lora_r",
        "lora_target_modules",
        "lr_scheduler_kwargs",
        "lr_scheduler_type",
        "max_grad_norm",
        "max_steps",
        "metric_for_best_model",
        "model_init_kwargs",
        "model_name_or_path",
        "model_revision",
        "neftune_noise_alpha",
        "num_train_epochs",
        "optim",
        "optim_args",
        "optim_target_modules",
        "per_device_train_batch_size",
        "resume_from_checkpoint",
        "seed",
        "tf32",
        "trust_remote_code",
        "use_bnb_nested_quant",
        "use_dora",
        "use_peft",
        "use_rslora",
        "warmup_steps",
        "weight_decay",
    ]
)


class Range(NamedTuple):
    """What a number may be: from `least` to `most`, or `open` above the one and below the other."""

    least: float = 0
    most: float = math.inf
    open: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies in it."""
        return self.least < value < self.most if self.open else self.least <= value <= self.most

    def __str__(self) -> str:
        low = f"above {self.least:g}" if self.open else f"at least {self.least:g}"
        high = f"below {self.most:g}" if self.open else f"at most {self.most:g}"
        return low if self.most == math.inf else f"{low}, {high}"


_POSITIVE = Range(open=True)
_SHARE = Range(0, math.nextafter(1, 0))
_COUNT = Range(1, 2**31 - 1)

RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("learning_rate", "lora_alpha", "logging_steps", "save_steps", "eval_steps"), _POSITIVE),
    **dict.fromkeys(("npo_beta", "dpo_beta", "simnpo_beta", "manu_epsilon", "mm_epsilon"), _POSITIVE),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), _COUNT),
    **dict.fromkeys(
        (
            "gradient_accumulation_steps",
            "alternatives_each",
            "alternatives_tokens",
            "lora_r",
            "retain_per_forget",
        ),
        _COUNT,
    ),
    **dict.fromkeys(
        ("kvw_passes", "sae_width", "sae_active", "sae_steps", "sae_states", "sae_features"), _COUNT
    ),
    **dict.fromkeys(("eval_rows", "manu_rows", "mm_rows", "ceu_skip"), Range(0, 2**31 - 1)),
    **dict.fromkeys(
        (
            "kvw_rows",
            "kvw_first",
            "kvw_last",
            "lunar_rows",
            "pava_rows",
            "pava_anchors",
            "sae_rows",
            "smfa_rows",
        ),
        Range(0, 2**31 - 1),
    ),
    **dict.fromkeys(("kvw_gamma", "rna_nu", "llmu_forget", "llmu_refusal", "siu_ce", "siu_kl"), Range()),
    **dict.fromkeys(("sae_ratio", "scrub_temperature"), _POSITIVE),
    **dict.fromkeys(("lunar_layer", "sae_layer"), Range(-1, 10_000)),
    "smfa_left": Range(-1, 1),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), _SHARE),
    **dict.fromkeys(("weight_decay", "warmup_steps", "max_grad_norm", "adam_epsilon", "vision_lr"), Range()),
    **dict.fromkeys(("l1_lora", "sam_rho", "neftune_noise_alpha", "picture_cache_mb"), Range()),
    **dict.fromkeys(("undial_beta", "wga_beta", "satimp_beta1", "satimp_beta2", "rmu_coeff"), Range()),
    **dict.fromkeys(("seed", "data_seed"), Range(0, 2**32 - 1)),
    "dataloader_num_workers": Range(0, 1024),
    "num_train_epochs": Range(0, 1e6, open=True),
    "max_steps": Range(-1, 2**31 - 1),
    "manu_share": Range(0, 1),
    "rmu_layer": Range(-1, 10_000),
}
"""What the numbers of a run may be. All others have to be finite."""


def check_numbers(config: Any) -> None:
    """Refuse numbers with which a run would do nothing, or nothing that means something.

    Args:
        config: a dataclass with some of these flags, as the user gave them.

    Raises:
        RememError: names the first flag that is not a number where one is needed, is NaN or infinite, or is out of range.
    """
    for name in type(config).__dataclass_fields__:
        value, allowed = getattr(config, name), RANGES.get(name)
        nothing = value is None and (allowed is None or default_of(type(config), name) is None)
        if nothing or (allowed is None and not isinstance(value, float)):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RememError(f"--{name} {str(value)[:60]!r} is not a number")
        if not abs(value) < math.inf:
            raise RememError(f"--{name} {value} is not a finite number")
        if allowed is not None and not allowed.holds(value):
            raise RememError(f"--{name} {str(value)[:60]} is out of range: {allowed}")
    if getattr(config, "max_steps", None) == 0:
        raise RememError("--max_steps 0 would train nothing; leave it out, and --num_train_epochs counts")


def default_of(config: type, name: str) -> Any:
    """The default of a config's field."""
    field = config.__dataclass_fields__[name]
    return field.default if field.default_factory is MISSING else field.default_factory()


def check(config: Any) -> None:
    """Refuse what would be taken without effect.

    Args:
        config: a dataclass with some of these flags, as the user gave them.

    Raises:
        RememError: names the first flag of another value than its default, and why it has none.
    """
    for name, reason in REFUSED.items():
        if name not in type(config).__dataclass_fields__:
            continue
        given, default = getattr(config, name), default_of(type(config), name)
        if given != default and not (given in SAYS_THE_SAME.get(name, ()) and given is not None):
            raise RememError(f"--{name} {given}: not taken, since {reason}; leave it out")


def page() -> str:
    """docs/flags.md."""
    lines = [
        "# Flags of TRL and transformers",
        "",
        "Made by `python -m unlearning.flags > docs/flags.md`; a test compares this page with the flags that the installed",
        "releases have. `unlearning/train.py` takes all flags of `SFTConfig` (with `TrainingArguments`) and `ModelConfig`;",
        "its own are in `--help`. That what is said to work changes what is learned, and that what does not concern the result",
        "changes nothing, is tried flag by flag in `tests/unlearning/test_flag_effects.py`.",
        "",
        "A flag is refused too where others leave it without effect, in one line that names the one that would give it some: a",
        "flag of LoRA without `--use_peft`, of 4 bits without `--load_in_4bit`, of another method than the run's; `--alpha`,",
        "`--gamma` and `--retain_loss` where the method has no such term or α is 0; `--warmup_steps` at a constant learning rate;",
        "`--adam_*` and `--optim_args` with an optimizer that does not read them; `--metric_for_best_model` where nothing is chosen",
        "by it, or of a figure that is not measured; `--fp16` on a CPU. Optimizers that update within the backward pass (lomo,",
        "layerwise) or evaluate other weights than they train (schedule_free) are refused, as is `dispatch_batches`.",
        "",
        "| flag | |",
        "|---|---|",
    ]
    for name in sorted(WORKS | ASIDE | REFUSED.keys()):
        said = (
            "works"
            if name in WORKS
            else "does not concern the result"
            if name in ASIDE
            else f"refused: {REFUSED[name]}"
        )
        lines.append(f"| `--{name}` | {said} |")
    return "\n".join(lines) + "\n"


def known() -> set[str]:
    """The flags that the installed releases of TRL and transformers have."""
    return {field.name for config in (SFTConfig, ModelConfig) for field in fields(config)}


if __name__ == "__main__":
    sys.stdout.write(page())
