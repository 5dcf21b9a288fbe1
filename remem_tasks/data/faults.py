"""Faults of rows: found by one judge, listed by `remem data check`, refused by training and scoring.

A run stops on what the check calls a fault, unless it is told to go on; then its record says what was let pass.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remem_tasks.errors import RememError

REFUSE, ALLOW = "refuse", "allow"  # the values of `--faults`
CANNOT = "row that cannot be asked"  # a kind of fault
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, and where it is (split and row, or what is concerned)."""

    kind: str
    where: str


def row_name(row: Mapping[str, Any]) -> str:
    """How messages call a row: `split 'forget1', row 3 (images/mara_quill/0007.png)`."""
    split, _, index = str(row.get("row_id", "?:?")).partition(":")
    return f"split '{split}', row {index} ({row.get('image_path', 'no path')})"


def settle(faults: Sequence[Fault], choice: str, source: str, left_out: bool = False) -> str:
    """What a run's record says of faults that are let pass; "" where there are none.

    Args:
        choice: `refuse` or `allow`.
        source: where the rows are from.
        left_out: whether faulty rows are left out, rather than used as they are.

    Raises:
        RememError: there are faults, and they are to be refused.
    """
    if not faults:
        return ""
    kinds = list(dict.fromkeys(fault.kind for fault in faults))
    more = f" (and {len(faults) - 1} more of {len(kinds)} kinds)" if len(faults) > 1 else ""
    if choice != ALLOW:
        raise RememError(
            f"{faults[0].kind}: {faults[0].where}{more}; `remem data check {source}` lists them, --faults allow "
            f"({'without the faulty rows' if left_out else 'with the rows as they are'}) goes on and the record says so"
        )
    told = f"{len(faults)} faults {'left out' if left_out else 'let pass'}: " + "; ".join(
        f"{sum(fault.kind == kind for fault in faults)} x {kind}"
        f" ({next(fault.where for fault in faults if fault.kind == kind)})"
        for kind in kinds[:5]
    )
    told += " ..." if len(kinds) > 5 else ""
    logger.warning(told)
    return told
