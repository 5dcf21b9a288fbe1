"""How gate and report read ReMem's samples."""

from __future__ import annotations

import re

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.benchmarks.view import BenchmarkView, Pictures
from remem_tasks.data.pictures import decode_image


def _pictures(source: str, split: str) -> Pictures:
    rows = load_split(source, split)
    for index, path in enumerate(rows["image_path"][:]):
        yield path, lambda index=index: decode_image(rows[index]["image"], "picture")


VIEW = BenchmarkView(
    "remem",
    ("em",),
    "EM",
    _pictures,
    parts=re.compile(r"(\d+hop|forgotten|kept)_"),
    hops=True,
    judged=("memo", "exposure", "visual"),
)
