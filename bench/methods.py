"""Does every method run and score as users run it: `accelerate launch unlearning/train.py`, then `lmms_eval`.

    python bench/methods.py --data runs/demo/data --base runs/demo/models/memorised --out runs/methods

Each registered method trains for a few steps and its folder is scored by an unchanged `lmms_eval --model
remem_hf --tasks remem_forget1`. Prints a line per method, ends with status 1 if any failed. A method that is
done is not done again. Options of training go behind `--`, such as `-- --use_peft --lora_r 4`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from remem_tasks.report.results import newest_results, read_scores
from unlearning.methods import METHODS, NAMES


def _told(command: list[str], log: Path, environment: dict[str, str]) -> str:
    """Run a command with its output in a file; its last line if it failed, else nothing."""
    with log.open("w", encoding="utf-8") as file:
        status = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False).returncode
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"status {status}: {lines[-1] if lines else ''}" if status else ""


def measure(method: str, args: argparse.Namespace, options: list[str]) -> dict:
    """Train and score one method; `failed` is empty, or says which half failed and how."""
    folder = args.out / method
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {**os.environ, "REMEM_DATA": str(args.data), "HF_HUB_OFFLINE": "1"}
    train = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", args.config]
    train += ["unlearning/train.py", "--method", method, "--model_name_or_path", str(args.base)]
    train += ["--data", str(args.data), "--output_dir", str(folder / "model"), "--save_strategy", "no"]
    train += ["--max_steps", str(args.steps), "--per_device_train_batch_size", "4", *options]
    if METHODS[method].stage == 2:
        train.append("--no_gate")  # whatever it forgets, does it run?
    score = [sys.executable, "-c", "from remem_tasks.cli import lmms_eval; lmms_eval()"]
    score += ["--model", "remem_hf", "--model_args", f"pretrained={folder / 'model'}"]
    score += ["--tasks", "remem_forget1", "--limit", str(args.limit), "--output_path", str(folder / "scores")]
    begun = time.time()
    failed = _told(train, folder / "train.log", environment)
    found = {
        "method": method,
        "failed": failed and f"train, {failed}",
        "train_s": round(time.time() - begun, 1),
    }
    if failed:
        return found
    begun = time.time()
    failed = _told(score, folder / "score.log", environment)
    found |= {"failed": failed and f"score, {failed}", "score_s": round(time.time() - begun, 1)}
    if not failed:
        scores = read_scores(newest_results(folder / "scores"))["remem_forget1"]
        found["scores"] = {name: scores[name] for name in ("remem_em", "remem_exposure")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--base", required=True, type=Path, help="checkpoint that has memorised")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--methods", nargs="+", default=NAMES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--limit", type=int, default=4, help="rows that are scored")
    parser.add_argument("--config", default="unlearning/configs/accelerate/cpu.yaml", help="of accelerate")
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    args, options = parser.parse_args(given[:cut]), given[cut + 1 :]
    failed = []
    for method in args.methods:
        done = args.out / method / "done.json"
        if options and not METHODS[method].adapters and "--use_peft" in options:
            print(f"{method:<12} trains no adapter: left out with --use_peft", flush=True)
            continue
        if done.is_file():
            found = json.loads(done.read_text())
        else:
            found = measure(method, args, options)
        if found["failed"]:
            failed.append(method)
            print(f"{method:<12} FAILED: {found['failed']}", flush=True)
            continue
        done.write_text(json.dumps(found, indent=1) + "\n")
        said = ", ".join(f"{name} {value:.3f}" for name, value in found["scores"].items())
        print(
            f"{method:<12} trained in {found['train_s']} s, scored in {found['score_s']} s: {said}",
            flush=True,
        )
    print(
        f"{len(args.methods) - len(failed)} of {len(args.methods)} methods"
        + "; failed: " * bool(failed)
        + ", ".join(failed)
    )
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
