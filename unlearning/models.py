"""The models of a run: the one that is trained, its adapter, and the model before unlearning."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peft import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from transformers import PreTrainedModel
from trl import ModelConfig, get_peft_config

from remem_tasks.errors import RememError
from unlearning import qlora
from unlearning import weights as checkpoint
from unlearning.config import UnlearnConfig
from unlearning.methods import METHODS
from unlearning.weights import LANGUAGE_MODEL_TARGETS


def lora_config(model_args: ModelConfig) -> PeftConfig | None:
    """PEFT's configuration, or None for full fine-tuning; by default LoRA on the language model only."""
    if not model_args.use_peft:
        return None
    if (Path(model_args.model_name_or_path) / "adapter_config.json").is_file():
        raise RememError(
            f"'{model_args.model_name_or_path}' is an adapter: a second one on top could not be loaded again. "
            f"Merge it (remem merge --adapter {model_args.model_name_or_path} --out MERGED) and start from MERGED, or "
            "leave --use_peft out to train the whole model"
        )
    targets = model_args.lora_target_modules or LANGUAGE_MODEL_TARGETS
    if isinstance(targets, str) and targets.isidentifier():
        # A lone name comes as a string, which PEFT would take for an expression on whole names.
        targets = [targets]
    if any(str(name).endswith("lm_head") for name in ([targets] if isinstance(targets, str) else targets)):
        raise RememError(
            "lm_head cannot be a LoRA target: log-probabilities are computed from its weight directly"
        )
    model_args.lora_target_modules = targets
    return get_peft_config(model_args)


def check_targets(model: PreTrainedModel, peft_config: PeftConfig) -> None:
    """Raise a RememError if LoRA's targets name no module of the model."""
    targets = peft_config.target_modules
    try:
        there = targets == "all-linear" or any(
            check_target_module_exists(peft_config, name) for name, _ in model.named_modules()
        )
    except re.error as error:
        raise RememError(f"--lora_target_modules '{targets}' is not a regular expression: {error}") from error
    if not there:
        named = targets if isinstance(targets, str) else ", ".join(sorted(targets))
        raise RememError(f"LoRA targets '{named}' are no modules of this model; see --lora_target_modules")


@dataclass
class Models:
    """The models of a run, as they are before its trainer is built.

    Attributes:
        trained: the one that is to be trained; in full fine-tuning frozen but for `--train`.
        peft_config: of the adapter it gets, or None.
        reference: the model before unlearning, where the losses need it beside the trained one.
        load: gives a fresh copy of the model before unlearning.
    """

    trained: PreTrainedModel
    peft_config: PeftConfig | None
    reference: PreTrainedModel | None
    load: Callable[[], PreTrainedModel]


def loader(base: str, args: UnlearnConfig, model_args: ModelConfig) -> Callable[[], PreTrainedModel]:
    """What gives a fresh copy of the starting model, as the flags have it.

    Args:
        base: folder or Hub id.

    Raises:
        RememError: it is to be in 4 bits, and cannot.
    """
    options = {
        "revision": model_args.model_revision,
        "trust_remote_code": args.trust_remote_code,
        "dtype": model_args.dtype or "float32",
        "attn_implementation": model_args.attn_implementation,
        **(args.model_init_kwargs or {}),
        **qlora.loading(model_args),
    }

    def load() -> PreTrainedModel:
        model = qlora.unpacked(checkpoint.load_model(base, **options))
        model.config.name_or_path = model.name_or_path = base
        return model

    return load


def load_models(args: UnlearnConfig, model_args: ModelConfig, load: Callable[[], PreTrainedModel]) -> Models:
    """The models that a method needs.

    Args:
        load: gives a copy of the starting model.

    Raises:
        RememError: what is to be trained is none of the model, or the method cannot train it so.
    """
    method, peft_config = METHODS[args.method], lora_config(model_args)
    if peft_config and not method.adapters:
        raise RememError(f"{args.method} trains no adapter: leave --use_peft out")
    if args.l1_lora and not peft_config:
        raise RememError("--l1_lora is a term over LoRA matrices: it needs --use_peft")
    if peft_config and (args.train != "all" or args.vision_lr is not None):
        raise RememError(
            "--train and --vision_lr are for full fine-tuning; with LoRA use --lora_target_modules"
        )
    model = load()
    if peft_config:
        check_targets(model, peft_config)
    else:
        trained = checkpoint.select_trained(model, args.train)
        if method.trains:
            checkpoint.check_precision(model)
        if args.vision_lr is not None and not trained["vision_tower"]:
            raise RememError("--vision_lr is given, but --train leaves the vision tower as it is")

    def load_start() -> PreTrainedModel:
        return load().requires_grad_(False)

    beside = method.needs_model(args) and not peft_config
    return Models(model, peft_config, load_start() if beside else None, load_start)
