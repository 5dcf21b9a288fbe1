"""Plausible other answers to the forget questions, as the preferred side of a preference loss."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from remem_tasks.benchmarks.remem.schema import parse_keywords
from remem_tasks.errors import RememError
from remem_tasks.files import write_whole
from remem_tasks.metrics.words import occurs, tokens
from unlearning.data import Encoder
from unlearning.generation import generate

FILE = "alternatives.json"
# Our own words for what AltPO (arXiv 2409.13474) asks of a model.
INSTRUCTION = (
    "{question}\nThe true answer is: {answer}\nInvent another answer in one sentence: as plausible as this "
    "one, but with every fact changed."
)


def of(trainer) -> dict[str, list[str]]:
    """Other answers by row id, by `--alternatives`: those beside the rows, or the model's own.

    Raises:
        RememError: they are to come from the data, which has none; or the model gives none for a row.
    """
    source, rows = trainer.args.alternatives, trainer.rows
    if source == "data" and rows.alternatives is None:
        raise RememError(
            "--alternatives data, but the data set has no config 'perturbed' for the forget split; "
            "--alternatives model lets the model invent them"
        )
    if source == "data" or (source == "auto" and rows.alternatives is not None):
        trainer.notes["alternatives"] = "wrong answers beside the rows (config 'perturbed')"
        return rows.alternatives
    trainer.notes["alternatives"] = "invented by the model before unlearning"
    path = Path(trainer.args.output_dir) / FILE
    made_from = {"data": rows.fingerprint(), "weights": trainer.start, "seed": trainer.args.seed}
    if path.is_file():
        kept = json.loads(path.read_text())
        if {key: kept.get(key) for key in made_from} == made_from:
            return kept["answers"]
    found = {row["row_id"]: invented(trainer, row) for row in rows.forget}
    if trainer.is_world_process_zero():
        write_whole(path, json.dumps({**made_from, "answers": found}, indent=0) + "\n")
    return found


@torch.no_grad()
def invented(trainer, row: dict, tries: int = 4) -> list[str]:
    """Answers of the model to INSTRUCTION, sampled at temperature 1; without the true one and its keywords."""
    model, encoder = trainer.accelerator.unwrap_model(trainer.model), Encoder(trainer.processing_class)
    question = INSTRUCTION.format(question=row["question"], answer=row["answer"])
    _, prompt = encoder.encode_prompt({**row, "question": question})
    prompt = {name: value.to(model.device) for name, value in prompt.items()}
    was_training = model.training
    model.eval()
    wanted = trainer.args.alternatives_each
    found: dict[str, None] = {}
    with torch.random.fork_rng():
        torch.manual_seed(trainer.args.seed)
        for _ in range(tries):
            out = generate(
                model, encoder.processor, prompt, max_new_tokens=trainer.args.alternatives_tokens,
                ends=trainer.encoder.stop_ids, samples=wanted,
            )  # fmt: skip
            for ids in out:
                text = " ".join(encoder.tokenizer.decode(ids, skip_special_tokens=True).split())
                if text and not _gives_away(text, row):
                    found[text] = None
            if len(found) >= wanted:
                break
    model.train(was_training)
    if not found:
        raise RememError(
            f"{row['row_id']}: the model invents no other answer (it repeats the true one); give alternatives "
            "with the data (config 'perturbed')"
        )
    return list(found)[:wanted]


def _gives_away(text: str, row: dict) -> bool:
    """Whether an invented answer holds a keyword of the row, or is the true answer."""
    said = tokens(text)
    return said == tokens(row["answer"]) or any(
        occurs(tokens(phrase), said) for phrase in parse_keywords(row["keywords"])
    )
