"""Forged data sets: changing some of their rows, and log-probabilities of answers the plain way."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.tiny import build as checkpoint


def changed(
    source: Path, folder: Path, config: str, change: Callable[[list[dict]], list[dict] | None]
) -> str:
    """A copy of a data set with the rows of one config changed in place, or replaced by what `change` returns."""
    shutil.copytree(source, folder)
    (file,) = (folder / config).glob("*.parquet")
    table = datasets.Dataset.from_parquet(str(file))
    pictures = [name for name in table.column_names if name == "image"]
    plain = table.cast_column("image", datasets.Image(decode=False)) if pictures else table
    rows = plain.to_list()
    rows = change(rows) or rows
    datasets.Dataset.from_list(rows, features=table.features).to_parquet(str(file))
    return str(folder)


def spoiled(source: Path, folder: Path) -> Callable[[str, Callable[[list], object]], str]:
    """Copies data of JSON files to a folder: (file, how) changes the records of one in place, and gives the folder."""
    shutil.copytree(source, folder)

    def change(file: str, how: Callable[[list], object]) -> str:
        path = folder / file
        text, by_line = path.read_text(), path.suffix == ".jsonl"
        rows = [json.loads(line) for line in text.splitlines()] if by_line else json.loads(text)
        how(rows)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) if by_line else json.dumps(rows))
        return str(folder)

    return change


class Plain:
    """A checkpoint of the tiny kind, one row at a time, nothing shared."""

    def __init__(self, arch: str, folder: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(folder).float().eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        tokenizer = self.processor.tokenizer
        special = tokenizer.convert_tokens_to_ids(checkpoint.SPECIAL[arch])
        self.banned = [token for token in special if token != tokenizer.eos_token_id]
        self.space = " " if arch == "llava" else ""  # what the template puts before the assistant's words

    def inputs(self, question: str, picture: bytes | None, said: str = ""):
        content = [{"type": "image"}] * (picture is not None) + [{"type": "text", "text": question}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        text += self.space + said if said else ""
        images = {} if picture is None else {"images": [Image.open(io.BytesIO(picture)).convert("RGB")]}
        return self.processor(text=[text], return_tensors="pt", **images)

    @torch.no_grad()
    def mean_logprob(self, question: str, picture: bytes | None, answer: str) -> float:
        """The mean of ln p over the answer's tokens, renormalised over the tokens that are text."""
        start = self.inputs(question, picture)["input_ids"].shape[1]
        inputs = self.inputs(question, picture, answer)
        logits = self.model(**inputs, use_cache=False).logits[0]
        logits[:, self.banned] = -torch.inf
        said = inputs["input_ids"][0, start:]
        values = logits.log_softmax(-1)[start - 1 : -1].gather(1, said[:, None])
        return float(values.double().mean())

    @torch.no_grad()
    def greedy(self, question: str, picture: bytes | None, limit: int) -> str:
        inputs = self.inputs(question, picture)
        ids = self.model.generate(
            **inputs, max_new_tokens=limit, do_sample=False, suppress_tokens=self.banned
        )
        return self.processor.tokenizer.decode(
            ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
