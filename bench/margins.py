"""By how much the tests of direction hold: their figures over seeds and ways of computing, beside their bounds.

    python bench/margins.py --seeds 3 --ways plain avx2 native-two

Runs `test_a_few_steps_go_away_from_the_forget_rows_and_less_from_the_others` under each and prints, a line a
method, mean, standard deviation and worst of `rise` (NLL of the forget rows, nats a token) and `share` (that of the
retain rows, as a share of it). How far a bound is from the mean is told in standard deviations; of `rise`, which is
positive and has a long tail upwards, in those of its logarithm. Ends with status 1 if one is nearer than three.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

from numeric import WAYS, environment, usable

TEST = "tests/unlearning/test_methods.py"
NAME = "test_a_few_steps_go_away_from_the_forget_rows_and_less_from_the_others"
SD = 3.0


def read(path: Path, found: dict[str, dict[str, list[float]]]) -> None:
    """Adds the figures of a run: method → figure → values."""
    for case in ElementTree.parse(path).iter("testcase"):
        method = re.search(r"\[(\w+)\]", case.get("name", ""))
        for one in case.iter("property"):
            found[method[1]][one.get("name")].append(float(one.get("value")))


def line(method: str, name: str, values: list[float], bound: float) -> tuple[str, float]:
    """A row of the table, and how many standard deviations the mean is from the bound."""
    mean, sd = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    worst = min(values) if name == "rise" else max(values)
    if name == "share":
        far = (bound - mean) / sd if sd else math.inf
    elif worst <= 0:
        far = 0.0
    else:
        logs = [math.log(value / bound) for value in values]
        far = statistics.fmean(logs) / statistics.stdev(logs) if sd else math.inf
    return (
        f"| {method} | {name} | {len(values)} | {mean:.3f} | {sd:.3f} | {worst:.3f} | {bound:g} | {far:.1f} |",
        far,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/margins"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["plain", "avx2", "native-two"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for way in usable(args.ways):
        for seed in range(args.seeds):
            path = args.out / f"{way}-{seed}.xml"
            if not path.is_file():
                command = [sys.executable, "-m", "pytest", "-q", TEST, "-k", NAME, f"--training-seed={seed}"]
                whole = path.with_suffix(".part")
                subprocess.run([*command, f"--junitxml={whole}"], env=environment(way), check=False)
                whole.rename(path)
            read(path, found)
    print(
        "| method | figure | runs | mean | sd | worst | bound | sd to the bound |\n|---|---|---:|---:|---:|---:|---:|---:|"
    )
    nearest = float("inf")
    source = Path(TEST).read_text(encoding="utf-8")
    bounds = dict(
        zip(
            ("rise", "share"),
            map(float, re.search(r"LEAST_RISE, MOST_SHARE = ([\d.]+), ([\d.]+)", source).groups()),
        )
    )
    for method, figures in found.items():
        for name, values in figures.items():
            told, far = line(method, name, values, bounds[name])
            nearest = min(nearest, far)
            print(told)
    print(f"nearest: {nearest:.1f} sd")
    raise SystemExit(nearest < SD)


if __name__ == "__main__":
    main()
