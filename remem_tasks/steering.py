"""A steering file beside a checkpoint's weights: features of a sparse autoencoder that are scaled in one layer's output.

    h' = h + (scale − 1) Σ_f z_f d_f,   z_f = a_f if a_f > threshold else 0,   a = W (h − centre) + b

over the features f that were chosen, at every position. What the autoencoder does not explain stays as it is.

The weights lie there under another name (`model.steered.safetensors`), so that whoever knows nothing of the file
finds no weights, in place of a model that has forgotten nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers.utils import cached_file

from remem_tasks.errors import RememError
from remem_tasks.files import replaced
from remem_tasks.parts import decoder_layers

FILE = "steering.safetensors"
VARIANT = "steered"
MARK = "remem_steering"
"""Of a checkpoint's config: that it is not to be loaded without the file."""
FORMAT = "1"
TENSORS = ("encoder", "bias", "decoder", "centre")
_ON = "remem_steering_on"


@dataclass
class Steering:
    """What is done to one layer's output.

    Attributes:
        layer: decoder layer, from 0.
        scale: what is left of a feature; 0: nothing.
        threshold: below it a feature counts as off.
        encoder, decoder: [k, d], W and the directions d_f of the k features.
        bias: [k], b.
        centre: [d].
    """

    layer: int
    scale: float
    threshold: float
    encoder: torch.Tensor
    bias: torch.Tensor
    decoder: torch.Tensor
    centre: torch.Tensor

    def change(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is added to hidden states, [..., d] → [..., d], in their type; computed in float32."""
        if self.encoder.device != hidden.device:
            for name in TENSORS:
                setattr(self, name, getattr(self, name).to(hidden.device))
        active = (hidden.float() - self.centre) @ self.encoder.T + self.bias
        active = active * (active > self.threshold)
        return ((self.scale - 1) * active @ self.decoder).to(hidden.dtype)

    def digest(self) -> str:
        """16 hex digits of all of it."""
        found = hashlib.sha256(f"{FORMAT} {self.layer} {self.scale!r} {self.threshold!r}".encode())
        for name in TENSORS:
            found.update(getattr(self, name).detach().float().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]


def write(steering: Steering, folder: str | Path) -> None:
    """Put the file into a checkpoint's folder."""
    tensors = {name: getattr(steering, name).detach().float().cpu().contiguous() for name in TENSORS}
    told = {"format": FORMAT, "layer": str(steering.layer), "scale": repr(float(steering.scale))}
    with replaced(Path(folder) / FILE) as file:
        save_file(tensors, file, {**told, "threshold": repr(float(steering.threshold))})


def read(file: str | Path) -> Steering:
    """A steering file.

    Raises:
        RememError: damaged, of another version, or with shapes that do not go together.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            told = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RememError(f"'{file}' is damaged or cut short: {error}") from error
    if told.get("format") != FORMAT:
        raise RememError(
            f"'{file}' is no steering file of this version (format {str(told.get('format'))[:20]})"
        )
    try:
        layer, scale, threshold = int(told["layer"]), float(told["scale"]), float(told["threshold"])
        found = Steering(layer, scale, threshold, **tensors)
    except (KeyError, ValueError, TypeError) as error:
        raise RememError(f"'{file}' cannot be read: {error}") from error
    shape = tuple(found.encoder.shape)
    fits = len(shape) == 2 and found.decoder.shape == shape and found.bias.shape == shape[:1]
    if not fits or found.centre.shape != shape[1:]:
        raise RememError(f"'{file}': its tensors are not [k, d], [k, d], [k] and [d]")
    numbers = torch.cat([value.flatten() for value in tensors.values()] + [torch.tensor([scale, threshold])])
    if not bool(torch.isfinite(numbers).all()):
        raise RememError(f"'{file}' holds what is not a finite number")
    return found


def file_of(name: str, config: Any, **kwargs: Any) -> Path | None:
    """The steering file of a checkpoint; None if it has none and its config asks for none.

    Args:
        name: folder or Hub id.
        config: the checkpoint's.
        kwargs: `revision`.

    Raises:
        RememError: the config says that there is one, which is not there.
    """
    marked = bool(getattr(config, MARK, None))
    if Path(name).is_dir():
        place = Path(name) / FILE
        found = str(place) if place.is_file() else None
    else:
        revision = {"revision": kwargs["revision"]} if "revision" in kwargs else {}
        found = (
            cached_file(name, FILE, **revision, _raise_exceptions_for_missing_entries=False)
            if marked
            else None
        )
    if marked and found is None:
        raise RememError(
            f"checkpoint '{name}' has lost {FILE}: without it, it is the model before unlearning"
        )
    return Path(found) if found else None


def put_on(model: nn.Module, steering: Steering) -> None:
    """Steer a model from here on.

    Raises:
        RememError: it has no such layer, one of another width, or is steered already.
    """
    if steering_of(model) is not None:
        raise RememError("the model is steered already")
    layers = decoder_layers(model)
    if not 0 <= steering.layer < len(layers):
        raise RememError(
            f"{FILE} is for decoder layer {steering.layer}; the model has layers 0 to {len(layers) - 1}"
        )
    width = model.get_input_embeddings().weight.shape[1]
    if steering.centre.shape != (width,):
        raise RememError(f"{FILE} is for states of {len(steering.centre)} numbers; the model's have {width}")

    def steer(module, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        changed = hidden + steering.change(hidden)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    layers[steering.layer].register_forward_hook(steer)
    setattr(model, _ON, steering)


def steering_of(model: nn.Module) -> Steering | None:
    """What a model is steered by; None for a model that is not."""
    return getattr(model, _ON, None)


def save(model: Any, steering: Steering, folder: str | Path) -> None:
    """Write a model's weights and what steers it; the processor is left to the caller."""
    setattr(model.config, MARK, VARIANT)
    model.save_pretrained(folder, variant=VARIANT)
    write(steering, folder)
