"""`remem reproduce clear`: CLEAR's main table on a model that two cores train: ten methods, each with and without L1-LoRA.

forge → base → original (memorised everything) and gold (all but forget10) → every method from the
original with LoRA, plain and with λ·Σ|θ| → a sweep over λ. A model that is done is not done again; one
whose training failed (a loss that is not finite) is a row that says so.
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from remem_tasks.errors import RememError
from remem_tasks.evaluate import score_here
from remem_tasks.files import locked, write_json, write_whole
from unlearning.experiments.ledger import Ledger

METHODS = ("retain_ft", "ga", "grad_diff", "kl", "idk", "dpo", "npo", "scrub", "llmu", "rmu")
TASKS = ("clear_forget10_perturbed", "clear_retain_perturbed", "clear_real")
NUMBERS = {
    "real": ("clear_real", "clear_real_metric"),
    "retain": ("clear_retain_perturbed", "clear_retain_metric"),
    "forget": ("clear_forget10_perturbed", "clear_forget_metric"),
    "ks": ("clear_forget10_perturbed", "clear_ks_quality"),
    "js": ("clear_forget10_perturbed", "clear_js_quality"),
    "exposure": ("clear_forget10_perturbed", "clear_name_exposure"),
}
HEADS = {
    "real": "Real ↑",
    "retain": "Retain ↑",
    "forget": "Forget ↓",
    "ks": "log FQ ↑",
    "js": "1 − JSD ↑",
    "exposure": "names' exposure ↓",
}
# LLaVA-1.5-7B, forget10 (arXiv 2410.18057v1): Real, Retain, Forget, log forget quality.
PUBLISHED = {
    "original": (0.48, 0.51, 0.39, -61.22),
    "gold": (0.50, 0.51, 0.19, 0.0),
    "ga": (0.32, 0.0, 0.0, -13.04),
    "grad_diff": (0.24, 0.0, 0.0, -17.72),
    "idk": (0.48, 0.51, 0.30, -74.40),
    "kl": (0.27, 0.0, 0.0, -13.92),
    "npo": (0.49, 0.51, 0.36, -63.15),
    "retain_ft": (0.49, 0.51, 0.36, -60.26),
    "rmu": (0.27, 0.0, 0.0, -23.68),
    "llmu": (0.47, 0.49, 0.37, -73.34),
    "dpo": (0.46, 0.49, 0.39, -61.22),
    "scrub": (0.49, 0.51, 0.36, -62.18),
}
PUBLISHED_L1 = (".48–.50", ".49–.51", ".35–.37", "")  # of all ten
NEAR = 0.05  # two values of a metric that differ by less count as alike
LORA = "--use_peft --lora_r 8 --lora_alpha 32 --lora_dropout 0 --lora_target_modules all-linear"
MEMORISE = (
    "--per_device_train_batch_size 24 --learning_rate 2e-3 --vision_lr 5e-4 --lr_scheduler_type cosine "
    "--warmup_steps 50 --adam_beta2 0.98 --logging_steps 100"
)
SETS = "full,real_faces,real_world"  # what LLaVA knows of the real world is memorised here with the rest


@dataclass(frozen=True)
class TableSize:
    """What decides the size of the reproduction.

    Attributes:
        forge: knobs of the data.
        pictures, epochs: from which the tiny base learns to see.
        memorise, forget: training options of the originals, and of the methods.
        l1: λ of the second half of the table.
        sweep: of which method, and the λ beside 0 and `l1`.
    """

    forge: dict = field(
        default_factory=lambda: {
            "identities": 16,
            "images": 6,
            "qa": 8,
            "real": 8,
            "world": 16,
            "retain_perturbed": 2,
            "image_size": 112,
        }
    )
    pictures: int = 6000
    epochs: float = 16
    memorise: str = "--max_steps 500"
    forget: str = (
        "--max_steps 40 --per_device_train_batch_size 12 --learning_rate 1e-3 --lr_scheduler_type constant"
    )
    l1: float = 0.01
    sweep: tuple[str, tuple[float, ...]] = ("grad_diff", (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3))
    seed: int = 0


QUICK = TableSize(
    forge={
        "identities": 6,
        "images": 2,
        "qa": 2,
        "real": 2,
        "world": 2,
        "retain_perturbed": 1,
        "image_size": 56,
    },
    pictures=60,
    epochs=1,
    memorise="--max_steps 3",
    forget="--max_steps 2 --per_device_train_batch_size 4 --learning_rate 1e-3 --lr_scheduler_type constant",
    sweep=("grad_diff", (0.1,)),
)


@dataclass(frozen=True)
class Job:
    """A model of the table.

    Attributes:
        name: of its folder; `method`, or `method_l1_<λ>`.
        method: of `--method`.
        l1: λ; None where no LoRA is trained.
    """

    name: str
    method: str
    l1: float | None = None


def jobs(methods: Sequence[str], size: TableSize, l1: bool) -> list[Job]:
    """Every model after original and gold, in the order of the table.

    Raises:
        RememError: a method that is none of the ten.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise RememError(f"'{unknown[0]}' is none of CLEAR's methods: {', '.join(METHODS)}")
    found = [Job(method, method, 0.0) for method in methods]
    if l1:
        found += [Job(l1_name(method, size.l1), method, size.l1) for method in methods]
        method, weights = size.sweep
        if method in methods:
            found += [Job(l1_name(method, weight), method, weight) for weight in weights]
    return found


def l1_name(method: str, weight: float) -> str:
    return f"{method}_l1_{weight:g}" if weight else method


def training(job: Job, out: Path, size: TableSize, base: str, device: str) -> list[str]:
    """The arguments of `unlearning/train.py` for a job."""
    start = base if job.l1 is None else str(out / "models" / "original")
    argv = ["--method", job.method, "--model_name_or_path", start, "--dataset", str(out / "data")]
    argv += [
        "--output_dir",
        str(out / "models" / job.name),
        "--save_strategy",
        "no",
        "--seed",
        str(42 + size.seed),
    ]
    argv += ["--report_to", "none", "--disable_tqdm", "true", "--overwrite_output_dir", "true"]
    argv += ["--use_cpu", "true"] if device == "cpu" else []
    if job.l1 is None:
        argv += [*f"{size.memorise} {MEMORISE} --finetune_split {SETS}".split(), "--forget", "forget10"]
    else:
        argv += [*f"{size.forget} {LORA}".split(), "--forget", "forget10", "--logging_steps", "20"]
        # The gate's verdict is noted; the table is made all the same.
        argv += ["--gate_results", str(out / "results" / "original"), "--no_gate", "true"]
        argv += ["--l1_lora", f"{job.l1:g}"] if job.l1 else []
    return argv


def score(model: str, out: Path, name: str, device: str, gold: bool) -> dict[str, float]:
    """The numbers of a checkpoint; its results and samples go to `out/results/name`, as lmms_eval's own do.

    Args:
        gold: whether the gold model's samples are there to compare with.
    """
    folder = out / "results" / name
    shutil.rmtree(folder, ignore_errors=True)
    variables = {
        "REMEM_CLEAR_DATA": str(out / "data"),
        "REMEM_GOLD": str(out / "results" / "gold") if gold else None,
    }
    results = score_here(model, TASKS, folder, variables, device, gen_kwargs="max_new_tokens=64")
    numbers = {}
    for number, (task, metric) in NUMBERS.items():
        value = results["results"][task].get(f"{metric},none")
        if value is not None:
            numbers[number] = float(value)
    for task in TASKS:
        for metric, value in results["results"][task].items():
            if metric.endswith(("_rouge,none", "_prob,none", "_truth,none", "_exposure,none")):
                numbers[f"{task}.{metric.removesuffix(',none')}"] = float(value)
    return numbers


def _do(job: Job, out: Path, size: TableSize, base: str, device: str) -> dict:
    """Train and score one model; its record."""
    from unlearning.run import run

    argv = training(job, out, size, base, device)
    record: dict = {"job": asdict(job), "command": ["remem", "train", *argv]}
    started = time.time()
    folder = out / "models" / job.name
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped call left
    try:
        run(argv)
    except RememError as error:
        return {**record, "failed": str(error), "seconds": round(time.time() - started, 1)}
    record["trained_seconds"] = round(time.time() - started, 1)
    compare = job.name != "gold"
    try:
        record["numbers"] = score(str(folder), out, job.name, device, compare)
    except RememError as error:
        record["failed"] = str(error)
    return {**record, "seconds": round(time.time() - started, 1)}


@locked
def reproduce(
    out: str | Path,
    methods: Sequence[str] = METHODS,
    size: TableSize | None = None,
    l1: bool = True,
    base: str | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> dict[str, dict]:
    """Run the reproduction in folder `out`, or go on with it; writes clear.md, clear.csv, clear.json.

    Args:
        methods: some of METHODS.
        l1: whether each is also run with λ·Σ|θ|, and the sweep over λ.
        base: checkpoint to start from; None makes a tiny one.

    Returns:
        Record of each model by name: `numbers`, or why it `failed`; and `seconds`.

    Raises:
        RememError: `out` holds something else or another reproduction, or original or gold failed.
    """
    from remem_tasks.benchmarks.clear.forge import ForgeOptions, forge
    from remem_tasks.tiny.pretrain import make_base

    out, size = Path(out), size or TableSize()
    todo = jobs(methods, size, l1)
    # (λ is in the names of the rows, so that another sweep may stand beside what is there.)
    of_all = {name: value for name, value in asdict(size).items() if name not in ("l1", "sweep")}
    ledger = Ledger(out, "reproduction", {**of_all, "base": base})
    if not (out / "data").is_dir():
        say(f"data: {forge(out / 'data', ForgeOptions(**size.forge, seed=size.seed))}")
    if base is None:
        if not (out / "base").is_dir():
            say("base: a tiny checkpoint that can see")
            options = {"pictures": size.pictures, "epochs": size.epochs, "seed": size.seed}
            make_base(out / "base", "llava", image_size=56, workers=1, **options)
        base = str(out / "base")
    found: dict[str, dict] = {}
    todo = [Job("gold", "gold"), Job("original", "sft"), *todo]
    for number, job in enumerate(todo, start=1):
        name = f"rows/{job.name}"
        record, before = ledger.measured(name, lambda: _do(job, out, size, base, device))  # noqa: B023
        found[job.name], how = record, " (done before)" if before else ""
        if "failed" in record and job.l1 is None:
            ledger.file(name).unlink()
            raise RememError(f"'{job.name}': {record['failed']}")
        write(found, out, size)
        told = record.get("failed") or ", ".join(
            f"{HEADS[name][:-2]} {record['numbers'][name]:.2f}"
            for name in NUMBERS
            if name in record["numbers"]
        )
        say(f"[{number}/{len(todo)}] {job.name}: {told}, {record['seconds']:.0f} s{how}")
    return found


def report(out: str | Path) -> Path:
    """The report of all models of a reproduction; returns its page."""
    from remem_tasks.render.text import write_report
    from remem_tasks.report.summary import report_of

    out = Path(out)
    made = report_of([str(out / "results")], gold="gold", start="original")
    return write_report(made, out / "report", "CLEAR at demo size")


# The table


def _cells(record: dict | None) -> list[str]:
    if record is None:
        return ["–"] * len(NUMBERS)
    if "failed" in record:
        return ["failed", *[""] * (len(NUMBERS) - 1)]
    numbers = record["numbers"]
    return [f"{numbers[name]:.2f}" if name in numbers else "–" for name in NUMBERS]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def findings(found: dict[str, dict], size: TableSize) -> list[str]:
    """What the table shows beside the published one, a sentence each, with its figures."""
    numbers = {name: record["numbers"] for name, record in found.items() if "numbers" in record}
    if not {"original", "gold"} <= set(numbers):
        return []
    start, gold = numbers["original"], numbers["gold"]
    plain = [method for method in METHODS if method in numbers]
    kept = [one for one in (l1_name(method, size.l1) for method in METHODS) if one in numbers]
    lines = [
        f"Original and gold differ in Forget by {start['forget'] - gold['forget']:.2f} (published .20) and in Retain by "
        f"{abs(start['retain'] - gold['retain']):.2f} (published .00)."
    ]
    if plain:
        broken = [name for name in plain if numbers[name]["retain"] < start["retain"] - NEAR]
        lower = [name for name in plain if numbers[name]["forget"] < start["forget"] - NEAR]
        lines.append(
            f"Without L1, {len(lower)} of {len(plain)} lower Forget by more than {NEAR:g} ({', '.join(lower) or 'none'}), and "
            f"{len(broken)} pay with more than {NEAR:g} of Retain ({', '.join(broken) or 'none'}); published: five and four "
            "(ga, grad_diff, kl, rmu lose all of it, idk nothing)."
        )
    if kept:
        held = [one for one in kept if abs(numbers[one]["retain"] - start["retain"]) <= NEAR]
        stuck = [one for one in kept if abs(numbers[one]["forget"] - start["forget"]) <= NEAR]
        lines.append(
            f"With L1 (λ = {size.l1:g}), Retain stays within {NEAR:g} of the original's for {len(held)} of {len(kept)} "
            f"(published: all), and so does Forget for {len(stuck)} of {len(kept)} (published: all): what L1 keeps, it keeps of "
            "the forget set too."
        )
    return lines


def write(found: dict[str, dict], out: Path, size: TableSize) -> None:
    """clear.json, clear.csv and clear.md of the models that are done."""
    write_json(out / "clear.json", found)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["model", "method", "l1", *NUMBERS, "failed", "seconds"])
    for name, record in found.items():
        numbers = record.get("numbers", {})
        cells = [numbers.get(number, "") for number in NUMBERS]
        job = record["job"]
        writer.writerow([name, job["method"], job["l1"], *cells, record.get("failed", ""), record["seconds"]])
    write_whole(out / "clear.csv", table.getvalue())
    head = ["model", *HEADS.values(), *(f"published {HEADS[name]}" for name in list(NUMBERS)[:4])]
    lines = ["# CLEAR, forget10, at demo size", "", _line(head), "|---" + "|---:" * (len(head) - 1) + "|"]

    def published(name: str) -> list[str]:
        return [f"{value:.2f}" for value in PUBLISHED[name]]

    for name in ("original", "gold", *METHODS):
        if name in found:
            lines.append(_line([name, *_cells(found[name]), *published(name)]))
    for method in METHODS:
        if (name := l1_name(method, size.l1)) in found:
            lines.append(_line([f"{method} + L1", *_cells(found[name]), *PUBLISHED_L1]))
    method, weights = size.sweep
    swept = [(weight, l1_name(method, weight)) for weight in sorted({0.0, size.l1, *weights})]
    if sum(name in found for _, name in swept) > 1:
        head = ["λ", *HEADS.values()]
        lines += ["", f"## λ sweep: {method}", "", _line(head), "|---:" * len(head) + "|"]
        lines += [_line([f"{weight:g}", *_cells(found[name])]) for weight, name in swept if name in found]
    lines += ["", *(f"* {sentence}" for sentence in findings(found, size))]
    seconds = sum(record["seconds"] for record in found.values())
    lines += ["", f"{len(found)} models, {seconds:.0f} s of training and scoring."]
    write_whole(out / "clear.md", "\n".join(lines) + "\n")
