"""Answers the inquiries of a batch of rows from the state that one prefill of their prompts gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.draw import row_seed
from remem_tasks.engine.prompts import Chat
from remem_tasks.engine.search import SHOWN, Rank
from remem_tasks.engine.state import Continuations, Reply, State
from remem_tasks.metrics import (
    extraction_rate,
    frequency_rank,
    guess_rank,
    reference_rank,
)
from remem_tasks.whitebox import Findings, Inquiry, Secret, SecretFindings


def columns_of(inquiry: Inquiry) -> int:
    """About how many tokens answering appends to a row's prompt."""
    answers = sum(map(len, inquiry.answers)) // 3
    secrets = 8 * inquiry.rollouts * bool(inquiry.secrets)
    return len(inquiry.cuts) * min(64, inquiry.memo_tokens) + secrets + answers


def branches_of(inquiry: Inquiry) -> int:
    """How many branches of a row are decoded at a time."""
    return max(1 + len(inquiry.cuts), inquiry.rollouts * bool(inquiry.secrets))


def secrets_of(
    decoder: Decoder, state: State, chats: Sequence[Chat], inquiries: Sequence[Inquiry | None]
) -> list[list[SecretFindings]]:
    """Rank and probability of every secret.

    Args:
        state: one branch a row, behind its prompt.
        chats: the prompts.
        inquiries: one a row; None asks nothing.

    Returns:
        A list a row, in the order of its secrets.
    """
    asked = [
        (row, place, secret)
        for row, inquiry in enumerate(inquiries)
        for place, secret in enumerate(inquiry.secrets if inquiry else ())
    ]
    found: list[list[SecretFindings]] = [[] for _ in chats]
    if not asked:
        return found
    said = decoder.prompts.said([(chats[row], [secret.before]) for row, _, secret in asked])
    candidates = decoder.prompts.continued(
        [(chats[row], secret.before, [secret.text, *secret.others]) for row, _, secret in asked]
    )
    behind = decoder.extend(state, [row for row, _, _ in asked], [tokens for (tokens,) in said])
    logprobs = decoder.logprobs(behind, candidates)
    sums = [float(tokens[0].double().sum()) for tokens in logprobs]
    secrets = [tokens[0] for tokens in candidates]
    one = inquiries[asked[0][0]]
    m, ranks, drawn = one.rollouts, [None] * len(asked), [None] * len(asked)
    if "exact" in one.estimators:
        ranks = decoder.ranks(behind, m, secrets, sums, one.rank_budget)
    for kind in ("distinct", "frequency"):
        if kind in one.estimators:
            lengths = [len(tokens) for tokens in secrets]
            seeds = [
                row_seed(inquiries[row].seed, inquiries[row].row_id, f"{kind}:{place}")
                for row, place, _ in asked
            ]
            drawn = (
                decoder.distinct(behind, m, lengths, seeds, sums)
                if kind == "distinct"
                else decoder.sample(behind, m, lengths, seeds)
            )
    for (row, _, secret), values, tokens, total, rank, outcomes in zip(
        asked, logprobs, secrets, sums, ranks, drawn
    ):
        means = [float(of.double().mean()) for of in values]
        found[row].append(
            SecretFindings(
                logprobs=[float(value) for value in values[0]],
                reference_rank=reference_rank(means[0], means[1:]),
                references=len(means) - 1,
                ranks=rank and (rank.low, rank.high),
                **_of_rollouts(decoder, secret, tokens, total, outcomes, "distinct" in one.estimators),
                guesses=_guesses(decoder, rank, outcomes, one.estimators),
            )
        )
    return found


def _of_rollouts(
    decoder: Decoder,
    secret: Secret,
    tokens: Sequence[int],
    logprob: float,
    outcomes: Continuations | None,
    distinct: bool,
) -> dict[str, Any]:
    """What M sampled rollouts show of a secret."""
    if outcomes is None:
        return {}
    if distinct:
        return {"rollout_rank": guess_rank(logprob, outcomes.logprobs, tokens, outcomes.tokens)}
    texts = [decoder.prompts.text(said) for said in outcomes.tokens]
    return {
        "rollout_rank": frequency_rank(secret.text, texts, whole_texts=True),
        "rollout_rate": extraction_rate(secret.text, texts),
    }


def _guesses(
    decoder: Decoder, rank: Rank | None, outcomes: Continuations | None, estimators: Sequence[str]
) -> list[tuple[str, float]]:
    """The likeliest outcomes that were met, with ln p; of rollouts alone, with their share."""
    met = {tuple(tokens): value for tokens, value in rank.outcomes} if rank else {}
    if outcomes is not None and "distinct" in estimators:
        likeliest = outcomes.logprobs.argsort(descending=True, stable=True)[:SHOWN].tolist()
        met = {tuple(outcomes.tokens[at]): float(outcomes.logprobs[at]) for at in likeliest} | met
    elif outcomes is not None and not met:
        texts = Counter(decoder.prompts.text(said) for said in outcomes.tokens)
        shares = [(text, count / texts.total()) for text, count in texts.items()]
        return sorted(shares, key=lambda guess: (-guess[1], guess[0]))[:SHOWN]
    best = sorted(met.items(), key=lambda guess: (-guess[1], guess[0]))[:SHOWN]
    return [(decoder.prompts.text(tokens), value) for tokens, value in best]


def answers_of(
    decoder: Decoder, state: State, chats: Sequence[Chat], inquiries: Sequence[Inquiry | None]
) -> list[list[float]]:
    """Of each answer of each row the mean of ln p over its tokens; arguments as `secrets_of`."""
    texts = [inquiry.answers if inquiry else () for inquiry in inquiries]
    if not any(texts):
        return [[] for _ in chats]
    candidates = decoder.prompts.said(list(zip(chats, texts)))
    found = decoder.logprobs(state, candidates)
    return [[float(tokens.double().mean()) for tokens in of_row] for of_row in found]


def answer(
    decoder: Decoder,
    state: State,
    chats: Sequence[Chat],
    inquiries: Sequence[Inquiry | None],
    max_new_tokens: Sequence[int],
) -> list[tuple[Reply | None, Findings | None]]:
    """Greedy replies and findings of a batch of rows.

    Args:
        state: one branch a row, behind its prompt.
        chats: the prompts.
        inquiries: one a row; None asks nothing.
        max_new_tokens: of the greedy reply; 0 for none.

    Returns:
        One pair a row.
    """
    here = [one if one is not None and one.with_question else None for one in inquiries]
    secrets = secrets_of(decoder, state, chats, here)
    if away := [row for row, one in enumerate(inquiries) if one is not None and here[row] is None]:
        bare = [chats[row].without_question() for row in away]
        other = secrets_of(decoder, decoder.prefill(bare), bare, [inquiries[row] for row in away])
        for row, found in zip(away, other):
            secrets[row] = found
    whole = answers_of(decoder, state, chats, inquiries)
    texts = [[] if one is None else [one.answer[:cut] for cut in one.cuts] for one in inquiries]
    branches, tokens, limits = [], [], []
    for row, cuts in enumerate(decoder.prompts.said(list(zip(chats, texts)))):
        inquiry, limit = inquiries[row], max_new_tokens[row]
        starts = [[]] * bool(limit) + cuts
        branches += [row] * len(starts)
        tokens += starts
        limits += [limit] * bool(limit) + [inquiry.memo_tokens if inquiry else 0] * len(cuts)
    replies = iter(decoder.greedy(decoder.extend(state, branches, tokens), limits) if branches else [])
    results: list[tuple[Reply | None, Findings | None]] = []
    for inquiry, limit, found, answered in zip(inquiries, max_new_tokens, secrets, whole):
        reply: Any = next(replies) if limit else None
        if inquiry is None:
            results.append((reply, None))
            continue
        said = [decoder.prompts.text(next(replies).tokens) for _ in inquiry.cuts]
        results.append((reply, Findings(said, found, answered)))
    return results
