"""Ways of computing that stand in for other processors, and a command run in one of them.

    python bench/numeric.py plain pytest -m unit        # PYTHON in front where the command is a module of it
    python bench/numeric.py other pytest -m unit        # in one that this processor would not take by itself
    python bench/numeric.py                             # the ways, and whether this processor has them

A way says which vector instructions PyTorch, oneDNN and MKL may use, and with how many threads: sums are rounded
in another order, as on a machine with another processor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

SETS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")
_ISA = {
    "plain": dict(zip(SETS, ("default", "SSE41", "COMPATIBLE"))),
    "avx2": dict(zip(SETS, ("avx2", "AVX2", "AVX2"))),
    "avx512": dict(zip(SETS, ("avx512", "AVX512_CORE", "AVX512"))),
    "native": {},
}
# name → (what is set, threads)
WAYS = {
    **{name: (isa, 1) for name, isa in _ISA.items()},
    "native-two": (_ISA["native"], 2),
    "plain-two": (_ISA["plain"], 2),
}
_RANK = {"default": 0, "avx2": 1, "avx512": 2}


def environment(way: str) -> dict[str, str]:
    """The variables of a process that computes in a way."""
    isa, threads = WAYS[way]
    kept = {name: value for name, value in os.environ.items() if name not in SETS}
    return {**kept, **isa, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def usable(ways: Sequence[str]) -> list[str]:
    """Those of the ways that this processor can compute in."""
    import torch

    here = _RANK.get(torch.backends.cpu.get_cpu_capability().lower(), 0)
    return [way for way in ways if _RANK[WAYS[way][0].get(SETS[0], "default")] <= here]


def distinct(ways: Sequence[str]) -> list[str]:
    """Those of the ways that this processor can compute in, each once: a set that is its own is `native` by another name."""
    import torch

    here = torch.backends.cpu.get_cpu_capability().lower()
    found: dict[tuple[str, int], str] = {}
    for way in usable(ways):
        isa, threads = WAYS[way]
        found.setdefault((isa.get(SETS[0], here), threads), way)
    return list(found.values())


def other() -> str:
    """A way of computing that is not this processor's own: other instructions, or where it has only plain ones, other threads."""
    import torch

    here = torch.backends.cpu.get_cpu_capability().lower()
    return "native-two" if _RANK.get(here, 0) == 0 else "plain"


def main() -> None:
    if len(sys.argv) < 3:
        there = usable(tuple(WAYS))
        for way, (isa, threads) in WAYS.items():
            told = ", ".join(f"{name}={value}" for name, value in isa.items()) or "as the machine has it"
            print(f"{way:<10} {told}; threads: {threads}{'' if way in there else ' (not on this processor)'}")
        raise SystemExit(0 if len(sys.argv) == 1 else 2)
    way, *command = sys.argv[1:]
    if way == "other":
        way = other()
    if way not in WAYS:
        raise SystemExit(f"numeric: error: '{way}' is not a way of computing: {', '.join(WAYS)}")
    if way not in usable((way,)):
        raise SystemExit(f"numeric: error: this processor cannot compute as '{way}'")
    if command[0] == "pytest":
        command = [sys.executable, "-m", *command]
    os.execvpe(command[0], command, environment(way))


if __name__ == "__main__":
    main()
