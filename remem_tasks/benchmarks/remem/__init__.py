"""ReMem: rows with their schema, identity rule, loading and split algebra; `benchmark` scores them."""

from remem_tasks.benchmarks.remem.data import (
    ENV,
    HUB_ID,
    available_splits,
    check_nested,
    load_split,
    resolve_source,
    retain_rows,
)
from remem_tasks.benchmarks.remem.identity import identity_of
from remem_tasks.benchmarks.remem.schema import COLUMNS, SPLITS, parse_hop
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import check_image, decode_image
from remem_tasks.data.rows import TEXT_COLUMNS, fingerprint, parse_keywords

__all__ = [
    "COLUMNS",
    "ENV",
    "HUB_ID",
    "SPLITS",
    "TEXT_COLUMNS",
    "available_splits",
    "check_image",
    "check_nested",
    "decode_image",
    "fingerprint",
    "identity_of",
    "load_split",
    "parse_hop",
    "parse_keywords",
    "resolve_source",
    "retain_rows",
    "row_name",
]
