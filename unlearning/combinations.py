"""Flags that have no effect beside others, or beside the method: refused, each with the flag that would give it one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trl import ModelConfig

from remem_tasks.errors import RememError
from unlearning.data import Role
from unlearning.flags import default_of

if TYPE_CHECKING:
    from unlearning.config import UnlearnConfig
    from unlearning.trainer import UnlearnTrainer

OF_LORA = (
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "lora_modules_to_save",
    "use_rslora",
    "use_dora",
)
LOADER = ("quantization_config", "load_in_4bit", "load_in_8bit", "device_map", "tp_plan")
"""Of `--model_init_kwargs`, what a flag says, or nothing does."""

# By flag: beginnings of the names of optimizers that read it.
OF_OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "adam_beta1": ("adamw", "paged_adamw", "ademamix", "paged_ademamix", "lion", "paged_lion", "stable_adamw", "grokadamw", "apollo"),
    "adam_beta2": ("adamw", "paged_adamw", "ademamix", "paged_ademamix", "lion", "paged_lion", "stable_adamw", "grokadamw", "apollo"),
    "adam_epsilon": ("adamw", "paged_adamw", "ademamix", "paged_ademamix", "stable_adamw", "grokadamw", "apollo"),
    "optim_target_modules": ("galore", "apollo"),
}  # fmt: skip
_ADEMAMIX = ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")
_LOW_RANK = ("rank", "update_proj_gap", "scale", "proj_type")
# By the beginning of an optimizer's name: what it reads of --optim_args. (Weight decay is --weight_decay's.)
OPTIM_ARGS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "nesterov"),
    "adagrad": ("lr_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "centered"),
    "ademamix": _ADEMAMIX,
    "paged_ademamix": _ADEMAMIX,
    "galore": _LOW_RANK,
    "apollo": (*_LOW_RANK, "proj", "scale_type"),
}
# Parts of the names of optimizers that are refused, and why.
OPTIMIZERS: Mapping[str, str] = {
    "layerwise": "it updates within the backward pass, before a step's loss and gradient are known to be finite",
    "lomo": "it updates within the backward pass, before a step's loss and gradient are known to be finite",
    "schedule_free": "the weights that it trains are others than those to be evaluated and saved",
}


def changed(config: Any, names: Iterable[str]) -> list[str]:
    """Which flags of a config have another value than their default."""
    return [name for name in names if getattr(config, name) != default_of(type(config), name)]


def check_weights(args: UnlearnConfig, method: type[UnlearnTrainer]) -> None:
    """Refuse --gamma, --alpha and --retain_loss where the method has no such term.

    Args:
        args: as given: None for what is left to the method.

    Raises:
        RememError: names the flag.
    """
    given = [name for name in ("gamma", "alpha", "retain_loss") if getattr(args, name) is not None]
    if given and ((method.rows_from != "pairs" and method.stage == 1) or not method.trains):
        what = "has one loss, with nothing to weigh" if method.trains else "does not train"
        raise RememError(f"--{given[0]}: {method.name} {what}; leave it out")
    if method.rows_from != "pairs":
        return
    if Role.RETAIN not in method.roles and (args.alpha or args.retain_loss not in (None, "none")):
        name = "alpha" if args.alpha else "retain_loss"
        raise RememError(f"--{name}: {method.name} has no retain rows; leave it out")
    alpha = args.alpha if args.alpha is not None else method.defaults.get("alpha", 1.0)
    if alpha == 0 and args.retain_loss not in (None, "none"):
        raise RememError(
            f"--retain_loss {args.retain_loss} has no effect at α = 0"
            + (f", the default of {method.name}: give --alpha too" if args.alpha is None else "")
        )


def check_options(args: UnlearnConfig, methods: Mapping[str, type[UnlearnTrainer]]) -> None:
    """Refuse the flags of other methods than the run's.

    Raises:
        RememError: names the flag and whose it is.
    """
    owners: dict[str, list[str]] = {}
    for method in {method.name: method for method in methods.values()}.values():
        for flag in method.options:
            owners.setdefault(flag, []).append(method.name)
    for flag in changed(args, owners):
        if args.method not in owners[flag]:
            raise RememError(f"--{flag} is of {', '.join(owners[flag])}, not of {args.method}; leave it out")
    if Role.ALT not in methods[args.method].roles:
        asked = changed(args, ("alternatives", "alternatives_each", "alternatives_tokens"))
        if asked:
            raise RememError(f"--{asked[0]} is for methods with other answers (altpo), not for {args.method}")


def check(args: UnlearnConfig, model_args: ModelConfig) -> None:
    """Refuse what is taken without effect beside the other flags of a run.

    Raises:
        RememError: names the flag, and what would give it an effect.
    """
    if not model_args.use_peft and (asked := changed(model_args, OF_LORA)):
        raise RememError(f"--{asked[0]} is for adapters: give --use_peft too, or leave it out")
    if asked := [name for name in LOADER if name in (args.model_init_kwargs or {})]:
        raise RememError(
            f"--model_init_kwargs {asked[0]}: not taken; in 4 bits with --load_in_4bit, placed by the launcher"
        )
    optim = str(getattr(args.optim, "value", args.optim))
    for part, reason in OPTIMIZERS.items():
        if part in optim:
            raise RememError(f"--optim {optim}: not taken, since {reason}")
    readers = {**OF_OPTIMIZERS, "optim_args": tuple(OPTIM_ARGS)}
    for flag in changed(args, readers):
        if not optim.startswith(readers[flag]):
            raise RememError(f"--{flag} has no effect with --optim {optim}; leave it out")
    for entry in filter(None, (args.optim_args or "").replace(" ", "").split(",")):
        read = next(keys for name, keys in OPTIM_ARGS.items() if optim.startswith(name))
        if entry.partition("=")[0] not in read or "=" not in entry:
            raise RememError(
                f"--optim_args {entry}: of it --optim {optim} reads {', '.join(f'{key}=…' for key in read)}"
            )
    schedule = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    if schedule == "constant" and args.warmup_steps:
        raise RememError(
            "--warmup_steps has no effect with --lr_scheduler_type constant: give constant_with_warmup, or leave it out"
        )
    if schedule in ("constant", "constant_with_warmup") and args.lr_scheduler_kwargs:
        raise RememError(
            f"--lr_scheduler_kwargs has no effect with --lr_scheduler_type {schedule}; leave it out"
        )
    if getattr(args.accelerator_config, "dispatch_batches", None):
        raise RememError(
            "--accelerator_config dispatch_batches: not taken, since a batch's pictures cannot be cut up by its rows"
        )
