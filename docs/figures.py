"""Draws the pictures of reading-results.md (but scale.png, which `remem study scale` draws) from a finished demo.

    python docs/figures.py runs/demo
    python docs/figures.py runs/demo --page      # of the demo's own report alone; and README's table, printed

Two forget runs of the demo are trained again with checkpoints on the way, one stage 1 on single hops alone, and one that
ends too early, of which the gate's verdict is printed; all is kept below `figures/` in the demo's folder and not done again. The
page is opened in a headless Chromium.
"""

# ruff: noqa: E402  (the browser of the tests is found first)
from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.browser import Browser

from remem_tasks import evaluate
from remem_tasks.render.text import write_report
from remem_tasks.report.summary import report_of
from unlearning.experiments.demo import ENVIRONMENT, FULL, SHOWN, STAGE1, STAGE2

OUT = ROOT / "docs" / "results"
WIDTH = 1180
# Runs with checkpoints on the way: method, steps in all, steps between checkpoints.
STEPS = {"npo-steps": ("npo", 80, 20), "idk-longer": ("idk", 120, 40)}
ROW = "forget1:5"
TOO_FEW = 110  # steps of a stage 1 that the gate has to catch


def once(done: Path, *command: str) -> None:
    """Run a command unless what it leaves behind is there."""
    if not done.exists():
        print("$", " ".join(command), flush=True)
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT)


def train(demo: Path, out: Path, method: str, start: str, data: Path, options: str) -> None:
    once(
        out / "model.safetensors",
        *("unlearning/train.py", "--method", method, "--model_name_or_path", str(demo / "models" / start)),
        *("--data", str(data), "--output_dir", str(out), "--disable_tqdm", "true", *options.split()),
    )


def score(checkpoint: Path, out: Path, tasks: str) -> Path:
    once(out, *evaluate.PROGRAM[1:], *evaluate.arguments(checkpoint, tasks.split(","), out))
    return out


def courses(demo: Path, work: Path) -> list[str]:
    """Runs of every checkpoint on the way, as `remem report` takes them."""
    runs = []
    # (The demo's rule would end them where nothing is said any more; what is to be seen here lies behind it too.)
    whole = re.sub(r"--(stop_on|eval_\w+) \S+", "", STAGE2)
    gate = f"--gate_results {demo / 'results' / 'memorised'}"
    for name, (method, steps, every) in STEPS.items():
        options = (
            f"{FULL.methods[method]} {whole} --max_steps {steps} --save_strategy steps --save_steps {every}"
        )
        train(
            demo,
            work / name,
            method,
            "memorised",
            demo / "data",
            f"--forget forget1 {gate} {options} --save_total_limit 9",
        )
        for step in range(every, steps + 1, every):
            folder = f"checkpoint-{step}"
            scored = score(
                work / name / folder, work / "results" / name / folder, "remem_forget1,remem_retain"
            )
            runs.append(f"{name}/{folder}={scored}")
    return runs


def single_hops(demo: Path, work: Path) -> Path:
    """Scores of a model that learned single hops only."""
    data = work / "single_hops"
    if not data.exists():
        from remem_tasks.benchmarks.remem.data import load_split

        rows = load_split(str(demo / "data"), "finetune")
        rows = rows.filter(lambda kind: kind == "1-hop", input_columns="question_type")
        (data / "data").mkdir(parents=True)
        rows.to_parquet(data / "data" / "finetune-00000-of-00001.parquet")
        (data / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: finetune\n    path: data/finetune-*\n---\n"
        )
    train(
        demo,
        work / "one_hop",
        "sft",
        "base",
        data,
        f"{FULL.stage1} {STAGE1} --max_steps 400",
    )
    return score(work / "one_hop", work / "results" / "one_hop", "remem_finetune")


def under_trained(demo: Path, work: Path) -> Path:
    """Scores of a stage 1 that ended too early."""
    options = f"{FULL.stage1} {STAGE1} --max_steps {TOO_FEW}"
    train(demo, work / "under_trained", "sft", "base", demo / "data", options)
    return score(work / "under_trained", work / "results" / "under_trained", "remem_forget1,remem_retain")


def picture(browser: Browser, section: str, selector: str, name: str, drawn: str) -> None:
    """An element of a section as a PNG, when what is `drawn` in it is there; sections are drawn when they are seen."""
    browser.run(f"document.querySelector('#{section}').scrollIntoView()")
    selector = f"#{section} {selector}"
    browser.until(f"document.querySelector({selector!r})")
    browser.run(f"document.querySelector({selector!r}).scrollIntoView()")
    browser.until(f"document.querySelector({f'{selector} {drawn}'!r})")
    where = (
        f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
        "return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height}; })()"
    )
    box, before = browser.run(where), None
    while box != before:  # sections above it that were just seen may still be drawn
        time.sleep(0.5)
        box, before = browser.run(where), box
    browser.picture(OUT / f"{name}.png", box=box)


def table(demo: Path) -> str:
    """README's table, in per cent."""
    models = json.loads((demo / "summary.json").read_text())["models"]
    heads = [" ".join(head.split()).replace("Extract. rate", "extraction rate") for _, _, head in SHOWN]
    lines = ["| model | " + " | ".join(heads) + " |", "|---" + "|---:" * len(heads) + "|"]
    for name, scores in models.items():
        cells = (f"{100 * scores[task][metric]:.1f}" for task, metric, _ in SHOWN)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page_pictures(demo: Path, work: Path) -> None:
    """The pictures of the demo's own report."""
    report = report_of([str(demo / "results")], gold="gold", start="memorised")
    page = write_report(report, work / "report", "The demo")
    plot = "h2 ~ div:not(.controls)"
    with Browser(WIDTH, 900) as browser:
        browser.screen(WIDTH, 900)
        browser.open(page)
        picture(browser, "summary", "div.sets", "summary", "td")
        picture(browser, "plane", plot, "plane", "svg")
        picture(browser, "silent", "div.panels", "silent", "canvas")
        picture(browser, "heat", plot, "heat", "td")
        picture(browser, "spread", plot, "spread", "svg")
        browser.open(page, f"#s=rows&rt=remem_forget1&row={ROW}")
        picture(browser, "rows", "tr.detailrow", "row", "img")


def trained_pictures(demo: Path, work: Path) -> None:
    """The pictures that further trainings are needed for, and the gate on one of them."""
    both = [f"{name}={demo / 'results' / name}" for name in ("memorised", "gold")]
    report = report_of([*both, *courses(demo, work)], gold="gold", start="memorised")
    steps = write_report(report, work / "report_steps", "The demo's courses")
    remem = (sys.executable, "-c", "from remem_tasks.cli import main; main()")
    caught = subprocess.run([*remem, "gate", str(under_trained(demo, work))], check=False)
    if caught.returncode != 1:
        raise SystemExit(f"the gate did not catch the model of {TOO_FEW} steps: status {caught.returncode}")
    scored = str(single_hops(demo, work))
    subprocess.run([*remem, "diagnose", scored, "--out", str(work / "diagnosis")], check=True)
    OUT.joinpath("curse.png").write_bytes((work / "diagnosis" / "diagnosis.png").read_bytes())
    with Browser(WIDTH, 900) as browser:
        browser.screen(WIDTH, 900)
        browser.open(steps)
        picture(browser, "steps", "h2 ~ div:not(.controls)", "steps", "svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of a finished demo")
    parser.add_argument("--page", action="store_true", help="train nothing: the demo's own report alone")
    args = parser.parse_args()
    demo = args.demo.resolve()
    os.environ.update(ENVIRONMENT, REMEM_DATA=str(demo / "data"))
    print(table(demo))
    page_pictures(demo, demo / "figures")
    if not args.page:
        trained_pictures(demo, demo / "figures")


if __name__ == "__main__":
    main()
