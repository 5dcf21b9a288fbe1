"""A benchmark in its smallest whole form: one picture, one question, one right word. Copy, rename, change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import datasets
from PIL import Image

from remem_tasks.benchmarks.base import Benchmark, Metric, Reply, Request, Setting, text_of
from remem_tasks.benchmarks.remem.data import row_name
from remem_tasks.data.pictures import decode_image
from remem_tasks.errors import RememError
from remem_tasks.metrics import answer_probability, exact_match
from remem_tasks.whitebox import Findings, Inquiry


class Mine(Benchmark):
    """EM of the greedy reply; from a white box also the probability of the right answer."""

    name = "mine"

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        if not source:
            raise RememError("mine: no data; a `dataset_path` in the YAML names a folder of parquet files")
        rows = datasets.load_dataset("parquet", data_files={split: f"{source}/{split}.parquet"}, split=split)
        for index, row in enumerate(rows.select_columns(["question", "answer"])):
            if not all(row.values()):
                raise RememError(f"{source}, split '{split}', row {index}: a cell is empty")
        rows = rows.cast_column("image", datasets.Image(decode=False))
        return rows.add_column("row_id", [f"{split}:{index}" for index in range(len(rows))]), source

    def fingerprint(self, rows: datasets.Dataset) -> str:
        texts = repr([rows["question"][:], rows["answer"][:]])
        return hashlib.sha256(texts.encode()).hexdigest()[:16]

    def requests(self, doc: Mapping, setting: Setting) -> list[Request]:
        return [Request(doc["question"])]

    def inquiry(self, doc: Mapping, setting: Setting) -> Inquiry | None:
        return Inquiry(doc["row_id"], row_name(doc), answers=(doc["answer"],)) if setting.white_box else None

    def images(self, doc: Mapping) -> list[Image.Image]:
        return [decode_image(doc["image"], row_name(doc))]

    def target(self, doc: Mapping) -> str:
        return doc["answer"]

    def metrics(self, rows: datasets.Dataset, split: str, setting: Setting) -> list[Metric]:
        higher = not split.startswith("forget")
        found = [Metric("mine_em", higher), *self.rate_metrics(), Metric("mine_rows", aggregate=len)]
        return [*found, Metric("mine_prob", higher)] if setting.white_box else found

    def score(
        self,
        doc: Mapping,
        replies: Sequence[Reply | list[Reply]],
        setting: Setting,
        findings: Findings | None = None,
    ) -> dict[str, object]:
        text = text_of(replies[0])
        scores: dict[str, object] = {"mine_em": exact_match(text, [doc["answer"]])}
        if findings is not None:
            scores["mine_prob"] = answer_probability(findings.answers)
        return {**scores, **self.reply_rates(list(replies)), "mine_rows": {"row_id": doc["row_id"]}}
