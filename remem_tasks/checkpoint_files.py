"""What a checkpoint's files hold, asked before they are loaded: every tensor in a file that is read, of a type that is read.

A loader takes what it has places for and warns about the rest, if at all. Whatever it would drop, cast
from a type that holds no plain weights, or never open is told here, in one line that names file and tensor.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from remem_tasks.errors import RememError
from remem_tasks.reading import read_object
from remem_tasks.steering import MARK, VARIANT

PLAIN_TYPES = ("F64", "F32", "F16", "BF16")
"""Stored types that hold weights as they are. Others (int8, fp8, packed) need a configuration that says so."""

DROPPED = {
    r"(^|\.)rotary_emb\.inv_freq$": "computed from the configuration; older releases saved it",
    r"(^|\.)position_ids$": "a count from 0, made anew by the model; older releases saved it",
    r"(^|\.)(masked_)?bias_mask$": "a constant mask of older attention code",
    r"(^|\.)num_batches_tracked$": "how often a batch norm was updated; no output depends on it",
}
"""Tensors that a checkpoint may hold though the model has no place for them, or hold as whole numbers: why."""

_SHARD = re.compile(rf"^model(\.{VARIANT})?-\d+-of-\d+\.safetensors$")


def some(names: Iterable[Any]) -> str:
    """The first three names, and how many more there are."""
    names = sorted(map(str, names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def may_be_dropped(name: str) -> bool:
    """Whether a tensor of this name is a known exception (`DROPPED`)."""
    return any(re.search(pattern, name) for pattern in DROPPED)


def tensors_of(file: Path) -> dict[str, str]:
    """{tensor: stored type, such as F32} of a safetensors file; its header alone is read.

    Raises:
        RememError: the file is damaged or cut short.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RememError(f"'{file}' is damaged or cut short: {error}") from error


def _sharded(folder: Path, index: Path) -> dict[str, str]:
    """The tensors of a checkpoint in shards, each found where the index says."""
    placed = read_object(index).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise RememError(f"'{index}' has no weight_map of tensors to files")
    found: dict[str, str] = {}
    for file in sorted(set(placed.values())):
        if Path(file).name != file or not (folder / file).is_file():
            raise RememError(f"'{index}' names the file '{file}', which is not there")
        stored = tensors_of(folder / file)
        expected = {name for name, where in placed.items() if where == file}
        if lost := expected - set(stored):
            raise RememError(f"'{folder / file}' lacks {len(lost)} tensors of the index: {some(lost)}")
        if extra := set(stored) - expected:
            raise RememError(
                f"'{folder / file}' holds {len(extra)} tensors that the index does not: {some(extra)}"
            )
        found |= stored
    stray = {file.name for file in folder.iterdir() if _SHARD.match(file.name)} - set(placed.values())
    if stray:
        raise RememError(f"'{index}' does not name {some(stray)}: the weights in it would not be used")
    return found


def weights_in(files: Iterable[Path]) -> int:
    """How many numbers safetensors files hold; their headers alone are read."""
    count = 0
    for file in files:
        with safe_open(file, framework="pt") as opened:
            count += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return count


def check_files(folder: str | Path) -> int:
    """Look at a checkpoint's safetensors files (headers and index; no weight is read).

    Returns:
        How many weights they hold.

    Raises:
        RememError: none there, damaged, of a type that holds no plain weights where the configuration names
            no quantisation, or not exactly those that the index names.
    """
    folder = Path(folder)
    config = read_object(folder / "config.json")
    kind = (
        f".{VARIANT}" if config.get(MARK) else ""
    )  # (weights that are not to be loaded without a steering file)
    single, index = folder / f"model{kind}.safetensors", folder / f"model.safetensors.index{kind}.json"
    if single.is_file() and index.is_file():
        raise RememError(
            f"'{folder}' holds both {single.name} and {index.name}: one of them would not be used"
        )
    if index.is_file():
        stored = _sharded(folder, index)
    elif single.is_file():
        stored = tensors_of(single)
    else:
        raise RememError(f"checkpoint '{folder}' cannot be loaded: it holds no {single.name}")
    check_types(stored, str(folder), bool(config.get("quantization_config")))
    return weights_in(file for file in folder.glob("model*.safetensors"))


def check_types(stored: dict[str, str], where: str, quantised: bool = False) -> None:
    """Raise a RememError for tensors that are stored as no plain weights.

    Args:
        stored: as `tensors_of`.
        where: how the message calls the checkpoint.
        quantised: whether its configuration says how other types are to be read.
    """
    if quantised:
        return
    odd = {
        name: kind for name, kind in stored.items() if kind not in PLAIN_TYPES and not may_be_dropped(name)
    }
    if odd:
        kinds = ", ".join(sorted(set(odd.values())))
        raise RememError(
            f"checkpoint '{where}': {len(odd)} weights are stored as {kinds} and its config names no quantisation: "
            f"{some(odd)}"
        )


def check_finite(named: Iterable[tuple[str, torch.Tensor]], where: str) -> None:
    """Raise a RememError that names weights that are NaN or infinite."""
    broken = [
        name
        for name, value in named
        if value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise RememError(f"checkpoint '{where}': NaN or infinite weights: {some(broken)}")


def digest(model: torch.nn.Module) -> str:
    """16 hex digits over the first values of every parameter: another training gives another digest."""
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().flatten()[:8].float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
