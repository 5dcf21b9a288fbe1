"""The commands `lmms_eval` (lmms-eval with our tasks and an honest exit status) and `remem`."""

from __future__ import annotations

import sys


def lmms_eval() -> None:
    from remem_tasks.plugin import run_lmms_eval

    sys.exit(run_lmms_eval())


def main() -> None:
    raise SystemExit("remem: to come")
