"""Metrics: pure functions, arrays and strings in, numbers out."""

from remem_tasks.metrics.text import exact_match, keyword_recall, rouge_l, tokens

__all__ = ["exact_match", "keyword_recall", "rouge_l", "tokens"]
