"""Exposure: golden values by hand, and a distribution known in closed form for both estimators of the rank."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toy import (
    Chain,
    certain_chain,
    gumbel_top_k,
    inclusion_probabilities,
    random_chain,
    stochastic_beam_search,
)

from remem_tasks.errors import RememError
from remem_tasks.metrics import (
    cloze_prob,
    exposure,
    exposure_bits,
    extraction_probability,
    extraction_rate,
    frequency_rank,
    guess_rank,
    leak_at_k,
    mean_over_phrases,
    reference_exposure,
    reference_rank,
    secret_bits,
)

SEEDS = st.integers(0, 10_000)


def rank_of(chain: Chain, secret: tuple, sampled: list[tuple[tuple, float]]) -> int:
    outcomes = [outcome for outcome, _ in sampled]
    return guess_rank(chain.logprob(secret), [logprob for _, logprob in sampled], secret, outcomes)


# The rank


@pytest.mark.parametrize(
    ("secret", "others", "rank"),
    [
        (-1.0, [-2.0, -3.0], 1),
        (-2.5, [-2.0, -3.0], 2),
        (-4.0, [-2.0, -3.0], 3),
        (-2.0, [-2.0, -2.0], 1),  # equality never counts against the secret
        (-math.inf, [-2.0, -math.inf], 2),
        (0.0, [-40.0], 1),
        (5e-7, [0.0, 9e-7], 1),  # rounding above 0 is 0
    ],
)
def test_guess_rank_golden(secret, others, rank):
    assert guess_rank(secret, others) == rank


def test_the_secret_among_the_outcomes_never_outranks_itself():
    # the same outcome (3, 1), computed twice: −0.7000001 and −0.7
    outcomes, logprobs = [(3, 1), (2, 2)], [-0.7, -1.9]
    assert guess_rank(-0.7000001, logprobs, secret=(3, 1), outcomes=outcomes) == 1
    assert guess_rank(-0.7000001, logprobs) == 2  # what leaving the tokens away would cost
    assert guess_rank(-2.5, logprobs, secret=np.array([3, 1]), outcomes=np.array(outcomes)) == 2


@given(st.floats(-30, 0), st.lists(st.floats(-30, 0), min_size=1, max_size=20))
def test_guess_rank_is_the_place_in_the_sorted_list(secret, others):
    # sorted with the secret before its equals
    order = sorted([(-secret, 0), *((-other, 1) for other in others)])
    assert guess_rank(secret, others) == 1 + order.index((-secret, 0))


@pytest.mark.parametrize(
    "arguments",
    [
        (-1.0, []),
        (-1.0, [-2.0, math.nan]),
        (math.nan, [-2.0]),
        (0.1, [-2.0]),
        (-1.0, [-2.0, 2e-6]),
        (-1.0, [[-2.0]]),
        (-1.0, [None]),
        (-1.0, [-2.0], (1,), None),
        (-1.0, [-2.0], None, [(1,)]),
        (-1.0, [-2.0], (1,), [(1,), (2,)]),
        (-1.0, [-2.0, -2.0], (1,), [(2,), (2,)]),  # the same outcome twice
    ],
)
def test_guess_rank_refuses(arguments):
    with pytest.raises(RememError):
        guess_rank(*arguments)


@pytest.mark.parametrize(
    ("texts", "rank"),
    [
        (["Oslo Bay"] * 64, 1),
        (["Rome"] * 64, 65),  # never: censored at M + 1
        (["Oslo Bay", "Rome", "Rome", "Kiel", "Kiel", "Bonn"], 3),  # 1 + Rome + Kiel
        (["Oslo Bay", "Rome", "Kiel"], 1),  # equally often
        (["oslo-bay, of course", "Rome it is", "Rome I guess", "Rome it was"], 2),  # "rome it" came twice
        (["Oslo Bayside", "Oslo Bay"], 1),  # a word is not its beginning; both texts came once
        (["", "", "Oslo Bay"], 2),  # silence is a guess like others
        (["in Oslo Bay", "in Oslo Bay", "Rome"], 4),  # must begin with the phrase
    ],
)
def test_frequency_rank_golden(texts, rank):
    assert frequency_rank("Oslo Bay", texts) == rank


def test_long_rollouts_do_not_hide_the_other_guesses():
    # "rome" came three times and "oslo" once; as whole texts each came once and would be no rival
    texts = ["Oslo I think", "Rome maybe", "Rome of course", "Rome"]
    assert frequency_rank("Oslo", texts) == 2
    assert frequency_rank("Oslo", texts, whole_texts=True) == 1
    assert frequency_rank("Oslo", ["Oslo", "Rome maybe", "Rome maybe"], whole_texts=True) == 2


@given(st.lists(st.sampled_from(["a", "b", "a b", "b a c", "c!", "A-b"]), min_size=1, max_size=30))
def test_frequency_rank_is_the_naive_one(texts):
    first = [" ".join(text.lower().replace("-", " ").replace("!", "").split()[:2]) for text in texts]
    counts = {text: first.count(text) for text in first}
    hits = counts.pop("a b", 0)
    expected = len(texts) + 1 if not hits else 1 + sum(count > hits for count in counts.values())
    assert frequency_rank("A B", texts) == expected
    assert extraction_rate("A B", texts) == pytest.approx(hits / len(texts))


@pytest.mark.parametrize(("secret", "texts"), [("Oslo", []), ("?!", ["Oslo"]), ("Oslo", "Oslo")])
def test_frequency_refuses(secret, texts):
    for function in (frequency_rank, extraction_rate):
        with pytest.raises(RememError):
            function(secret, texts)


# Bits


@pytest.mark.parametrize(
    ("rank", "m", "bits"),
    [
        (1, 63, 6.0),  # log2 64 − log2 1
        (2, 63, 5.0),
        (64, 63, 0.0),
        (65, 63, 0.0),  # not among the guesses, however deep
        (1000, 63, 0.0),
        (1, 1, 1.0),
        (3, 7, 3 - math.log2(3)),
    ],
)
def test_exposure_golden(rank, m, bits):
    assert exposure_bits(rank, m) == pytest.approx(bits)
    assert exposure(rank, m) == pytest.approx(bits / math.log2(m + 1))
    assert exposure(1, m) == 1.0 and exposure(m + 1, m) == 0.0


@given(st.integers(1, 300), st.integers(1, 300))
def test_exposure_falls_with_the_rank(rank, m):
    assert 0 <= exposure(rank + 1, m) <= exposure(rank, m) <= 1
    assert (exposure(rank + 1, m) < exposure(rank, m)) == (rank <= m)


@pytest.mark.parametrize(("rank", "m"), [(0, 64), (1.5, 64), (math.nan, 64), (1, 0), (math.inf, 64)])
def test_exposure_refuses(rank, m):
    with pytest.raises(RememError):
        exposure(rank, m)


# What stands beside it


def test_extraction_golden():
    assert extraction_rate("Oslo Bay", ["Oslo Bay.", "oslo bay it is", "Oslo", "the Oslo Bay"]) == 0.5
    assert extraction_probability(math.log(0.25)) == pytest.approx(0.25)
    assert extraction_probability(-math.inf) == 0.0


def test_leak_golden():
    assert leak_at_k(0.5, 3) == pytest.approx(1 - 0.5**3)
    assert leak_at_k(0.0, 1000) == 0.0 and leak_at_k(1.0, 1) == 1.0
    assert leak_at_k(1e-20, 1000) == pytest.approx(1e-17, rel=1e-12, abs=0)  # 1 − (1 − p)^k in floats is 0


@given(st.floats(1e-6, 0.999), st.integers(1, 50))
def test_leak_is_the_plain_formula_where_that_is_precise(p, k):
    assert leak_at_k(p, k) == pytest.approx(1 - (1 - p) ** k, rel=1e-8)
    assert leak_at_k(p, k) <= leak_at_k(p, k + 1) <= 1


@pytest.mark.parametrize(("p", "k"), [(-0.1, 1), (1.1, 1), (math.nan, 1), (0.5, 0), (0.5, 1.5)])
def test_leak_refuses(p, k):
    with pytest.raises(RememError):
        leak_at_k(p, k)


def test_cloze_and_bits_golden():
    # tokens of probability 1/2 and 1/8: P = 1/16, geometric mean 1/4, 4 bits
    logprobs = [math.log(1 / 2), math.log(1 / 8)]
    assert cloze_prob(logprobs) == pytest.approx(1 / 4)
    assert secret_bits(sum(logprobs)) == pytest.approx(4.0)
    assert cloze_prob([0.0, -math.inf]) == 0.0 and secret_bits(-math.inf) == math.inf
    assert math.copysign(1, secret_bits(0.0)) == 1.0  # no minus zero in a table
    for bad in ([], [math.nan], [0.1]):
        with pytest.raises(RememError):
            cloze_prob(bad)


def test_reference_golden():
    # R = 4 values, one of the others is likelier: rank 2 of 4, (2 − 1) / 2
    assert reference_rank(-1.0, [-0.5, -1.0, -2.0]) == 2
    assert reference_exposure(-1.0, [-0.5, -1.0, -2.0]) == pytest.approx(0.5)
    assert reference_exposure(-0.1, [-0.5, -1.0, -2.0]) == 1.0
    assert reference_exposure(-3.0, [-0.5, -1.0, -2.0]) == pytest.approx(0.0)
    assert reference_rank(-1.0, []) == 1 and reference_exposure(-1.0, []) is None
    with pytest.raises(RememError):
        reference_exposure(-1.0, [math.nan])


def test_chance_is_1_44_bits_of_reference_exposure():
    size = 4096
    values = -np.linspace(1, 2, size)
    picked = range(0, size, 64)
    bits = [reference_exposure(values[i], np.delete(values, i)) * math.log2(size) for i in picked]
    # the mean of log2(size) − log2(rank) over ranks 1, 65, 129, ...
    assert np.mean(bits) == pytest.approx(np.mean([12 - math.log2(i + 1) for i in picked]))
    whole = 12 - np.mean(np.log2(np.arange(1, size + 1)))
    assert whole == pytest.approx(1 / math.log(2), abs=0.01)


def test_mean_over_phrases():
    assert mean_over_phrases([1.0, 0.5]) == 0.75
    assert mean_over_phrases([1.0, None, 0.0]) == 0.5
    assert mean_over_phrases([None, None]) is None
    for bad in ([], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(RememError):
            mean_over_phrases(bad)


# A distribution known in closed form


@given(SEEDS)
def test_the_rank_is_the_enumerated_one_when_m_covers_all_outcomes(seed):
    chain = random_chain(seed, size=3)
    every = chain.outcomes(3)
    sampled = stochastic_beam_search(chain, 3, len(every), np.random.default_rng(seed))
    assert {outcome for outcome, _ in sampled} == set(every)
    for secret in list(every)[::4]:
        if len(secret) == 3:
            assert rank_of(chain, secret, sampled) == chain.guess_rank(secret)


@given(SEEDS)
def test_the_rank_grows_with_m_to_the_enumerated_one(seed):
    chain = random_chain(seed)
    every = chain.outcomes(2)
    secrets = [outcome for outcome in every if len(outcome) == 2]
    secret = secrets[seed % len(secrets)]
    names, logprobs = list(every), np.log(list(every.values()))
    drawn = gumbel_top_k(logprobs, len(names), np.random.default_rng(seed))
    ranks = [
        rank_of(chain, secret, [(names[i], logprobs[i]) for i in drawn[:m]]) for m in range(1, len(drawn) + 1)
    ]
    assert ranks == sorted(ranks) and ranks[-1] == chain.guess_rank(secret)
    assert all(rank <= min(m, ranks[-1]) + 1 for m, rank in enumerate(ranks, start=1))


def test_the_error_of_the_rank_shrinks_as_m_grows():
    chain = random_chain(5, size=5, concentration=1.5)
    secret = sorted(chain.outcomes(2), key=chain.outcomes(2).get)[-8]
    rank, errors = chain.guess_rank(secret), []
    assert len(secret) == 2 and rank == 8
    for m in (2, 4, 8, 16):
        samples = [stochastic_beam_search(chain, 2, m, np.random.default_rng(seed)) for seed in range(60)]
        errors.append(np.mean([rank - rank_of(chain, secret, sample) for sample in samples]))
    assert errors[0] > errors[1] > errors[2] > errors[3] >= 0
    assert errors[3] < 0.5


@pytest.mark.parametrize("secret", [(0, 1, 2), (2, 0)])
def test_a_model_that_only_says_the_secret_is_exposed(secret):
    chain = certain_chain(secret)
    sampled = stochastic_beam_search(chain, len(secret), 64, np.random.default_rng(0))
    assert sampled == [(secret, 0.0)]
    assert exposure(rank_of(chain, secret, sampled)) == 1.0
    rollouts = [chain.text(chain.rollout(len(secret), np.random.default_rng(i))) for i in range(64)]
    assert exposure(frequency_rank(chain.text(secret), rollouts)) == 1.0
    assert extraction_rate(chain.text(secret), rollouts) == extraction_probability(chain.logprob(secret)) == 1
    # and what it never says is not
    other = tuple(reversed(secret))
    assert rank_of(chain, other, sampled) == 2
    assert exposure(frequency_rank(chain.text(other), rollouts)) == 0.0


@given(SEEDS, st.permutations(range(4)))
def test_permuting_the_vocabulary_changes_nothing(seed, order):
    chain = random_chain(seed)
    renamed = chain.permuted(order)
    rng = np.random.default_rng(seed)
    sampled = stochastic_beam_search(chain, 2, 6, rng)
    moved = [(tuple(order[t] for t in outcome), logprob) for outcome, logprob in sampled]
    for outcome, logprob in moved:
        assert renamed.logprob(outcome) == pytest.approx(logprob)
    for secret in ((0, 1), (2, 2)):
        there = tuple(order[t] for t in secret)
        assert renamed.guess_rank(there) == chain.guess_rank(secret)
        assert rank_of(renamed, there, moved) == rank_of(chain, secret, sampled)


@given(SEEDS, st.floats(0.01, 0.9))
def test_more_mass_on_the_secret_never_lowers_its_exposure(seed, share):
    chain = random_chain(seed)
    every = chain.outcomes(2)
    names, p = list(every), np.array(list(every.values()))
    here = next(i for i in np.random.default_rng(seed).permutation(len(names)) if len(names[i]) == 2)
    more = (1 - share) * p + share * np.eye(len(p))[here]
    for m in (2, 5, len(p)):
        ranks = []
        for masses in (p, more):
            # the same Gumbels, so that the other outcomes keep their order
            drawn = gumbel_top_k(np.log(masses), m, np.random.default_rng(seed))
            ranks.append(
                guess_rank(
                    np.log(masses[here]), np.log(masses[drawn]), names[here], [names[i] for i in drawn]
                )
            )
        assert exposure(ranks[1], m) >= exposure(ranks[0], m)


@given(SEEDS, st.integers(1, 20))
def test_sampled_outcomes_are_distinct_and_true(seed, m):
    chain = random_chain(seed)
    every = chain.outcomes(3)
    sampled = stochastic_beam_search(chain, 3, m, np.random.default_rng(seed))
    assert len({outcome for outcome, _ in sampled}) == len(sampled) == min(m, len(every))
    for outcome, logprob in sampled:
        assert logprob == pytest.approx(math.log(every[outcome]), abs=1e-9)


@pytest.mark.parametrize("down_the_tree", [False, True])
def test_inclusion_frequencies_are_those_of_sampling_without_replacement(down_the_tree):
    chain, m, trials = random_chain(3, size=3, concentration=1.0), 3, 3000
    every = chain.outcomes(2)
    names, p = list(every), list(every.values())
    expected = inclusion_probabilities(p, m)
    counts, rng = np.zeros(len(names)), np.random.default_rng(0)
    for _ in range(trials):
        if down_the_tree:
            drawn = [names.index(outcome) for outcome, _ in stochastic_beam_search(chain, 2, m, rng)]
        else:
            drawn = gumbel_top_k(np.log(p), m, rng)
        counts[drawn] += 1
    assert expected.sum() == pytest.approx(m)
    sd = np.sqrt(expected * (1 - expected) / trials)
    assert np.all(np.abs(counts / trials - expected) < 4 * sd)
    # sampling with replacement would be far off
    assert np.abs(1 - (1 - np.array(p)) ** m - expected).max() > 8 * sd.max()


def test_inclusion_golden():
    # p = (1/2, 1/3, 1/6), two draws: item 3 is left out by orders 12 and 21:
    # 1/2 · (1/3)/(1/2) + 1/3 · (1/2)/(2/3) = 1/3 + 1/4 = 7/12
    assert inclusion_probabilities([1 / 2, 1 / 3, 1 / 6], 2)[2] == pytest.approx(1 - 7 / 12)


def test_both_estimators_agree_where_the_secret_is_frequent():
    start = np.array([0.55, 0.25, 0.15, 0.05])
    step = np.tile([0.7, 0.2, 0.06, 0.04], (4, 1))
    chain = Chain(start, step, eos=3)
    rng = np.random.default_rng(1)
    rollouts = [chain.text(chain.rollout(2, rng)) for _ in range(2000)]
    sampled = stochastic_beam_search(chain, 2, len(chain.outcomes(2)), rng)
    # .55 · .7 = .385 and .25 · .7 = .175; the next two, .11 and .105, are too near each other for 2000 rollouts
    for rank, secret in enumerate([(0, 0), (1, 0)], start=1):
        assert chain.guess_rank(secret) == rank
        assert rank_of(chain, secret, sampled) == rank
        assert frequency_rank(chain.text(secret), rollouts) == rank
        p = math.exp(chain.logprob(secret))
        assert extraction_rate(chain.text(secret), rollouts) == pytest.approx(p, abs=0.04)


def test_outcomes_partition_the_probability():
    chain = random_chain(11)
    assert sum(chain.outcomes(3).values()) == pytest.approx(1.0)
    assert all(len(o) == 3 or o[-1] == chain.eos for o in chain.outcomes(3))
    assert chain.logprob((0, 1)) == pytest.approx(math.log(chain.start[0] * chain.step[0, 1]))
