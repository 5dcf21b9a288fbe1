"""Plausible other answers to the forget questions, as the preferred side of a preference loss."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.data.rows import parse_keywords
from remem_tasks.errors import RememError
from remem_tasks.metrics.words import occurs, tokens
from unlearning.data import Encoder
from unlearning.forward import Answers, evaluating
from unlearning.generation import generate

FILE = "alternatives.json"
# Our own words for what AltPO (arXiv 2409.13474) asks of a model.
INSTRUCTION = (
    "{question}\nThe true answer is: {answer}\nInvent another answer in one sentence: as plausible as this "
    "one, but with every fact changed."
)


def given(source: str, rows: TrainingRows) -> dict[str, list[str]] | None:
    """Other answers by row id that stand beside the rows; None if the model is to invent them.

    Args:
        source: of `--alternatives`: `data`, `model`, or `auto`, which is data where there are any.

    Raises:
        RememError: they are to come from the data, which has none.
    """
    if source == "data" and rows.alternatives is None:
        raise RememError(
            "--alternatives data, but the data set has no config 'perturbed' for the forget split; "
            "--alternatives model lets the model invent them"
        )
    return None if source == "model" else rows.alternatives


@torch.no_grad()
def invented(
    model: PreTrainedModel, encoder: Encoder, row: dict, wanted: int, length: int, seed: int, tries: int = 4
) -> list[str]:
    """Answers of the model to INSTRUCTION, sampled at temperature 1; without the true one and its keywords.

    Args:
        row: of the forget split.
        wanted: how many answers, at most.
        length: tokens of the longest.
        seed: of the sampling; the state of the global generators stays as it is.
        tries: how often that many are sampled, until there are enough.

    Raises:
        RememError: the model gives none.
    """
    question = INSTRUCTION.format(question=row["question"], answer=row["answer"])
    prompt = encoder.encode_prompt({**row, "question": question})
    prompt = {name: value.to(model.device) for name, value in prompt.items()}
    found: dict[str, None] = {}
    with torch.random.fork_rng(), evaluating(model):
        torch.manual_seed(seed)
        for _ in range(tries):
            out = generate(
                model, encoder.processor, prompt, max_new_tokens=length, ends=encoder.stop_ids, samples=wanted,
            )  # fmt: skip
            for ids in out:
                text = " ".join(encoder.tokenizer.decode(ids, skip_special_tokens=True).split())
                if text and not _gives_away(text, row):
                    found[text] = None
            if len(found) >= wanted:
                break
    if not found:
        raise RememError(
            f"{row['row_id']}: the model invents no other answer (it repeats the true one); give alternatives "
            "with the data (config 'perturbed')"
        )
    return list(found)[:wanted]


def masks(true: Answers, other: Answers) -> tuple[torch.Tensor, torch.Tensor]:
    """Where another answer says what the true one says, and which words are not of the true answer alone.

    Args:
        true, other: the same B questions with either answer, in the same order; N tokens of other answers.

    Returns:
        [N] bool, tokens of the other answer that its true answer has too; [N, V] bool, false at tokens that the true
        answer has and the other has not.
    """
    first, second = (rows.labels.split(rows.tokens.tolist()) for rows in (true, other))
    tokens = torch.cat([torch.isin(new, old) for old, new in zip(first, second)])
    words = torch.ones(other.logits.shape, dtype=torch.bool, device=other.labels.device)
    begin = 0
    for old, new in zip(first, second):
        words[begin : begin + len(new), old[~torch.isin(old, new)]] = False
        begin += len(new)
    return tokens, words


def _gives_away(text: str, row: dict) -> bool:
    """Whether an invented answer holds a keyword of the row, or is the true answer."""
    said = tokens(text)
    return said == tokens(row["answer"]) or any(
        occurs(tokens(phrase), said) for phrase in parse_keywords(row["keywords"])
    )
