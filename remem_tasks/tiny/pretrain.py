"""Give a tiny model eyes: what CLIP gives LLaVA, learned from pictures of people in no benchmark.

The vision tower and the projector learn to name the parts of a face (skin, hair, beard, glasses …) in
pictures of random people; the heads that read the labels off the image tokens are thrown away
afterwards. The language model stays as it was initialised.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from remem_tasks.checkpoints import save
from remem_tasks.errors import RememError
from remem_tasks.files import check_empty, new_folder
from remem_tasks.forge import questions
from remem_tasks.forge.faces import PARTS
from remem_tasks.forge.people import make_people, stream
from remem_tasks.tiny import build as checkpoint
from remem_tasks.tiny.strangers import SEED_OFFSET, draw_people


def corpus(people: int = 200, seed: int = 0) -> list[str]:
    """Questions and answers about other people, to learn the tokenizer's merges from."""
    texts = []
    for person in make_people(people, SEED_OFFSET + seed):
        rng = stream(SEED_OFFSET + seed, 3, person.index)
        asked = questions.training_questions(person, 60, 0.6, 3, rng)
        asked += questions.heldout_questions(person, asked, 30, rng)
        texts += [f"{question.question} {question.answer}" for question in asked]
    return texts


def _prepare(processor, pictures: list[Image.Image]) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """Pictures as the model wants them, once; returns how to pick a batch of them by index."""
    inputs = processor.image_processor(images=pictures, return_tensors="pt")
    pixels, grid = inputs["pixel_values"], inputs.get("image_grid_thw")
    if grid is None:
        return lambda index: {"pixel_values": pixels[index]}
    patches = pixels.view(len(pictures), -1, pixels.shape[-1])  # drawn pictures are all of one size
    return lambda index: {"pixel_values": patches[index].flatten(0, 1), "image_grid_thw": grid[index]}


def image_features(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The projected image features as the language model gets them: [B, tokens, hidden]."""
    features = model.get_image_features(**inputs)
    return torch.stack(list(getattr(features, "pooler_output", features)))


class Heads(nn.Module):
    """For each part of a face a learned query that looks over the image tokens, and a linear classifier."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.key = nn.Linear(width, width)
        self.queries = nn.Parameter(torch.randn(len(PARTS), width) * width**-0.5)
        self.parts = nn.ModuleList(nn.Linear(width, len(values)) for values in PARTS.values())

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        """[B, tokens, hidden] → for each part [B, values]."""
        features = self.norm(features)
        attention = (self.key(features) @ self.queries.T).softmax(dim=1)
        seen = torch.einsum("btp,bth->pbh", attention, features)
        return [part(view) for part, view in zip(self.parts, seen)]


def _accuracy(model, heads: Heads, batch, labels: torch.Tensor, indices: torch.Tensor) -> dict[str, float]:
    hits = torch.zeros(len(PARTS))
    model.eval()
    with torch.no_grad():
        for index in indices.split(128):
            guesses = heads(image_features(model, batch(index)))
            hits += torch.stack(
                [(guess.argmax(-1) == labels[index, part]).sum() for part, guess in enumerate(guesses)]
            )
    return {name: round(float(hit) / len(indices), 3) for name, hit in zip(PARTS, hits)}


def pretrain(
    model, processor, pictures: int, epochs: float, seed: int, workers: int, lr: float = 3e-3, size: int = 96
) -> dict:
    """Train vision tower and projector to name the parts of faces, in place.

    Args:
        pictures: how many to draw; one in ten is held out.
        epochs: passes over the others, in batches of `size`, with a one-cycle schedule up to `lr`.

    Returns:
        Held-out accuracy of each part, steps and seconds.
    """
    started = time.time()
    drawn, parts = draw_people(pictures, seed, workers)
    labels = torch.tensor(parts)
    batch = _prepare(processor, drawn)
    held = pictures // 10
    order = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    heads = Heads(model.config.get_text_config().hidden_size)
    trained = [
        *(
            parameter
            for name, parameter in model.named_parameters()
            if ".language_model." not in name and "lm_head" not in name
        ),
        *heads.parameters(),
    ]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    steps = max(1, int((pictures - held) / size * epochs))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    progress = tqdm(range(steps), desc="learning to see", unit="step")
    queue = torch.empty(0, dtype=torch.long)
    model.train()
    for step in progress:
        if len(queue) < size:
            queue = torch.randperm(pictures - held, generator=order) + held
        index, queue = queue[:size], queue[size:]
        guesses = heads(image_features(model, batch(index)))
        loss = sum(
            nn.functional.cross_entropy(guess, labels[index, part]) for part, guess in enumerate(guesses)
        )
        if not torch.isfinite(loss):
            raise RememError(f"loss is {loss.item()} at step {step} of the vision pre-training")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()
    accuracy = _accuracy(model, heads, batch, labels, torch.arange(held))
    return {"held_out_accuracy": accuracy, "steps": steps, "seconds": round(time.time() - started, 1)}


def make_base(
    out: str | Path,
    arch: str,
    *,
    pictures: int,
    epochs: float,
    image_size: int,
    seed: int,
    workers: int,
    width: int = checkpoint.WIDTH,
) -> dict:
    """Build, pre-train and save a tiny base checkpoint in folder `out`.

    Args:
        width: hidden size of its language model.

    Raises:
        RememError: unknown architecture, a width that no such model has, or `out` not empty.
    """
    check_empty(out)
    model, processor = checkpoint.build(
        arch, corpus(seed=seed), image_size=image_size, width=width, seed=seed
    )
    report = pretrain(model, processor, pictures, epochs, seed, workers)
    with new_folder(out) as folder:
        save(model, processor, folder)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters()), **report}
