"""What must hold for every method that is registered: gradients, padding, prompts, batches, accumulation."""

import inspect

import pytest
import torch
from support.slow import in_turn

from unlearning.arguments import parse
from unlearning.data import IGNORE, Role
from unlearning.forward import Answers, Batch
from unlearning.mechanisms import reference
from unlearning.methods import METHODS, NAMES

UNLEARN = [name for name in NAMES if METHODS[name].rows_from == "pairs"]
TRAINED = [name for name in UNLEARN if METHODS[name].trains]
# Part of their loss is a constant for the gradient, by definition.
DETACHED = {"wga", "satimp", "ceu"}
ROLES = {"forget": Role.FORGET, "retain": Role.RETAIN, "idk": Role.IDK, "alt": Role.ALT, "other": Role.OTHER}


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_one_short_file(name):
    assert len(inspect.getsource(inspect.getmodule(METHODS[name])).splitlines()) <= 35


# Losses alone, on answers that were made up


@pytest.fixture(scope="module")
def bare():
    """name → a trainer without model or data: enough for its losses."""

    def make(name: str):
        flags = ["--model_name_or_path", "m", "--output_dir", "never_written", "--use_cpu", "true"]
        _, args, _ = parse(["--method", name, *flags])
        trainer = object.__new__(METHODS[name])
        trainer.args, trainer.dual, trainer._seen, trainer.state = (
            args,
            0.7,
            [],
            type("S", (), {"global_step": 0}),
        )
        trainer.cycle, trainer.shift = [1, 0], torch.tensor([1.0, -1.0, 0.5])
        return trainer

    return make


def raw(trainer, pairs: int = 2, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """By role, made-up logits [B, 4, 5], hidden states [B, 4, 3] and references; answers of 3 and 2 tokens."""
    draw = torch.Generator().manual_seed(seed)
    made = {}
    for role, number in ROLES.items():
        if not (each := trainer.roles.count(number)) or (number == Role.RETAIN and trainer.args.alpha == 0):
            continue
        rows = pairs * each
        real = lambda *shape, scale=1.0: scale * torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
        mask = torch.tensor([[True, True, True, False], [True, True, False, False]])[torch.arange(rows) % 2]
        made[role] = {
            "logits": real(rows, 4, 5), "hidden": real(rows, 4, 3), "reference_logits": real(rows, 4, 5),
            "reference_hidden": real(rows, 4, 3), "reference_nll": real(rows).abs() * 5,
            "labels": torch.randint(5, (rows, 4), generator=draw), "mask": mask,
        }  # fmt: skip
    return made


def batch_of(made: dict[str, dict[str, torch.Tensor]]) -> Batch:
    answers = {}
    for role, v in made.items():
        found = v["logits"].log_softmax(-1).gather(2, v["labels"][..., None])[..., 0]
        # (Beside the answer stands whatever the model says there.)
        answers[role] = Answers(
            found, v["mask"], v["labels"][v["mask"]], v["reference_nll"], v["logits"][v["mask"]],
            v["reference_logits"][v["mask"]], v["hidden"][v["mask"]], v["reference_hidden"][v["mask"]],
        )  # fmt: skip
    return Batch(None, *(answers.get(role) for role in ROLES))


def changed(made, change):
    return {role: change(values) for role, values in made.items()}


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in DETACHED])
def test_the_gradient_is_that_of_finite_differences(bare, name):
    trainer = bare(name)
    made = raw(trainer)
    leaves = [(role, kind) for role in made for kind in ("logits", "hidden")]

    def loss(*values):
        filled = {role: dict(parts) for role, parts in made.items()}
        for (role, kind), value in zip(leaves, values):
            filled[role][kind] = value
        return trainer.losses_of(batch_of(filled))["loss"]

    values = [made[role][kind].requires_grad_() for role, kind in leaves]
    assert torch.autograd.gradcheck(loss, values)
    assert (
        sum(
            g.abs().sum()
            for g in torch.autograd.grad(loss(*values), values, allow_unused=True)
            if g is not None
        )
        > 0
    )


@pytest.mark.parametrize("name", TRAINED)
def test_defect_04_prompt_and_padding_positions_change_no_loss(bare, name):
    """Upstream defect 4: a loss over the prompt, the picture or the padding."""
    trainer = bare(name)
    made = raw(trainer)
    before = trainer.losses_of(batch_of(made))
    draw = torch.Generator().manual_seed(1)

    def longer(values, left, right):
        wide = {}
        for kind, value in values.items():
            if kind == "reference_nll":
                wide[kind] = value
                continue
            shapes = [(value.shape[0], count, *value.shape[2:]) for count in (left, right)]
            if value.dtype.is_floating_point:
                sides = [9 * torch.randn(shape, generator=draw, dtype=value.dtype) for shape in shapes]
            else:
                sides = [torch.zeros(shape, dtype=value.dtype) for shape in shapes]
            wide[kind] = torch.cat([sides[0], value, sides[1]], dim=1)
        return wide

    for left, right in ((3, 0), (0, 4), (2, 1)):
        after = trainer.losses_of(batch_of(changed(made, lambda v: longer(v, left, right))))  # noqa: B023
        for figure, value in before.items():
            assert after[figure].item() == pytest.approx(value.item(), rel=1e-9), (figure, left, right)


@pytest.mark.parametrize("name", TRAINED)
def test_order_and_repetition_of_a_batch_change_no_loss(bare, name):
    trainer = bare(name)
    made = raw(trainer)
    before = trainer.losses_of(batch_of(made))["loss"].item()

    def swap(values):
        # The rows of a pair stand together.
        return {kind: torch.cat(value.chunk(2)[::-1]) for kind, value in values.items()}

    def twice(values):
        return {kind: torch.cat([value, value]) for kind, value in values.items()}

    for change in (swap, twice):
        assert trainer.losses_of(batch_of(changed(made, change)))["loss"].item() == pytest.approx(
            before, rel=1e-9
        )
    assert trainer.losses_of(batch_of(raw(trainer, seed=5)))["loss"].item() != pytest.approx(before)


@pytest.mark.parametrize("name", UNLEARN)
def test_defect_11_forget_and_retain_rows_share_every_step(name, bare):
    """Upstream defect 11: all of F, then all of R, where the paper's loss is joint."""
    trainer = bare(name)
    if not trainer.trains:
        assert not trainer.roles or trainer.trains is False
        return
    made = raw(trainer)
    figures = trainer.losses_of(batch_of(made))
    gamma, alpha = trainer.weights()
    expected = gamma * figures["forget_loss"]
    if "retain" in made:
        expected = expected + alpha * figures["retain_loss"]
        assert alpha != 0 and gamma != 0
    assert figures["loss"].item() == pytest.approx(expected.item())


# The same on models


@pytest.fixture(scope="module")
def ready(make_ready):
    """(name, arch, lora) → a trainer that is set up, once a module."""
    made = {}

    def get(*key):
        if key not in made:
            made[key] = make_ready(*key)
        return made[key]

    return get


KINDS = [(arch, lora) for arch in ("llava", "qwen2_5_vl") for lora in (False, True)]
CASES = [(name, *kind) for name in TRAINED for kind in KINDS]
NAMED = [f"{name}-{arch}-{'lora' if lora else 'full'}" for name, arch, lora in CASES]
# Padding and pictures are the model's, losses the method's: in the fast run every method has one kind of model, every kind a fourth of the methods.
IN_TURN = in_turn(TRAINED, KINDS)


def pair_indices(trainer) -> list[int]:
    """Two pairs whose answers have the same numbers of tokens: of one fact each, with the same refusal."""
    pairs = trainer.train_dataset
    lengths = [len(pairs.retain.example(row).answer_ids) for row in range(len(pairs.retain))]
    same = next(j for j in range(1, len(lengths)) if lengths[j] == lengths[0])
    return [i * len(pairs.retain) + j for i, j in ((0, 0), (1, same))]


def gradient(trainer, inputs) -> torch.Tensor:
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    trainer._seen = []
    loss = trainer.losses_of(trainer.batch(trainer.model, inputs))["loss"]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(trained, found)]
    )


def padded(inputs, left: int, right: int, pad: int):
    """A batch with columns of padding beside it."""
    rows, width = inputs["input_ids"].shape
    fills = {"input_ids": pad, "labels": IGNORE}
    wide = dict(inputs)
    for key, value in inputs.items():
        if value.shape == (rows, width):
            fill = fills.get(key, 0)
            sides = [torch.full((rows, count), fill, dtype=value.dtype) for count in (left, right)]
            wide[key] = torch.cat([sides[0], value, sides[1]], dim=1)
    return wide


@pytest.mark.parametrize(("name", "arch", "lora"), IN_TURN, ids=NAMED)
def test_padding_batch_and_accumulation_change_no_gradient(ready, name, arch, lora, monkeypatch):
    """Padding on either side, and two micro-batches of one pair for one of two, give the same gradient."""
    trainer = ready(name, arch, lora)
    trainer.model.train()
    indices = pair_indices(trainer)
    pairs = [trainer.train_dataset[index] for index in indices]
    if trainer.reference == "nll":
        entries = [entry for index in indices for entry in trainer.train_dataset.plan(index)]
        answers = {
            trainer.train_dataset.make(*entry).key: entry for entry in entries if entry[0] != Role.RETAIN
        }
        table = reference.sequence_nll(trainer.forward, trainer.train_dataset, answers, 4)
        monkeypatch.setattr(trainer.data_collator, "reference_nll", table)
    inputs = trainer.data_collator(pairs)
    whole = gradient(trainer, inputs)
    assert torch.isfinite(whole).all() and whole.abs().max() > 0
    scale = whole.abs().max().item()
    for left, right in ((0, 3), (4, 0)):
        moved = gradient(trainer, padded(inputs, left, right, trainer.data_collator.pad_token_id))
        assert (moved - whole).abs().max().item() < 2e-3 * scale, (left, right)
    parts = [gradient(trainer, trainer.data_collator([pair])) for pair in pairs]
    assert (sum(parts) / 2 - whole).abs().max().item() < 2e-3 * scale
    assert (parts[0] - parts[1]).abs().max().item() > 2e-3 * scale, "the two pairs are different ones"


CUTS = [(1,) * 6, (4, 2), (2, 3, 1)]
STEPPING = [name for name in NAMES if METHODS[name].trains]


@pytest.mark.parametrize(
    ("name", "cut"),
    in_turn(STEPPING, [(cut,) for cut in CUTS]),
    ids=[f"{name}-{cut}" for name in STEPPING for cut in CUTS],
)
def test_a_step_is_the_same_however_it_is_cut(ready, name, cut):
    """6 × 1, 4 + 2 and 2 + 3 + 1 rows give the loss and the gradient of one batch of 6, for answers of uneven length."""
    trainer = ready(name, "llava", False)
    trainer._seen = []
    pairs = [trainer.train_dataset[index] for index in list(trainer._get_train_sampler())[:6]]
    assert len({len(pair[0].answer_ids) for pair in pairs}) > 1
    found = []
    for sizes in ((6,), cut):
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        batches = [trainer.data_collator(pairs[at : at + size]) for at, size in zip(starts, sizes)]
        samples, _ = trainer.get_batch_samples(iter(batches), len(batches), torch.device("cpu"))
        trainer.model.train()
        trainer.model.zero_grad()
        total = 0.0
        for inputs in samples:
            loss = trainer.compute_loss(trainer.model, inputs) / len(samples)
            loss.backward()
            total += loss.item()
        gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        found.append((total, torch.cat(gradients)))
    (loss, gradient), (again, other) = found
    assert again == pytest.approx(loss, rel=1e-5, abs=1e-5)
    assert (gradient - other).abs().max() <= 1e-5 * gradient.abs().max() + 1e-8
