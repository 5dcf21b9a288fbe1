"""`remem sae train`: a sparse autoencoder of one decoder layer of a checkpoint, with what it explains."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from remem_tasks import checkpoints
from remem_tasks.errors import RememError
from remem_tasks.files import new_folder, write_json
from unlearning import weights as checkpoint
from unlearning.data import Collator, Encoder, Examples, Role, evenly, load_rows, pad_token_of, stop_ids
from unlearning.forward import Forward
from unlearning.mechanisms import autoencoder
from unlearning.sharding import digest


@dataclass(frozen=True)
class SaePlan:
    """What is trained.

    Attributes:
        model: folder or Hub id of a checkpoint.
        data: folder or Hub id of rows; None: as for `remem train`.
        split: of the data; None: what was memorised.
        layer: decoder layer, from 0; −1: in the middle of the depth.
        width: features, in multiples of the states' width.
        active: features that are on in a state, on the average of training.
        steps: of training, of 512 states each.
        states, rows: at most so many; rows are spread evenly, 0: all.
        seed: of the states that are drawn and of training.
        device: where the model runs.
    """

    model: str
    data: str | None = None
    split: str | None = None
    layer: int = -1
    width: int = 8
    active: int = 16
    steps: int = 2000
    states: int = 50000
    rows: int = 0
    seed: int = 0
    device: str = "cpu"

    def check(self) -> None:
        """Raise a RememError that names what is out of range."""
        for name, least in (
            ("width", 1),
            ("active", 1),
            ("steps", 1),
            ("states", 20),
            ("rows", 0),
            ("layer", -1),
        ):
            if getattr(self, name) < least:
                raise RememError(f"--{name} {getattr(self, name)} is out of range: at least {least}")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise RememError(f"--device '{self.device}' is not there: {checkpoints.reason(error)}") from error


def train(plan: SaePlan, out: str | Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Train an autoencoder into a new folder; what its `sae.json` holds.

    Raises:
        RememError: something unknown or out of range, or a folder that is not empty.
    """
    plan.check()
    begun = time.time()
    checkpoint.check_path(plan.model)
    with new_folder(out) as folder:
        model = checkpoint.load_model(plan.model).to(plan.device).eval().requires_grad_(False)
        processor = checkpoints.load_processor(plan.model)
        checkpoints.check_pair(model, processor, plan.model)
        layer = autoencoder.layer_of(model, plan.layer, "--layer")
        rows = load_rows(plan.data, "finetune", "forget1", plan.split).train
        encoder = Encoder(processor, stop_ids(model), 0)
        forward = Forward(
            model,
            Collator(pad_token_of(processor.tokenizer)),
            lambda batch: {name: value.to(plan.device) for name, value in batch.items()},
            nullcontext,
        )
        table = Examples(rows, Role.PLAIN, encoder)
        places = evenly(len(table), plan.rows)
        examples, count = (table.example(place) for place in places), len(places)
        states = autoencoder.states_of(forward, examples, count, layer, plan.states, plan.seed)
        say(
            f"{len(states)} states of decoder layer {layer} in {count} rows, of {states.shape[1]} numbers each"
        )
        training, apart = autoencoder.held_out(states)
        made = autoencoder.fit(
            training,
            layer,
            width=plan.width * states.shape[1],
            active=min(plan.active, plan.width * states.shape[1]),
            steps=plan.steps,
            seed=plan.seed,
            device=plan.device,
            tell=lambda step, loss: say(f"step {step} of {plan.steps}: loss {loss:.4f}"),
        )
        made.of = digest(model)
        found = {
            "model": plan.model,
            "of": made.of,
            "layer": layer,
            "features": len(made.bias),
            "states": len(states),
            "rows": count,
            "held_out": {name: round(value, 4) for name, value in autoencoder.quality(made, apart).items()},
            "seed": plan.seed,
            "seconds": round(time.time() - begun, 1),
        }
        autoencoder.write(made, folder)
        write_json(folder / "sae.json", found)
    return found
