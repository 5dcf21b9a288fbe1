"""Each picture goes through a frozen tower once a step, whatever the roles; losses and gradients are those without it."""

import pytest
import torch
from support.architectures import SHAPES, build
from support.slow import others_slow
from torch import nn

from unlearning.mechanisms import pictures
from unlearning.mechanisms.pictures import Seen, picture_ids

LORA = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0.05")
LANGUAGE = ("--train", "language_model")
PROJECTOR = ("--train", "language_model,projector")


class Counter:
    """How many pictures the first layers of some models' vision towers have read."""

    def __init__(self, inputs, *models: nn.Module):
        self.parts = 0  # patches (Qwen) or pictures
        self.each = int(inputs["image_grid_thw"][0].prod()) if "image_grid_thw" in inputs else 1
        for model in models:
            encoder = pictures.encoder_of(model)
            tower = getattr(encoder, "vision_tower", None) or encoder.visual
            first = next(one for one in tower.modules() if isinstance(one, nn.Conv2d | nn.Conv3d))
            first.register_forward_pre_hook(self.see)

    def see(self, module, args):
        self.parts += len(args[0])

    def taken(self) -> float:
        found, self.parts = self.parts / self.each, 0
        return found


def values(trainer, inputs):
    """Loss and gradient of a batch, dropout drawn alike."""
    trainer.model.train()
    torch.manual_seed(0)
    loss = trainer.compute_loss(trainer.model, inputs)
    trained = [value for value in trainer.model.parameters() if value.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return loss.item(), torch.cat([g.flatten() for g in found if g is not None])


def without(inputs):
    return {name: value for name, value in inputs.items() if name != pictures.IDS}


# (method, flags): pictures encoded of a batch of two pairs, with and without: rows times forwards.
CASES = [
    ("npo", LORA, 4, 4),
    ("dpo", LORA, 4, 6),
    ("dpo", LANGUAGE, 4, 6),
    ("dpo", (), 4, 6),  # the tower is trained: one forward of each picture all the same
    ("kl", LORA, 4, 8),
    ("undial", LORA, 2, 4),
    ("undial", LANGUAGE, 2, 4),
    ("llmu", LANGUAGE, 4, 12),
    ("kl", (), 8, 8),  # the tower is trained: its reference sees for itself
]


@pytest.mark.parametrize("arch", others_slow(["llava", "qwen2_5_vl"], "qwen2_5_vl"))
@pytest.mark.parametrize(("method", "flags", "once", "every"), CASES)
def test_a_picture_is_encoded_once_and_nothing_else_changes(
    make_trainer, first_batch, arch, method, flags, once, every
):
    trainer = make_trainer(method, arch, *flags)
    trainer.set_up()
    inputs = first_batch(trainer, 2)
    counter = Counter(inputs, *filter(None, (trainer.model, trainer.reference_model)))
    loss, gradient = values(trainer, without(inputs))
    assert counter.taken() == every
    again, other = values(trainer, inputs)
    assert counter.taken() == once
    assert again == pytest.approx(loss, rel=1e-6)
    assert (other - gradient).abs().max() <= 1e-5 * gradient.abs().max()
    assert "get_image_features" not in vars(pictures.encoder_of(trainer.model))


def test_where_the_projector_alone_is_trained_the_reference_takes_the_towers_output(
    make_trainer, first_batch
):
    trainer = make_trainer("kl", "llava", *PROJECTOR)
    trainer.set_up()
    with torch.no_grad():  # as after some steps: the two projectors differ
        for name, value in trainer.model.named_parameters():
            if "projector" in name:
                value += 0.05
    inputs = first_batch(trainer, 2)
    counter = Counter(inputs, trainer.model, trainer.reference_model)
    loss, gradient = values(trainer, without(inputs))
    assert counter.taken() == 8
    again, other = values(trainer, inputs)
    assert counter.taken() == 4
    assert again == pytest.approx(loss, rel=1e-6)
    assert (other - gradient).abs().max() <= 1e-5 * gradient.abs().max()


@pytest.mark.parametrize("wrap", ["sam", "gru"])
def test_over_a_step_of_two_gradients_and_two_micro_batches_each_is_encoded_once(
    make_trainer, wrap, monkeypatch
):
    # (Plain SGD: it moves a weight by its gradient, while AdamW's first steps are the gradient's sign, whatever rounding left of it.)
    steps = ("--max_steps", "2", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2")
    optimizer = ("--optim", "sgd", "--learning_rate", "1e-2")
    ends = {}
    for told in (True, False):
        trainer = make_trainer("dpo", "llava", "--wrap", wrap, *LANGUAGE, *steps, *optimizer)
        start = torch.cat([value.detach().flatten().clone() for value in trainer.model.parameters()])
        if not told:
            monkeypatch.setattr("unlearning.data.picture_ids", lambda batch: None)
        counter = Counter({}, trainer.model)
        trainer.set_up, plain = (lambda: None), trainer.set_up
        plain()
        counter.taken()
        trainer.train()
        ends[told] = counter.taken(), torch.cat([v.detach().flatten() for v in trainer.model.parameters()])
        assert not trainer.seen.features
    assert ends[True][0] == 2 * 4 and ends[False][0] == 2 * (10 if wrap == "sam" else 6)
    apart, moved = (ends[True][1] - ends[False][1]).abs().max(), (ends[False][1] - start).abs().max()
    assert moved > 1e-4 and apart <= 1e-4 * moved + 1e-6


def test_names_tell_pictures_apart_by_their_pixels():
    first, second = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    second[0, 0, 0] = 1e-6
    found = picture_ids({"pixel_values": torch.stack([first, second, first])}).tolist()
    assert found[0] == found[2] != found[1] and min(found) >= 0
    assert picture_ids({"input_ids": torch.zeros(1, 2)}) is None
    grid = torch.tensor([[1, 2, 2], [1, 1, 4], [1, 2, 2]])
    patches = torch.zeros(12, 5)
    named = picture_ids({"pixel_values": patches, "image_grid_thw": grid}).tolist()
    assert (
        named[0] == named[1] == named[2]
    )  # (the same patches; what differs in shape alone is told apart by the grid)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_architecture_gives_the_same_logits_with_shared_pictures(shape):
    """Rows that show the same picture, in an order that is not theirs, twice: the second forward encodes nothing."""
    from PIL import Image

    model, processor = build(shape, ["Who is this? It is somebody else."])
    drawn = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "red", "green")]
    chats = [
        [
            {
                "role": "user",
                "content": [{"type": "image", "image": one}, {"type": "text", "text": "Who is this?"}],
            }
        ]
        for one in drawn
    ]
    inputs = dict(processor.apply_chat_template(
        chats, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True, padding=True
    ))  # fmt: skip
    ids, seen = picture_ids(inputs), Seen()
    model.requires_grad_(False).train()
    with torch.no_grad():
        expected = model(**inputs).logits
        for _ in range(2):
            with pictures.shared(model, ids, seen, frozenset()):
                found = model(**inputs).logits
            assert torch.allclose(found, expected, atol=1e-5)
