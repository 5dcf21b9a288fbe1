"""Rows to batches: which rows a run trains on, how they pair, and what the model is given.

A batch is one forward: the forget row, the retain row it is paired with and, where a method wants
it, the forget question with a refusal, all in one padded batch with the role of each row beside it.
Labels are answer tokens and the end-of-turn token, nothing else.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import datasets
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from remem_tasks.benchmarks.registry import detect, part_of
from remem_tasks.benchmarks.training_rows import MODALITIES, TrainingRows, Wanted
from remem_tasks.data.faults import ALLOW, REFUSE, row_name
from remem_tasks.data.pictures import check_image, decode_image
from remem_tasks.engine.prompts import Chat, Prompts
from remem_tasks.errors import RememError
from unlearning.mechanisms.pictures import IDS, picture_ids
from unlearning.refusals import REFUSALS

IGNORE = -100


class Role(IntEnum):
    """What a row of a batch is there for."""

    PLAIN = 0
    FORGET = 1
    RETAIN = 2
    IDK = 3  # the forget question, answered by a refusal
    ALT = 4  # the forget question, answered by a plausible other answer
    OTHER = 5  # the forget question, answered by the answer of another forget row


def load_rows(
    source: str | None,
    rows_from: str,
    forget: str,
    finetune: str | None = None,
    identity_rule: str | None = None,
    alternatives: bool = False,
    modality: str = "joint",
    faults: str = REFUSE,
    caption_questions: str | None = None,
) -> TrainingRows:
    """The rows that a method trains on, as the data set's benchmark has them.

    Args:
        source: folder or Hub id; None for `$REMEM_DATA`, else the published set of ReMem.
        rows_from: `finetune` (all of it), `retain` (finetune without the identities of the forget
            split) or `pairs` (forget rows, each with a retain row).
        forget: name of the forget split.
        finetune: name of the split that the model memorised; None for the usual one.
        identity_rule: see `remem_tasks.benchmarks.remem.identity.identity_of`.
        alternatives: also read the wrong answers beside the forget rows, if the data set has them.
        modality: `joint`, `text` or `image` rows, to forget and to retain, where a benchmark tells them apart.

        faults: what becomes of rows that `remem data check` names: `refuse` or `allow`.
        caption_questions: of CLEAR: `own` or `published`.

    Raises:
        RememError: no such data or split, a faulty row, nothing left to retain.
    """
    if faults not in (REFUSE, ALLOW):
        raise RememError(f"--faults '{faults}' unknown; choose from {REFUSE}, {ALLOW}")
    if modality not in MODALITIES:
        raise RememError(f"--modality '{modality}' unknown; choose from {', '.join(MODALITIES)}")
    name, place = detect(source)
    if caption_questions and name != "clear":
        raise RememError("--caption_questions is for CLEAR")
    wanted = Wanted(
        place, rows_from, forget, finetune, identity_rule, alternatives, modality, faults, caption_questions
    )
    return part_of(name, "training").training_sets(wanted)


def check_pictures(tables: Sequence[datasets.Dataset]) -> None:
    """Look at every picture, as fast as its format allows, so that a broken one is named before a run begins.

    Raises:
        RememError: names the split, the row and the file of the first picture that cannot be read.
    """
    for table in tables:
        names = [
            name for name in ("image", "row_id", "image_path", "text_only") if name in table.column_names
        ]
        for row in table.select_columns(names):
            if not row.get("text_only"):
                check_image(row["image"], row_name(row))


@dataclass
class Example:
    """One row as the model sees it.

    Attributes:
        role: what it is there for.
        row_id: `<split>:<index>`.
        prompt: the processor's output for the prompt, each [1, P, …] or one entry a picture.
        answer_ids: [A], the answer and its end-of-turn token.
        answer: what is answered in place of the row's own answer; None for that.
    """

    role: Role
    row_id: str
    prompt: dict[str, torch.Tensor]
    answer_ids: torch.Tensor
    answer: str | None = None

    @property
    def key(self) -> str:
        """Names question and answer in the table of reference log-probabilities."""
        return self.row_id if self.answer is None else f"{self.row_id} {self.answer}"


def picture_of(row: Mapping) -> Image.Image | None:
    """A row's picture, decoded; None for a row of text alone."""
    return None if row.get("text_only") else decode_image(row["image"], row_name(row))


class Encoder:
    """Rows to token ids and pixels, with the last prompts kept in memory.

    Args:
        processor: tokenizer, image processor and chat template of the checkpoint.
        stop_ids: token ids that end a turn; one is appended where the chat template puts none.
        cache_mb: prompts kept, in MiB of tensors; 0 keeps none. Results do not depend on it.
    """

    def __init__(self, processor: Any, stop_ids: Sequence[int] = (), cache_mb: float = 256):
        self.prompts = Prompts(processor, list(stop_ids))
        self.processor, self.tokenizer = processor, self.prompts.tokenizer
        self.stop_ids = set(self.prompts.ends)
        self.room = int(cache_mb * 2**20)
        self._prompts: OrderedDict[str, dict[str, torch.Tensor]] = OrderedDict()
        self._answers: dict[tuple[str, str | None], torch.Tensor] = {}
        self._held = 0

    @staticmethod
    def chat(row: Mapping) -> Chat:
        """A row's question, with its picture if it has one, as the scores ask it."""
        picture = picture_of(row)
        content: list[dict] = [] if picture is None else [{"type": "image", "image": picture}]
        content.append({"type": "text", "text": row["question"]})
        return Chat([{"role": "user", "content": content}], row_name(row))

    def encode_prompt(self, row: Mapping) -> dict[str, torch.Tensor]:
        """The processor's output for one row, up to where the assistant begins, uncached."""
        return dict(self.prompts.encode([self.chat(row)]))

    def encode_answer(self, row: Mapping, answer: str | None = None) -> torch.Tensor:
        """[A] ids of a row's answer, or of another, with the end of its turn (`Prompts.labels`)."""
        content: list[dict] = [] if row.get("text_only") else [{"type": "image"}]
        content.append({"type": "text", "text": row["question"]})
        asked = Chat([{"role": "user", "content": content}], row_name(row))
        return torch.tensor(self.prompts.labels(asked, [answer or row["answer"]])[0])

    def without_picture(self, row: Mapping) -> Example:
        """A row as text alone: the same question and answer, no picture."""
        bare = {**row, "text_only": True}
        return Example(Role.PLAIN, row["row_id"], self.encode_prompt(bare), self.encode_answer(bare))

    def __call__(
        self, role: Role, row_id: str, get_row: Callable[[], dict], answer: str | None = None
    ) -> Example:
        """The example of a row; `get_row` is called only if it is not in memory.

        Args:
            answer: trained on in place of the row's own answer (a refusal).
        """
        key = (row_id, answer)
        kept = self._prompts.get(row_id)
        if kept is None or key not in self._answers:
            row = get_row()
            if kept is None:
                kept = self.encode_prompt(row)
                self._keep(row_id, kept)
            self._answers[key] = self.encode_answer(row, answer)
        self._prompts.move_to_end(row_id) if row_id in self._prompts else None
        return Example(role, row_id, kept, self._answers[key], answer)

    def _keep(self, row_id: str, kept: dict[str, torch.Tensor]) -> None:
        def size(entry):
            return sum(value.nbytes for value in entry.values())

        self._prompts[row_id] = kept
        self._held += size(kept)
        while self._held > self.room and self._prompts:
            _, dropped = self._prompts.popitem(last=False)
            self._held -= size(dropped)

    def check(self, row: Mapping) -> None:
        """Encode a row, so that a processor that cannot serve it says so."""
        self.encode_prompt(row)
        self.encode_answer(row)


class Examples(Dataset):
    """A table as single examples of one role.

    Args:
        rows: N rows.
        role: given to each.
        encoder: shared by all datasets of a run.
    """

    def __init__(self, rows: datasets.Dataset, role: Role, encoder: Encoder):
        self.rows, self.role, self.encoder = rows, role, encoder
        self.row_ids = rows["row_id"][:]

    def __len__(self) -> int:
        return len(self.row_ids)

    def __getitem__(self, index: int) -> list[Example]:
        return [self.example(index)]

    def example(self, index: int, answer: str | None = None, role: Role | None = None) -> Example:
        """Row `index`, with its own answer or another."""
        return self.encoder(role or self.role, self.row_ids[index], lambda: self.rows[index], answer)

    def sampler(self, seed: int) -> EpochSampler:
        return EpochSampler(len(self), 1, 1, seed)


def evenly(total: int, most: int) -> list[int]:
    """At most so many of the places 0 … total − 1, spread evenly; 0: all."""
    count = min(most or total, total)
    return [place * total // count for place in range(count)]


def spread(rows: datasets.Dataset, most: int) -> datasets.Dataset:
    """At most so many of the rows, evenly; 0: all."""
    return rows.select(evenly(len(rows), most)) if 0 < most < len(rows) else rows


class Pairs(Dataset):
    """Forget rows, each with a retain row; an index names the pair and the refusal.

    Args:
        forget, retain: the two tables.
        roles: which examples a pair is made of; a role may come several times.
        encoder: shared by all datasets of a run.
        each: retain rows of a pair.
        turns: the roles of one epoch and the next, in turn; None: all of them in every epoch.

    Attributes:
        alternatives: plausible other answers by row id, for Role.ALT; set before the first example is asked for.
        anchors: by row id, what is answered to a retain row in place of its own answer; None for that.
        others: what Role.OTHER draws its answers from: those of all forget rows.
    """

    def __init__(
        self,
        forget: datasets.Dataset,
        retain: datasets.Dataset,
        roles: Sequence[Role],
        encoder: Encoder,
        each: int = 1,
        turns: Sequence[Sequence[Role]] | None = None,
    ):
        self.forget = Examples(forget, Role.FORGET, encoder)
        self.retain = Examples(retain, Role.RETAIN, encoder)
        self.roles, self.each, self.turns = tuple(roles), each, turns or (roles,)
        self.alternatives: dict[str, list[str]] | None = None
        self.anchors: dict[str, str] | None = None
        self.answers = forget["answer"][:]
        self.others = self.answers

    def __len__(self) -> int:
        return len(self.forget)

    def plan(self, index: int) -> list[tuple[Role, int, str | None]]:
        """What the pair of an index is made of: (role, row of its table, answer in place of its own)."""
        rest, kept = divmod(index, len(self.retain) ** self.each)
        rest, i = divmod(rest, len(self.forget))
        turn, refusal = divmod(rest, len(REFUSALS))
        draw = random.Random(index)
        plan: list[tuple[Role, int, str | None]] = []
        for role in self.turns[turn]:
            if role == Role.RETAIN:
                for _ in range(self.each):
                    kept, j = divmod(kept, len(self.retain))
                    own = self.anchors[self.retain.row_ids[j]] if self.anchors is not None else None
                    plan.append((role, j, own))
            elif role == Role.IDK:
                plan.append((role, i, REFUSALS[refusal]))
            elif role == Role.ALT:
                assert self.alternatives is not None, "set before the first example is asked for"
                plan.append((role, i, draw.choice(self.alternatives[self.forget.row_ids[i]])))
            elif role == Role.OTHER:
                others = [text for text in self.others if text != self.answers[i]]
                if not others:
                    raise RememError(f"{self.forget.row_ids[i]}: no other forget row has another answer")
                plan.append((role, i, draw.choice(others)))
            else:
                plan.append((role, i, None))
        return plan

    def make(self, role: Role, row: int, answer: str | None) -> Example:
        """One entry of a plan as an example."""
        return (self.retain if role == Role.RETAIN else self.forget).example(row, answer, role)

    def __getitem__(self, index: int) -> list[Example]:
        return [self.make(*entry) for entry in self.plan(index)]

    def sampler(self, seed: int) -> EpochSampler:
        sizes = len(self.forget), len(self.retain), len(REFUSALS)
        return EpochSampler(*sizes, seed, self.each, len(self.turns))


class EpochSampler(Sampler[int]):
    """Indices of one epoch, a function of (seed, epoch) alone.

    An epoch visits every forget row i once, in a fresh order. Retain rows j come from one
    permutation after another, continued over the epochs, so that all are used equally often.
    Yields ((t·n_refusals + r)·n_forget + i)·n_retain^each + Σ j_k·n_retain^k with t the epoch's turn, r a
    refusal and j_1, …, j_each the retain rows. Holding no state, it gives the same batches to every worker,
    every process and a resumed run.
    """

    def __init__(
        self, n_forget: int, n_retain: int, n_refusals: int, seed: int, each: int = 1, turns: int = 1
    ):
        self.n_forget, self.n_retain, self.n_refusals, self.seed = n_forget, n_retain, n_refusals, seed
        self.each, self.turns = each, turns
        self.epoch = 0

    def __len__(self) -> int:
        return self.n_forget

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop before each epoch."""
        self.epoch = epoch

    def _generator(self, stream: int, number: int) -> torch.Generator:
        # Two streams (order of an epoch, passes over the retain rows) that never share a seed.
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) * 2 + stream)

    def _retain(self, first: int) -> Iterator[int]:
        """The retain rows of an epoch, from position `first` of the endless row of permutations."""
        order, current = [], None
        for position in range(first, first + self.n_forget * self.each):
            number, offset = divmod(position, self.n_retain)
            if number != current:
                order = torch.randperm(self.n_retain, generator=self._generator(1, number)).tolist()
                current = number
            yield order[offset]

    def __iter__(self) -> Iterator[int]:
        generator = self._generator(0, self.epoch)
        order = torch.randperm(self.n_forget, generator=generator).tolist()
        refusals = torch.randint(self.n_refusals, (self.n_forget,), generator=generator).tolist()
        turn = self.epoch % self.turns
        retain = self._retain(self.epoch * self.n_forget * self.each)
        for i, r in zip(order, refusals):
            kept = sum(next(retain) * self.n_retain**k for k in range(self.each))
            yield ((turn * self.n_refusals + r) * self.n_forget + i) * self.n_retain**self.each + kept


def stack(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Join on the first axis; other axes are padded with zeros to the largest (pictures of several tiles)."""
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(tensors)
    largest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors))]
    padded = []
    for tensor in tensors:
        full = tensor.new_zeros([tensor.shape[0], *largest])
        full[tuple(slice(size) for size in tensor.shape)] = tensor
        padded.append(full)
    return torch.cat(padded)


class Collator:
    """Examples of all roles to one right-padded batch.

    Args:
        pad_token_id: fills `input_ids`.
        reference_nll: N_ref in nats by `Example.key`, once it is known (see `reference.py`).

    Returns of a call: all that the processor gave (pixels and sizes included), and
        input_ids, attention_mask, labels: [B, T]; labels are −100 except on answer tokens.
        roles: [B], values of `Role`, rows sorted by it.
        pictures: [n], a name of each picture by its pixels; only if there are any.
        reference_nll: [B], NaN for rows that have none; only if a table is set.
    """

    def __init__(self, pad_token_id: int, reference_nll: dict[str, float] | None = None):
        self.pad_token_id = pad_token_id
        self.reference_nll = reference_nll

    def __call__(self, features: Sequence[Sequence[Example]]) -> dict[str, torch.Tensor]:
        examples = sorted((example for feature in features for example in feature), key=lambda e: e.role)
        prompts = [example.prompt["input_ids"].shape[1] for example in examples]
        ends = [start + len(example.answer_ids) for start, example in zip(prompts, examples)]
        shape = (len(examples), max(ends))
        ids = torch.full(shape, self.pad_token_id)
        mask, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE)
        batch: dict[str, torch.Tensor] = {}
        for row, (start, end, example) in enumerate(zip(prompts, ends, examples)):
            ids[row, :start] = example.prompt["input_ids"][0]
            ids[row, start:end] = labels[row, start:end] = example.answer_ids
            mask[row, :end] = 1
        for name in dict.fromkeys(name for example in examples for name in example.prompt):
            if name in ("input_ids", "attention_mask"):
                continue
            # A row of text alone has no pixels; those of the others follow one another, as their places do.
            there = [row for row, example in enumerate(examples) if name in example.prompt]
            values = [examples[row].prompt[name] for row in there]
            if all(value.shape == (1, prompts[row]) for row, value in zip(there, values)):
                # One entry a token (Qwen's mm_token_type_ids): answers are text, padding is nothing, both 0.
                batch[name] = values[0].new_zeros(shape)
                for row, value in zip(there, values):
                    batch[name][row, : prompts[row]] = value[0]
            else:
                batch[name] = stack(values)
        if (named := picture_ids(batch)) is not None:
            batch[IDS] = named
        batch.update(input_ids=ids, attention_mask=mask, labels=labels)
        batch["roles"] = torch.tensor([int(example.role) for example in examples])
        if self.reference_nll is not None:
            table = self.reference_nll
            batch["reference_nll"] = torch.tensor([table.get(e.key, float("nan")) for e in examples])
        return batch


def pad_token_of(tokenizer: Any) -> int:
    """The id that fills a batch; the end token's where a tokenizer has none of its own."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def stop_ids(model: Any) -> list[int]:
    """The token ids at which a model's generation stops, by its generation config."""
    stops = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
