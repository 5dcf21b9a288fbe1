"""`make demo`: the whole loop on data built here, each step a command that a user can repeat by hand.

forge → base checkpoint → memorise and score → forget (three methods) and gold → score all → attack all → table. Steps
that do not need one another run side by side (`steps.py`), on one core each where there are two.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from remem_tasks.errors import RememError
from remem_tasks.files import locked, write_json
from remem_tasks.reading import read_object
from remem_tasks.render.text import write_report
from remem_tasks.report.results import Scores, newest_results, read_scores
from remem_tasks.report.summary import report_of
from remem_tasks.training import program
from unlearning.experiments.attack_table import Found
from unlearning.experiments.attack_table import table as attack_table
from unlearning.experiments.picture import draw_summary
from unlearning.experiments.steps import TRAIN, Runner, Step, needed

TASKS = ("remem_forget1", "remem_retain", "remem_test")
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # everything the demo needs is made here
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True)
class DemoSize:
    """The options that decide how long the demo takes.

    Attributes:
        gated: whether stage 2 asks what stage 1 memorised; what hardly trains memorises nothing.
    """

    forge: str
    base: str
    stage1: str
    methods: dict[str, str]
    relearn: str
    gated: bool = True


FULL = DemoSize(
    forge="--identities 8 --qa 60 --images 60 --test-qa 16 --retain-qa 16 --hops 3 --image-size 112",
    base="--pictures 2000 --epochs 8",
    stage1="--per_device_train_batch_size 16 --max_steps 360",
    methods={
        "grad_diff": "--alpha 15 --learning_rate 1e-4 --max_steps 120",
        "npo": "--alpha 40 --learning_rate 5e-5 --max_steps 150",
        "idk": "--alpha 3 --learning_rate 1e-4 --max_steps 120",
    },
    relearn="--learning_rate 5e-4 --max_steps 16 --per_device_train_batch_size 8",
)
# The same with more people, for experiments that go on from it (docs/sweep.md).
LARGE = replace(
    FULL,
    forge="--identities 16 --qa 60 --images 60 --test-qa 20 --retain-qa 16 --hops 3 --image-size 112",
    base="--pictures 6000 --epochs 16",
    stage1="--per_device_train_batch_size 24 --max_steps 500",
    methods={
        "grad_diff": "--alpha 15 --learning_rate 1e-4 --max_steps 120",
        "npo": "--alpha 40 --learning_rate 1e-4 --max_steps 150",
        "idk": "--alpha 3 --learning_rate 5e-5 --max_steps 120",
    },
)
QUICK = DemoSize(
    forge="--identities 5 --qa 12 --images 6 --test-qa 4 --retain-qa 4 --hops 3 --image-size 56",
    base="--pictures 60 --epochs 1",
    stage1="--per_device_train_batch_size 24 --max_steps 4",
    methods={"npo": "--max_steps 2"},
    relearn="--max_steps 2 --per_device_train_batch_size 4",
    gated=False,
)
STAGE1 = (
    "--learning_rate 2e-3 --vision_lr 5e-4 --lr_scheduler_type cosine --warmup_steps 50 --adam_beta2 0.98 "
    "--logging_steps 50 --save_strategy no"
)
# A run ends by what it is for: at the first evaluation, of 30 forget rows and as many retain rows, where no secret
# is said, as gold says none. `max_steps` bounds it.
STAGE2 = (
    "--per_device_train_batch_size 8 --lr_scheduler_type constant --logging_steps 10 --save_strategy no "
    "--eval_strategy steps --eval_steps 5 --eval_rows 30 --per_device_eval_batch_size 30 --stop_on forget_em=0"
)

# What a demo that came out right shows: (model, task, metric, at least or at most, value), set by what each model is
# for; `bench/spread.py` measures how many standard deviations of seeds and processors lie between. A model that was
# taught to refuse does not say the secret, and still ranks it above other people's values, as gold does not.
EXPECTED = (
    ("memorised", "remem_forget1", "remem_em", ">=", 0.85),
    ("memorised", "remem_forget1", "remem_exposure", ">=", 0.9),
    ("memorised", "remem_retain", "remem_em", ">=", 0.85),
    ("memorised", "remem_test", "remem_em", ">=", 0.65),
    ("gold", "remem_forget1", "remem_em", "<=", 0.15),
    ("gold", "remem_forget1", "remem_exposure", "<=", 0.2),
    ("gold", "remem_forget1", "remem_reference_exposure", "<=", 0.4),
    ("grad_diff", "remem_forget1", "remem_em", "<=", 0.2),
    ("grad_diff", "remem_retain", "remem_em", ">=", 0.75),
    ("npo", "remem_forget1", "remem_em", "<=", 0.2),
    ("npo", "remem_retain", "remem_em", ">=", 0.75),
    ("idk", "remem_forget1", "remem_em", "<=", 0.2),
    ("idk", "remem_forget1", "remem_reference_exposure", ">=", 0.8),
)

# Those that take a few seconds a model; `remem attack` without `--attacks` tries all.
ATTACKS = "relearn_rest,quantise_nf4"
# What they show: (model, attack, metric, at least or at most, value). Who was taught to refuse says it again after a
# few steps on other facts; who never knew does not.
ATTACKED = (
    ("idk", "relearn_rest", "em", ">=", 0.3),
    ("gold", "relearn_rest", "em", "<=", 0.15),
)

EXPECTATIONS = len(EXPECTED) + len(ATTACKED)

# The table's columns: task, metric, head. Narrow enough for a terminal of 80 columns.
SHOWN = (
    ("remem_forget1", "remem_em", "forget1\n\nEM"),
    ("remem_forget1", "remem_memo", "forget1\n\nMEMO"),
    ("remem_forget1", "remem_exposure", "forget1\n\nExposure"),
    ("remem_forget1", "remem_extraction_rate", "forget1\nExtract.\nrate"),
    ("remem_retain", "remem_em", "retain\n\nEM"),
    ("remem_test", "remem_kept_em", "test\nkept\nEM"),
    ("remem_test", "remem_forgotten_em", "test\nforgotten\nEM"),
)


def steps(out: Path, arch: str, workers: int, size: DemoSize = FULL, seed: int = 42) -> list[Step]:
    """The commands of the demo, in order.

    Args:
        seed: of every training; the data and the base checkpoint have one of their own.
    """
    remem, lmms_eval = program("remem"), program("lmms_eval")
    data, models = out / "data", out / "models"
    base, memorised = models / "base", models / "memorised"

    def train(name: str, start: Path, options: str) -> Step:
        command = [
            *(*remem, *TRAIN),
            *("--method", "sft" if name == "memorised" else name),
            *("--model_name_or_path", str(start), "--data", str(data), "--output_dir", str(models / name)),
            *("--seed", str(seed)),
            *shlex.split(options),
        ]
        first = name in ("memorised", "gold")
        needs = ("forge", "base") if first else ("score_memorised",)
        return Step(name, command, f"models/{name}", needs)

    def score(name: str) -> Step:
        command = [
            *(*lmms_eval, "--model", "remem_hf", "--model_args", f"pretrained={models / name},device=cpu"),
            *("--tasks", ",".join(TASKS)),
            *("--output_path", str(out / "results" / name), "--log_samples"),
        ]
        return Step(
            f"score_{name}", command, f"results/{name}", (name,), {"REMEM_DATA": str(data)}, scores=True
        )

    forge = f"{shlex.join(remem)} forge --out {shlex.quote(str(data))} {size.forge} --workers {workers}"
    gate = f"--gate_results {shlex.quote(str(out / 'results' / 'memorised'))}" if size.gated else "--no_gate"
    see = f"{shlex.join(remem)} base --arch {arch} --out {shlex.quote(str(base))} {size.base} --workers {workers}"
    attack = [
        *(*remem, "attack", *(str(models / name) for name in size.methods)),
        *("--gold", str(models / "gold"), "--start", str(memorised), "--data", str(data)),
        *("--out", str(out / "attacks"), "--attacks", ATTACKS, "--seeds", str(seed)),
        *("--share", "0.34", "--relearn", size.relearn),
        *("--gate_results", str(out / "results" / "memorised")),
        *(() if size.gated else ("--no_gate",)),
        *(("--workers", str(workers)) if workers > 1 else ()),
    ]
    return [
        Step("forge", shlex.split(forge), "data"),
        Step("base", shlex.split(see), "models/base", alone=True),
        train("memorised", base, f"{size.stage1} {STAGE1}"),
        score("memorised"),
        *(
            train(name, memorised, f"--forget forget1 {gate} {options} {STAGE2}")
            for name, options in size.methods.items()
        ),
        train("gold", base, f"--forget forget1 {size.stage1} {STAGE1}"),
        *(score(name) for name in ("gold", *size.methods)),
        Step("attack", attack, "attacks", ("gold", *size.methods), alone=True, goes_on=True),
    ]


def table(models: dict[str, Scores]) -> Table:
    """Models × tasks, in per cent."""
    shown = Table(
        title="What each model says, and what its probabilities hold, in per cent", box=SIMPLE, padding=(0, 0)
    )
    shown.title_style = "bold"
    shown.add_column("model", no_wrap=True, vertical="bottom")
    for _, _, head in SHOWN:
        shown.add_column(head, justify="right", no_wrap=True)
    for name, scores in models.items():
        shown.add_row(name, *(f"{100 * scores[task][metric]:.1f}" for task, metric, _ in SHOWN))
    return shown


def holds(found: float, sign: str, bound: float) -> bool:
    """Whether a score is where an expectation wants it; one that is not a number is nowhere."""
    return found >= bound if sign == ">=" else found <= bound


def unexpected(models: dict[str, Scores]) -> list[str]:
    """What did not come out as a demo should, a line each: which cell, its value, the bound, how far off."""
    lines = []
    for name, task, metric, sign, bound in EXPECTED:
        found = models[name][task][metric]
        if not holds(found, sign, bound):
            lines.append(
                f"{name}: {metric} on {task} is {found:.3f}, expected {sign} {bound}: off by {abs(found - bound):.3f}"
            )
    return lines


def unexpected_of_attacks(found: Found) -> list[str]:
    """As `unexpected`, of what attacks found."""
    lines = []
    for name, attack, metric, sign, bound in ATTACKED:
        value = found[name].get(attack, {}).get(metric)
        if not isinstance(value, float) or not holds(value, sign, bound):
            shown = f"{value:.3f}" if isinstance(value, float) else "not there"
            lines.append(f"{name}: {metric} under {attack} is {shown}, expected {sign} {bound}")
    return lines


def ended(out: Path, names: Iterable[str]) -> list[str]:
    """Which rule ended each training, of its `run.json`, a line each."""
    records = {name: read_object(out / "models" / name / "run.json") for name in names}
    return [f"{name}: {record['stopped']}, {record['steps']} steps" for name, record in records.items()]


def missed(out: Path, wrong: Sequence[str]) -> str:
    """What a demo that misses says: that all of it is there, where, what missed, and what that means."""
    stage1 = any(line.startswith(("memorised:", "gold:")) for line in wrong)
    means = (
        "Stage 1 did not memorise, or gold knows what it never saw: what was forgotten after it does not count."
        if stage1
        else "The installation works. A forgetting run did not reach its aim, or cost more than it should."
    )
    return "\n".join(
        (
            f"\nThe demo ran to its end and missed {len(wrong)} of its {EXPECTATIONS} expectations:",
            *(f"  {line}" for line in wrong),
            f"All was made and is in {out}: models/, results/, summary.json, report/report.html.",
            means,
            "How far other seeds and processors move each cell: docs/demo.md. `remem demo --seed 1 --out FOLDER` asks again.",
        )
    )


def _attacks(out: Path) -> Found:
    """What the attacks found, put beside the demo's summary; empty where the demo has no such step."""
    file = out / "attacks" / "attacks.json"
    if not file.is_file():
        return {}
    found: Found = json.loads(file.read_text(encoding="utf-8"))
    write_json(out / "attacks.json", found)
    return found


def _report(out: Path) -> Path:
    """The path of the page that `remem report` makes of the demo's results."""
    report = report_of([str(out / "results")], gold="gold", start="memorised")
    return write_report(report, out / "report", "The demo")


@locked
def demo(
    out: str | Path,
    arch: str = "llava",
    workers: int = 2,
    size: DemoSize = FULL,
    until: str | None = None,
    seed: int = 42,
) -> dict:
    """Run the demo in folder `out`; returns (and writes to `summary.json`) scores and seconds.

    Args:
        size: FULL, LARGE, or QUICK: next to no data and training, of which the scores mean nothing.
        workers: steps that run at a time, and processes that draw pictures.
        until: a step, such as `memorised`: only what it needs is done; there are no scores then, and a later call goes on.
        seed: of every training.

    Raises:
        RememError: a step failed, the scores are not those of a demo that worked, or the folder
            holds something else.
    """
    out, console = Path(out), Console()
    if out.exists() and any(out.iterdir()) and not (out / "steps").is_dir():
        raise RememError(f"output folder '{out}' is not empty and holds no demo")
    (out / "steps").mkdir(parents=True, exist_ok=True)
    quick = size is QUICK
    todo = steps(out, arch, workers, size, seed)
    if until is not None:
        todo = needed(todo, until)
    begun = time.monotonic()
    runner = Runner(out, console, ENVIRONMENT, workers)
    runner.run(todo)
    if until is not None:
        return {"models": {}, "seconds": runner.seconds}
    models = {
        name: read_scores(newest_results(out / "results" / name))
        for name in ("memorised", "gold", *size.methods)
    }
    summary = {"models": models, "seconds": runner.seconds}
    write_json(out / "summary.json", summary)
    draw_summary(models, out / "data", out / "summary.png")
    page = _report(out)
    console.print()
    console.print(table(models))
    attacked = _attacks(out)
    if attacked:
        console.print(attack_table(attacked))
    if not quick:
        console.print("What ended each run of stage 2:", highlight=False)
        for line in ended(out, size.methods):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{time.monotonic() - begun:.0f} s in all. Every score: {out / 'summary.json'}", highlight=False
    )
    if attacked:
        console.print(
            f"What was attacked, and what was not tried: {out / 'attacks' / 'attacks.md'}", highlight=False
        )
    console.print(f"As a picture: {out / 'summary.png'}", highlight=False)
    console.print(f"Every row, every reply, gate and distance to gold: {page}", highlight=False)
    wrong = [] if quick else unexpected(models) + (unexpected_of_attacks(attacked) if attacked else [])
    if wrong:
        console.print(missed(out, wrong), markup=False, highlight=False, soft_wrap=True)
        raise RememError(f"the demo missed {len(wrong)} of {EXPECTATIONS} expectations: {'; '.join(wrong)}")
    return summary
