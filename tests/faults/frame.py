"""The frame of the fault campaign: something damaged, a command on it, and one of three allowed ends.

1. right: status 0 and the numbers of the same command on the undamaged input;
2. one line: a status other than 0 and one line that says what is wrong, without a traceback;
3. counted: status 0, other numbers, and a figure or sentence that says so (`Fault.counted`).

Anything else fails: a wrong number with status 0, a traceback, a status without a line.

A kind of faults is a module `faults_<kind>.py` beside this one, with a list `FAULTS`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from support.rows import people_splits, write_parquet
from support.tasks_alone import own_tasks_alone

ENDS = ("right", "one line", "counted")
ERROR = re.compile(r"^(lmms_eval|remem [a-z]+|unlearning): (error: .+|interrupted|terminated)$", re.MULTILINE)
tally: dict[str, Counter] = defaultdict(Counter)
"""How the faults of each kind ended, for the table at the end of a run."""
seconds: Counter = Counter()
"""How long the faults of each kind took."""
examples: Counter = Counter()
"""How many files, rows and settings changed at random were tried, by what they are."""


@dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
        status: its exit status.
        out, err: what it printed.
        numbers: what it measured, to be compared; None where it came to none.
        right: the numbers of the same command on what is not damaged; None: no end with status 0 is right.
    """

    status: int
    out: str
    err: str
    numbers: Any = None
    right: Any = None


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        kind: what is damaged, such as `weights`.
        name: the damage, in a few words; with the kind it names the test.
        act: damages a copy in the world and runs a command on it.
        says: what the one line has to name (a regular expression); "" : anything.
        counted: what an allowed end with other numbers has to print (a regular expression); None: there is none.
        slow: whether it starts processes or takes more than a few seconds.
    """

    kind: str
    name: str
    act: Callable[[World], End]
    says: str = ""
    counted: str | None = None
    slow: bool = False


def judge(fault: Fault, end: End) -> str:
    """Which of the allowed ENDS it is; an AssertionError for any other."""
    said = f"{end.out[-1500:]}\n{end.err[-3000:]}"
    assert "Traceback (most recent call last)" not in end.out + end.err, f"a traceback:\n{said}"
    if end.status:
        lines = [match.group(0) for match in ERROR.finditer(end.err)]
        assert len(lines) == 1, f"status {end.status} with {len(lines)} lines that say why:\n{said}"
        assert re.search(fault.says, lines[0]), f"the line does not name it ({fault.says}):\n{lines[0]}"
        assert len(lines[0]) < 1000, f"a line of {len(lines[0])} characters: {lines[0][:200]}"
        return "one line"
    if end.right is not None and end.numbers == end.right:
        return "right"
    assert fault.counted and re.search(fault.counted, end.out + end.err), (
        f"SILENT: status 0, other numbers\n{said}"
    )
    return "counted"


class World:
    """What a fault needs: sound inputs to damage copies of, and the commands.

    Attributes:
        folder: an empty folder of its own.
    """

    def __init__(self, folder: Path, sound: Path, data_dir: Path, monkeypatch, capfd, known: dict) -> None:
        self.folder, self.sound, self.data_dir = folder, sound, data_dir
        self.monkeypatch, self._capfd, self._known = monkeypatch, capfd, known
        monkeypatch.setenv("REMEM_ROLLOUTS", "4")

    # Inputs to damage

    def checkpoint(self, change: Callable[[Path], Any] | None = None, name: str = "model") -> Path:
        """A copy of the sound checkpoint, after `change(folder)`."""
        folder = Path(shutil.copytree(self.sound, self.folder / name))
        if change:
            change(folder)
        return folder

    def data(self, change: Callable[[dict[str, list[dict]]], Any], name: str = "data") -> Path:
        """A copy of the small data set, after `change({split: rows})` in place."""
        splits = people_splits()
        change(splits)
        write_parquet(self.folder / name, splits)
        return self.folder / name

    # Commands

    def call(self, main: Callable[[], Any], *argv: str) -> End:
        """A command in this process: status and what it printed."""
        self.monkeypatch.setattr(sys, "argv", list(map(str, argv)))
        self._capfd.readouterr()
        try:
            status = main()
        except SystemExit as leaving:
            status = leaving.code
        said = self._capfd.readouterr()
        if isinstance(status, str):
            return End(1, said.out, f"{said.err}\n{status}")
        return End(int(status or 0), said.out, said.err)

    def remem(self, *argv) -> End:
        """`remem …`."""
        from remem_tasks import cli

        return self.call(cli.main, "remem", *argv)

    def train(self, *argv) -> End:
        """`python -m unlearning.train …`, two steps unless said otherwise."""
        from unlearning import train

        short = ("--max_steps", "2", "--per_device_train_batch_size", "2", "--disable_tqdm", "true")
        return self.call(train.main, "train.py", *short, *argv)

    def score(
        self,
        model: Path | None = None,
        data: Path | None = None,
        *,
        tasks: str = "remem_forget1",
        args: str = "",
        out: Path | None = None,
        right: Any = None,
    ) -> End:
        """`lmms_eval --model remem_hf …` on a checkpoint and rows; `right` is what the sound ones give.

        Args:
            args: more `--model_args`.
            out: the output folder; default: a new one.
            right: the right numbers; default: those of the same call on sound inputs.
        """
        key = (tasks, "batch_size=2" in args)
        if right is None and key not in self._known:
            batches = "batch_size=2" if key[1] else ""
            sound = self._score(self.sound, self.data_dir, tasks, batches, None)
            assert sound.status == 0 and sound.numbers, sound.err
            self._known[key] = sound.numbers
        end = self._score(model or self.sound, data or self.data_dir, tasks, args, out)
        right = self._known[key] if right is None else right
        return End(end.status, end.out, end.err, end.numbers, right)

    def _score(self, model: Path, data: Path, tasks: str, args: str, out: Path | None) -> End:
        from remem_tasks.harness import command

        out = out or self.folder / f"scores-{len(list(self.folder.glob('scores-*')))}"
        self.monkeypatch.setenv("REMEM_DATA", str(data))
        line = ["--model", "remem_hf", "--model_args", f"pretrained={model},device=cpu,{args}".rstrip(",")]
        line += ["--tasks", tasks, "--output_path", out, "--log_samples", "--gen_kwargs", "max_new_tokens=8"]
        with own_tasks_alone():
            end = self.call(command.run_lmms_eval, "lmms_eval", *line)
        return End(end.status, end.out, end.err, numbers_of(out))


def numbers_of(out: Path) -> dict[str, Any] | None:
    """What a scoring run wrote: every figure of its tasks, and every row's reply and scores."""
    try:
        files = sorted(out.rglob("*_results.json"))
    except OSError:  # a name that no folder can have
        return None
    if not files:
        return None
    found: dict[str, Any] = {}
    for task, scores in json.loads(files[-1].read_text())["results"].items():
        found[task] = {name: value for name, value in scores.items() if isinstance(value, (int, float))}
    for file in sorted(out.rglob("*_samples_*.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.name.partition("_samples_")[2]] = sorted(
            json.dumps(
                {
                    name: row[name]
                    for name in row
                    if name.startswith(("doc_id", "filtered", "remem", "target"))
                }
            )
            for row in rows
        )
    return found


# Damages that several kinds share


def edit_json(file: str, **changes) -> Callable[[Path], None]:
    """Sets keys of a JSON file in a folder; `a__b` is key b of a; None removes."""

    def change(folder: Path) -> None:
        path = folder / file
        whole = json.loads(path.read_text())
        for name, value in changes.items():
            *above, last = name.split("__")
            part = whole
            for one in above:
                part = part[one]
            if value is None:
                part.pop(last)
            else:
                part[last] = value
        path.write_text(json.dumps(whole))

    return change


def edit_weights(change: Callable[[dict], Any], file: str = "model.safetensors") -> Callable[[Path], None]:
    """Changes the tensors of a safetensors file of a folder, in place."""

    def apply(folder: Path) -> None:
        weights = {name: value.clone() for name, value in load_file(folder / file).items()}
        change(weights)
        save_file(weights, folder / file, metadata={"format": "pt"})

    return apply


def cut(file: str, share: float = 0.5) -> Callable[[Path], None]:
    """Leaves the first bytes of a file alone."""

    def apply(folder: Path) -> None:
        raw = (folder / file).read_bytes()
        (folder / file).write_bytes(raw[: int(len(raw) * share)])

    return apply


def overwrite(file: str, content: bytes | str) -> Callable[[Path], None]:
    """Puts other content into a file of a folder."""

    def apply(folder: Path) -> None:
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return apply


def remove(file: str) -> Callable[[Path], None]:
    """Removes a file of a folder."""
    return lambda folder: (folder / file).unlink()
