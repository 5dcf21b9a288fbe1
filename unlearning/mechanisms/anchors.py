"""Where a model's answers come from, and what it answers itself: MLPs by their indirect effect, own answers to retain rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from remem_tasks.errors import RememError
from remem_tasks.parts import decoder_layers, part_of
from unlearning import evaluation
from unlearning.data import IGNORE, Example, Examples, Role, evenly
from unlearning.forward import Forward, answers, evaluating

PART = 4  # the top quarter
NOISE = 3.0  # in standard deviations of what enters the first layer (Meng et al. 2022, arXiv 2202.05262)


def mlps(model: nn.Module) -> list[nn.Module]:
    """The MLP of each decoder layer.

    Raises:
        RememError: a layer has none that could be found.
    """
    found = [getattr(layer, "mlp", None) for layer in decoder_layers(model)]
    if any(one is None for one in found):
        raise RememError("pava: a decoder layer of this model has no module 'mlp'")
    return found


@contextmanager
def _hooked(handle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _noisy(model: nn.Module, places: torch.Tensor, noise: torch.Tensor):
    """Noise is added to what enters the first layer, at some places [B, T]."""

    def add(module, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        size = NOISE * hidden[places].float().std()
        changed = hidden + (size * noise.to(hidden.device) * places[..., None]).to(hidden.dtype)
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    return decoder_layers(model)[0].register_forward_pre_hook(add, with_kwargs=True)


@torch.no_grad()
def indirect_effects(forward: Forward, examples: Sequence[Example], seed: int) -> torch.Tensor:
    """By decoder layer, how much of an answer's mean log-probability its MLP brings back, [layers], in nats.

    A prompt is made noisy where it enters the first layer; then the output of one layer's MLP at the positions that
    answer tokens are predicted from is put back to what it was without noise.

    Args:
        examples: with their own answers.
        seed: of the noise.
    """
    model, draw = forward.model, torch.Generator().manual_seed(seed)
    modules = mlps(model)
    total = torch.zeros(len(modules))
    with evaluating(model), forward.context():
        for example in examples:
            inputs = forward.prepare(forward.collate([[replace(example, role=Role.PLAIN)]]))
            asked = inputs["labels"] == IGNORE
            before = F.pad(inputs["labels"][:, 1:] != IGNORE, (0, 1))
            width = model.get_input_embeddings().weight.shape[1]
            noise = torch.randn(*asked.shape, width, generator=draw)
            clean: dict[int, torch.Tensor] = {}

            def keep(number, clean=clean, before=before):
                return lambda module, args, output: clean.update({number: output[before]})

            def put_back(number, clean=clean, before=before):
                def change(module, args, output):
                    output = output.clone()
                    output[before] = clean[number]
                    return output

                return change

            def said(inputs=inputs):
                found = answers(model, inputs)
                return float(found.log_probs.sum() / found.mask.sum())

            with ExitStack() as stack:
                for number, module in enumerate(modules):
                    stack.enter_context(_hooked(module.register_forward_hook(keep(number))))
                said()
            with _hooked(_noisy(model, asked, noise)):
                lost = said()
                for number, module in enumerate(modules):
                    with _hooked(module.register_forward_hook(put_back(number))):
                        total[number] += said() - lost
    return total / max(1, len(examples))


def top_quarter(effects: torch.Tensor) -> list[int]:
    """The numbers of the quarter of the layers with the highest effects, at least one.

    >>> top_quarter(torch.tensor([0.0, 3.0, 1.0, 2.0, 0.5]))
    [1, 3]
    """
    count = math.ceil(len(effects) / PART)
    return sorted(effects.argsort(descending=True, stable=True)[:count].tolist())


def train_mlps(model: nn.Module, layers: Sequence[int]) -> None:
    """Freeze all that is trained but the MLPs of some decoder layers.

    Raises:
        RememError: nothing of them was to be trained.
    """
    left = 0
    for name, value in model.named_parameters():
        found = re.search(r"\.layers\.(\d+)\.mlp\.", name) if part_of(name) == "language_model" else None
        here = found is not None and int(found[1]) in layers
        value.requires_grad_(value.requires_grad and here)
        left += value.requires_grad
    if not left:
        raise RememError(
            f"pava trains the MLPs of decoder layers {', '.join(map(str, layers))}, which are not trained"
        )


def train_most_effective(forward: Forward, forget: Examples, most: int, seed: int) -> str:
    """Freeze all that is trained but the MLPs with the highest indirect effects; in words, which those are.

    Args:
        most: forget rows, spread evenly; 0: all.
    """
    effects = indirect_effects(forward, [forget.example(row) for row in evenly(len(forget), most)], seed)
    chosen = top_quarter(effects)
    train_mlps(forward.model, chosen)
    told = (f"{layer} ({effects[layer]:.3g} nats)" for layer in chosen)
    return f"the MLPs of decoder layers {', '.join(told)} train"


def own_answers(forward: Forward, examples: Examples, size: int) -> dict[str, str]:
    """The greedy replies of the model as it is, by row id.

    Args:
        size: rows in a batch.

    Raises:
        RememError: it says nothing to one of them.
    """
    length = evaluation.longest(examples) + evaluation.ROOM
    found: dict[str, str] = {}
    with evaluating(forward.model):
        for start in range(0, len(examples), size):
            batch = [examples.example(row) for row in range(start, min(start + size, len(examples)))]
            said = evaluation.greedy(forward, examples.encoder, batch, length)
            found |= {example.row_id: " ".join(text.split()) for example, text in zip(batch, said)}
    if silent := [row for row, text in found.items() if not text]:
        raise RememError(f"{silent[0]}: the model before unlearning says nothing, which cannot be an anchor")
    return found
