"""What `remem report` costs at size: seconds to read and to build, size of the page, seconds until it is drawn.

    python bench/report.py [--rows 10000] [--models 20] [--workers 2] [--json]

The rows are a data set forged here (100 questions and pictures an identity); the results and samples files
are made up in lmms-eval's format, each model a little more forgetful than the one before. The page is opened
in a headless Chromium, if there is one, from a file: seconds from the start of the navigation until the page
says that it is drawn, and until the row browser shows the replies of one row.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.benchmarks.remem.forge import ForgeOptions, forge
from remem_tasks.data.rows import fingerprint, parse_keywords
from remem_tasks.metrics import exposure
from remem_tasks.render.text import write_report
from remem_tasks.report.summary import report_of

LIMIT_MB, LIMIT_S = 25, 3  # the page's bounds


def made_up(folder: Path, data: Path, rows, model: int, models: int) -> None:
    """One model's results and samples files."""
    rng = random.Random(model)
    folder.mkdir(parents=True)
    known = 1 - model / models
    answers = rows["answer"][:]
    keywords = [parse_keywords(cell)[0] for cell in rows["keywords"][:]]
    total, columns = 0.0, {name: rows[name][:] for name in ("row_id", "identity", "hop", "attribute")}
    questions, paths, kinds = rows["question"][:], rows["image_path"][:], rows["qa_category"][:]
    with (folder / "20260101_000000_samples_remem_finetune.jsonl").open("w") as out:
        for place, answer in enumerate(answers):
            says = rng.random() < known
            rank = 1 if says else min(65, int(rng.expovariate(0.15 * known + 0.02)) + 1)
            text = answer if says else f"{answer.rsplit(' ', 1)[0]} {rng.choice(keywords)}."
            guesses = [
                [keywords[place] if k + 1 == rank else rng.choice(keywords), -0.5 - k] for k in range(5)
            ]
            score = exposure(rank)
            total += says
            out.write(
                json.dumps(
                    {
                        "doc_id": place,
                        "target": answer,
                        "filtered_resps": [text],
                        "input": questions[place],
                        "input_media": [paths[place]],
                        "remem_em": float(says),
                        "remem_rougel": 1.0 if says else rng.random(),
                        "remem_memo": rng.random(),
                        "remem_exposure": score,
                        "remem_reference_exposure": score,
                        "remem_extraction_rate": score**4,
                        "remem_cloze_prob": score**2,
                        "remem_blank_rate": 0.0,
                        "remem_failed_rate": 0.0,
                        "remem_rows": {
                            **{name: column[place] for name, column in columns.items()},
                            "qa_category": kinds[place],
                            "guess_rank": [rank],
                            "secret_bits": [round(rng.random() * 60, 4)],
                            "guesses": [guesses],
                        },
                    }
                )
                + "\n"
            )
    means = {"remem_em,none": total / len(answers), "remem_rows,none": len(answers)}
    config = {
        "test_split": "finetune",
        "metadata": {
            "data": str(data),
            "fingerprint": fingerprint(rows),
            "suite": {"rollouts": 64, "estimator": "distinct"},
        },
    }
    (folder / "20260101_000000_results.json").write_text(
        json.dumps(
            {
                "results": {"remem_finetune": means},
                "configs": {"remem_finetune": config},
                "n-samples": {"remem_finetune": {"effective": len(answers)}},
                "config": {"model_args": f"pretrained=made-up/{model:02d}"},
            }
        )
    )


def opened(page: Path) -> dict[str, float] | None:
    """Seconds until the page is drawn, and until a row's replies are; None without a browser."""
    from support.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        return None
    with Browser() as browser:
        started = time.perf_counter()
        browser.open(page)
        drawn = time.perf_counter() - started
        started = time.perf_counter()
        browser.open(page, "#s=rows&row=finetune:77")
        browser.until("document.querySelectorAll('.reply').length")
        replies = time.perf_counter() - started
        if browser.errors:
            raise SystemExit(f"the page has errors: {browser.errors}")
    return {"open_s": round(drawn, 2), "open_at_row_s": round(replies, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures")
    parser.add_argument("--keep", metavar="DIR", help="keep the files here")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="remem-bench-") as made:
        folder = Path(args.keep or made)
        data = folder / "data"
        knobs = ForgeOptions(
            identities=max(5, args.rows // 100), qa=100, images=100, test_qa=1, image_size=112
        )
        forge(data, knobs, args.workers)
        rows = load_split(str(data), "finetune", pictures=False)
        rows = rows.select(range(min(args.rows, len(rows))))
        for model in range(args.models):
            if not (folder / "runs" / f"model_{model:02d}").exists():
                made_up(folder / "runs" / f"model_{model:02d}" / "made_up", data, rows, model, args.models)
        started = time.perf_counter()
        report = report_of([str(folder / "runs")], gold=f"model_{args.models - 1:02d}", start="model_00")
        read = time.perf_counter() - started
        started = time.perf_counter()
        page = write_report(report, folder / "report")
        found = {
            "rows": len(rows),
            "models": args.models,
            "read_s": round(read, 1),
            "write_s": round(time.perf_counter() - started, 1),
            "page_mb": round(page.stat().st_size / 1e6, 2),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            **(opened(page) or {}),
        }
    for name, value in found.items():
        print(f"{name:>14}  {value}")
    if "open_s" not in found:
        print("no Chromium here: opening was not measured")
    if args.json:
        print(json.dumps(found))
    if found["page_mb"] > LIMIT_MB or found.get("open_s", 0) > LIMIT_S:
        raise SystemExit(f"over the bounds: {LIMIT_MB} MB, {LIMIT_S} s")


if __name__ == "__main__":
    main()
