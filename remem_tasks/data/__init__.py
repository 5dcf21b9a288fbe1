"""Rows: schema, identity rule, loading and split algebra. The one module both halves import."""

from remem_tasks.data.identity import identity_of
from remem_tasks.data.load import (
    ENV,
    HUB_ID,
    available_splits,
    check_nested,
    fingerprint,
    load_split,
    resolve_source,
    retain_rows,
    row_name,
)
from remem_tasks.data.schema import (
    COLUMNS,
    SPLITS,
    TEXT_COLUMNS,
    check_image,
    decode_image,
    parse_hop,
    parse_keywords,
)

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
