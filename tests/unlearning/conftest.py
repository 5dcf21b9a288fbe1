"""Fixtures of the training side: a trainer in memory, runs in this process, a model that has memorised."""

from __future__ import annotations

import pytest
import torch
from support.memorised import memorised, train_run  # noqa: F401  fixtures
from support.trainers import FEW, own, trainer_of

from unlearning import forward
from unlearning.data import Examples, Role


@pytest.fixture
def make_trainer(data_dir, checkpoints, tmp_path, training_seed):
    """(method, arch, *flags) → a trainer that has not trained yet; nothing of it is saved."""

    def make(method: str, arch: str = "llava", *flags: str, model: str | None = None):
        return trainer_of(
            data_dir, model or checkpoints[arch], tmp_path / "run", method, "--seed", training_seed, *flags
        )

    return make


@pytest.fixture(scope="module")
def make_ready(data_dir, checkpoints, tmp_path_factory):
    """(method, arch, lora) → a trainer that is set up; random answers of other rows, and a model's own, are one and the same."""

    def make(method: str, arch: str, lora: bool):
        flags = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0") if lora else ()
        folder = tmp_path_factory.mktemp("ready")
        trainer = trainer_of(
            data_dir, checkpoints[arch], folder, method, *flags, *own(method, *FEW), "--num_train_epochs", "1"
        )
        if lora:
            # As after some steps: with B = 0 no gradient reaches A.
            draw = torch.Generator().manual_seed(0)
            for name, value in trainer.model.named_parameters():
                if "lora_B" in name:
                    value.data = 0.02 * torch.randn(value.shape, generator=draw)
        trainer.train_dataset.others = ["No such thing."]
        trainer.set_up()
        if (told := getattr(trainer.train_dataset, "anchors", None)) is not None:
            trainer.train_dataset.anchors = dict.fromkeys(told, "No such thing.")
        return trainer

    return make


@torch.no_grad()
def _mean_nll(trainer, table) -> float:
    trainer.model.eval()
    examples = Examples(table, Role.PLAIN, trainer.encoder)
    inputs = trainer.data_collator([examples[index] for index in range(len(examples))])
    return forward.answers(trainer.model, inputs).token_nll.item()


@pytest.fixture(scope="session")
def mean_nll():
    """(trainer, table) → mean NLL of the table's answer tokens under the trainer's model, in nats."""
    return _mean_nll


@pytest.fixture
def first_batch():
    """(trainer, n) → the first n indices of the first epoch, collated."""

    def make(trainer, n: int = 4):
        order = list(trainer._get_train_sampler())[:n]
        return trainer.data_collator([trainer.train_dataset[index] for index in order])

    return make
