"""The scale study: how many questions, which share of single hops, how many pictures does knowledge take?

For each cell of QA per identity × single-hop ratio × pictures per identity: forge, memorise, score. All cells
are asked the same questions (split `test` of one data set about the same people, with all hops), so that a
model that saw single hops only is asked the others too. A cell that is done is not done again.
"""

from __future__ import annotations

import csv
import io
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from remem_tasks.benchmarks.remem.forge import ForgeOptions, forge
from remem_tasks.errors import RememError
from remem_tasks.files import locked, write_whole
from remem_tasks.processes import run
from remem_tasks.report.diagnose import asked_of, curse, shares_by
from remem_tasks.report.runs import read_runs
from unlearning.experiments.crossed import score_once
from unlearning.experiments.handing_out import HERE, Engine, hand_out
from unlearning.experiments.ledger import Ledger

SEEN = 56  # side in pixels of the pictures that the tiny base sees
ASKED_RATIO = 0.4  # single hops among the questions that every cell is asked
TRAINING = (
    "--per_device_train_batch_size 24 --learning_rate 2e-3 --vision_lr 5e-4 --lr_scheduler_type cosine "
    "--warmup_steps 30 --adam_beta2 0.98 --logging_steps 50 --save_strategy no"
)


@dataclass(frozen=True)
class ScaleStudy:
    """What the study varies (tuples), and what all cells share.

    Attributes:
        steps: of training, the same for all cells, so that none sees more.
        base: a checkpoint to start from; None makes a tiny one in the study's folder.
    """

    qa: tuple[int, ...] = (20, 60)
    ratios: tuple[float, ...] = (0.4, 0.7, 1.0)
    images: tuple[int, ...] = (5, 20)
    identities: int = 8
    hops: int = 3
    test_qa: int = 40
    image_size: int = 112
    steps: int = 250
    seed: int = 0
    base: str | None = None
    base_pictures: int = 6000
    base_epochs: float = 16
    arch: str = "llava"
    device: str = "cpu"
    training: str = TRAINING

    def check(self) -> None:
        """Raise a RememError that names what is out of range."""
        for name in ("qa", "ratios", "images"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise RememError(f"--{name} needs different values, not {list(values)}")
        if self.steps < 1:
            raise RememError(f"--steps {self.steps} is out of range: at least 1")
        for qa, ratio, images in self.cells():
            self.knobs(qa, ratio, images).check()
        if not self.cells():
            raise RememError("no cell: each number of --images is above each number of --qa")

    def cells(self) -> list[tuple[int, float, int]]:
        """(qa, ratio, images); more pictures than questions cannot be shown, so such cells are left out."""
        return [cell for cell in product(self.qa, self.ratios, self.images) if cell[2] <= cell[0]]

    def knobs(self, qa: int, ratio: float, images: int) -> ForgeOptions:
        return ForgeOptions(
            identities=self.identities,
            qa=qa,
            images=images,
            test_qa=self.test_qa,
            retain_qa=1,
            single_hop_ratio=ratio,
            hops=self.hops,
            image_size=self.image_size,
            seed=self.seed,
        )

    def shared(self) -> dict:
        """What a cell depends on beside its own three numbers."""
        values = asdict(self)
        for name in ("qa", "ratios", "images"):
            del values[name]
        return values


def cell_name(qa: int, ratio: float, images: int) -> str:
    return f"qa{qa}_single{ratio:g}_pictures{images}"


def train(base: Path, data: Path, out: Path, scale: ScaleStudy) -> None:
    """Memorise: `unlearning/train.py --method sft` with the study's options."""
    script = Path(__file__).parent.parent / "train.py"
    command = [sys.executable, str(script), "--method", "sft", "--model_name_or_path", str(base)]
    command += ["--data", str(data), "--output_dir", str(out), "--max_steps", str(scale.steps)]
    command += ["--seed", str(42 + scale.seed), *shlex.split(scale.training)]
    if scale.device == "cpu":
        command += ["--use_cpu", "true"]
    shutil.rmtree(out, ignore_errors=True)  # what a stopped call left
    log = out.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        status = run(command, os.environ, file)
    if status:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise RememError(f"training '{out.name}' ended with status {status}: {lines[-1] if lines else ''}")


def asked_knobs(scale: ScaleStudy) -> ForgeOptions:
    """The data whose split `test` every cell is asked: all hops, and facts enough."""
    return ForgeOptions(
        identities=scale.identities,
        qa=max(60, scale.test_qa),
        images=1,
        test_qa=scale.test_qa,
        retain_qa=1,
        single_hop_ratio=ASKED_RATIO,
        hops=scale.hops,
        image_size=scale.image_size,
        seed=scale.seed,
    )


def measure(cell: tuple[int, float, int], scale: ScaleStudy, out: Path, base: Path, asked: Path) -> dict:
    """Forge, memorise and score one cell in its folder; returns EM by hop and the curse."""
    folder = out / "cells" / cell_name(*cell)
    started = time.time()
    data = folder / "data"
    forge(data, scale.knobs(*cell))
    train(base, data, folder / "model", scale)
    score_once(str(folder / "model"), str(asked), ("remem_test",), folder / "asked", scale.device)
    score_once(str(folder / "model"), str(data), ("remem_finetune",), folder / "trained", scale.device)
    shutil.rmtree(data)  # it can be forged again, byte for byte
    return {**counted(cell, folder), "seconds": round(time.time() - started, 1)}


def counted(cell: tuple[int, float, int], folder: Path) -> dict:
    """What the scores of a cell say.

    `em` is over all that was asked, `taught` over what training asked too in some words and some depth: few
    questions leave facts out, and what was never told is no failure to memorise.
    """
    (new,) = read_runs([f"asked={folder / 'asked'}"])
    (old,) = read_runs([f"trained={folder / 'trained'}"])
    test = asked_of(new, lambda split: split == "test")
    known = asked_of(old, lambda split: split == "finetune")
    facts = {one.fact for one in known}

    def by_hop(rows) -> dict[str, dict]:
        return {one.name: one.record() for one in shares_by(rows, lambda one: one.row.hop)}

    return {
        **dict(zip(("qa", "ratio", "images"), cell)),
        "em": by_hop(test),
        "taught": by_hop([one for one in test if one.fact in facts]),
        "trained_em": by_hop(known),
        "given": {both[0].name.removesuffix("-hop"): both[1].record() for both in curse(test)},
    }


@locked
def study(
    scale: ScaleStudy,
    out: str | Path,
    say: Callable[[str], None] = print,
    keep_models: bool = False,
    engine: Engine = HERE,
) -> list[dict]:
    """Run the study in folder `out`, or go on with it; writes scale.csv, scale.md and scale.png.

    Args:
        engine: who measures the cells.

    Raises:
        RememError: a number out of range, or a folder that holds another study.
    """
    scale.check()
    out = Path(out)
    ledger = Ledger(out, "study", scale.shared())
    base, asked = Path(scale.base or out / "base"), out / "asked"
    forge(asked, asked_knobs(scale))
    if scale.base is None and not base.is_dir():
        from remem_tasks.tiny.pretrain import make_base

        say("base: a tiny checkpoint that can see")
        make_base(
            base,
            scale.arch,
            pictures=scale.base_pictures,
            epochs=scale.base_epochs,
            image_size=SEEN,
            seed=scale.seed,
            workers=1,
        )
    cells = scale.cells()
    here = [Path(os.path.abspath(place)) for place in (out, base, asked)]
    made = hand_out(
        engine,
        "unlearning.experiments.scale:measure",
        {f"cells/{cell_name(*cell)}/cell": (cell, scale, *here) for cell in cells},
        ledger,
        say,
    )
    results = []
    for number, cell in enumerate(cells, start=1):
        name = f"cells/{cell_name(*cell)}/cell"
        result, before = ledger.measured(name, lambda: measure(cell, scale, out, base, asked))  # noqa: B023
        before = before and name not in made
        if not before and not keep_models:
            shutil.rmtree(ledger.file(name).parent / "model", ignore_errors=True)
        results.append(result)
        em = ", ".join(f"{hop}-hop {one['value']:.2f}" for hop, one in results[-1]["em"].items())
        how = "done before" if before else f"{results[-1]['seconds']:.0f} s"
        say(f"[{number}/{len(cells)}] {cell_name(*cell)}: EM {em} ({how})")
        write(results, out)
    return results


def _lines(results: Sequence[dict]) -> Iterator[list]:
    for one in results:
        for hop, em in one["em"].items():
            given = one["given"].get(hop)
            trained = one["trained_em"].get(hop)
            taught = one["taught"].get(hop)
            yield [
                one["qa"],
                one["ratio"],
                one["images"],
                int(hop),
                round(em["value"], 4),
                round(em["low"], 4),
                round(em["high"], 4),
                em["rows"],
                "" if taught is None else round(taught["value"], 4),
                taught["rows"] if taught else "",
                "" if not given or given["value"] is None else round(given["value"], 4),
                given["rows"] if given else "",
                "" if trained is None else round(trained["value"], 4),
            ]


COLUMNS = [
    "qa",
    "single_hop_ratio",
    "images",
    "hop",
    "em",
    "low",
    "high",
    "rows",
    "em_of_taught",
    "taught_rows",
    "em_given_single_hops",
    "given_rows",
    "trained_em",
]


def write(results: Sequence[dict], out: Path) -> None:
    """scale.csv, scale.md, scale.png of what is done so far."""
    from remem_tasks.render.figures import draw_scale

    lines = list(_lines(results))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(lines)
    write_whole(out / "scale.csv", table.getvalue())
    told = ["# Scale study: EM by hop on new pictures and words", "", "![EM by hop](scale.png)", ""]
    told += ["| " + " | ".join(COLUMNS) + " |", "|---:" * len(COLUMNS) + "|"]
    told += ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    write_whole(out / "scale.md", "\n".join(told) + "\n")
    draw_scale(results, out / "scale.png")
