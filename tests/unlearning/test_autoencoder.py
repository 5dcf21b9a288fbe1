"""Sparse autoencoders: their formula and the choice of features by hand, training on states made of known directions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.errors import RememError
from unlearning.mechanisms import autoencoder
from unlearning.mechanisms.autoencoder import Autoencoder, choose, fit, quality


def by_hand() -> Autoencoder:
    return Autoencoder(
        0, 0.5,
        encoder=torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), bias=torch.tensor([0.0, -1.0, 0.0]),
        decoder=torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]]), centre=torch.tensor([1.0, 1.0]), of="x",
    )  # fmt: skip


def test_features_and_what_is_rebuilt_by_hand():
    """h − c = (2, 1): a = (2, 1, 3); (.5, 0): a = (.5, −1, .5), all off."""
    states = torch.tensor([[3.0, 2.0], [1.5, 1.0]])
    assert by_hand().active(states).tolist() == [[2.0, 1.0, 3.0], [0.0, 0.0, 0.0]]
    assert by_hand().rebuilt(states).tolist() == [[3.0, 1.5], [1.0, 1.0]]
    found = quality(by_hand(), states)
    # What is left is (0, .5) and (.5, 0); the states' variance Σ (1.5/2)² · 2 + (1/2)² · 2.
    assert found["explained"] == pytest.approx(1 - 0.5 / (1.125 + 0.5))
    assert found["active"] == 1.5 and found["silent"] == 0.0


def test_steering_takes_out_what_the_chosen_features_add():
    made, states = by_hand(), torch.tensor([[3.0, 2.0]])
    without = states + made.steering([0, 1], 0.0).change(states)
    assert without.tolist() == [[1.0, 1.5]]  # less 2 (1, 0) and 1 (0, .5)
    assert (states + made.steering([1], -1.0).change(states)).tolist() == [[3.0, 1.0]]


def test_the_choice_by_hand():
    forget = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    retain = torch.tensor([3.0, 0.5, 0.0, 0.1, 0.0])
    assert choose(forget, retain, 2, 4.0) == [1, 2]
    assert choose(forget, retain, 9, 4.0) == [1, 2, 3]
    assert choose(forget, retain, 1, 1.0) == [0]
    with pytest.raises(RememError, match="no feature is 2 times as active"):
        choose(torch.ones(3), torch.ones(3), 2, 2.0)
    with pytest.raises(RememError, match="no feature"):
        choose(torch.zeros(3), torch.zeros(3), 2, 2.0)


@given(st.integers(0, 1000), st.integers(1, 8), st.floats(0.5, 8))
def test_no_chosen_feature_is_less_told_apart_than_asked(seed, most, ratio):
    draw = torch.Generator().manual_seed(seed)
    forget, retain = torch.rand(2, 12, generator=draw)
    try:
        chosen = choose(forget, retain, most, ratio)
    except RememError:
        assert not bool((forget >= ratio * retain).any())
        return
    assert 0 < len(chosen) <= most and all(forget[one] >= ratio * retain[one] for one in chosen)
    left = [one for one in range(12) if one not in chosen and forget[one] >= ratio * retain[one]]
    assert not left or (len(chosen) == most and max(forget[left]) <= min(forget[chosen]))


def made_states(count: int, seed: int = 0):
    """States of 3 of 24 directions each, in 16 dimensions."""
    draw = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(24, 16, generator=draw), dim=1)
    which = torch.rand(count, 24, generator=draw).argsort(dim=1)[:, :3]
    size = torch.zeros(count, 24).scatter(1, which, 1 + torch.rand(count, 3, generator=draw))
    return size @ directions + 2.0, directions, size


def test_training_finds_directions_that_states_are_made_of():
    states, directions, _ = made_states(4000)
    made = fit(states, 1, width=48, active=3, steps=600, rate=5e-3)
    found = quality(made, made_states(400)[0])
    assert found["explained"] > 0.8 and 1 < found["active"] < 8 and made.threshold > 0 and made.layer == 1
    near = (directions @ torch.nn.functional.normalize(made.decoder, dim=1).T).max(dim=1).values
    assert (near > 0.9).float().mean() > 0.6
    again = fit(states, 1, width=48, active=3, steps=600, rate=5e-3)
    assert all(
        torch.equal(getattr(made, name), getattr(again, name)) for name in ("encoder", "decoder", "bias")
    )


def test_scale_and_place_of_states_do_not_matter_to_what_is_explained():
    states, _, _ = made_states(1000)
    first = quality(fit(states, 0, width=32, active=3, steps=100), states)
    other = quality(fit(100 * states - 7, 0, width=32, active=3, steps=100), 100 * states - 7)
    assert other["explained"] == pytest.approx(first["explained"], abs=0.02)


def test_numbers_out_of_range_and_files_that_are_none(tmp_path):
    with pytest.raises(RememError, match="9 active of 8 features"):
        fit(torch.randn(20, 4), 0, width=8, active=9, steps=1)
    with pytest.raises(RememError, match="holds no autoencoder"):
        autoencoder.read(tmp_path)
    autoencoder.write(by_hand(), tmp_path)
    read = autoencoder.read(tmp_path)
    assert (read.layer, read.threshold, read.of) == (0, 0.5, "x") and torch.equal(
        read.encoder, by_hand().encoder
    )
    (tmp_path / autoencoder.FILE).write_bytes((tmp_path / autoencoder.FILE).read_bytes()[:90])
    with pytest.raises(RememError, match="damaged or cut short"):
        autoencoder.read(tmp_path)


def test_states_are_those_before_answers_and_as_many_others(make_trainer):
    trainer = make_trainer("sae")
    example = trainer.train_dataset.forget.example(0)
    states, before = autoencoder._outputs(trainer.forward, example, 1)
    prompt, answer = example.prompt["input_ids"].shape[1], len(example.answer_ids)
    assert before.nonzero()[:, 0].tolist() == list(range(prompt - 1, prompt + answer - 1))
    found = autoencoder.states_of(trainer.forward, [example], 1, 1, 1000, 0)
    assert len(found) == 2 * answer
    known = {tuple(row.tolist()) for row in states[before]}
    assert sum(tuple(row.tolist()) in known for row in found) == answer
    made = fit(states.cpu(), 1, width=32, active=4, steps=5)
    total = made.active(states[before]).mean(dim=0)
    assert torch.allclose(autoencoder.activity(trainer.forward, [example], made), total, atol=1e-6)
