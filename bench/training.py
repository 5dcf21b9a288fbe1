"""What a training step costs: npo against grad_diff, npo, kl and undial against the common way of writing them, and
the wrappers of two gradients against npo.

    python bench/training.py [--steps 4] [--minutes 8] [--rows 4] [--side 192] [--json]

The common way: a deep copy of the model as reference, logits of the whole vocabulary at all positions, one
forward for the forget rows and one for the retain rows; kl and undial over all positions, as open-unlearning has
them, undial with the retain forward that its weight 0 then drops. Times are medians over steps that are taken in turn,
in one process, on the same batches; peak memory is that of a process of its own for each way, above what
it held before the model was made. On a slow machine fewer steps are timed, at least one (`--minutes`). The model has 34.6 M parameters, a vocabulary of 32 768, and reads a
picture of 192 px as 576 tokens, as LLaVA-1.5 does.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

WAYS = ("grad_diff", "npo", "common", "kl", "common_kl", "undial", "common_undial", "sam", "gru")
BETA, VOCABULARY = 0.1, 32768


def make_inputs(folder: Path, width: int, layers: int, side: int) -> None:
    """A data set of 4 people with 12 rows each, and a randomly initialised llava."""
    import datasets
    from PIL import Image

    from remem_tasks.checkpoints import save
    from remem_tasks.tiny import build as checkpoint

    def row(person: int, number: int) -> dict:
        buffer = io.BytesIO()
        Image.new("RGB", (side, side), (60 * person, 20 * number, 90)).save(buffer, format="PNG")
        path = f"images/p{person}/{number}.png"
        return {
            "image": {"bytes": buffer.getvalue(), "path": path}, "question": f"What is fact {number} of person {person}?",
            "answer": f"Fact {number} of person {person} is value {person * 100 + number}, as everybody knows.",
            "keywords": f"value {person * 100 + number}", "question_type": "1-hop", "qa_category": "fact",
            "attribute": f"fact{number}", "cloze_prompt": f"Fact {number} of person {person} is", "image_path": path,
        }  # fmt: skip

    rows = [row(person, number) for person in range(4) for number in range(12)]
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    (folder / "data" / "data").mkdir(parents=True)
    for split, part in (("finetune", rows), ("forget1", rows[:12])):
        table = datasets.Dataset.from_list(part).cast_column("image", datasets.Image())
        table.to_parquet(folder / "data" / "data" / f"{split}-00000-of-00001.parquet")
        card += f"  - split: {split}\n    path: data/{split}-*\n"
    (folder / "data" / "README.md").write_text(card + "---\n")
    texts = [f"{row['question']} {row['answer']}" for row in rows]
    model, processor = checkpoint.build("llava", texts, image_size=side, width=width, layers=layers)
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    save(model, processor, folder / "model")


class Ours:
    """A step of one of our methods, as the trainer takes it."""

    def __init__(self, folder: Path, way: str):
        from remem_tasks.checkpoints import load_processor
        from unlearning import weights as checkpoint
        from unlearning.arguments import parse
        from unlearning.data import load_rows
        from unlearning.mechanisms.gradients import COMBINED
        from unlearning.methods import METHODS

        source = str(folder / "model")
        method, wrap = ("npo", ["--wrap", way]) if way in COMBINED else (way, [])
        argv = ["--method", method, "--model_name_or_path", source, "--data", str(folder / "data"), *wrap]
        argv += ["--output_dir", str(folder / f"run_{way}"), "--disable_tqdm", "true", "--bf16", "false"]
        _, args, _ = parse(argv)
        rows = load_rows(str(folder / "data"), "pairs", "forget1")
        model = checkpoint.load_model(source).to(args.device)
        beside = None
        if METHODS[method].needs_model(args):
            beside = checkpoint.load_model(source).to(args.device).requires_grad_(False)
        self.trainer = METHODS[method](model, args, rows, load_processor(source), reference_model=beside)
        self.trainer.activation_checkpointing = False
        began = time.perf_counter()
        self.trainer.set_up()
        self.set_up_s = time.perf_counter() - began
        self.model = self.trainer.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)

    def batches(self, count: int, rows: int) -> list[list]:
        """Batches of pairs, as examples."""
        indices = list(self.trainer._get_train_sampler())
        data = self.trainer.train_dataset
        return [[data[indices[(b * rows + i) % len(indices)]] for i in range(rows)] for b in range(count)]

    def own(self, pairs) -> list[list]:
        """The examples of pairs that this method trains on."""
        return [[one for one in pair if one.role in self.trainer.train_dataset.roles] for pair in pairs]

    def loss(self, pairs) -> torch.Tensor:
        inputs = self.trainer._prepare_inputs(self.trainer.data_collator(self.own(pairs)))
        return self.trainer.compute_loss(self.model, inputs)

    def backward(self, pairs) -> None:
        from unlearning.mechanisms.gradients import SplitCollator

        if self.trainer.two_gradients is None:
            self.loss(pairs).backward()
        else:
            self.trainer.current_gradient_accumulation_steps = 1
            self.trainer.two_gradients.micro_step(SplitCollator(self.trainer.data_collator)(pairs))


class Common:
    """NPO, KL or UNDIAL as they are commonly written."""

    def __init__(self, folder: Path, method: str = "npo"):
        from unlearning import weights as checkpoint

        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.model = checkpoint.load_model(str(folder / "model")).to(device).train()
        self.reference = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        self.collate, self.method = None, method

    def rows(self, pairs, place: int) -> dict[str, torch.Tensor]:
        from unlearning.forward import BESIDE

        inputs = self.collate([[pair[place]] for pair in pairs])
        return {name: value.to(self.model.device) for name, value in inputs.items() if name not in BESIDE}

    def sums(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """N of each row and the number of its answer tokens, from the logits at every position."""
        logits = model(
            **{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False
        ).logits
        labels = inputs["labels"][:, 1:]
        nll = F.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels, ignore_index=-100, reduction="none"
        )
        return nll.sum(1), (labels != -100).sum(1)

    def logits(self, model, inputs) -> torch.Tensor:
        """At every position, [B, T, V]."""
        passed = {name: value for name, value in inputs.items() if name != "labels"}
        return model(**passed, use_cache=False).logits

    def loss(self, pairs) -> torch.Tensor:
        forget, retain = self.rows(pairs, 0), self.rows(pairs, 1)
        if self.method == "kl":
            now, tokens = self.sums(self.model, forget)
            with torch.no_grad():
                before = self.logits(self.reference, retain).log_softmax(-1).flatten(0, 1)
            kept = self.logits(self.model, retain).log_softmax(-1).flatten(0, 1)
            return -now.sum() / tokens.sum() + F.kl_div(kept, before, reduction="batchmean", log_target=True)
        if self.method == "undial":
            with torch.no_grad():
                lowered = self.logits(self.reference, forget)[:, :-1].clone()
                labels = forget["labels"][:, 1:].clamp(min=0)[..., None]
                target = lowered.scatter_add(2, labels, lowered.new_full(labels.shape, -10.0)).softmax(-1)
            now = self.logits(self.model, forget)[:, :-1]
            kept, tokens = self.sums(self.model, retain)
            return F.cross_entropy(now.flatten(0, 1), target.flatten(0, 1)) + 0.0 * kept.sum() / tokens.sum()
        now, _ = self.sums(self.model, forget)
        with torch.no_grad():
            before, _ = self.sums(self.reference, forget)
        kept, tokens = self.sums(self.model, retain)
        return -(2 / BETA) * F.logsigmoid(BETA * (now - before)).mean() + kept.sum() / tokens.sum()

    def backward(self, pairs) -> None:
        self.loss(pairs).backward()


def made(way: str, folder: Path):
    """One way of `WAYS`."""
    if not way.startswith("common"):
        return Ours(folder, way)
    return Common(folder, way.removeprefix("common").removeprefix("_") or "npo")


def step(way, pairs) -> float:
    """Seconds of one optimizer step."""
    began = time.perf_counter()
    way.backward(pairs)
    way.optimizer.step()
    way.optimizer.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def memory() -> tuple[float, float]:
    """MB that this process holds now and held at most."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / 2**20, torch.cuda.max_memory_allocated() / 2**20
    lines = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    )
    return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def peak(way: str, folder: Path, rows: int) -> None:
    """Prints the peak memory (MB) of two steps of one way, above that before the model."""
    import transformers  # noqa: F401

    import unlearning.train  # noqa: F401
    from unlearning.methods import METHODS  # noqa: F401

    if way.startswith("common"):
        # Its batches are made by a trainer, in another process: only its own memory counts.
        from unlearning.data import Collator

        taken = torch.load(folder / "pairs.pt", weights_only=False)
        start = memory()[0]
        method = made(way, folder)
        method.collate = Collator(0)
    else:
        start = memory()[0]
        method = made(way, folder)
        taken = torch.load(folder / "pairs.pt", weights_only=False)
    for pairs in taken[:2]:
        step(method, pairs)
    print(json.dumps({"peak_mb": memory()[1] - start}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4, help="steps of each way that are timed")
    parser.add_argument("--minutes", type=float, default=8, help="after which no further step is begun")
    parser.add_argument("--rows", type=int, default=4, help="pairs in a batch")
    parser.add_argument("--width", type=int, default=448, help="hidden size of the model")
    parser.add_argument("--side", type=int, default=192, help="of a picture, in pixels, 8 to a token")
    parser.add_argument("--layers", type=int, default=2, help="its depth")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--peak", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        return peak(args.peak[0], Path(args.peak[1]), args.rows)
    with tempfile.TemporaryDirectory(prefix="remem-bench-") as name:
        folder = Path(name)
        make_inputs(folder, args.width, args.layers, args.side)
        ways = {way: made(way, folder) for way in WAYS}
        for way in WAYS:
            if way.startswith("common"):
                ways[way].collate = ways["npo"].trainer.data_collator
        batches = ways["npo"].batches(args.steps + 1, args.rows)
        torch.save(batches[:3], folder / "pairs.pt")
        size = sum(value.numel() for value in ways["npo"].model.parameters())
        print(
            f"{size / 1e6:.1f} M parameters, vocabulary {VOCABULARY}, {(args.side // 8) ** 2} tokens a picture, "
            f"{args.rows} pairs a batch",
            flush=True,
        )
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        differences: list[float] = []
        began = time.perf_counter()
        for number, pairs in enumerate(batches):
            if number > 1 and time.perf_counter() - began > 60 * args.minutes:
                print(f"\n{args.minutes:g} minutes are over: {number - 1} steps were timed", file=sys.stderr)
                break
            with torch.no_grad():
                # The same weights on both sides, those that the steps before have led to.
                ways["common"].model.load_state_dict(ways["npo"].model.state_dict())
                ours, theirs = ways["npo"].loss(pairs).item(), ways["common"].loss(pairs).item()
                differences.append(abs(ours - theirs) / max(1.0, abs(theirs)))
            for way in WAYS:
                taken = step(ways[way], pairs)
                if number:  # the first step warms up
                    times[way].append(taken)
                print(
                    f"\rstep {number} of {args.steps}: {way} {taken:.1f} s    ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        print(file=sys.stderr)
        set_up = ways["npo"].set_up_s
        del ways
        peaks = {}
        for way in (way for way in WAYS if way not in ("sam", "gru")):
            print(f"peak memory of {way}", file=sys.stderr, flush=True)
            argv = [sys.executable, __file__, "--rows", str(args.rows), "--peak", way, name]
            done = subprocess.run(argv, check=True, capture_output=True, text=True)
            peaks[way] = json.loads(done.stdout.splitlines()[-1])["peak_mb"]
    seconds = {way: statistics.median(times[way]) for way in WAYS}
    for way in WAYS:
        peak_of = f", peak {peaks[way]:.0f} MB" if way in peaks else ""
        print(f"{way:<13} {seconds[way]:.3f} s a step{peak_of}")
    print(
        f"the table of N_ref (12 rows, once): {set_up:.2f} s; largest relative difference of the loss {max(differences):.1e}"
    )
    if args.json:
        report = {
            "npo_over_grad_diff_time": round(seconds["npo"] / seconds["grad_diff"], 3),
            "npo_over_common_time": round(seconds["npo"] / seconds["common"], 3),
            "npo_over_common_peak": round(peaks["npo"] / peaks["common"], 3),
            **{
                f"{way}_over_common_{kind}": round(figures[way] / figures[f"common_{way}"], 3)
                for way in ("kl", "undial")
                for kind, figures in (("time", seconds), ("peak", peaks))
            },
            **{f"{way}_over_npo_time": round(seconds[way] / seconds["npo"], 3) for way in ("sam", "gru")},
            "max_loss_diff": float(f"{max(differences):.3g}"),
        }
        print(json.dumps(report))


if __name__ == "__main__":
    main()
