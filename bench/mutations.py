"""Does the suite notice: ten breaks in the losses, the trainer and the engine, one at a time, each in a copy of the tree.

    python bench/mutations.py                  # all ten, with the tests of `make test`; a line each: which failed first
    python bench/mutations.py --unit           # only with the tests of `make test-unit`
    python bench/mutations.py --only 3 7

Each break is tried on the tests of its own part, up to the first failure. Ends with status 1 if a break went
unnoticed, or if what it would break is no longer there (then the list below needs its new place).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREES = ("remem_tasks", "unlearning", "tests", "docs", "bench")


@dataclass(frozen=True)
class Break:
    """One fault: in `file`, `old` becomes `new`, and one of `tests` has to fail."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


LOSSES = (
    "tests/unlearning/test_losses.py",
    "tests/unlearning/test_golden.py",
    "tests/unlearning/test_catalogue.py",
)
TRAINER = (*LOSSES, "tests/unlearning/test_methods.py", "tests/unlearning/test_defects.py")
COURSE = (
    "tests/unlearning/test_evaluation.py",
    "tests/unlearning/test_resume.py",
    "tests/unlearning/test_defects.py",
)
ENGINE = ("tests/engine/test_draw.py", "tests/engine/test_decoder.py", "tests/engine/test_packing.py")
BREAKS = (
    Break(
        "NPO prefers the forget answer", "unlearning/losses.py",
        "F.logsigmoid(beta * (nll - reference_nll))", "F.logsigmoid(beta * (reference_nll - nll))", LOSSES,
    ),
    Break(
        "token NLL is a mean over all positions", "unlearning/losses.py",
        "return -mean(log_probs[mask], count)", "return -mean(log_probs * mask, count)", LOSSES,
    ),
    Break(
        "KL has its arguments swapped", "unlearning/losses.py",
        "temperature**2 * F.kl_div(now, before,", "temperature**2 * F.kl_div(before, now,", LOSSES,
    ),
    Break(
        "gradient difference learns what it should forget", "unlearning/methods/grad_diff.py",
        "return -batch.forget.token_nll", "return batch.forget.token_nll", TRAINER,
    ),
    Break(
        "labels are one position off", "unlearning/forward.py",
        'labels = passed["labels"][:, 1:]', 'labels = passed["labels"][:, :-1]', TRAINER,
    ),
    Break(
        "the retain loss has no weight α", "unlearning/trainer.py",
        "total = total + alpha * figures[\"retain_loss\"]", "total = total + figures[\"retain_loss\"]", TRAINER,
    ),
    Break(
        "a stop rule never ends a run", "unlearning/trainer.py",
        "control.should_training_stop = True", "control.should_training_stop = False", COURSE,
    ),
    Break(
        "a method's state is not taken up after a kill", "unlearning/resume.py",
        "self.load_method_state(state)", "dict(state)", COURSE,
    ),
    Break(
        "branches of a row share a slot", "remem_tasks/engine/frontiers.py",
        "slots[order] = place - first", "slots[order] = place * 0", ENGINE,
    ),
    Break(
        "draws are not tied to their maximum", "remem_tasks/engine/draw.py",
        "v = top - g + _log1mexp(largest - g)", "v = top - g", ENGINE,
    ),
)  # fmt: skip


def noticed(one: Break, unit: bool) -> tuple[bool, str]:
    """Whether a test failed, and which (or what pytest said last)."""
    with tempfile.TemporaryDirectory(prefix="remem-break-") as folder:
        tree = Path(folder)
        for name in TREES:
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        path = tree / one.file
        text = path.read_text()
        if text.count(one.old) != 1:
            return False, f"{one.file} holds {text.count(one.old)} times what is to be broken"
        path.write_text(text.replace(one.old, one.new))
        tests = [name for name in one.tests if (tree / name).is_file()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        told = subprocess.run(
            [*command, "-m", "not slow", *["--unit"] * unit], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", told.stdout, re.MULTILINE)
    last = (told.stdout.strip().splitlines() or ["nothing said"])[-1]
    # (Only a test that failed counts: pytest ends with another status where it could not begin.)
    return told.returncode == 1 and failed is not None, failed[1] if failed else last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unit", action="store_true", help="with the unit tests alone")
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="breaks by number, from 1")
    args = parser.parse_args()
    missed = 0
    for number, one in enumerate(BREAKS, start=1):
        if args.only and number not in args.only:
            continue
        begun = time.time()
        caught, told = noticed(one, args.unit)
        missed += not caught
        print(
            f"{number:>2} {one.what}: {'noticed by' if caught else 'NOT NOTICED:'} {told} ({time.time() - begun:.0f} s)",
            flush=True,
        )
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
