"""Pictures of people in no benchmark, drawn by processes that need not load torch."""

from __future__ import annotations

import multiprocessing
from functools import partial

import numpy as np
from PIL import Image
from tqdm import tqdm

from remem_tasks.forge import scenes
from remem_tasks.forge.faces import random_face
from remem_tasks.forge.people import stream

SEED_OFFSET = 2**32  # data seeds are below it: no person or picture here is drawn from a benchmark's seed
DRAWN = 112  # side of the drawn pictures in pixels, before the processor resizes them


def _draw(seed: int, index: int) -> tuple[np.ndarray, list[int]]:
    rng = stream(SEED_OFFSET + seed, 9, index)
    face = random_face(rng)
    context = scenes.random_context(rng, scenes.TRAIN_PLACES + scenes.TEST_PLACES)
    return np.asarray(scenes.draw_scene(face, context, rng, DRAWN)), face.labels()


def draw_people(count: int, seed: int, workers: int) -> tuple[list[Image.Image], list[list[int]]]:
    """`count` pictures of random people, and of each the index of each part of the face.

    They do not depend on `workers`, the processes that draw.
    """
    draw = partial(_draw, seed)
    if workers > 1:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            drawing = pool.imap(draw, range(count), chunksize=32)
            drawn = list(tqdm(drawing, total=count, desc="drawing", unit="picture"))
    else:
        drawn = [draw(index) for index in tqdm(range(count), desc="drawing", unit="picture")]
    return [Image.fromarray(pixels) for pixels, _ in drawn], [labels for _, labels in drawn]
