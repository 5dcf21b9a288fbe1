"""The decoder against `generate`, against naive forwards, and on a chain whose outcomes can all be listed."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy import stats
from support import architectures as shapes
from support.architectures import SHAPES
from support.chats import chat, chats
from transformers.modeling_outputs import CausalLMOutput

from remem_tasks.engine import reader, tree
from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.prompts import Chat
from remem_tasks.engine.reader import out_of_memory
from remem_tasks.errors import RememError
from remem_tasks.seeds import row_seed

# Tokens that any tiny tokenizer has: bytes, behind its special tokens.
PREFIXES = [[], [150], [150, 151, 152], [150, 151, 160, 161], [170], [150, 151, 152]]


def distributions(decoder, one, tokens):
    """(T, V) ln p where each of the tokens behind a chat stands: one forward of the whole, no cache, no padding."""
    inputs = dict(decoder.prompts.encode([one]))
    start = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([tokens])], 1)
    for name in ("attention_mask", "mm_token_type_ids", "token_type_ids"):
        if name in inputs:
            fill = torch.full((1, len(tokens)), int(name == "attention_mask"))
            inputs[name] = torch.cat([inputs[name], fill.to(inputs[name].dtype)], 1)
    with torch.no_grad():
        logits = decoder.model(**inputs, use_cache=False).logits[0, start - 1 : -1].float()
    logits[:, decoder.banned] = -math.inf
    return logits.log_softmax(-1)


def naive(decoder, one, tokens):
    """Log-probabilities of the tokens behind a chat."""
    return distributions(decoder, one, tokens)[range(len(tokens)), tokens]


def largest_difference(left, right):
    return max((a.double() - b.double()).abs().max().item() for a, b in zip(left, right))


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_is_what_generate_says_of_one_row(shape_of, shape):
    model, _, decoder = shape_of(shape)
    rows = chats(4)
    replies = decoder.greedy(decoder.prefill(rows), 24)
    for row, reply in zip(rows, replies):
        inputs = decoder.prompts.encode([row])
        expected = model.generate(
            **inputs,
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=decoder.ends,
            suppress_tokens=decoder.banned.nonzero()[:, 0].tolist(),
        )[0, inputs["input_ids"].shape[1] :].tolist()
        assert reply.tokens == expected
        assert reply.ended == (expected[-1] in decoder.ends)
        assert reply.logprob == pytest.approx(naive(decoder, row, expected).sum().item(), abs=1e-4)
    assert len({tuple(reply.tokens) for reply in replies}) > 1


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_naive_forwards(shape_of, shape):
    """Branches of a branch, candidates that share beginnings, outcomes and rollouts: every number, naively."""
    _, _, decoder = shape_of(shape)
    rows = chats(3)
    state = decoder.prefill(rows)
    of = [0, 0, 0, 1, 2, 2]
    once = decoder.extend(state, of, PREFIXES)
    twice = decoder.extend(once, [5, 0, 3, 3], [[180], [181, 182], [], [183]])
    paths = [(2, [150, 151, 152, 180]), (0, [181, 182]), (1, PREFIXES[3]), (1, [*PREFIXES[3], 183])]
    given = [naive(decoder, rows[row], prefix) for row, prefix in zip(of, PREFIXES) if prefix]
    assert largest_difference([g for g in once.given if len(g)], given) < 1e-4
    candidates = [[[200, 201], [200], [200, 202, 203]], [[204]], [], [[], [205, 206]]]
    scores = decoder.logprobs(twice, candidates)
    assert [[len(score) for score in of_branch] for of_branch in scores] == [[2, 1, 3], [1], [], [0, 2]]
    beside = decoder.logprobs(twice, candidates, moments=True)
    for of_branch, with_moments in zip(scores, beside):
        for score, whole in zip(of_branch, with_moments):
            assert torch.equal(whole[:, 0], score)
    for branch, tokens in ((0, [200, 202, 203]), (3, [205, 206])):
        row, path = paths[branch]
        behind = distributions(decoder, rows[row], path + tokens)[len(path) :, ~decoder.banned].double()
        means = (behind.exp() * behind).sum(-1)
        sds = ((behind.exp() * behind**2).sum(-1) - means**2).sqrt()
        found = beside[branch][candidates[branch].index(tokens)].double()
        assert largest_difference(found[:, 1:3], torch.stack([means, sds], 1)) < 1e-4
        whole = distributions(decoder, rows[row], path + tokens)[len(path) :]
        assert found[:, 3].tolist() == whole.argmax(-1).tolist()
    drawn = decoder.distinct(twice, 5, [3, 2, 3, 1], range(4))
    rolled = decoder.sample(twice, 5, [3, 2, 3, 1], range(4))
    for branch, (row, path) in enumerate(paths):
        for tokens, score in zip(candidates[branch], scores[branch]):
            assert largest_difference([score.new_zeros(1), score], [
                score.new_zeros(1), naive(decoder, rows[row], path + tokens)[len(path) :]
            ] if tokens else [score.new_zeros(1)]) < 1e-4  # fmt: skip
        for made in (drawn[branch], rolled[branch]):
            assert len(made.tokens) == 5
            for tokens, value in zip(made.tokens, made.logprobs):
                expected = naive(decoder, rows[row], path + tokens)[len(path) :].sum()
                assert value.item() == pytest.approx(expected.item(), abs=1e-4)
    assert [len(outcome) for outcome in drawn[3].tokens] == [1] * 5
    assert state.tree.columns == twice.visible.shape[1]  # nothing is left of what was only scored or drawn
    # The tree is as it was: the first state and the middle one still give what they gave.
    again = decoder.extend(once, [5], [[180]])
    assert (again.logp[0] - twice.logp[0]).nan_to_num(0, 0, 0).abs().max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_of_1_and_of_32_agree(shape_of, shape):
    _, _, decoder = shape_of(shape)
    rows = chats(32)
    prefixes = [PREFIXES[index % 6] for index in range(32)]

    def measured(part):
        state = decoder.prefill([rows[index] for index in part])
        cut = decoder.extend(state, range(len(part)), [prefixes[index] for index in part])
        seeds = [row_seed(0, rows[index].row) for index in part]
        return list(
            zip(
                cut.logp,
                decoder.greedy(cut, [1 + index % 9 for index in part]),
                decoder.distinct(cut, 4, [1 + index % 3 for index in part], seeds),
                decoder.sample(cut, 4, [1 + index % 3 for index in part], seeds),
            )
        )

    together = measured(range(32))
    for index in range(0, 32, 5):
        [alone] = measured([index])
        logp, reply, drawn, rolled = together[index]
        assert (logp - alone[0]).nan_to_num(0, 0, 0).abs().max() < 1e-4
        assert reply.tokens == alone[1].tokens and abs(reply.logprob - alone[1].logprob) < 1e-4
        for one, other in ((drawn, alone[2]), (rolled, alone[3])):
            assert one.tokens == other.tokens
            assert (one.logprobs - other.logprobs).abs().max() < 1e-4
        assert (drawn.perturbed - alone[2].perturbed).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_an_adapter_is_on_and_bfloat16_runs(shape_of, shape):
    torch.manual_seed(0)
    model, processor = shapes.build(shape, ["Who is Ada?"] * 3)
    plain = Decoder(model, processor).prefill(chats(2)).logp
    target = r".*(language_model|text_model).*(q_proj|v_proj)"
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=target)).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)
    decoder = Decoder(adapted, processor)
    state = decoder.prefill(chats(2))
    assert (state.logp - plain).nan_to_num(0, 0, 0).abs().max() > 1e-3
    [[score], _] = decoder.logprobs(state, [[[150, 151]], []])
    assert largest_difference([score], [naive(decoder, chats(2)[0], [150, 151])]) < 1e-4
    half = Decoder(adapted.to(torch.bfloat16), processor)
    state = half.prefill(chats(2))
    assert state.logp.dtype == torch.float32
    assert (state.logp.exp().sum(-1) - 1).abs().max() < 1e-5
    assert len(half.greedy(state, 3)[0].tokens) > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_limits_of_their_own_and_rows_that_leave(shape_of, shape):
    """Rows finish at different times, so the batch shrinks; what is left says what it would have said."""
    _, _, decoder = shape_of(shape)
    state = decoder.prefill(chats(8))
    full = decoder.greedy(state, 12)
    limits = [12, 1, 2, 12, 3, 5, 7, 1]
    for reply, whole, limit in zip(decoder.greedy(state, limits), full, limits):
        assert reply.tokens == whole.tokens[:limit]
    assert state.tree.columns == state.visible.shape[1] and len(state.tree.names) == 8


@pytest.mark.parametrize("shape", SHAPES)
def test_no_picture_and_two_pictures(shape_of, shape):
    """Batches of questions without a picture, and of ones with two, each with padding."""
    _, _, decoder = shape_of(shape)
    texts, pictures = [], []
    for index, one in enumerate(chats(3)):
        picture, question = one.messages[0]["content"]
        texts.append(Chat([{"role": "user", "content": [question]}], f"row {index}"))
        pictures.append(Chat([{"role": "user", "content": [picture, question, picture]}], f"row {index}"))
    for rows in (texts, pictures):
        state = decoder.prefill(rows)
        assert not state.visible.all()
        scores = decoder.logprobs(state, [[[150, 151, 152]]] * 3)
        expected = [naive(decoder, row, [150, 151, 152]) for row in rows]
        assert largest_difference([score for [score] in scores], expected) < 1e-4
    # In `batches`, chats with as many pictures are together.
    mixed = [texts[0], pictures[0], texts[1], pictures[1], texts[2]]
    parts = [sorted(indices) for indices, _ in decoder.batches(mixed, lambda state, indices, chats: indices)]
    assert parts == [[1, 3], [0, 2, 4]]


@pytest.mark.parametrize("attention", ["eager", "flex_attention"])
def test_attention_that_cannot_branch_is_replaced(attention):
    model, processor = shapes.build("llava", ["Who is Ada?"] * 3)
    rows = chats(3)
    expected = Decoder(model, processor)
    expected = expected.logprobs(expected.prefill(rows), [[[150, 151]]] * 3)
    model.set_attn_implementation({"text_config": attention})
    decoder = Decoder(model, processor)
    found = model.config.get_text_config()._attn_implementation
    assert found == (attention if attention == "eager" else "sdpa")
    for one, other in zip(expected, decoder.logprobs(decoder.prefill(rows), [[[150, 151]]] * 3)):
        assert largest_difference(one, other) < 1e-5


def test_a_window_in_all_layers_counts_positions():
    """Mistral's: branches of other lengths and padding stand between a token and what it may see."""
    model, processor = shapes.build("llava_next", ["Who is Ada?"] * 3)
    for weight in model.model.language_model.parameters():
        weight.data *= 4 if weight.dim() > 1 else 1
    model.config.get_text_config().sliding_window = 9
    decoder, rows = Decoder(model, processor), chats(2)
    state = decoder.prefill(rows)
    cuts = decoder.extend(state, [0, 0, 1], [[150, 151, 152, 153, 154], [160], [170, 171]])
    tokens = list(range(180, 190))
    wide = naive(decoder, rows[0], [160, *tokens])[1:]
    scores = [score for [score] in decoder.logprobs(cuts, [[tokens]] * 3)]
    assert largest_difference([scores[1]], [wide]) < 1e-4
    assert largest_difference([scores[2]], [naive(decoder, rows[1], [170, 171, *tokens])[2:]]) < 1e-4
    model.config.get_text_config().sliding_window = None
    assert largest_difference([wide], [naive(decoder, rows[0], [160, *tokens])[1:]]) > 1e-3


def test_layers_that_cannot_branch_are_refused():
    text = SimpleNamespace(layer_types=["full_attention", "linear_attention"])
    with pytest.raises(RememError, match="layers have linear_attention, which cannot branch"):
        tree._window(text)
    # Qwen2 has a window in its configuration that is off
    assert tree._window(SimpleNamespace(sliding_window=8, use_sliding_window=False))[1] == {"full_attention"}
    assert tree._window(SimpleNamespace(sliding_window=8)) == (8, {"sliding_attention"})


@pytest.mark.parametrize("shape", SHAPES)
def test_cuts_of_a_reply_go_on_with_the_reply(shape_of, shape):
    """A branch that says what was read for another follows it; every reply is as if it were alone."""
    _, _, decoder = shape_of(shape)
    rows = chats(2)
    state = decoder.prefill(rows)
    said = [reply.tokens for reply in decoder.greedy(state, 9)]
    lists = [[], said[0][:3], said[0][:5], [150], said[0][:5], [*said[0][:2], 151], [], said[1][:4]]
    of, limits = [0, 0, 0, 0, 0, 0, 1, 1], [9, 6, 9, 4, 2, 3, 3, 1]
    cuts = decoder.extend(state, of, lists)
    for row, prefix, limit, reply in zip(of, lists, limits, decoder.greedy(cuts, limits)):
        [alone] = decoder.greedy(decoder.extend(decoder.prefill([rows[row]]), [0], [prefix]), limit)
        assert reply.tokens == alone.tokens and reply.ended == alone.ended
        assert reply.logprob == pytest.approx(alone.logprob, abs=1e-4)
    assert decoder.greedy(cuts, limits)[1].tokens == said[0][3:9]


def test_an_unfinished_turn_is_read_behind_the_prompt(shape_of):
    _, _, decoder = shape_of("llava")
    rows = [chat("Who?", said="It is"), chat("What is the city of Ada Birch?", "navy", row="row 1")]
    state = decoder.prefill(rows)
    plain = decoder.prefill([chat("Who?"), rows[1]])
    said = [decoder.prompts.said(rows[0], "It is")]
    assert len(said[0]) > 1
    cut = decoder.extend(plain, [0, 1], [said[0], []])
    assert torch.equal(state.logp, cut.logp)


def test_a_processor_that_pads_on_the_right_does_not_matter(shape_of):
    model, processor, decoder = shape_of("llava")
    before = decoder.greedy(decoder.prefill(chats(3)), 6)
    side = processor.tokenizer.padding_side
    try:
        for processor.tokenizer.padding_side in ("left", "right"):
            assert Decoder(model, processor).greedy(decoder.prefill(chats(3)), 6) == before
    finally:
        processor.tokenizer.padding_side = side


def test_rows_with_about_as_much_to_read():
    assert reader._alike({}) == []
    assert reader._alike({0: 0, 1: 5, 2: 10, 3: 8, 4: 7}) == [{2, 3, 4}, {1}, {0}]


def test_rows_with_many_branches_go_apart_and_say_the_same(shape_of, monkeypatch):
    _, _, decoder = shape_of("llava")
    rows = [1] * 140 + [0] * 60 + [2] * 3
    prefixes = [[150 + place % 100, 150 + place // 100] for place in range(len(rows))]
    candidates = [[[200, 201 + branch % 7]] * (branch % 3) for branch in range(len(rows))]

    def answers():
        state = decoder.extend(decoder.prefill(chats(3)), rows, prefixes)
        scores = decoder.logprobs(state, candidates)
        return decoder.greedy(state, [5 + branch % 4 for branch in range(len(rows))]), scores

    apart, scores = answers()
    monkeypatch.setattr(reader, "_alike", lambda counts: [set(counts)])
    together, same_scores = answers()
    assert [reply.tokens for reply in apart] == [reply.tokens for reply in together]
    assert len({tuple(reply.tokens) for reply in apart}) > 20
    for one, other in zip(apart, together):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    assert [len(of) for of in scores] == [branch % 3 for branch in range(len(rows))]
    for one, other in zip(scores, same_scores):
        assert largest_difference(one, other) < 1e-4 if one else not other


def test_pieces_of_a_long_trie_give_the_same(shape_of):
    model, processor, decoder = shape_of("qwen2_5_vl")
    small = Decoder(model, processor, budget=1)
    rows = chats(3)
    whole, pieces = (one.extend(one.prefill(rows), [0, 0, 1, 2, 2, 0], PREFIXES) for one in (decoder, small))
    assert (whole.logp - pieces.logp).nan_to_num(0, 0, 0).abs().max() < 1e-5
    assert largest_difference(whole.given[1:], pieces.given[1:]) < 1e-5
    lists = [[[200, 201, 202], [200, 203]]] * 6
    for one, other in zip(decoder.logprobs(whole, lists), small.logprobs(pieces, lists)):
        assert largest_difference(one, other) < 1e-5


def test_a_prompt_or_a_reply_longer_than_the_context_is_named(shape_of):
    _, _, decoder = shape_of("llava")
    with pytest.raises(RememError, match=r"row 9: the prompt has \d{4} tokens.* context of 1024"):
        decoder.prefill([*chats(2), chat("Who is it? " * 400, row="row 9")])
    state = decoder.prefill(chats(2))
    room = 1024 - int(state.lengths()[1])
    for call in (
        lambda n: decoder.greedy(state, [1, n]),
        lambda n: decoder.logprobs(state, [[], [[150] * n]]),
        lambda n: decoder.extend(state, [1], [[150] * n]),
        lambda n: decoder.distinct(state, 2, [1, n], [0, 0]),
        lambda n: decoder.sample(state, 2, [1, n], [0, 0]),
    ):
        with pytest.raises(RememError, match=r"row 1: the prompt has \d+ tokens, which with \d+ new ones"):
            call(room + 1)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_named(number):
    model, processor = shapes.build("llava", ["Who?"] * 3)
    decoder = Decoder(model, processor)
    state = decoder.prefill(chats(2))
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(decoder.banned)))
    model.lm_head.bias.data[5] = number
    with pytest.raises(RememError, match="row 0: the model's logits are NaN or infinite"):
        decoder.prefill(chats(2))
    for call in (
        lambda: decoder.greedy(state, [1, 3]),
        lambda: decoder.extend(state, [1], [[150]]),
        lambda: decoder.logprobs(state, [[], [[150, 151]]]),
    ):
        with pytest.raises(RememError, match="row 1: the model's logits are NaN or infinite"):
            call()


# Batches


def test_batches_fill_the_budget_with_rows_of_similar_length(shape_of):
    model, processor, decoder = shape_of("llava")
    rows = chats(9)
    expected = decoder.greedy(decoder.prefill(rows), 4)

    def work(one):
        return lambda state, indices, chats: one.greedy(state, 4)

    def all_of(one, **options):
        parts = list(one.batches(rows, work(one), branches=1, columns=4, **options))
        replies = dict(pair for indices, replies in parts for pair in zip(indices, replies))
        assert [replies[index].tokens for index in range(9)] == [reply.tokens for reply in expected]
        return [indices for indices, _ in parts]

    assert [len(part) for part in all_of(decoder)] == [9] and list(decoder.batches([], work(decoder))) == []
    parts = all_of(decoder, limit=4)
    assert [len(part) for part in parts] == [4, 4, 1]
    letters = [len(rows[index].messages[0]["content"][1]["text"]) for part in parts for index in part]
    assert letters == sorted(letters, reverse=True)
    # A row has about 100 columns of prompt and 4 of a reply, and one branch.
    row = 104 * decoder._column_bytes + 100 * decoder._reading_bytes + decoder._branch_bytes
    sizes = [len(part) for part in all_of(Decoder(model, processor, budget=3 * row))]
    assert set(sizes[:-1]) <= {2, 3, 4} and sum(sizes) == 9
    assert [len(part) for part in all_of(Decoder(model, processor, budget=1))] == [1] * 9


def test_out_of_memory_halves_and_goes_on(shape_of):
    model, processor, _ = shape_of("llava")
    decoder, sizes = Decoder(model, processor), []

    def work(state, indices, chats):
        sizes.append(len(indices))
        if len(indices) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return list(indices)

    with pytest.warns(UserWarning, match="going on with [42] rows at once"):
        done = [index for indices, _ in decoder.batches(chats(8), work) for index in indices]
    assert sizes == [8, 4, 2, 2, 2, 2] and sorted(done) == list(range(8))

    def never(state, indices, chats):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    with pytest.raises(RememError, match="row 0: out of memory with this row alone"):
        list(decoder.batches(chats(1), never))

    def broken(state, indices, chats):
        raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="device-side assert"):
        list(decoder.batches(chats(1), broken))
    assert not out_of_memory(RuntimeError("device-side assert"))


# A Markov chain, all of whose outcomes can be listed

END, PICTURE = 4, 5


class Chain(torch.nn.Module):
    """Logits that depend on the last token alone: (6, 6) in, a model out."""

    def __init__(self, logits):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(logits, dtype=torch.float32), requires_grad=False)
        text = SimpleNamespace(vocab_size=len(logits), num_hidden_layers=1, hidden_size=1)
        self.config = SimpleNamespace(get_text_config=lambda: text, image_token_id=PICTURE, text_config=text)
        self.dtype = torch.float32
        self.calls = []

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache):
        self.calls.append(tuple(input_ids.shape))
        return CausalLMOutput(logits=self.table[input_ids])


class Six:
    """A tokenizer of six tokens: 0 to 3 are text, 4 ends, 5 is the place of a picture."""

    eos_token_id, all_special_ids, added_tokens_decoder = END, [END, PICTURE], {}

    def __len__(self):
        return 6


def chain(logits, starts, budget=None):
    """(decoder, state) with one branch for each start token."""
    decoder = Decoder(Chain(logits), SimpleNamespace(tokenizer=Six()), budget)
    ids = torch.tensor(starts)[:, None]
    names = [f"row {index}" for index in range(len(starts))]
    return decoder, decoder.begin({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, names)


RANDOM = np.random.default_rng(7).normal(size=(6, 6)) * 1.3
RANDOM[:, PICTURE] = 9.0  # the likeliest by far, and never to be said


def outcomes(logits, start, n):
    """{outcome: probability}: all continuations of n tokens or up to the end token, by enumeration."""
    p = np.exp(logits[:, :PICTURE]) / np.exp(logits[:, :PICTURE]).sum(1, keepdims=True)
    found = {}
    for length in range(1, n + 1):
        for tokens in itertools.product(range(5), repeat=length):
            if END in tokens[:-1] or (length < n and tokens[-1] != END):
                continue
            found[tokens] = math.prod(p[a, b] for a, b in zip((start, *tokens), tokens))
    return found


def test_the_enumeration_is_a_distribution():
    assert len(outcomes(RANDOM, 0, 3)) == 1 + 4 * 1 + 16 * 5
    assert sum(outcomes(RANDOM, 0, 3).values()) == pytest.approx(1)


@pytest.mark.parametrize("m", [85, 86, 200])
def test_distinct_finds_all_outcomes_when_it_may(m):
    decoder, state = chain(RANDOM, [0, 2])
    for start, found in zip((0, 2), decoder.distinct(state, m, 3, [11, 12])):
        expected = outcomes(RANDOM, start, 3)
        assert {tuple(tokens) for tokens in found.tokens} == set(expected) and len(found.tokens) == 85
        for tokens, value in zip(found.tokens, found.logprobs.tolist()):
            assert value == pytest.approx(math.log(expected[tuple(tokens)]), abs=1e-5)


def test_perturbed_log_probabilities_are_free_gumbels():
    """Over all outcomes of many rows, perturbed less ln p is standard Gumbel noise, in falling order of the sum."""
    decoder, state = chain(RANDOM, [0] * 60)
    found = decoder.distinct(state, 85, 3, [row_seed(5, str(row)) for row in range(60)])
    assert all((one.perturbed.diff() <= 0).all() for one in found)
    noise = torch.cat([one.perturbed - one.logprobs for one in found])
    assert stats.kstest(noise.numpy(), "gumbel_r").pvalue > 0.01


def p_value(seen, p):
    """χ² test of draws against their probabilities; outcomes expected less than five times are one class."""
    counts = np.array([seen.count(u) for u in p], float)
    expected = np.array(list(p.values())) * len(seen)
    rare = expected < 5
    observed, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue


@pytest.mark.parametrize("n", [1, 2])
def test_inclusion_frequencies_are_those_of_sampling_without_replacement(n):
    """m = 2 draws: π(u) = p(u) + Σ_{w≠u} p(w) p(u) / (1 − p(w)); and the first is drawn from p itself."""
    count = 3000
    decoder, state = chain(RANDOM, [1] * count)
    p = outcomes(RANDOM, 1, n)
    found = decoder.distinct(state, 2, n, [row_seed(0, str(row)) for row in range(count)])
    pairs = [[tuple(tokens) for tokens in one.tokens] for one in found]
    assert all(len(set(pair)) == 2 for pair in pairs)
    for u in p:
        wanted = p[u] + sum(p[w] * p[u] / (1 - p[w]) for w in p if w != u)
        seen = sum(u in pair for pair in pairs) / count
        assert abs(seen - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / count) + 1e-9
    assert p_value([pair[0] for pair in pairs], p) > 0.01


def test_rollouts_come_from_the_models_own_distribution():
    decoder, state = chain(RANDOM, [0, 3])
    count = 8000
    for start, rolled in zip((0, 3), decoder.sample(state, count, 3, [1, 2])):
        p = outcomes(RANDOM, start, 3)
        said = [tuple(tokens) for tokens in rolled.tokens]
        assert set(said) <= set(p)
        assert p_value(said, p) > 0.01
        for tokens, value in list(zip(said, rolled.logprobs.tolist()))[:50]:
            assert value == pytest.approx(math.log(p[tokens]), abs=1e-5)


def test_rollouts_that_agree_are_decoded_once():
    """500 rollouts of a chain with 5 next tokens: no forward has more than 4 (then 16) live branches a row."""
    decoder, state = chain(RANDOM, [0, 1])
    decoder.sample(state, 500, 3, [1, 2])
    assert decoder.model.calls == [(2, 1), (2, 4), (2, 16)]


def test_a_model_that_always_ends():
    logits = np.full((6, 6), -40.0)
    logits[:, END] = 0
    decoder, state = chain(logits, [0, 1])
    assert decoder.greedy(state, 9)[1] == ([END], True, pytest.approx(0, abs=1e-6))
    assert decoder.sample(state, 7, 9, [0, 1])[0].tokens == [[END]] * 7
    found = decoder.distinct(state, 4, 2, [0, 1])[1]
    assert [END] in found.tokens and len({tuple(tokens) for tokens in found.tokens}) == 4
    assert found.logprobs[found.tokens.index([END])].item() == pytest.approx(0, abs=1e-6)
    [[score], _] = decoder.logprobs(state, [[[END]], []])
    assert score.tolist() == pytest.approx([0])
    logits[:, :END] = -math.inf  # nothing else is possible
    decoder, state = chain(logits, [0])
    assert decoder.distinct(state, 4, 2, [0])[0].tokens == [[END]]


def test_picture_tokens_are_never_said():
    decoder, state = chain(RANDOM, [0] * 4)
    said = [reply.tokens for reply in decoder.greedy(state, 8)]
    for made in (decoder.sample(state, 50, 8, range(4)), decoder.distinct(state, 50, 3, range(4))):
        said += [tokens for one in made for tokens in one.tokens]
    assert PICTURE not in {token for tokens in said for token in tokens}
    [[score], *_] = decoder.logprobs(state, [[[PICTURE]], [], [], []])
    assert score.item() == -math.inf


def test_a_rows_numbers_depend_on_its_seed_alone():
    starts, seeds = [0, 1, 2, 3, 0], [row_seed(3, f"row {index}") for index in range(5)]
    decoder, state = chain(RANDOM, starts)
    limits = [3, 1, 2, 3, 3]
    for call in (decoder.sample, decoder.distinct):
        together = call(state, 6, limits, seeds)
        other = [3, 0, 4, 1]
        moved = call(chain(RANDOM, [starts[i] for i in other])[1], 6, [limits[i] for i in other], [seeds[i] for i in other])  # fmt: skip
        for index, one in zip(other, moved):
            assert one.tokens == together[index].tokens
            assert torch.equal(one.logprobs, together[index].logprobs)
        assert together[0].tokens != together[4].tokens  # the same start, another seed


def test_greedy_follows_the_chain():
    logits = np.full((6, 6), -5.0)
    for token, after in {0: 1, 1: 2, 2: 3, 3: END}.items():
        logits[token, after] = 5.0
    decoder, state = chain(logits, [0, 2, 3])
    assert [reply.tokens for reply in decoder.greedy(state, 9)] == [[1, 2, 3, END], [3, END], [END]]
    # row 2 ends at once and leaves, row 1 after one more step
    assert decoder.model.calls == [(3, 1), (2, 1), (1, 1), (1, 1)]
    cut = decoder.greedy(state, [2, 1, 1])
    assert [(reply.tokens, reply.ended) for reply in cut] == [([1, 2], False), ([3], False), ([END], True)]


def test_greedy_reads_nothing_again_that_was_read_for_another():
    logits = np.full((6, 6), -5.0)
    for token, after in {0: 1, 1: 2, 2: 3, 3: 0}.items():
        logits[token, after] = 5.0
    decoder, state = chain(logits, [0])
    cuts = decoder.extend(state, [0, 0, 0], [[], [1, 2], [1, 2, 3]])
    decoder.model.calls.clear()
    assert [r.tokens for r in decoder.greedy(cuts, 5)] == [[1, 2, 3, 0, 1], [3, 0, 1, 2, 3], [0, 1, 2, 3, 0]]
    # all go on behind 1 2 3, the last one by five tokens: four more are read
    assert decoder.model.calls == [(1, 1)] * 4
    logits[3, END] = 9.0
    decoder, state = chain(logits, [0])
    cuts = decoder.extend(state, [0, 0], [[], [1, 2, 3]])
    decoder.model.calls.clear()
    assert [r.tokens for r in decoder.greedy(cuts, 5)] == [[1, 2, 3, END], [END]]
    assert decoder.model.calls == []
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        decoder.greedy(cuts, [1, 0])


@pytest.mark.parametrize("rank", [1, 4, 20])
def test_with_a_floor_the_rank_is_the_rank(rank):
    """Prefixes below the floor are outcomes of their own: the likelier outcomes are all found, at little cost."""
    p = outcomes(RANDOM, 2, 3)
    secret = sorted(p, key=p.get)[-rank]
    likelier = {u for u in p if p[u] > p[secret]}
    decoder, state = chain(RANDOM, [2])
    floor = math.log(p[secret])
    [found] = decoder.distinct(state, 85, 3, [4], [floor])
    above = {tuple(u) for u, value in zip(found.tokens, found.logprobs) if value > floor + 1e-6}
    assert above == likelier and len(above) == rank - 1
    assert found.logprobs.exp().sum().item() == pytest.approx(1, abs=1e-5)  # still a partition
    for tokens, value in zip(found.tokens, found.logprobs.tolist()):
        same = sum(q for u, q in p.items() if u[: len(tokens)] == tuple(tokens))
        assert value == pytest.approx(math.log(same), abs=1e-5)
    [free] = decoder.distinct(state, 85, 3, [4])
    assert len(found.tokens) < len(free.tokens) == 85


def test_nan_in_one_row_names_it():
    logits = RANDOM.copy()
    logits[3, 2] = math.nan
    decoder, state = chain(logits, [0, 1])
    with pytest.raises(RememError, match="row 1: the model's logits"):
        decoder.extend(state, [0, 1], [[2], [3]])
    blocked = RANDOM.copy()
    blocked[2, :PICTURE] = -math.inf  # only the picture's token is left
    with pytest.raises(RememError, match="row 1: the model's logits"):
        chain(blocked, [0, 2])
