"""ReMem: questions in 1, 2 or more hops about fictitious people in pictures (Hub `herbwood27/Remem`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import datasets
from PIL import Image

from remem_tasks.benchmarks.base import Benchmark, FailedReply, Metric, Reply, Request
from remem_tasks.data import decode_image, fingerprint, load_split, parse_keywords, resolve_source, row_name
from remem_tasks.errors import RememError
from remem_tasks.metrics import exact_match, keyword_recall, rouge_l

SCORES = ("em", "keyword_recall", "rougel", "rouge_recall")


class Remem(Benchmark):
    """Greedy replies to `question` with the row's picture; EM, keyword recall, ROUGE-L, overall and by hop."""

    name = "remem"

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        source = resolve_source(source)
        rows = load_split(source, split)
        return rows, os.path.abspath(source) if os.path.isdir(source) else source

    def fingerprint(self, rows: datasets.Dataset) -> str:
        return fingerprint(rows)

    def requests(self, doc: Mapping) -> list[Request]:
        return [Request(doc["question"])]

    def images(self, doc: Mapping) -> list[Image.Image]:
        return [decode_image(doc["image"], row_name(doc))]

    def target(self, doc: Mapping) -> str:
        return doc["answer"]

    def metrics(self, rows: datasets.Dataset, split: str) -> list[Metric]:
        """The four scores, overall and for each hop among the rows; both rates; the rows themselves.

        On a forget set a lower score is better; on `test` neither, as its rows are about forgotten
        people and kept ones (`remem_rows` in the samples file says who).
        """
        higher = None if split == "test" else not split.startswith("forget")
        hops = sorted({hop for hop in rows["hop"][:] if hop})
        prefixes = [self.name, *(f"{self.name}_{hop}hop" for hop in hops)]
        return [
            *(Metric(f"{prefix}_{score}", higher) for prefix in prefixes for score in SCORES),
            *self.rate_metrics(),
            Metric(f"{self.name}_rows", aggregate=len),
        ]

    def score(self, doc: Mapping, replies: Sequence[Reply]) -> dict[str, object]:
        """A failed reply scores 0 and counts in `remem_failed_rate`, which fails a run above 1 %."""
        text = "" if isinstance(replies[0], FailedReply) else replies[0]
        phrases = parse_keywords(doc["keywords"])
        try:
            recall = keyword_recall(text, phrases)
            em = exact_match(text, phrases)
        except RememError as error:
            raise RememError(f"{row_name(doc)}: {error}") from error
        rouge_f1, rouge_recall = rouge_l(text, doc["answer"])
        values = dict(zip(SCORES, (em, recall, rouge_f1, rouge_recall)))
        prefixes = [self.name, f"{self.name}_{doc['hop']}hop"] if doc["hop"] else [self.name]
        return {
            **{f"{prefix}_{name}": value for prefix in prefixes for name, value in values.items()},
            **self.reply_rates(replies),
            # The harness drops the row from its samples file; this is what later reports group by.
            f"{self.name}_rows": {
                name: doc[name] for name in ("row_id", "identity", "hop", "attribute", "qa_category")
            },
        }
