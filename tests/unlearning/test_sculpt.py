"""smfa and pava: what is taken back, which MLPs train, what the model answers itself."""

import pytest
import torch
from support.trainers import FEW, own

from remem_tasks.errors import RememError
from unlearning.data import Role
from unlearning.mechanisms import anchors, sculpt

LORA = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0")
STEPS = ("--max_steps", "3", "--learning_rate", "2e-3")


class Two(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(values))


def test_what_harms_is_taken_back_by_hand():
    """Changes (1, −1, 2, 0), gradient (4, 1, −1, 5): the first alone goes the way that the retain loss rises."""
    start = Two([1.0, 2.0, 3.0, 4.0])

    def taken(gradient, left):
        model = Two([2.0, 1.0, 5.0, 4.0])
        share, m = sculpt.take_back(model, {"w": torch.tensor(gradient)}, left, lambda: start)
        return model.w.tolist(), share, m

    gradient = [4.0, 1.0, -1.0, 5.0]
    assert taken(gradient, 0.0) == ([1.0, 1.0, 5.0, 4.0], pytest.approx(1 / 3), 0.0)
    assert taken(gradient, 0.25)[0] == [1.25, 1.0, 5.0, 4.0]
    # 4 of harm, 1 + 2 of good: ¾ of the first is left, and the whole raises the loss by 3 − 3.
    assert taken(gradient, -1.0) == ([1.75, 1.0, 5.0, 4.0], pytest.approx(1 / 3), 0.75)
    assert taken([1.0, 1.0, -3.0, 5.0], -1.0)[0] == [2.0, 1.0, 5.0, 4.0], "no harm as a whole"
    for useless in ([-1.0, 1.0, -1.0, 1.0], [1.0, -1.0, 1.0, 1.0]):
        with pytest.raises(RememError, match="the mask has no use"):
            taken(useless, 0.0)


def test_a_share_below_0_is_minus_1_alone(make_trainer):
    with pytest.raises(RememError, match="--smfa_left -0.5: from 0 to 1, or -1"):
        make_trainer("smfa", "llava", "--smfa_left", "-0.5")


@pytest.mark.parametrize("flags", [(), LORA], ids=["full", "lora"])
def test_smfa_takes_back_nothing_but_what_was_learned(make_trainer, flags):
    trainer = make_trainer("smfa", "llava", *STEPS, *own("smfa", *FEW), "--smfa_left", "0", *flags)
    start = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    learned = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.finish()
    back = 0
    for name, value in trainer.model.named_parameters():
        if "lora_A" in name:
            assert torch.equal(value, learned[name])
            continue
        same, gone = value == learned[name], value == start[name]
        assert bool((same | gone).all()), name
        back += int((gone & ~same).sum())
    assert back > 0 and "% of the changed coordinates, to 0 of their change" in trainer.notes["sculpted"]


def test_the_anchor_is_the_mean_gradient_of_the_retain_rows(make_trainer):
    trainer = make_trainer("smfa", "llava")
    table = trainer.train_dataset.retain
    examples = [table.example(row) for row in (0, 3)]
    named = {name: value for name, value in trainer.model.named_parameters() if "mlp" in name}
    found = sculpt.mean_gradient(trainer.forward, named, examples)
    trainer.model.eval()
    losses = sum(trainer.forward([example]).token_nll for example in examples) / 2
    naive = torch.autograd.grad(losses, list(named.values()), allow_unused=True)
    for name, gradient in zip(named, naive):
        expected = torch.zeros_like(named[name]) if gradient is None else gradient
        assert torch.allclose(found[name], expected, atol=1e-6)


# pava


def test_the_quarter_with_the_highest_effects():
    assert anchors.top_quarter(torch.tensor([0.0, 3.0, 1.0, 2.0, 0.5])) == [1, 3]
    assert anchors.top_quarter(torch.tensor([1.0, 1.0])) == [0]
    assert len(anchors.top_quarter(torch.randn(32))) == 8


def test_pava_trains_the_mlps_of_that_quarter_alone(make_trainer):
    for flags in ((), LORA):
        trainer = make_trainer("pava", "llava", *own("pava", *FEW), *flags)
        trained = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
        layers = {name.split(".layers.")[1].split(".")[0] for name in trained}
        assert len(layers) == 1 and all(".mlp." in name and "language_model" in name for name in trained)
        assert f"the MLPs of decoder layers {layers.pop()} (" in trainer.notes["layers"]


def test_as_many_rows_are_asked_as_the_flag_says(make_trainer, monkeypatch):
    asked = []
    monkeypatch.setattr(
        anchors, "indirect_effects", lambda forward, rows, seed: asked.append(len(rows)) or torch.ones(2)
    )
    for given in ((), ("--pava_rows", "2"), ("--pava_rows", "0")):
        trainer = make_trainer("pava", "llava", *given)
    assert asked == [min(16, len(trainer.train_dataset)), 2, len(trainer.train_dataset)]


def test_effects_of_the_mlps_the_naive_way(make_trainer):
    """What comes back if one MLP's output at the answer's positions is that without noise; 0 if it adds nothing."""
    trainer = make_trainer("pava", "llava", *own("pava", *FEW))
    examples = [trainer.train_dataset.forget.example(row) for row in (0, 2)]
    first = anchors.indirect_effects(trainer.forward, examples, 3)
    assert first.shape == (2,) and bool((first != 0).any())
    assert torch.equal(first, anchors.indirect_effects(trainer.forward, examples, 3))
    alone = [anchors.indirect_effects(trainer.forward, [one], 3) for one in examples]
    # (The noise of the second row is drawn after that of the first.)
    assert alone[0].shape == first.shape
    with torch.no_grad():
        anchors.mlps(trainer.model)[1].down_proj.weight.zero_()
    assert anchors.indirect_effects(trainer.forward, examples, 3)[1] == 0
    assert not any(
        module._forward_hooks for module in trainer.model.modules() if "mlp" in str(type(module)).lower()
    )


def test_anchors_are_the_models_own_answers_to_some_retain_rows(make_trainer, monkeypatch):
    trainer = make_trainer("pava", "llava", *own("pava", *FEW))
    monkeypatch.setattr(
        anchors.evaluation,
        "greedy",
        lambda forward, encoder, batch, length: [f"It is {one.row_id}." for one in batch],
    )
    trainer.set_up()
    data = trainer.train_dataset
    assert len(data.retain) == 4 and len(data.anchors) == 4
    for index in list(trainer._get_train_sampler()):
        for example in data[index]:
            assert (example.answer == f"It is {example.row_id}.") == (example.role == Role.RETAIN)
    monkeypatch.setattr(
        anchors.evaluation, "greedy", lambda forward, encoder, batch, length: ["" for _ in batch]
    )
    with pytest.raises(RememError, match="says nothing, which cannot be an anchor"):
        trainer.set_up()
