"""Weights spread over processes (FSDP2): where accelerate does it, and what a run must do otherwise then."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from remem_tasks.checkpoint_files import digest as digest_of
from remem_tasks.errors import RememError


def _asked(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true", "yes")


def check_launch() -> None:
    """Whether the way in which a run was launched can be had here.

    Raises:
        RememError: DeepSpeed without its package, the first FSDP, or checkpoints in shards.
    """
    if _asked("DEEPSPEED") and importlib.util.find_spec("deepspeed") is None:
        raise RememError(
            "launched with DeepSpeed, which is not installed here: pip install deepspeed, or shard with FSDP2 (--accelerate fsdp2)"
        )
    if _asked("FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise RememError("launched with the first FSDP: set fsdp_version: 2 (as --accelerate fsdp2 does)")
    if _asked("FSDP") and (kind := os.environ.get("FSDP_STATE_DICT_TYPE")) != "FULL_STATE_DICT":
        raise RememError(
            f"launched with fsdp_state_dict_type: {kind}; checkpoints are whole here: set FULL_STATE_DICT"
        )


def allow_on_cpu() -> None:
    """Before the accelerator is made: several processes on CPUs shard as several GPUs do.

    accelerate turns FSDP on for processes with an accelerator each, and falls back to data parallel on CPUs, though
    `fully_shard` runs there.
    """
    state = PartialState()
    if _asked("FSDP") and state.distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def choose_layers(model: nn.Module, accelerator: Accelerator) -> None:
    """Which layers are gathered one at a time: those of the model's own list that are in it.

    (The list of transformers has those of CLIP's text model too, which a vision tower is without; accelerate takes
    that for a fault.)
    """
    plugin = accelerator.state.fsdp_plugin
    if plugin.transformer_cls_names_to_wrap is None:
        there = {type(module).__name__ for module in model.modules()}
        plugin.transformer_cls_names_to_wrap = sorted(there & set(model._no_split_modules or ()))


def placed(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """A frozen model as the trained one is placed: sharded where that is, else whole on the process's device."""
    if accelerator.is_fsdp2:
        choose_layers(model, accelerator)
        return fsdp2_prepare_model(accelerator, model).eval()
    return model.to(accelerator.device).eval()


def reshard(model: nn.Module) -> None:
    """After forwards without a backward: what they left put together is spread again, as a checkpoint is loaded into it."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def load_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, folder: str | Path, accelerator: Accelerator
) -> None:
    """The optimizer's state of a checkpoint into that of a sharded model.

    (accelerate's own loader asks for a state of every weight; those that no loss depends on, such as the last layers
    of LLaVA's vision tower, never get one.)
    """
    file = Path(folder) / "optimizer.bin"
    state = torch.load(file, weights_only=True) if accelerator.is_main_process else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_optimizer_state_dict(model, getattr(optimizer, "optimizer", optimizer), state, options=options)


def digest(model: nn.Module) -> str:
    """`digest` of a model's weights, the same in all processes (only the first may have loaded them)."""
    found = [digest_of(model)]
    if PartialState().num_processes > 1:
        broadcast_object_list(found)
    return found[0]


def whole(value: torch.Tensor) -> torch.Tensor:
    """A sharded value put together; any other as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value
