"""Answers the white-box requests of a batch of rows from the state that one prefill of their prompts gave."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.prompts import Chat, Given, Prompts
from remem_tasks.engine.search import SHOWN, Rank
from remem_tasks.engine.state import Continuations, GreedyReply, State
from remem_tasks.metrics import (
    extraction_rate,
    frequency_rank,
    guess_rank,
    reference_rank,
)
from remem_tasks.seeds import row_seed
from remem_tasks.whitebox import Secret, SecretResult, WhiteBoxRequest, WhiteBoxResult, WholeAnswer


def columns_of(white_box_request: WhiteBoxRequest) -> int:
    """About how many tokens answering appends to a row's prompt."""
    answers = sum(map(len, (*white_box_request.answers, *white_box_request.wholes))) // 3
    secrets = 16 * white_box_request.rollouts * bool(white_box_request.secrets)
    return len(white_box_request.cuts) * min(64, white_box_request.memo_tokens) + secrets + answers


def branches_of(white_box_request: WhiteBoxRequest) -> int:
    """How many branches of a row are decoded at a time."""
    searched = (1 + white_box_request.drawings) * white_box_request.rollouts * bool(white_box_request.secrets)
    return max(1 + len(white_box_request.cuts), searched)


def secrets_of(
    decoder: Decoder,
    state: State,
    chats: Sequence[Chat],
    white_box_requests: Sequence[WhiteBoxRequest | None],
) -> list[list[SecretResult]]:
    """Rank and probability of every secret.

    Args:
        state: one branch per row, behind its prompt.
        chats: the prompts.
        white_box_requests: one per row; None asks nothing.

    Returns:
        A list per row, in the order of its secrets.
    """
    requests = {row: one for row, one in enumerate(white_box_requests) if one is not None}
    asked = [
        (row, place, secret) for row, one in requests.items() for place, secret in enumerate(one.secrets)
    ]
    found: list[list[SecretResult]] = [[] for _ in chats]
    if not asked:
        return found
    parts = decoder.prompts.parts(
        [(chats[row], secret.before, [secret.text, *secret.others], secret.after) for row, _, secret in asked]
    )
    given = [part.given for part in parts]
    behind = decoder.extend(state, [row for row, _, _ in asked], [one.tokens for one in given])
    behind = decoder.conditioned(behind, given)
    logprobs = decoder.logprobs(behind, [part.candidates for part in parts])
    sums = [float(tokens[0].double().sum()) for tokens in logprobs]
    secrets = [part.candidates[0] for part in parts]
    one = requests[asked[0][0]]
    m = one.rollouts
    ranks: Sequence[Rank | None] = [None] * len(asked)
    drawn: list[list[Continuations]] = []  # for each drawing, of each secret
    seeds = {
        kind: [
            [_seed(requests[row], kind, place, drawing) for row, place, _ in asked]
            for drawing in range(one.drawings)
        ]
        for kind in ("distinct", "frequency")
        if kind in one.estimators
    }
    lengths = [len(tokens) for tokens in secrets]
    if "exact" in one.estimators:
        ranks, drawn = decoder.ranks(behind, m, secrets, sums, one.rank_budget, seeds.get("distinct", ()))
    elif "distinct" in seeds:
        drawn = [decoder.distinct(behind, m, lengths, of_drawing, sums) for of_drawing in seeds["distinct"]]
    if "frequency" in seeds:
        drawn = [decoder.sample(behind, m, lengths, of_drawing) for of_drawing in seeds["frequency"]]
    outcomes_of = list(zip(*drawn)) or [()] * len(asked)
    for (row, _, secret), begun, values, tokens, total, rank, outcomes in zip(
        asked, given, logprobs, secrets, sums, ranks, outcomes_of
    ):
        means = [float(of.double().mean()) for of in values]
        found[row].append(
            SecretResult(
                logprobs=[float(value) for value in values[0]],
                reference_rank=reference_rank(means[0], means[1:]),
                references=len(means) - 1,
                ranks=rank and (rank.low, rank.high),
                **of_rollouts(
                    decoder.prompts, secret, begun, tokens, total, outcomes, "distinct" in one.estimators
                ),
                guesses=guesses_of(decoder.prompts, begun, rank, outcomes, one.estimators),
            )
        )
    return found


def _seed(asked: WhiteBoxRequest, kind: str, place: int, drawing: int) -> int:
    """Of one drawing of a secret's rollouts; all drawings of a row depend on its request's seed."""
    return row_seed(asked.seed, asked.row_id, f"{kind}:{place}" + f":{drawing}" * bool(drawing))


class Drawing(Protocol):
    """The rollouts of one drawing: tokens of each, and ln p of each where it is known."""

    @property
    def tokens(self) -> Sequence[Sequence[int]]: ...

    @property
    def logprobs(self) -> Sequence[float]: ...


def of_rollouts(
    prompts: Prompts,
    secret: Secret,
    given: Given,
    tokens: Sequence[int],
    logprob: float,
    drawings: Sequence[Drawing],
    distinct: bool,
) -> dict[str, Any]:
    """What M sampled rollouts show of a secret, in each drawing of them."""
    if distinct:
        ranks = [guess_rank(logprob, one.logprobs, tokens, one.tokens) for one in drawings]
        return {"rollout_ranks": tuple(ranks)}
    texts = [[prompts.text_behind(given, said) for said in one.tokens] for one in drawings]
    rates = [extraction_rate(secret.text, of_drawing) for of_drawing in texts]
    return {
        "rollout_ranks": tuple(
            frequency_rank(secret.text, of_drawing, whole_texts=True) for of_drawing in texts
        ),
        "rollout_rate": math.fsum(rates) / len(rates) if rates else None,
    }


def guesses_of(
    prompts: Prompts,
    given: Given,
    rank: Rank | None,
    drawings: Sequence[Drawing],
    estimators: Sequence[str],
) -> list[tuple[str, float]]:
    """The likeliest outcomes that were met, with ln p; of rollouts alone, with their share."""
    met = {tuple(tokens): value for tokens, value in rank.outcomes} if rank else {}
    if "distinct" in estimators:
        seen = {tuple(of): float(p) for one in drawings for of, p in zip(one.tokens, one.logprobs)}
        met = dict(sorted(seen.items(), key=lambda guess: -guess[1])[:SHOWN]) | met
    elif drawings and not met:
        texts = Counter(prompts.text_behind(given, said) for one in drawings for said in one.tokens)
        shares = [(text, count / texts.total()) for text, count in texts.items()]
        return sorted(shares, key=lambda guess: (-guess[1], guess[0]))[:SHOWN]
    best = sorted(met.items(), key=lambda guess: (-guess[1], guess[0]))[:SHOWN]
    return [(prompts.text_behind(given, tokens), value) for tokens, value in best]


def answers_of(
    decoder: Decoder,
    state: State,
    chats: Sequence[Chat],
    white_box_requests: Sequence[WhiteBoxRequest | None],
) -> list[list[tuple[list[int], torch.Tensor]]]:
    """Of each answer of each row, then of its wholes, the tokens and ln p of them, (T), or with their moments and the
    likeliest token in their place, (T, 4), where any row wants those.

    Arguments as `secrets_of`.
    """
    texts = [(*one.answers, *one.wholes) if one else () for one in white_box_requests]
    if not any(texts):
        return [[] for _ in chats]
    moments = any(one is not None and bool(one.by_token or one.wholes) for one in white_box_requests)
    tokens = decoder.prompts.answers(list(zip(chats, texts)))
    values = decoder.logprobs(state, tokens, moments)
    return [list(zip(*of_row)) for of_row in zip(tokens, values)]


def _whole(tokens: Sequence[int], values: torch.Tensor) -> WholeAnswer:
    logprobs, means, sds, predicted = values.T.tolist()
    return WholeAnswer(list(tokens), [int(one) for one in predicted], logprobs, means, sds)


def _continued(decoder: Decoder, given: Given, reply: GreedyReply) -> str:
    """What a reply says behind the beginning of an answer."""
    return decoder.prompts.text_behind(given, reply.tokens)


def answer(
    decoder: Decoder,
    state: State,
    chats: Sequence[Chat],
    white_box_requests: Sequence[WhiteBoxRequest | None],
    max_new_tokens: Sequence[int],
) -> list[tuple[GreedyReply | None, WhiteBoxResult | None]]:
    """Greedy replies and findings of a batch of rows.

    Args:
        state: one branch per row, behind its prompt.
        chats: the prompts.
        white_box_requests: one per row; None asks nothing.
        max_new_tokens: of the greedy reply; 0 for none.

    Returns:
        One pair per row.
    """
    here = [one if one is not None and one.with_question else None for one in white_box_requests]
    secrets = secrets_of(decoder, state, chats, here)
    if away := [row for row, one in enumerate(white_box_requests) if one is not None and here[row] is None]:
        bare = [chats[row].without_question() for row in away]
        other = secrets_of(decoder, decoder.prefill(bare), bare, [white_box_requests[row] for row in away])
        for row, found in zip(away, other):
            secrets[row] = found
    whole = answers_of(decoder, state, chats, white_box_requests)
    cuts = [("", ()) if one is None else (one.answer, one.cuts) for one in white_box_requests]
    branches, given, limits = [], [], []
    for row, begun in enumerate(
        decoder.prompts.beginnings([(chat, *of_row) for chat, of_row in zip(chats, cuts)])
    ):
        white_box_request, limit = white_box_requests[row], max_new_tokens[row]
        starts = [Given([])] * bool(limit) + begun
        branches += [row] * len(starts)
        given += starts
        limits += [limit] * bool(limit)
        limits += [white_box_request.memo_tokens if white_box_request else 0] * len(begun)
    replies: Iterator[tuple[Given, GreedyReply]] = iter(())
    if branches:
        behind, first, given = decoder.begun(state, branches, given)
        replies = iter(zip(given, decoder.greedy(behind, limits, first)))
    results: list[tuple[GreedyReply | None, WhiteBoxResult | None]] = []
    for white_box_request, limit, found, answered in zip(white_box_requests, max_new_tokens, secrets, whole):
        reply = next(replies)[1] if limit else None
        if white_box_request is None:
            results.append((reply, None))
            continue
        said = [_continued(decoder, *next(replies)) for _ in white_box_request.cuts]
        count, several = len(white_box_request.answers), white_box_request.by_token
        values = [of for _, of in answered[:count]]
        logprobs = [tokens if tokens.dim() == 1 else tokens[:, 0] for tokens in values]
        means = [float(tokens.double().mean()) for tokens in logprobs]
        by_token = [tokens.tolist() for tokens in logprobs[:several]]
        moments = [[(mean, sd) for _, mean, sd, _ in of.tolist()] for of in values[:several]]
        wholes = [_whole(*one) for one in answered[count:]]
        results.append((reply, WhiteBoxResult(said, found, means, by_token, moments, wholes)))
    return results
