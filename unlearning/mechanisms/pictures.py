"""Each picture through the vision tower once: rows of a batch, and forwards of a step, that show the same one share its features.

A batch names its pictures by their content (`picture_ids`). Within `shared`, a model encodes each of them once in a
forward. What a frozen tower and projector made of it is kept until the step is over, for its next forwards: the
reference's, those of another role or micro-batch. Where the projector alone is trained, what the tower made of the
last batch is kept, for the reference. Losses are those of a forward that encodes every row's picture.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import xxhash
from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from remem_tasks.parts import part_of

PIXELS, GRID, IDS = "pixel_values", "image_grid_thw", "pictures"
Piece = dict[str, Any]


def cut(pixels: torch.Tensor, grid: torch.Tensor | None) -> list[torch.Tensor]:
    """Pixels by picture: entries of the first axis, or as many patches as a grid says (Qwen); [] if they do not fit."""
    if grid is None:
        return list(pixels)
    sizes = grid.prod(dim=-1).tolist()
    return list(pixels.split(sizes)) if sum(sizes) == len(pixels) else []


def picture_ids(batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """[n] int64, a name of each picture (or tile) of a batch, the same for the same pixels; None without pictures.

    Args:
        batch: as the processor gives it, on the CPU.
    """
    if PIXELS not in batch:
        return None
    found = []
    for pixels in cut(batch[PIXELS], batch.get(GRID)):
        digest = xxhash.xxh3_64(str((pixels.dtype, tuple(pixels.shape))).encode())
        digest.update(pixels.contiguous().reshape(-1).view(torch.uint8).numpy())
        found.append(digest.intdigest() >> 1)  # 63 bits: int64 has a sign
    return torch.tensor(found, dtype=torch.long) if found else None


@dataclass
class Seen:
    """What frozen parts made of the pictures of a step.

    Attributes:
        features: by name of a picture, what `get_image_features` gave of it.
        tower: names of the pictures of the last batch, and the vision tower's own output.
        apart: whether features can be told apart by picture; False once a model's could not.
    """

    features: dict[int, Piece] = field(default_factory=dict)
    tower: tuple[tuple[int, ...], Any] | None = None
    apart: bool = True

    def clear(self) -> None:
        """When the step is over: they are kept no longer than its activations."""
        self.features.clear()
        self.tower = None


def encoder_of(model: nn.Module | None) -> nn.Module | None:
    """The innermost module with `get_image_features`, through any wrapper; None if there is none."""
    if model is None:
        return None
    inside = extract_model_from_parallel(model).modules()
    found = [module for module in inside if hasattr(type(module), "get_image_features")]
    return found[-1] if found else None


def _part(name: str) -> str:
    # (A parameter of the encoder itself, such as LLaVA-NeXT's end of a line, is joined to what the projector gives.)
    return part_of(name) if "." in name else "projector"


def trained_parts(model: nn.Module) -> frozenset[str]:
    """Which parts of what makes features are trained: of `vision_tower` and `projector`."""
    encoder = encoder_of(model)
    named = encoder.named_parameters() if encoder is not None else ()
    return frozenset(_part(name) for name, value in named if value.requires_grad) - {"language_model"}


def _noisy(encoder: nn.Module) -> bool:
    """Whether two looks at one picture may differ: dropout before the language model."""
    if not encoder.training:
        return False
    rates = [
        rate
        for name, module in encoder.named_modules()
        if name and part_of(f"{name}.") != "language_model"
        for rate in (getattr(module, "p", None), getattr(module, "drop_prob", None))
    ]
    config = getattr(encoder.config, "vision_config", None)
    rates += [value for name, value in vars(config).items() if "drop" in name] if config else []
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


def _tower(encoder: nn.Module) -> nn.Module | None:
    """The vision tower, if it is a module of its own without a projector inside."""
    for name, module in encoder.named_children():
        if {part_of(f"{name}.{inner}") for inner, _ in module.named_parameters()} == {"vision_tower"}:
            return module
    return None


def _pieces(output: Any, count: int) -> list[Piece] | None:
    """An output of `get_image_features` by picture; None if it does not have a piece for each."""
    pooled, deep = getattr(output, "pooler_output", None), getattr(output, "deepstack_features", None)
    if pooled is None or len(pooled) != count or any(len(one) != count for one in deep or ()):
        return None
    whole = torch.is_tensor(pooled)
    return [
        {"pooled": pooled[place], "deep": [one[place] for one in deep or ()], "whole": whole}
        for place in range(count)
    ]


def _joined(pieces: Sequence[Piece]) -> BaseModelOutputWithPooling:
    """What `get_image_features` would have given of all these pictures, as far as a forward reads it."""
    pooled = [piece["pooled"] for piece in pieces]
    made = BaseModelOutputWithPooling(pooler_output=torch.stack(pooled) if pieces[0]["whole"] else pooled)
    if deep := pieces[0]["deep"]:
        made.deepstack_features = [[piece["deep"][layer] for piece in pieces] for layer in range(len(deep))]
    return made


def _named(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name. (Decorators of transformers add to what is given by name.)"""
    given = dict(signature.bind(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind == parameter.VAR_KEYWORD:
            given |= given.pop(name, {})
    return given


@contextmanager
def _replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Within, a method of one module is another."""
    before = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name) if before is None else setattr(module, name, before)


@contextmanager
def shared(
    model: nn.Module | None, ids: torch.Tensor | None, seen: Seen, trained: Collection[str]
) -> Iterator[None]:
    """Within, a forward of a batch encodes each of its pictures once, and none that the step has seen if it can.

    An architecture whose features are not told apart by picture is left as it is.

    Args:
        model: the trained one or its reference, wrapped or not; None changes nothing.
        ids: of `picture_ids`, of the batch; None changes nothing.
        seen: of the step, for both models.
        trained: of `trained_parts`, of the trained model: what the two do not have in common.
    """
    encoder = encoder_of(model) if ids is not None else None
    names = ids.tolist() if ids is not None else []
    keeps = not trained
    useful = keeps or trained == {"projector"} or len(set(names)) < len(names)
    if encoder is None or not useful or not seen.apart or _noisy(encoder):
        yield
        return
    plain = encoder.get_image_features
    signature = inspect.signature(plain)
    now: list[tuple[int, ...]] = []  # names of the pictures that are being encoded

    def features(*args, **kwargs):
        given, known = _named(signature, args, kwargs), seen.features if keeps else {}
        tensors = {name: value for name, value in given.items() if torch.is_tensor(value)}
        pixels = cut(tensors.pop(PIXELS), given.get(GRID)) if PIXELS in tensors else []
        if len(pixels) != len(names) or any(len(value) != len(names) for value in tensors.values()):
            return plain(*args, **kwargs)
        new = [place for place, name in enumerate(names) if name not in known and name not in names[:place]]
        if new:
            chosen = [pixels[place] for place in new]
            given[PIXELS] = torch.cat(chosen) if GRID in given else torch.stack(chosen)
            given.update({name: value[new] for name, value in tensors.items()})
            now.append(tuple(names[place] for place in new))
            try:
                with torch.set_grad_enabled(torch.is_grad_enabled() and not keeps):
                    made = _pieces(plain(**given), len(new))
            finally:
                now.clear()
            if made is None:
                seen.apart = False
                return plain(*args, **kwargs)
            known.update({names[place]: piece for place, piece in zip(new, made)})
        return _joined([known[name] for name in names])

    with _replaced(encoder, "get_image_features", features):
        tower = _tower(encoder) if trained == {"projector"} else None
        if tower is None:
            yield
            return
        look = tower.forward

        def looked(*args, **kwargs):
            if not now:
                return look(*args, **kwargs)
            if seen.tower is None or seen.tower[0] != now[0]:
                with torch.no_grad():
                    seen.tower = (now[0], look(*args, **kwargs))
            return copy.copy(seen.tower[1])  # (LLaVA writes the projected features into it.)

        with _replaced(tower, "forward", looked):
            yield
