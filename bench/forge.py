"""What the forge costs: seconds and peak memory at several times the paper's scale.

    python bench/forge.py [--scales 1 5 10] [--workers 2] [--json]

Each scale is one `remem forge` in a process of its own (20 identities times the scale, 100 questions and
100 pictures of 336 px each, three hops). Memory is the sum over its processes of what is theirs alone plus
their share of what they have in common (PSS), sampled every 0.2 s. Data is written to a temporary folder
(about 0.13 GB a scale, twice that while building) and removed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

IDENTITIES = 20  # of the published set


def _memory(root: psutil.Process) -> float:
    """MB that a process and its children hold."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total / 2**20


def measure(scale: int, workers: int, folder: Path) -> dict[str, float]:
    """One build of `scale` times the published size: seconds, peak memory (MB), size (MB), rows."""
    out = folder / f"x{scale}"
    command = [sys.executable, "-c", "from remem_tasks.cli import main; main()", "forge", "--out", str(out)]
    command += ["--identities", str(IDENTITIES * scale), "--hops", "3", "--workers", str(workers)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    root, peak = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        try:
            peak = max(peak, _memory(root))
        except psutil.Error:
            break
        time.sleep(0.2)
    if process.wait():
        raise SystemExit(f"remem forge ended with status {process.returncode}")
    seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 2**20
    rows = json.loads((out / "forge.json").read_text())["rows"]["finetune"]
    shutil.rmtree(out)
    return {"seconds": seconds, "peak_mb": peak, "size_mb": size, "finetune_rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 5, 10], help="times the paper's scale")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    found = {}
    print(f"{'scale':>6} {'rows':>8} {'seconds':>8} {'s/scale':>8} {'peak MB':>8} {'size MB':>8}", flush=True)
    with tempfile.TemporaryDirectory(prefix="remem-bench-") as folder:
        for scale in args.scales:
            found[scale] = one = measure(scale, args.workers, Path(folder))
            print(
                f"{scale:>6} {one['finetune_rows']:>8} {one['seconds']:>8.1f} {one['seconds'] / scale:>8.1f} "
                f"{one['peak_mb']:>8.0f} {one['size_mb']:>8.0f}",
                flush=True,
            )
    if args.json:
        report = {}
        if 1 in found:
            report["paper_scale_s"] = round(found[1]["seconds"], 2)
        if 10 in found:
            report["peak_mb_10x"] = round(found[10]["peak_mb"], 1)
        if {1, 10} <= found.keys():
            report["time_10x_over_1x"] = round(found[10]["seconds"] / found[1]["seconds"], 3)
        print(json.dumps(report))


if __name__ == "__main__":
    main()
