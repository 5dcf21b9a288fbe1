"""Data of the other benchmarks, in their published schemas: scoring and `remem data check` say the same of a damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from frame import End, Fault, World

from remem_tasks.benchmarks.registry import data_of, part_of

KNOBS = Path(__file__).parents[1] / "benchmarks"
_made: dict[str, Path] = {}
_right: dict[str, object] = {}

# A benchmark's sets: the task, its file, and the cells of a row that the task asks or scores by.
CHOICES = ("Classification_Task", "Image_Textual_Questions"), ("Classification_Task", "Pure_Text_Questions")
SETS: tuple[tuple[str, str, str, tuple[tuple, ...]], ...] = (
    ("clear", "clear_forget05", "forget05/train-00000-of-00001.parquet", (("caption",), ("name",))),
    (
        "clear", "clear_forget05_perturbed", "forget05_perturbed/train-00000-of-00001.parquet",
        (("paraphrased_caption",), ("perturbed_names",), ("perturbed_captions",), ("perturbed_names", 0)),
    ),
    ("clear", "clear_real_world", "real_world/train-00000-of-00001.parquet", (("question",), ("answer",), ("options",))),
    (
        "mllmu", "mllmu_forget_10", "forget_10/train-00000-of-00001.parquet",
        (
            ("ID",), *CHOICES, *((*part, 0) for part in CHOICES), *((*part, 0, "Question") for part in CHOICES),
            *((*part, 0, "Correct_Answer") for part in CHOICES), (*CHOICES[0], 0, "Options", "B"),
            ("Generation_Task",), ("Generation_Task", 0), ("Generation_Task", 0, "Type"), ("Generation_Task", 0, "Ground_Truth"),
            ("Mask_Task",), ("Mask_Task", 0), ("Mask_Task", 0, "Question"), ("Mask_Task", 0, "Ground_Truth"),
        ),
    ),
    ("umu", "umu_forget_10", "forget_10/train-00000-of-00001.parquet", (("ID",), ("Classify",), ("Cloze",), ("Generation",))),
    (
        "fiubench", "fiubench_full", "full.json",
        (("unique_id",), ("qa_list",), ("qa_list", 0, "question"), ("qa_list", 0, "answer"), ("qa_list", 0, "keywords")),
    ),
    ("offside", "offside_forget", "forget_set.json", (("messages",), ("messages", 0, "content"), ("messages", 1), ("images",))),
    (
        "offside", "offside_forget_choice", "classification_forget_set.json",
        (("Question",), ("Options",), ("Options", "B"), ("Correct_Answer",), ("images",)),
    ),
    (
        "mlubench", "mlubench_forget_a", "Tasks/TaskA/taskA_forget.json",
        (("conversations",), ("conversations", 0), ("conversations", 0, "value"), ("conversations", 1, "value"), ("image",)),
    ),
    ("unlok", "unlok_full", "zsre_mend_eval.json", (("id",), ("src",), ("pred",), ("loc",), ("rephrase", 0), ("image_id",))),
    (
        "safeeraser", "safeeraser_forget", "dataset/all_train.json",
        (("image_path",), ("unsafe_pairs",), ("unsafe_pairs", 0), ("unsafe_pairs", 0, "question"), ("unsafe_pairs", 0, "model_response")),
    ),
    (
        "vlmunbench", "vlmunbench_forget", "train_forget.jsonl",
        (("question",), ("choices",), ("choices", 0), ("answer_index",), ("meta",), ("concept_axis",), ("image",)),
    ),
    ("pebench", "pebench_forget_people", "data/train-00000-of-00001.parquet", (("label",), ("event",), ("image",))),
)  # fmt: skip
CELLS = {"null": None, "empty": "", "invisible": "\u3164\u200b"}


def made(world: World, name: str) -> Path:
    """A benchmark's generated data; made once."""
    if name not in _made:
        folder = world.sound.with_name(f"data-of-{name}")
        forge = part_of(name, "forge")
        forge.forge(folder, forge.ForgeOptions(**yaml.safe_load((KNOBS / name / "forge.yaml").read_text())))
        _made[name] = folder
    return _made[name]


def asked(world: World, name: str, task: str, folder: Path, right: object = None) -> End:
    world.monkeypatch.setenv(data_of(name).HOME.variable, str(folder))
    return world.score(data=folder, tasks=task, right=right if right is not None else {})


def judged(world: World, name: str, task: str, folder: Path) -> End:
    """How scoring ends; what scoring refuses and `data check` passes over is no allowed end."""
    if task not in _right:
        sound = asked(world, name, task, made(world, name))
        assert sound.status in (0, 3) and sound.numbers, sound.err
        _right[task] = sound.numbers
    end = asked(world, name, task, folder, _right[task])
    if end.status == 3:  # (the small model says the same of so few rows)
        end = End(0, end.out, "", end.numbers, end.right)
    checked = world.remem("data", "check", folder)
    if end.status and not checked.status:
        return End(0, end.out, f"{end.err}\nscoring refuses it, and check finds nothing: {checked.out}", 0, 1)
    return end


def edited(file: str, change: Callable[[list], None]) -> Callable[[Path], None]:
    """The rows of a parquet or JSON file, changed in place."""

    def apply(folder: Path) -> None:
        path = folder / file
        if path.suffix == ".json":
            rows = json.loads(path.read_text())
            change(rows)
            path.write_text(json.dumps(rows))
            return
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            change(rows)
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            return
        table = pq.read_table(path)
        rows = table.to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)

    return apply


def put(cell: Sequence, value: object) -> Callable[[list], None]:
    def change(rows: list) -> None:
        *above, last = cell
        part = rows[-1]
        for one in above:
            part = part[one]
        part[last] = value

    return change


def damaged(name: str, task: str, told: str, change: Callable[[Path], object], says: str = "") -> Fault:
    def act(world: World) -> End:
        folder = Path(shutil.copytree(made(world, name), world.folder / "damaged"))
        change(folder)
        return judged(world, name, task, folder)

    return Fault("benchmarks", f"{task}: {told}", act, says)


def _cells() -> list[Fault]:
    faults = []
    for name, task, file, cells in SETS:
        for cell in cells:
            text = file.endswith(".json") or cell[-1] not in (
                "perturbed_names",
                "perturbed_captions",
                "options",
                "image",
            )
            whole = (
                cell[-1] in ("Image_Textual_Questions", "Pure_Text_Questions", "Generation_Task", "Mask_Task")
                or cell[-1] == 0
            )
            values = CELLS if text and not (whole and file.endswith(".parquet")) else {"null": None}
            if name == "pebench" and cell == ("label",):
                values = {"null": None, "a number without a name": 999}
            if name == "clear" and cell == ("perturbed_names", 0):
                values = CELLS
            told = ".".join(map(str, cell))
            faults += [
                damaged(name, task, f"{told} is {kind}", edited(file, put(cell, value)))
                for kind, value in values.items()
            ]
    return faults  # fmt: skip


def _files() -> list[Fault]:
    faults = []
    for name, task, file, _ in SETS:
        whole: dict[str, Callable[[Path], object]] = {
            "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            "empty": lambda path: path.write_bytes(b""),
            "no table": lambda path: path.write_bytes(bytes(range(256))),
        }
        if file.endswith(".json"):
            whole["without records"] = lambda path: path.write_text("[]")
        for told, change in whole.items():
            faults.append(
                damaged(name, task, f"its file is {told}", lambda folder, f=file, c=change: c(folder / f))
            )
    return faults


FAULTS = [
    *_cells(),
    *_files(),
    damaged("offside", "offside_forget", "a record twice", edited("forget_set.json", lambda rows: rows.append(rows[-1]))),
    damaged("mlubench", "mlubench_forget_a", "a record twice",
            edited("Tasks/TaskA/taskA_forget.json", lambda rows: rows.append(rows[-1]))),
    damaged("mllmu", "mllmu_forget_10", "a person twice",
            edited("forget_10/train-00000-of-00001.parquet", lambda rows: rows.append(rows[-1]))),
    damaged("umu", "umu_forget_10", "a person twice",
            edited("forget_10/train-00000-of-00001.parquet", lambda rows: rows.append(rows[-1]))),
]  # fmt: skip
