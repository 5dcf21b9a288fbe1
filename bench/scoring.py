"""What the scores cost: the whole suite of remem_hf, beside llava_hf's greedy pass and beside the naive way.

    python bench/scoring.py [--model DIR --data DIR] [--rows 60] [--device cpu] [--json]

The suite is EM, keyword recall, ROUGE-L, MEMO, Exposure with M = 64 and the reference rank. What is timed is
each model's `generate_until` on the same rows, a third each of forget1, retain and test: no start-up, and no
scoring of texts. The naive way is one `generate` a prefix of MEMO, one with 64 sequences for the outcomes, and
one forward a candidate. Rounds are interleaved; a time is the median of its rounds, and a ratio is the median of
the rounds' ratios. The checkpoint is by default the demo's memorised one, made first where there is none (some minutes);
with --random, and on a GPU, LLaVA's shape with random weights (1 M parameters, on a GPU 0.4 billion), which never ends
a reply and so costs all sides the most.
"""

# ruff: noqa: E402  (what lmms-eval and its libraries read when they are imported is set before)
from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

os.environ.update(
    dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "TQDM_DISABLE"), "1"),
    LOGURU_LEVEL="ERROR",
    TOKENIZERS_PARALLELISM="false",
)
for variable in [name for name in os.environ if name.startswith("REMEM_")]:
    del os.environ[variable]  # the settings are those of this script
os.environ["REMEM_CACHE"] = "off"

import lmms_eval.evaluator as harness
import psutil
import torch
from lmms_eval.models.chat.llava_hf import LlavaHf
from lmms_eval.tasks import TaskManager
from transformers import LlavaForConditionalGeneration

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.benchmarks.remem.forge import ForgeOptions, forge
from remem_tasks.checkpoints import save
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import decode_image
from remem_tasks.data.rows import parse_keywords
from remem_tasks.engine.prompts import text_tokens
from remem_tasks.harness import plugin
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.harness.task import BenchmarkTask
from remem_tasks.metrics import exact_match, memo, reference_rank
from remem_tasks.tiny import build as checkpoint
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("forget1", "retain", "test")
NEW_TOKENS = 128  # of a greedy reply, as in the tasks
M = 64
SAME_ROWS = "remem_hf, suite of the rows below"


class Meter:
    """Seconds and peak memory of what runs inside `with`.

    Attributes:
        wall, cpu: seconds, and those of this process's processor time.
        peak: MB: on a CPU the process's resident memory, on a GPU what is allocated there.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.peak = 0.0

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.05):
            self.peak = max(self.peak, process.memory_info().rss / 2**20)

    def __enter__(self) -> Meter:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            torch.cuda.synchronize()
        self.wall = time.perf_counter() - self._started[0]
        self.cpu = time.process_time() - self._started[1]
        self._over.set()
        self._watcher.join()
        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated() / 2**20


class _Timed:
    """Mixed into a model of lmms-eval: measures `generate_until`, and keeps its weights for the next run."""

    def generate_until(self, requests: list) -> list:
        with Meter(torch.device(self.device)) as self.meter:
            self.replies = super().generate_until(requests)
        self.requests = requests
        return self.replies

    def clean(self) -> None:
        pass


class Ours(_Timed, RememHF):
    pass


class Theirs(_Timed, LlavaHf):
    pass


def tasks_of(data: str, rows: int, **settings: object) -> list[BenchmarkTask]:
    """The three tasks with evenly spread rows, as many of each; `settings` are those of the suite."""

    def some(docs):
        count = min(len(docs), rows // len(SPLITS))
        return docs.select([place * len(docs) // count for place in range(count)])

    return [
        BenchmarkTask(
            config={
                "task": f"remem_{split}",
                "dataset_path": data,
                "test_split": split,
                "process_docs": some,
                "output_type": "generate_until",
                "generation_kwargs": {"max_new_tokens": NEW_TOKENS, "temperature": 0, "until": []},
                "metadata": {"benchmark": "remem", "version": 1.0, "rollouts": M, **settings},
            }
        )
        for split in SPLITS
    ]


def evaluate(lm: Ours | Theirs, data: str, rows: int, **settings: object) -> Meter:
    """Run the tasks; the row's values are left in `lm.values`, by row id."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        results = harness.simple_evaluate(
            model=lm,
            tasks=tasks_of(data, rows, **settings),
            task_manager=TaskManager(include_defaults=False),
            bootstrap_iters=0,
        )
    samples = (sample for samples in results["samples"].values() for sample in samples)
    lm.values = {sample["remem_rows"]["row_id"]: sample for sample in samples}
    return lm.meter


def white_box_requests(lm: Ours) -> Iterator[tuple[Mapping, WhiteBoxRequest, WhiteBoxResult]]:
    """(row, inquiry, findings) of the latest run."""
    for request, reply in zip(lm.requests, lm.replies):
        _, messages, _, doc_id, task, split = request.args
        doc = lm.task_dict[task][split][doc_id]
        if white_box_request := messages.white_box_request(doc):
            yield doc, white_box_request, WhiteBoxResult.from_text(reply.text, white_box_request.name)


class Naive:
    """A row's scores by `generate` and `forward`, one prompt at a time."""

    def __init__(self, lm: Ours) -> None:
        self.model, self.processor, self.device = lm.model, lm.processor, lm.device
        banned, self.ends = text_tokens(lm.model, lm.processor, lm.model.config.get_text_config().vocab_size)
        self.banned = banned.nonzero()[:, 0].tolist()
        tokenizer = self.processor.tokenizer
        silent = {*self.banned, *self.ends}
        self.pieces = [
            "" if token in silent else tokenizer.decode([token]) for token in range(len(tokenizer))
        ]

    def inputs(self, doc: Mapping, said: str = ""):
        """The row's question, and the beginning of the assistant's turn."""
        content = [{"type": "image"}, {"type": "text", "text": doc["question"]}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        space = "" if text[-1].isspace() or not said else " "
        image = decode_image(doc["image"], row_name(doc))
        inputs = self.processor(images=[image], text=[text + space + said], return_tensors="pt")
        return inputs.to(self.device, self.model.dtype)

    def generate(self, inputs: Mapping, tokens: int, **options: object) -> torch.Tensor:
        said = self.model.generate(
            **inputs,
            max_new_tokens=tokens,
            suppress_tokens=self.banned,
            eos_token_id=self.ends,
            pad_token_id=self.processor.tokenizer.pad_token_id,
            **options,
        )
        return said[:, inputs["input_ids"].shape[1] :]

    def text(self, tokens: Sequence[int] | torch.Tensor) -> str:
        return self.processor.tokenizer.decode(tokens, skip_special_tokens=True)

    def continued(self, doc: Mapping, answer: str, cut: int, tokens: int) -> str:
        """What the model says behind the beginning of an answer, which it reads in the answer's tokens.

        Where the beginning ends inside a token, its end is said first, by tokens that spell it.
        """
        inputs, whole = self.inputs(doc), self.inputs(doc, answer)["input_ids"]
        start = inputs["input_ids"].shape[1]
        begun = self.text(whole[0, start:])[: -len(answer)] + answer[:cut]
        length = start
        while begun.startswith(self.text(whole[0, start : length + 1])) and length < whole.shape[1]:
            length += 1
        left = begun[len(self.text(whole[0, start:length])) :]
        ids, steps = whole[:, :length], []

        def allowed(_: int, said: torch.Tensor) -> list[int] | range:
            rest = left[len(self.text(said[length:])) :]
            if not rest:
                return range(len(self.pieces))
            steps.append(len(said))
            return [
                token
                for token, piece in enumerate(self.pieces)
                if piece and (piece.startswith(rest) or rest.startswith(piece))
            ]

        options = {"prefix_allowed_tokens_fn": allowed} if left else {}
        said = self.generate(
            {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)},
            tokens + len(left),
            do_sample=False,
            **options,
        )[0, : tokens + max(0, len(steps) - 1)]
        return self.text(said)[len(left) :]

    def logprobs(self, inputs: Mapping, start: int) -> torch.Tensor:
        """ln p of the tokens from `start` on."""
        logits = self.model(**inputs, use_cache=False).logits[0, start - 1 : -1].float()
        logits[:, self.banned] = -torch.inf
        return logits.log_softmax(-1).gather(1, inputs["input_ids"][0, start:, None])[:, 0].cpu()

    @torch.inference_mode()
    def row(self, doc: Mapping, white_box_request: WhiteBoxRequest) -> SimpleNamespace:
        """em, memo; of each secret the log-probabilities of its tokens and its reference rank."""
        reply = self.text(self.generate(self.inputs(doc), NEW_TOKENS, do_sample=False)[0])
        answer, memo_tokens = white_box_request.answer, white_box_request.memo_tokens
        cuts = [self.continued(doc, answer, cut, memo_tokens) for cut in white_box_request.cuts]
        logprobs, ranks = [], []
        for secret in white_box_request.secrets:
            behind = self.inputs(doc, secret.before)
            start = behind["input_ids"].shape[1]
            texts = [secret.before + text for text in (secret.text, *secret.others)]
            values = [self.logprobs(self.inputs(doc, text), start) for text in texts]
            self.generate(
                behind,
                len(values[0]),
                **{"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0},
                num_return_sequences=white_box_request.rollouts,
            )
            means = [float(of.double().mean()) for of in values]
            logprobs.append(values[0])
            ranks.append(reference_rank(means[0], means[1:]))
        return SimpleNamespace(
            em=exact_match(reply, parse_keywords(doc["keywords"])),
            memo=memo(white_box_request.answer, cuts),
            logprobs=logprobs,
            ranks=ranks,
        )


def memorised() -> tuple[str, str]:
    """(checkpoint, data) of the demo, whose first steps are run where they were not."""
    demo = ROOT / "runs" / "demo"
    if not (demo / "models" / "memorised" / "run.json").is_file():
        print("no demo here: making its memorised checkpoint (some minutes, once)", flush=True)
        command = [sys.executable, "-c", "from remem_tasks.cli import main; main()"]
        command += ["demo", "--out", "runs/demo", "--until", "memorised"]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return str(demo / "models" / "memorised"), str(demo / "data")


def made(folder: Path, device: str) -> tuple[str, str]:
    """(checkpoint, data) made here: random weights, ten drawn people."""
    data = folder / "data"
    forge(data, ForgeOptions(identities=10, qa=60, images=20, test_qa=8, retain_qa=8, hops=3, image_size=112))
    rows = load_split(str(data), "finetune", pictures=False)
    texts = [f"{question} {answer}" for question, answer in zip(rows["question"][:], rows["answer"][:])]
    model, processor = checkpoint.build("llava", texts, image_size=112, width=128)
    if device == "cuda":
        config = model.config
        config.text_config.update(
            {
                "hidden_size": 1280,
                "intermediate_size": 3456,
                "num_hidden_layers": 20,
                "num_attention_heads": 20,
                "num_key_value_heads": 20,
                "head_dim": 64,
            }
        )
        generation = model.generation_config
        model = LlavaForConditionalGeneration(config)
        model.generation_config = generation
    save(model, processor, folder / "model")
    return str(folder / "model"), str(data)


class Table:
    """Prints measured runs, and keeps them by name."""

    def __init__(self) -> None:
        self.runs: dict[str, list[Meter]] = {}
        self.rows: dict[str, int] = {}

    def add(self, name: str, rows: int, meter: Meter) -> None:
        self.runs.setdefault(name, []).append(meter)
        self.rows[name] = rows

    def show(self, names: Sequence[str]) -> None:
        for name in names:
            runs, rows = self.runs[name], self.rows[name]
            wall, cpu = (statistics.median(getattr(run, of) for run in runs) for of in ("wall", "cpu"))
            print(
                f"{name:<44} {rows:>5} {wall:>8.2f} {cpu:>8.2f} {1000 * wall / rows:>8.1f} "
                f"{max(run.peak for run in runs):>8.0f}",
                flush=True,
            )

    def ratio(self, above: str, below: str, of: str = "wall") -> float:
        """Median over the rounds of one's time over the other's, a row."""
        share = self.rows[below] / self.rows[above]
        pairs = zip(self.runs[above], self.runs[below])
        return statistics.median(getattr(a, of) / getattr(b, of) * share for a, b in pairs)


def compare(lm: Ours, table: Table, data: str, rows: int, repeats: int) -> dict:
    """The naive way on some rows, and what it finds that the suite does not."""
    rounds = max(2, repeats)  # some before the naive way, some behind it
    for _ in range(rounds // 2):
        table.add(SAME_ROWS, rows, evaluate(lm, data, rows))
    known, naive, found = list(white_box_requests(lm)), Naive(lm), []
    naive.row(*known[0][:2])
    with Meter(lm.device) as meter:
        for doc, white_box_request, _ in known:
            found.append(naive.row(doc, white_box_request))
    table.add("naive", len(known), meter)
    for _ in range(rounds - rounds // 2):
        table.add(SAME_ROWS, rows, evaluate(lm, data, rows))
    table.rows[SAME_ROWS] = len(known)
    table.runs["naive"] *= rounds  # once is enough of what takes so long
    em = memos = ranks = 0
    largest = 0.0
    for (doc, _, findings), one in zip(known, found):
        sample = lm.values[doc["row_id"]]
        em += sample["remem_em"] != one.em
        memos += abs(sample["remem_memo"] - one.memo) > 1e-9
        for secret, logprobs, rank in zip(findings.secrets, one.logprobs, one.ranks):
            ours, theirs = torch.tensor(secret.logprobs, dtype=torch.float64), logprobs.double()
            differences = [*(ours - theirs).abs().tolist(), abs(float(ours.sum() - theirs.sum()))]
            largest = max(largest, *differences)
            ranks += secret.reference_rank != rank
    print(
        f"rows that differ from the naive way: EM {em}, MEMO {memos}, reference rank {ranks} of {len(known)}; "
        f"largest difference of a log-probability (of a token or a secret) {largest:.1e}"
    )
    return {"em": em == 0, "memo": memos == 0, "logprob": largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        help="checkpoint; by default the demo's memorised one, made first where there is none",
    )
    parser.add_argument("--random", action="store_true", help="random weights, made here (always on a GPU)")
    parser.add_argument("--data", help="its data, with the splits forget1, retain and test")
    parser.add_argument(
        "--rows", type=int, help="default 60; 24 at random weights; half and twice as many too"
    )
    parser.add_argument(
        "--naive_rows", type=int, help="rows for the naive way (default: all; 6 at random weights)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the processor, for all sides")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    if bool(args.model) != bool(args.data):
        parser.error("--model and --data go together: a checkpoint answers questions on its own data")
    if args.model and args.random:
        parser.error("--random makes a checkpoint: leave --model out")
    if not (args.model or args.random) and args.device == "cpu":
        args.model, args.data = memorised()
    args.rows = args.rows or (60 if args.model else 24)
    if args.rows < 2 * len(SPLITS) or args.repeats < 1:
        parser.error(f"at least {2 * len(SPLITS)} rows and one round")
    torch.set_num_threads(args.threads)
    plugin.install()
    with tempfile.TemporaryDirectory(prefix="remem-bench-") as folder:
        os.environ["HF_DATASETS_CACHE"] = folder
        model, data = args.model, args.data and os.path.abspath(args.data)
        if not model:
            with contextlib.redirect_stdout(io.StringIO()):
                model, data = made(Path(folder), args.device)
        measure(args, model, data)


def measure(args: argparse.Namespace, model: str, data: str) -> None:
    ours = Ours(model, device=args.device, dtype="float32")
    theirs = Theirs(model, device=args.device, device_map=args.device, dtype="float32")
    count = args.rows // len(SPLITS) * len(SPLITS)
    sizes = [max(1, args.rows * times // 2 // len(SPLITS)) * len(SPLITS) for times in (1, 4)]
    for lm in (ours, theirs):
        evaluate(lm, data, len(SPLITS))  # the first calls are slower
    parameters = sum(weight.numel() for weight in ours.model.parameters())
    print(
        f"{args.model or 'random weights'}: {parameters / 1e6:.1f} million parameters, float32, {args.device}"
        + (f", threads: {args.threads}" if args.device == "cpu" else f" ({torch.cuda.get_device_name()})")
        + f"; rounds: {args.repeats}",
        flush=True,
    )
    table, suite, greedy = Table(), "remem_hf, suite", "llava_hf, greedy replies alone"
    small, large = f"{suite} with M = 16", f"{suite} with M = 256"
    em_equal = True
    for _ in range(args.repeats):
        table.add(suite, count, evaluate(ours, data, count))
        values = ours.values
        table.add(greedy, count, evaluate(theirs, data, count, metrics="em"))
        em_equal &= all(values[row]["remem_em"] == one["remem_em"] for row, one in theirs.values.items())
        table.add("remem_hf, greedy replies alone", count, evaluate(ours, data, count, metrics="em"))
        table.add(small, count, evaluate(ours, data, count, rollouts=16))
        table.add(large, count, evaluate(ours, data, count, rollouts=256))
        for size in sizes:
            table.add(f"{suite} of {size} rows", size, evaluate(ours, data, size))
    print(f"\n{'':<44} {'rows':>5} {'wall s':>8} {'cpu s':>8} {'ms/row':>8} {'peak MB':>8}")
    table.show(list(table.runs))
    print(
        f"suite over llava_hf's greedy pass: {table.ratio(suite, greedy):.2f} by the clock, "
        f"{table.ratio(suite, greedy, 'cpu'):.2f} by processor time; same EM of all rows: {em_equal}"
    )
    print(
        f"{sizes[1] // sizes[0]} times the rows: {sizes[1] / sizes[0] * table.ratio(*(f'{suite} of {size} rows' for size in sizes[::-1])):.2f} times "
        f"the time; 16 times the M: {table.ratio(large, small):.2f} times the time\n",
        flush=True,
    )
    rows = args.naive_rows or (count if args.model else 6)
    found = compare(ours, table, data, rows // len(SPLITS) * len(SPLITS), args.repeats)
    table.show([SAME_ROWS, "naive"])
    print(
        f"naive over suite: {table.ratio('naive', SAME_ROWS):.1f} by the clock, "
        f"{table.ratio('naive', SAME_ROWS, 'cpu'):.1f} by processor time"
    )
    if args.json:
        print(
            json.dumps(
                {
                    "suite_over_llava_hf_greedy": round(table.ratio(suite, greedy), 3),
                    "naive_over_suite": round(table.ratio("naive", SAME_ROWS), 2),
                    "max_logprob_diff": found["logprob"],
                    "em_equal": bool(em_equal and found["em"]),
                    "memo_equal": found["memo"],
                    "m256_over_m16": round(table.ratio(large, small), 3),
                }
            )
        )


if __name__ == "__main__":
    main()
