"""Packed reading: as many tokens as there are go through the layers, and every number is that of padded rows."""

import pytest
import torch
from support import architectures as shapes
from support.architectures import SHAPES
from support.chats import TEXTS, chats

from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.packing import Packer, Packing, PrivateColumns, packing
from remem_tasks.engine.tree import Tree

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
    monkeypatch.setattr(Packer, "lanes", False, raising=False)
    monkeypatch.setattr(Packer, "__init__", lambda self, model: None)
    padded = scores()
    assert packed[1:] == padded[1:]
    assert (packed[0] - padded[0]).nan_to_num(0, 0, 0).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_lanes_say_what_branches_of_a_tree_say(shape_of, shape, monkeypatch):
    """Replies of unequal lengths, so that lanes leave at several steps and the rest is put together."""
    _, _, decoder = shape_of(shape)
    read = []
    advance = Tree.advance

    def watched(self, here, *args):
        read.append((len(here.rows), here.lanes.count))
        return advance(self, here, *args)

    monkeypatch.setattr(Tree, "advance", watched)

    def replies():
        state = decoder.extend(decoder.prefill(chats(3)), BRANCHES, PREFIXES)
        window = state.tree._window if state.tree.slides else 30
        said = decoder.greedy(state, [min(limit, window) for limit in (3, 30, 11, 5, 24)])
        return state.tree.columns, [reply.tokens for reply in said], [reply.logprob for reply in said]

    with_lanes = replies()
    assert read and any(some < lanes for some, lanes in read) and len({lanes for _, lanes in read}) > 1
    monkeypatch.setattr(Tree, "lanes", lambda self, count, longest: None)
    read.clear()
    of_tree = replies()
    assert not read
    assert with_lanes[:2] == of_tree[:2]
    assert with_lanes[2] == pytest.approx(of_tree[2], abs=1e-4)


def test_lanes_are_for_models_whose_layers_see_all_of_them(shape_of):
    decoder = shape_of("llava")[2]
    tree = decoder.prefill(chats(2)).tree
    assert isinstance(tree.lanes(5, 100), PrivateColumns) and tree.lanes(5, 100).count == 5
    tree._kinds, tree._window = {"sliding_attention"}, 8
    assert tree.lanes(5, 8) is not None and tree.lanes(5, 9) is None
    tree._kinds = {"full_attention"}
    tree.cache.layers.pop()  # a layer that reads another's keys has none of its own
    assert tree.lanes(5, 8) is None


def test_a_lane_keeps_its_own_columns():
    lanes, layer = PrivateColumns(3, torch.device("cpu")), object()

    def put(*values):  # 1 head, size 1; values are keys, negative ones are values
        states = torch.tensor(values).view(1, 1, -1, 1)
        lanes.put(layer, (states, -states))
        lanes.used += 1

    put(1.0, 2.0, 3.0)
    lanes.active = lanes.active[[0, 2]]
    put(10.0, 30.0)  # nothing is known of lane 1's
    assert lanes.own[0][[0, 2], 0, :, 0].tolist() == [[1, 10], [3, 30]]
    lanes.keep()
    for step in range(100, 140):  # more than there was room for
        put(step + 0.0, step + 0.5)
    keys, values = (of[:, 0, :, 0].tolist() for of in lanes.own)
    assert keys == [[1, 10, *range(100, 140)], [3, 30, *(step + 0.5 for step in range(100, 140))]]
    assert values == [[-key for key in of] for of in keys]


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_one_by_one_are_rows_together(shape_of, shape, monkeypatch):
    """Attention row by row where padding is wasteful: tokens in any order of rows, a row without any."""
    _, _, decoder = shape_of(shape)
    branches = [2, 0, 0, 3, 0]  # none of row 1

    def scores():
        state = decoder.extend(decoder.prefill(chats(4)), branches, PREFIXES)
        drawn = decoder.distinct(state, 6, 3, range(5))
        return torch.cat([one.logprobs for one in drawn]), [one.tokens for one in drawn]

    asked = []
    monkeypatch.setattr(Packing, "ragged", lambda self, query, key: False)
    together = scores()
    monkeypatch.setattr(
        Packing, "ragged", lambda self, query, key: asked.append(self.runs) or bool(self.runs)
    )
    one_by_one = scores()
    assert any(runs and 0 in runs[1] for runs in asked) and any(
        runs and runs[0] is not None for runs in asked
    )
    assert one_by_one[1] == together[1]
    assert (one_by_one[0] - together[0]).abs().max() < 1e-5


def test_runs_are_the_tokens_of_rows():
    rows, slots = torch.tensor([1, 0, 1]), torch.tensor([0, 0, 1])
    order, many = Packing(rows, slots, 3, 2).runs
    assert order.tolist() == [1, 0, 2] and many == [1, 2, 0]
    assert Packing(torch.tensor([0, 1, 1]), slots.new_tensor([0, 0, 1]), 2, 2).runs == (None, [1, 2])
    assert Packing(rows, torch.tensor([0, 1, 1]), 2, 2).runs is None  # row 0 has only its second slot


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
