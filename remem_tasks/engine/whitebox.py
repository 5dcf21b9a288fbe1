"""Answers the inquiries of a batch of rows from the state that one prefill of their prompts gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remem_tasks.engine.decoder import Continuations, Decoder, Reply, State
from remem_tasks.engine.draw import row_seed
from remem_tasks.engine.prompts import Chat
from remem_tasks.metrics import (
    extraction_probability,
    extraction_rate,
    frequency_rank,
    guess_rank,
    reference_rank,
)
from remem_tasks.whitebox import Findings, Inquiry, SecretFindings

SHOWN = 5  # guesses that are kept of each secret


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
    rows, clozes, continued, seeds = [], [], [], []
    for row, (chat, inquiry) in enumerate(zip(chats, inquiries)):
        if inquiry is None or not inquiry.secrets:
            continue
        cloze = inquiry.cloze.rstrip()
        space = " " if cloze else ""
        for index, (secret, others) in enumerate(zip(inquiry.secrets, inquiry.references)):
            rows.append((row, secret, inquiry))
            clozes.append((chat, [cloze]))
            continued.append((chat, cloze, [space + text for text in (secret, *others)]))
            seeds.append(row_seed(inquiry.seed, inquiry.row_id, f"{inquiry.estimator}:{index}"))
    found: list[list[SecretFindings]] = [[] for _ in chats]
    if not rows:
        return found
    said = [tokens[0] for tokens in decoder.prompts.said(clozes)]
    candidates = decoder.prompts.continued(continued)
    behind = decoder.extend(state, [row for row, _, _ in rows], said)
    logprobs = decoder.logprobs(behind, candidates)
    sums = [float(tokens[0].double().sum()) for tokens in logprobs]
    lengths = [len(tokens[0]) for tokens in candidates]
    inquiry = rows[0][2]
    if inquiry.estimator == "distinct":
        guesses = decoder.distinct(behind, inquiry.rollouts, lengths, seeds, sums)
    else:
        guesses = decoder.sample(behind, inquiry.rollouts, lengths, seeds)
    for (row, secret, _), tokens, values, total, outcomes in zip(rows, candidates, logprobs, sums, guesses):
        if inquiry.estimator == "distinct":
            rank = guess_rank(total, outcomes.logprobs, tokens[0], outcomes.tokens)
            rate, shown = extraction_probability(total), _likeliest(decoder, outcomes)
        else:
            texts = [decoder.prompts.text(said) for said in outcomes.tokens]
            rank, rate = frequency_rank(secret, texts, whole_texts=True), extraction_rate(secret, texts)
            shown = sorted(((text, texts.count(text) / len(texts)) for text in set(texts)), key=_by_share)
        means = [float(of.double().mean()) for of in values]
        found[row].append(
            SecretFindings(
                logprobs=[float(value) for value in values[0]],
                rank=rank,
                extraction_rate=rate,
                reference_rank=reference_rank(means[0], means[1:]),
                references=len(means) - 1,
                guesses=shown[:SHOWN],
            )
        )
    return found


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


def _by_share(guess: tuple[str, float]) -> tuple[float, str]:
    return -guess[1], guess[0]


def _likeliest(decoder: Decoder, outcomes: Continuations) -> list[tuple[str, float]]:
    order = outcomes.logprobs.argsort(descending=True, stable=True)[:SHOWN].tolist()
    return [(decoder.prompts.text(outcomes.tokens[at]), float(outcomes.logprobs[at])) for at in order]


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
