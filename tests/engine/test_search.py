"""The exact guess rank against the enumeration of all outcomes: beam, bounds, and the search that begins anew."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy import Chain, certain_chain, random_chain
from test_decoder import RANDOM, chain, outcomes

from remem_tasks.engine.search import MARGIN, Beam, BestFirst, Rank, shown
from remem_tasks.engine.state import Continuations
from remem_tasks.metrics import guess_rank
from remem_tasks.seeds import row_seed


def searched(chain, secret, m, budget, ends=None):
    """(rank by the beam or None, rank by the search that begins anew) of a secret under a chain known in closed form."""
    ends = [chain.eos] if ends is None else ends
    words = len(chain.start)
    floor = chain.logprob(secret)

    def behind(prefixes):
        with np.errstate(divide="ignore"):
            return torch.tensor(np.log(np.array([chain.next_probabilities(one) for one in prefixes])))

    beam = Beam(m, [secret], [floor], torch.tensor(ends), words, torch.device("cpu"))
    live = [()]
    parents, tokens = beam.grow(behind(live).float())
    while len(parents):
        live = [(*live[parent], token) for parent, token in zip(parents.tolist(), tokens.tolist())]
        parents, tokens = beam.grow(behind(live).float())
    best = BestFirst(m, secret, floor, ends, words, budget)
    while best.open:
        taken = best.take(m)
        best.put(taken, behind([prefix for _, prefix in taken]))
    return beam.ranks()[0], best.rank()


def enumerated(chain, secret, m):
    """1 + the number of outcomes likelier than the secret by more than two float32 passes can differ, at most m + 1."""
    every, floor = chain.outcomes(len(secret)), chain.logprob(secret)
    likelier = sum(math.log(p) > floor + MARGIN for outcome, p in every.items() if outcome != secret)
    return min(1 + likelier, m + 1)


CHAINS = st.builds(
    random_chain,
    st.integers(0, 10_000),
    st.integers(2, 6),
    st.sampled_from([0.05, 0.3, 1.0, 5.0, 200.0]),  # from one next token to all alike
)


def test_an_outcome_hardly_above_the_secret_has_room_beside_it():
    # P(00) = .50000388 P(0) and P(01) = .49999612 P(0): ln P(00) - ln P(01) = 1.55e-5 > MARGIN, so (0, 0) counts, though
    # P(0) / (P(01) exp(MARGIN)) = 1.9999955 < 2.
    close = Chain(np.array([0.49751943, 0.50248057]), np.array([[0.50000388, 0.49999612], [0.5, 0.5]]), eos=1)
    beam, best = searched(close, (0, 1), 2, budget=10**6)
    assert (beam.low, best.low, best.high, enumerated(close, (0, 1), 2)) == (3, 3, 3, 3)


@settings(max_examples=300, deadline=None)
@given(chain=CHAINS, data=st.data())
def test_the_rank_is_the_enumerated_one(chain, data):
    """Never too high and never too low, for any M: by the beam where it says one, by the search without end always."""
    n = data.draw(st.integers(1, 4))
    secrets = [outcome for outcome in chain.outcomes(n) if len(outcome) == n]
    if not secrets:
        return
    secret = data.draw(st.sampled_from(secrets))
    m = data.draw(st.sampled_from([1, 2, 3, 5, 16, 64, 400]))
    beam, best = searched(chain, secret, m, budget=10**6)
    expected = enumerated(chain, secret, m)
    assert best.exact and best.high == expected
    assert beam is None or (beam.exact and beam.high == expected)
    if m >= len(chain.outcomes(n)):
        assert beam is not None  # nothing is dropped


@settings(max_examples=300, deadline=None)
@given(chain=CHAINS, data=st.data())
def test_past_the_budget_the_interval_holds_the_rank(chain, data):
    n = data.draw(st.integers(1, 4))
    secrets = [outcome for outcome in chain.outcomes(n) if len(outcome) == n]
    if not secrets:
        return
    secret = data.draw(st.sampled_from(secrets))
    m, budget = data.draw(st.sampled_from([1, 3, 8, 64])), data.draw(st.integers(0, 30))
    _, best = searched(chain, secret, m, budget)
    assert 1 <= best.low <= enumerated(chain, secret, m) <= best.high <= m + 1
    assert best.spent <= budget


@settings(max_examples=100, deadline=None)
@given(chain=CHAINS, data=st.data())
def test_a_larger_budget_never_widens_the_interval(chain, data):
    secrets = [outcome for outcome in chain.outcomes(3) if len(outcome) == 3]
    if not secrets:
        return
    secret = data.draw(st.sampled_from(secrets))
    ranks = [searched(chain, secret, 8, budget)[1] for budget in (0, 4, 16, 64, 256)]
    assert all(a.low <= b.low and b.high <= a.high for a, b in zip(ranks, ranks[1:])) and ranks[-1].exact


@settings(max_examples=100, deadline=None)
@given(chain=CHAINS, data=st.data())
def test_what_is_shown_are_the_likeliest_outcomes_above_the_secret(chain, data):
    secrets = [outcome for outcome in chain.outcomes(2) if len(outcome) == 2]
    if not secrets:
        return
    secret = data.draw(st.sampled_from(secrets))
    beam, _ = searched(chain, secret, 200, 10**6)
    floor = chain.logprob(secret) + MARGIN
    likelier = sorted((math.log(p) for p in chain.outcomes(2).values() if math.log(p) > floor), reverse=True)
    shown = [value for _, value in beam.outcomes]
    assert shown == sorted(shown, reverse=True)
    assert shown[: len(likelier)] == pytest.approx(likelier[: len(shown)], abs=1e-5)
    for tokens, value in beam.outcomes:
        assert value == pytest.approx(chain.logprob(tokens), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(chain=CHAINS, order=st.permutations(range(6)))
def test_permuting_the_vocabulary_changes_no_rank(chain, order):
    size = len(chain.start)
    order = [one for one in order if one < size]
    renamed = chain.permuted(order)
    for secret in [outcome for outcome in chain.outcomes(2) if len(outcome) == 2][:5]:
        there = tuple(order[token] for token in secret)
        for a, b in zip(searched(chain, secret, 6, 10**6), searched(renamed, there, 6, 10**6)):
            assert (a and (a.low, a.high)) == (b and (b.low, b.high))


def test_golden():
    # start (.5, .3, .2 = end), then (.6, .3, .1 = end) whatever came: outcomes of 2 tokens by probability
    # 00 .30, end .20, 10 .18, 01 .15, 11 .09, 0end .05, 1end .03
    step = np.tile([0.6, 0.3, 0.1], (3, 1))
    chain = Chain(np.array([0.5, 0.3, 0.2]), step, eos=2)
    ranks = {(0, 0): 1, (1, 0): 3, (0, 1): 4, (1, 1): 5, (0, 2): 6, (1, 2): 7}
    for secret, rank in ranks.items():
        beam, best = searched(chain, secret, 10, 10**6)
        assert (beam.low, beam.high) == (best.low, best.high) == (rank, rank)
    beam, best = searched(chain, (1, 2), 3, 10**6)
    assert (best.low, best.high) == (4, 4) and (beam is None or beam.high == 4)  # not among 3
    # nothing may be read: the root has fewer than 1/.03 outcomes above .03, and one at least, as 9 of .03 are not 1
    _, best = searched(chain, (1, 2), 10, 0)
    assert (best.low, best.high) == (2, 11) and not best.exact
    _, best = searched(chain, (0, 0), 10, 0)
    assert (best.low, best.high) == (1, 3)  # floor(1/.30) = 3 outcomes as likely, itself one of them


def test_a_certain_secret_and_what_is_never_said():
    chain = certain_chain((0, 1, 2))
    beam, best = searched(chain, (0, 1, 2), 8, 10)
    assert beam.exact and beam.high == best.high == 1 and best.spent <= 3
    beam, best = searched(chain, (2, 1, 0), 8, 10**6)  # P = 0: one outcome is above it
    assert best.high == 2 and (beam is None or beam.high == 2)


def test_a_rank_knows_whether_it_is_exact():
    assert Rank(2, 2).exact and not Rank(2, 3).exact


@pytest.mark.parametrize("seed", range(3))
def test_several_secrets_side_by_side_are_those_alone(seed):
    """Branches of one beam do not touch each other: of different lengths, floors and likelihoods."""
    chain, device = random_chain(seed, size=5), torch.device("cpu")
    secrets = [outcome for n in (1, 2, 3) for outcome in chain.outcomes(n) if len(outcome) == n][::9]
    floors = [chain.logprob(secret) for secret in secrets]
    for m in (2, 4, 300):
        beam = Beam(m, secrets, floors, torch.tensor([chain.eos]), 5, device)
        live = [()] * len(secrets)
        while live:
            values = np.log(np.array([chain.next_probabilities(one) for one in live]))
            parents, tokens = beam.grow(torch.tensor(values).float())
            live = [(*live[parent], token) for parent, token in zip(parents.tolist(), tokens.tolist())]
        for secret, rank in zip(secrets, beam.ranks()):
            alone, _ = searched(chain, secret, m, 1)
            assert rank is None or rank.high == enumerated(chain, secret, m)
            assert (rank and rank.high) == (alone and alone.high)


# The engine, on a model whose outcomes can all be listed


@pytest.mark.parametrize("budget", [0, 3, 10**6])
@pytest.mark.parametrize("m", [1, 6, 90])
def test_the_engine_ranks_a_constructed_model_exactly(m, budget):
    secrets = [tuple(one) for one in sorted(outcomes(RANDOM, 0, 3), key=str)[::5]] + [(2, 1), (3, 3), (1,)]
    decoder, state = chain(RANDOM, [0] * len(secrets))
    values = decoder.logprobs(state, [[secret] for secret in secrets])
    floors = [float(of[0].double().sum()) for of in values]
    ranks, _ = decoder.ranks(state, m, secrets, floors, budget)
    for secret, rank in zip(secrets, ranks):
        p = outcomes(RANDOM, 0, len(secret))
        floor = math.log(math.prod(step_of(0, secret)))
        likelier = sum(math.log(q) > floor + MARGIN for u, q in p.items() if u != secret)
        assert rank.low <= min(1 + likelier, m + 1) <= rank.high
        assert rank.exact or budget < 10**6
        assert rank.exact or m < len(p)


@pytest.mark.parametrize("m", [1, 2, 6, 16, 90])
def test_outcomes_drawn_on_the_way_change_no_rank_and_spare_searches(m, monkeypatch):
    """With drawings each rank is the enumerated one too, and where they show m likelier outcomes nothing is searched for."""
    searched = []

    class Counted(BestFirst):
        def __init__(self, m, secret, *others):
            searched.append(tuple(secret))
            super().__init__(m, secret, *others)

    monkeypatch.setattr("remem_tasks.engine.sampling.BestFirst", Counted)
    secrets = [tuple(one) for one in sorted(outcomes(RANDOM, 0, 3), key=str)] + [(2, 1), (3, 3), (1,)]
    decoder, state = chain(RANDOM, [0] * len(secrets))
    values = decoder.logprobs(state, [[secret] for secret in secrets])
    floors = [float(of[0].double().sum()) for of in values]
    seeds = [[row_seed(0, f"{drawing}:{secret}") for secret in secrets] for drawing in range(3)]
    alone, none = decoder.ranks(state, m, secrets, floors, 10**6)
    before = list(searched)
    searched.clear()
    ranks, drawn = decoder.ranks(state, m, secrets, floors, 10**6, seeds)
    assert none == [] and [(one.low, one.high) for one in ranks] == [(one.low, one.high) for one in alone]
    assert all(one.exact for one in ranks) and set(searched) <= set(before)
    if before:
        assert len(searched) < len(before)
    # What is drawn is what is drawn without the search.
    for of_drawing, found in zip(seeds, drawn):
        for one, other in zip(decoder.distinct(state, m, [*map(len, secrets)], of_drawing, floors), found):
            assert one.tokens == other.tokens
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-6)


def test_outcomes_that_were_drawn_show_what_they_can():
    """m others above the secret prove it; the secret itself, what is as likely and what came twice prove nothing."""

    def drawing(*outcomes):
        return Continuations(
            [tokens for tokens, _ in outcomes], torch.tensor([p for _, p in outcomes]).double()
        )

    a, b, own = ([1, 2], -1.0), ([2], -2.0), ([3, 3], -3.0)
    assert shown(2, (3, 3), -3.0, [drawing(a, own), drawing(a, own)]) is None
    assert shown(2, (3, 3), -3.0, [drawing(a, ([4, 4], -3.0), ([5, 5], -3.0 + MARGIN / 2))]) is None
    rank = shown(2, (3, 3), -3.0, [drawing(b), drawing(own, a)])
    assert (rank.low, rank.high, rank.spent) == (3, 3, 0) and rank.outcomes == [([1, 2], -1.0), ([2], -2.0)]
    assert shown(1, (3, 3), -3.0 - 2 * MARGIN, [drawing(([3, 3], -3.0))]) is None  # by another forward
    assert shown(1, (3, 3), -3.0, []) is None


def step_of(start, secret):
    """p of each token of a secret of the constructed model."""
    p = np.exp(RANDOM[:, :5]) / np.exp(RANDOM[:, :5]).sum(1, keepdims=True)
    return [p[a, b] for a, b in zip((start, *secret), secret)]


def test_rollouts_miss_likelier_outcomes_and_never_see_more():
    """The documented bias of the sampled rank: too low on average, never too high, another with each seed."""
    p, m = outcomes(RANDOM, 0, 3), 16
    secret = sorted(p, key=p.get)[-12]  # G = 12
    decoder, state = chain(RANDOM, [0] * 200)
    floor = math.log(p[secret])
    found = decoder.distinct(state, m, len(secret), [row_seed(0, str(seed)) for seed in range(200)])
    ranks = [guess_rank(floor, one.logprobs, secret, one.tokens) for one in found]
    assert max(ranks) <= 12 and np.mean(ranks) < 11.5 and np.std(ranks) > 0
    every = decoder.distinct(chain(RANDOM, [0])[1], 85, len(secret), [1])[0]
    assert guess_rank(floor, every.logprobs, secret, every.tokens) == 12  # M covers all outcomes
