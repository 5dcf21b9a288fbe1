"""Packed reading: as many tokens as there are go through the layers, and every number is that of padded rows."""

import pytest
import torch
from chats import TEXTS, chats

from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.packing import Packer, Packing, packing
from remem_tasks.tiny import shapes
from remem_tasks.tiny.shapes import SHAPES

BRANCHES = [0, 0, 0, 1, 2]  # three branches of the first row, one of each other
PREFIXES = [[150], [151, 152], [151, 153], [160], [170, 171, 172]]


def test_states_go_to_their_rows():
    here = Packing(torch.tensor([1, 0, 1]), torch.tensor([0, 0, 1]), 2, 2)
    states = torch.arange(1.0, 7).view(1, 1, 3, 2)  # 1 head, 3 tokens, size 2
    place = torch.full((2, 2, 1, 2), torch.nan)
    here.into(place, states)
    assert place.tolist() == [[[[3.0, 4.0]], [[0.0, 0.0]]], [[[1.0, 2.0]], [[5.0, 6.0]]]]


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_rows_are_padded_rows(shape_of, shape, monkeypatch):
    model, processor, _ = shape_of(shape)

    def scores():
        decoder = Decoder(model, processor)
        state = decoder.extend(decoder.prefill(chats(3)), BRANCHES, PREFIXES)
        drawn = decoder.distinct(state, 4, 3, range(5))
        said = decoder.greedy(state, 6)
        return (
            torch.cat(
                [state.logp, *(one.logprobs[:, None].expand(-1, state.logp.shape[1]) for one in drawn)]
            ),
            [one.tokens for one in drawn],
            [reply.tokens for reply in said],
        )

    assert Packer(model).fits
    packed = scores()
    monkeypatch.setattr(Packer, "fits", False, raising=False)
    monkeypatch.setattr(Packer, "__init__", lambda self, model: None)
    padded = scores()
    assert packed[1:] == padded[1:]
    assert (packed[0] - padded[0]).nan_to_num(0, 0, 0).abs().max() < 1e-4


def test_layers_read_no_padding():
    model, processor = shapes.build("llava", TEXTS)
    decoder = Decoder(model.eval(), processor)
    state = decoder.prefill(chats(3))
    read = []
    with model.get_input_embeddings().register_forward_hook(lambda _, args, out: read.append(out.shape[:2])):
        decoder.extend(state, BRANCHES, PREFIXES)
    # 1, and 151 with 152 and 153 behind it, of the first row; 1 of the second; 3 of the third. Padded: 3 × 4.
    assert read == [(1, 8)]


def test_nothing_stays_behind_when_a_forward_fails():
    model, _ = shapes.build(SHAPES[0], TEXTS)
    packer, here = Packer(model), Packing(torch.zeros(1), torch.zeros(1), 1, 1)
    with pytest.raises(RuntimeError, match="broken"), packer.reading(here):
        assert packing() is here
        raise RuntimeError("broken")
    assert packing() is None
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    assert {part.config._attn_implementation for part in model.modules() if hasattr(part, "config")} == {
        "sdpa"
    }
