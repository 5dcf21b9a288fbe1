"""Evaluation during training: exact match and NLL of forget and retain rows, their course, rules that end a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel

from remem_tasks.data.rows import parse_keywords
from remem_tasks.errors import RememError
from remem_tasks.files import replaced, write_json
from remem_tasks.metrics import exact_match
from unlearning.data import Encoder, Example, Examples, stack
from unlearning.forward import Forward
from unlearning.generation import generate

FILE = "trajectory.json"
PLOT = "trajectory.png"
FIGURES = ("forget_em", "forget_nll", "retain_em", "retain_nll")
ROOM = 16  # tokens that a reply may be longer than the longest answer of its set


@dataclass(frozen=True)
class StopRule:
    """Ends a run at the first evaluation where a figure of the forget rows has reached a value.

    Attributes:
        figure: `forget_nll` (reached from below) or `forget_em` (reached from above).
        value: the gold model's level, in nats per token or as a share of the rows.
    """

    figure: str
    value: float

    @classmethod
    def parse(cls, text: str) -> StopRule:
        """`forget_nll=2.1` or `forget_em=.05`.

        Raises:
            RememError: it is neither.
        """
        figure, _, value = text.partition("=")
        try:
            rule = cls(figure.strip(), float(value))
        except ValueError:
            rule = cls("", 0.0)
        if rule.figure not in ("forget_nll", "forget_em") or not 0 <= rule.value < float("inf"):
            raise RememError(f"--stop_on '{text}': write forget_nll=<nats per token> or forget_em=<share>")
        return rule

    def reached(self, found: float) -> bool:
        return found >= self.value if self.figure == "forget_nll" else found <= self.value

    def __str__(self) -> str:
        return f"{self.figure} {'≥' if self.figure == 'forget_nll' else '≤'} {self.value:g}"


def prompts(examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Prompts without their answers, padded on the left, as `generate` takes them."""
    longest = max(example.prompt["input_ids"].shape[1] for example in examples)
    batch = {}
    for name in dict.fromkeys(name for example in examples for name in example.prompt):
        there = [row for row, example in enumerate(examples) if name in example.prompt]
        values = [examples[row].prompt[name] for row in there]
        a_token = all(
            value.ndim == 2 and value.shape == examples[row].prompt["input_ids"].shape
            for row, value in zip(there, values)
        )
        if a_token:
            fill = pad_token_id if name == "input_ids" else 0
            batch[name] = values[0].new_full((len(examples), longest), fill)
            for row, value in zip(there, values):
                batch[name][row, longest - value.shape[1] :] = value[0]
        else:
            batch[name] = stack(values)
    return batch


@torch.no_grad()
def figures(
    forward: Forward, examples: Examples, accelerator: Accelerator, size: int, replies: bool = True
) -> dict[str, float]:
    """Mean NLL of an answer token (nats) and the share of greedy replies that hold all keywords.

    Rows are shared out among the processes, each of which makes the same number of forwards (a sharded model
    waits for all of them); each gets the figures of all rows.

    Args:
        forward: of the model as it trains, wrapped or not.
        size: rows in a forward.
        replies: False leaves out `em`, the expensive part.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    keywords = examples.rows["keywords"][:]
    total = torch.zeros(4, dtype=torch.float64)  # nats, tokens, right replies, rows
    # A process that has no row left takes the first one again, and does not count it.
    for some in shares(len(examples), world, size)[rank]:
        batch = [examples.example(index) for index in some or [0]]
        found = forward(batch)
        if not some:
            continue
        total[0] += float(found.sequence_nll.double().sum())
        total[1] += int(found.mask.sum())
        total[3] += len(some)
        if replies:
            said = greedy(forward, examples.encoder, batch, longest(examples) + ROOM)
            total[2] += sum(
                exact_match(reply, parse_keywords(keywords[index])) for index, reply in zip(some, said)
            )
    # (In single precision where a device has no other.)
    device = accelerator.device
    total = total.to(device, torch.float32 if device.type == "mps" else torch.float64)
    nats, tokens, right, rows = accelerator.reduce(total, reduction="sum").tolist()
    return {"nll": nats / tokens, **({"em": right / rows} if replies else {})}


def shares(rows: int, world: int, size: int) -> list[list[list[int]]]:
    """By process, its batches of row numbers; all processes have the same number of batches, some may be empty."""
    mine = [list(range(rows))[rank::world] for rank in range(world)]
    batches = -(-len(mine[0]) // size)
    return [[some[start * size : (start + 1) * size] for start in range(batches)] for some in mine]


def longest(examples: Examples) -> int:
    """Tokens of the longest answer of a set."""
    tokenizer = examples.encoder.tokenizer
    return max(
        len(ids) for ids in tokenizer(examples.rows["answer"][:], add_special_tokens=False)["input_ids"]
    )


def greedy(forward: Forward, encoder: Encoder, batch: Sequence[Example], length: int) -> list[str]:
    """Greedy replies of at most `length` tokens."""
    tokenizer, pad = encoder.tokenizer, forward.collate.pad_token_id
    inputs = forward.prepare(prompts(batch, pad))
    with forward.context():
        model = extract_model_from_parallel(forward.model)
        out = generate(model, encoder.processor, inputs, max_new_tokens=length, ends=encoder.stop_ids)
    return tokenizer.batch_decode(out, skip_special_tokens=True)


def trajectory(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The figures of each evaluation in a trainer's log, one entry per step."""
    found: dict[int, dict[str, float]] = {}
    for entry in history:
        for name in FIGURES:
            if f"eval_{name}" in entry:
                point = found.setdefault(
                    entry["step"], {"step": entry["step"], "epoch": entry.get("epoch", 0.0)}
                )
                point[name] = entry[f"eval_{name}"]
    return [found[step] for step in sorted(found)]


def write(folder: str | Path, points: Sequence[dict[str, float]]) -> None:
    """`trajectory.json` and, from two points on, its plot; each replaced in one move."""
    folder = Path(folder)
    write_json(folder / FILE, points)
    if len(points) > 1:
        with replaced(folder / PLOT) as file:
            plot(points, file)


def plot(points: Sequence[dict[str, float]], path: Path) -> None:
    """Exact match above, NLL below, of forget and retain rows over the steps, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots(2, sharex=True)
    for axis, kind, label in zip(axes, ("em", "nll"), ("exact match", "NLL (nats per token)")):
        for rows, colour in (("forget", "tab:red"), ("retain", "tab:blue")):
            line = [(point["step"], point[f"{rows}_{kind}"]) for point in points if f"{rows}_{kind}" in point]
            axis.plot(*zip(*line) if line else ([], []), marker="o", markersize=3, color=colour, label=rows)
        axis.set_ylabel(label)
    axes[0].set_ylim(-0.03, 1.03)
    axes[0].legend()
    axes[1].set_xlabel("step")
    FigureCanvasAgg(figure).print_png(str(path))
