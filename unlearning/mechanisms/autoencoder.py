"""Sparse autoencoders of a decoder layer's output: trained on the model as it is, and the features of them that forgetting takes out.

    z = a · 1[a > θ],  a = W (h − c) + b,   ĥ = c + z D

W, D: [F, d] with F several times d. While it is trained, the k · B highest of the a > 0 of B states are kept (BatchTopK,
Bussmann et al. 2024, arXiv 2412.06410); θ is the mean of the lowest that was kept, so that a state is read alone
afterwards. Features that were long silent are trained on what the others leave over (Gao et al. 2024, arXiv 2406.04093).

Libraries for this (SAELens, sparsify) read texts through language models of their own; here states are those of
pictures and questions as the processor gives them, and what is trained are four tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from remem_tasks.errors import NonFiniteError, RememError
from remem_tasks.files import replaced
from remem_tasks.parts import decoder_layers
from remem_tasks.steering import TENSORS, Steering
from unlearning.data import IGNORE, Example, Role
from unlearning.forward import Forward, answers, evaluating
from unlearning.mechanisms.activations import captured

FILE, FORMAT = "sae.safetensors", "1"
SILENT = 50  # steps after which a feature that was never kept counts as silent
LEFT_OVER = 1 / 32  # weight of what silent features explain of the rest
HELD_OUT = 10  # one state of so many is not trained on


@dataclass
class Autoencoder:
    """Of one layer.

    Attributes:
        layer: decoder layer, from 0.
        threshold: θ.
        encoder, decoder: [F, d], W and D.
        bias: [F], b.
        centre: [d], c.
        of: digest of the model whose states it was trained on.
    """

    layer: int
    threshold: float
    encoder: torch.Tensor
    bias: torch.Tensor
    decoder: torch.Tensor
    centre: torch.Tensor
    of: str = ""

    def to(self, device: torch.device | str) -> Autoencoder:
        """The same on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in TENSORS})

    def active(self, states: torch.Tensor) -> torch.Tensor:
        """z of states, [N, d] → [N, F]."""
        found = (states.float() - self.centre) @ self.encoder.T + self.bias
        return found * (found > self.threshold)

    def rebuilt(self, states: torch.Tensor) -> torch.Tensor:
        """ĥ, [N, d]."""
        return self.centre + self.active(states) @ self.decoder

    def steering(self, chosen: Sequence[int], scale: float) -> Steering:
        """What scales some of its features."""
        parts = (self.encoder[chosen], self.bias[chosen], self.decoder[chosen], self.centre)
        return Steering(self.layer, scale, max(self.threshold, 0.0), *(part.clone() for part in parts))


def layer_of(model: torch.nn.Module, asked: int, flag: str) -> int:
    """The decoder layer that is asked for; −1: in the middle of the depth.

    Raises:
        RememError: there is no such layer.
    """
    depth = len(decoder_layers(model))
    if not -1 <= asked < depth:
        raise RememError(f"{flag} {asked}: the language model has layers 0 to {depth - 1}")
    return depth // 2 if asked == -1 else asked


@torch.no_grad()
def _outputs(forward: Forward, example: Example, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's output for one row, [T, d] in float32, and which positions an answer token is predicted from, [T] bool."""
    inputs = forward.prepare(forward.collate([[replace(example, role=Role.PLAIN)]]))
    with captured(forward.model, layer) as seen, forward.context():
        answers(forward.model, inputs)
    before = F.pad(inputs["labels"][0, 1:] != IGNORE, (0, 1))
    return seen[0][0].float(), before


def states_of(
    forward: Forward, examples: Iterable[Example], rows: int, layer: int, most: int, seed: int
) -> torch.Tensor:
    """States of some rows, [N, d] on the CPU: those that an answer is predicted from, and as many of the others, drawn at random.

    Args:
        rows: how many examples there are.
        most: N at most; every row gives about as many.
        seed: of the draw.
    """
    found, each = [], max(2, most // max(1, rows))
    draw = torch.Generator().manual_seed(seed)
    with evaluating(forward.model):
        for example in examples:
            states, before = (value.cpu() for value in _outputs(forward, example, layer))
            for kind in (before, ~before):
                places = kind.nonzero()[:, 0]
                count = min(len(places), each // 2, max(1, int(before.sum())))
                found.append(states[places[torch.randperm(len(places), generator=draw)[:count]]])
    return torch.cat(found)


def _highest(active: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` highest values above 0 of all, the others 0."""
    kept = active.flatten().topk(min(count, active.numel()), sorted=False)
    return (
        torch.zeros_like(active).flatten().scatter(0, kept.indices, kept.values.clamp(min=0)).view_as(active)
    )


def fit(
    states: torch.Tensor,
    layer: int,
    *,
    width: int,
    active: int,
    steps: int,
    batch: int = 512,
    rate: float = 2e-3,
    seed: int = 0,
    device: torch.device | str = "cpu",
    tell: Callable[[int, float], None] = lambda step, loss: None,
) -> Autoencoder:
    """An autoencoder of some states.

    Args:
        states: [N, d], float32 on the CPU.
        width: F, the number of features.
        active: k, features that are kept of a state, on the average of a batch.
        steps: of Adam, of `batch` states each.
        device: where it is trained; what it becomes is on the CPU.
        tell: is told step and loss now and then.

    Raises:
        RememError: a number is out of range.
        NonFiniteError: it did not come to finite numbers.
    """
    count, d = states.shape
    if not 0 < active <= width or steps < 1 or count < 2:
        raise RememError(
            f"{active} active of {width} features, {steps} steps, {count} states: at least 1, 1 and 2"
        )
    draw = torch.Generator().manual_seed(seed)
    centre = states.mean(dim=0)
    scale = ((states - centre).square().mean().sqrt().clamp(min=1e-6) * math.sqrt(d)).to(device)
    directions = F.normalize(torch.randn(width, d, generator=draw), dim=1).to(device)
    encoder, decoder = directions.clone().requires_grad_(), directions.clone().requires_grad_()
    bias = torch.zeros(width, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([encoder, bias, decoder], lr=rate, betas=(0.9, 0.99))
    silent, lowest = torch.zeros(width, device=device), []
    for step in range(steps):
        for group in optimizer.param_groups:  # down to 0 over the last fifth
            group["lr"] = rate * min(1.0, 5 * (steps - step) / steps)
        drawn = states[torch.randint(count, (min(batch, count),), generator=draw)] - centre
        some = drawn.to(device) / scale
        found = some @ encoder.T + bias
        kept = _highest(found, active * len(some))
        rest = some - kept @ decoder
        loss = rest.square().sum(dim=1).mean()
        on = (kept > 0).any(dim=0)
        silent = torch.where(on, torch.zeros_like(silent), silent + 1)
        if (dead := silent > SILENT).any():
            woken = _highest(found.masked_fill(~dead, 0.0), min(active, int(dead.sum())) * len(some))
            loss = loss + LEFT_OVER * (rest.detach() - woken @ decoder).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            decoder.copy_(F.normalize(decoder, dim=1))
        if step >= steps // 2 and on.any():
            lowest.append(float(kept.detach()[kept > 0].min()))
        if step % max(1, steps // 20) == 0 or step == steps - 1:
            tell(step + 1, float(loss.detach()))
    made = Autoencoder(
        layer,
        sum(lowest) / max(1, len(lowest)),
        (encoder / scale).detach(),
        bias.detach(),
        (decoder * scale).detach(),
        centre,
    ).to("cpu")
    if not all(bool(torch.isfinite(getattr(made, name)).all()) for name in TENSORS):
        raise NonFiniteError("the autoencoder's weights are not finite numbers; try another layer")
    return made


def held_out(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """States to train on, and one of HELD_OUT to measure with."""
    apart = torch.arange(len(states)) % HELD_OUT == HELD_OUT - 1
    return (states[~apart], states[apart]) if bool(apart.any()) else (states, states)


def quality(made: Autoencoder, states: torch.Tensor) -> dict[str, float]:
    """`explained` share of the variance, features `active` in a state on the average, share of `silent` features."""
    rest = (states - made.rebuilt(states)).square().sum()
    whole = (states - states.mean(dim=0)).square().sum().clamp(min=1e-12)
    on = made.active(states) > 0
    return {
        "explained": float(1 - rest / whole),
        "active": float(on.sum(dim=1).float().mean()),
        "silent": float((~on.any(dim=0)).float().mean()),
    }


@torch.no_grad()
def activity(forward: Forward, examples: Sequence[Example], made: Autoencoder) -> torch.Tensor:
    """Mean z of each feature over the positions that the answers of some rows are predicted from, [F]."""
    made = made.to(next(forward.model.parameters()).device)
    total, count = torch.zeros_like(made.bias), 0
    with evaluating(forward.model):
        for example in examples:
            states, before = _outputs(forward, example, made.layer)
            total += made.active(states[before]).sum(dim=0)
            count += int(before.sum())
    return (total / max(1, count)).cpu()


def choose(forget: torch.Tensor, retain: torch.Tensor, most: int, ratio: float) -> list[int]:
    """Of the features that are `ratio` times as active in forget rows as in retain rows, the `most` most active there.

    Args:
        forget, retain: [F], of `activity`.

    Raises:
        RememError: there is none.
    """
    told = (forget > 0) & (forget >= ratio * retain)
    if not bool(told.any()):
        raise RememError(
            f"no feature is {ratio:g} times as active in the forget rows as in the retain rows: lower --sae_ratio, or give "
            "the autoencoder more features or steps"
        )
    order = forget.masked_fill(~told, -1.0).argsort(descending=True, stable=True)
    return sorted(order[: min(most, int(told.sum()))].tolist())


def write(made: Autoencoder, folder: str | Path) -> None:
    """Put an autoencoder into a folder."""
    tensors = {name: getattr(made, name).contiguous() for name in TENSORS}
    told = {"format": FORMAT, "layer": str(made.layer), "threshold": repr(made.threshold), "of": made.of}
    with replaced(Path(folder) / FILE) as file:
        save_file(tensors, file, told)


def read(folder: str | Path) -> Autoencoder:
    """The autoencoder of a folder.

    Raises:
        RememError: none there, damaged, or of another version.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise RememError(f"'{folder}' holds no autoencoder ({FILE}); make one with `remem sae train`")
    try:
        with safe_open(file, framework="pt") as opened:
            told = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in TENSORS}
        if told.get("format") != FORMAT:
            raise RememError(f"'{file}' is no autoencoder of this version")
        return Autoencoder(int(told["layer"]), float(told["threshold"]), **tensors, of=told["of"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise RememError(f"'{file}' is damaged or cut short: {error}") from error
