"""`remem data probe`: is a data set fit to measure forgetting with? Probes of its pictures and its words.

A set is fit if faces tell people apart where training never showed them, while nothing else does:
not the backgrounds, not the words of a question, not a value that most people share.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from remem_tasks.benchmarks.remem import data as load
from remem_tasks.benchmarks.remem.validate import shared_personal_values, text_faults
from remem_tasks.data.faults import row_name
from remem_tasks.data.pictures import decode_image
from remem_tasks.errors import RememError
from remem_tasks.metrics.words import tokens

SIDE = 64  # of the pictures that the network sees, in pixels
STEPS = 320  # of training the network, of 100 pictures each: 16 passes over the pictures of the paper's size
RECOGNISED = 0.95  # least share of unseen pictures whose person is to be recognised
SIGMAS = 3  # how far a guess may lie above its baseline by chance


@dataclass(frozen=True)
class CheckResult:
    """One line of the report.

    Attributes:
        what: what was measured.
        value: the figure; None where it cannot be had for this data.
        bound: what it is held against, in words (the reason, where there is no figure).
        holds: whether it is as it should be; None where it is only reported.
    """

    what: str
    value: float | None
    bound: str
    holds: bool | None


# Pictures


def _small(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _pictures(rows: datasets.Dataset, people: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Every picture of these people once, [N, SIDE, SIDE, 3], and the place of its person among them."""
    first: dict[str, int] = {}
    for index, path in enumerate(rows["image_path"][:]):
        first.setdefault(path, index)
    place = {name: index for index, name in enumerate(people)}
    kept = rows.select(sorted(first.values())).select_columns(["image", "identity", "row_id", "image_path"])
    pixels, labels = [], []
    for row in kept:
        if row["identity"] in place:
            pixels.append(_small(decode_image(row["image"], row_name(row))))
            labels.append(place[row["identity"]])
    if not pixels:
        raise RememError("no pictures of the people to be probed")
    return np.stack(pixels), labels


def _network(classes: int, width: int = 16) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 4 * width)):
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * width * (SIDE // 16) ** 2, classes)
    )


def recognition(
    shown: np.ndarray, who: Sequence[int], unseen: np.ndarray, whose: Sequence[int], seed: int = 0
) -> float:
    """The share of unseen pictures whose person a small convolutional network names right.

    Args:
        shown, who: training pictures [N, SIDE, SIDE, 3] (uint8) and the index of the person in each.
        unseen, whose: the same of the pictures it is tested on.
    """
    tensor = lambda pixels: torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    train, test = tensor(shown), tensor(unseen)
    labels, truth = torch.tensor(who), torch.tensor(whose)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(int(max(labels.max(), truth.max())) + 1)
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
        size = min(100, len(train))
        epochs = math.ceil(STEPS * size / len(train))
        steps = epochs * math.ceil(len(train) / size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        for _ in tqdm(range(epochs), desc="learning to recognise", unit="pass", leave=False):
            for index in torch.randperm(len(train), generator=generator).split(size):
                mirrored = torch.rand(len(index), 1, 1, 1, generator=generator) < 0.5
                batch = torch.where(mirrored, train[index].flip(-1), train[index])
                light = torch.empty(len(index), 1, 1, 1).uniform_(0.7, 1.3, generator=generator)
                loss = nn.functional.cross_entropy(network((batch * light).clamp(0, 1)), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([network(batch).argmax(-1) for batch in test.split(256)])
    return float((guesses == truth).float().mean())


def _backgrounds(source: str, people: Sequence[str]) -> tuple | None:
    """The contexts of a forged set's pictures drawn without the person; None where they cannot be drawn."""
    from remem_tasks.benchmarks.remem.forge import draw_pictures, read_knobs
    from remem_tasks.forge.people import make_people

    knobs = read_knobs(source)
    if knobs is None:
        return None
    place = {name: index for index, name in enumerate(people)}
    drawn = []
    for test, count in ((False, knobs.images), (True, knobs.test_qa)):
        pixels, labels = [], []
        for person in make_people(knobs.identities, knobs.seed):
            if person.slug in place:
                for _, picture in draw_pictures(person, count, test, knobs, empty=True):
                    pixels.append(_small(picture))
                    labels.append(place[person.slug])
        drawn += [np.stack(pixels), labels]
    return tuple(drawn)


# Words


def majority_guess(train: Iterable[dict], test: Sequence[dict], unseen: bool) -> float:
    """EM of always giving the commonest value of the row's attribute.

    Args:
        train, test: rows with `keywords`, `attribute`, `identity`.
        unseen: count only other people's values, as for somebody training never showed.
    """
    counts: dict[str, Counter] = defaultdict(Counter)
    for row in train:
        counts[row["attribute"]][row["identity"], row["keywords"]] += 1
    hits = 0
    for row in test:
        values: Counter = Counter()
        for (identity, value), count in counts[row["attribute"]].items():
            if not unseen or identity != row["identity"]:
                values[value] += count
        hits += bool(values) and tokens(values.most_common(1)[0][0]) == tokens(row["keywords"])
    return hits / len(test)


def _question_words(text: str) -> list[str]:
    """Words without single Latin letters and digits, as the classifier's library leaves them out."""
    return [word for word in tokens(text) if len(word) > 1 or not word.isascii()]


def word_guess(train: Sequence[dict], test: Sequence[dict], unseen: bool, folds: int = 5) -> float:
    """EM of a linear classifier that sees the question's words alone.

    Args:
        unseen: guess each person's values with a classifier trained on other people only.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    names = sorted({row["identity"] for row in train})
    fold = {name: index % folds for index, name in enumerate(names)}
    hits = 0
    for held in range(folds) if unseen else (None,):
        known = [row for row in train if held is None or fold[row["identity"]] != held]
        asked = [row for row in test if held is None or fold.get(row["identity"], 0) == held]
        if not asked:
            continue
        classifier = make_pipeline(
            TfidfVectorizer(tokenizer=_question_words, token_pattern=None, ngram_range=(1, 2)), LinearSVC()
        )
        with warnings.catch_warnings():  # many values of few rows each are what is meant here
            warnings.filterwarnings("ignore", message="The number of unique classes")
            classifier.fit([row["question"] for row in known], [row["keywords"] for row in known])
        guesses = classifier.predict([row["question"] for row in asked])
        hits += sum(tokens(guess) == tokens(row["keywords"]) for guess, row in zip(guesses, asked))
    return hits / len(test)


def _tolerance(rate: float, rows: int) -> float:
    """SIGMAS standard deviations of a share measured on this many rows."""
    return SIGMAS * math.sqrt(max(rate * (1 - rate), 1 / rows) / rows)


def probe(source: str | None, people: int = 20, identity_rule: str | None = None) -> list[CheckResult]:
    """Probe a data set with the splits `finetune` and `test`.

    Args:
        source: folder or Hub id, as in `load_split`.
        people: how many identities the picture probes are about (the first ones by name); the paper's set has 20.

    Raises:
        RememError: no such data, or too little of it to be probed.
    """
    source = load.resolve_source(source)
    splits = {split: load.load_split(source, split, identity_rule) for split in ("finetune", "test")}
    known = set(splits["finetune"]["identity"][:])
    names = sorted(known & set(splits["test"]["identity"][:]))[:people]
    if len(names) < 2:
        raise RememError(f"{source}: test and finetune share {len(names)} identities; a probe needs two")
    train, who = _pictures(splits["finetune"], names)
    test, whose = _pictures(splits["test"], names)
    accuracy = recognition(train, who, test, whose)
    chance = max(Counter(whose).values()) / len(whose)
    proofs = [
        CheckResult(
            f"people recognised in unseen contexts ({len(names)} people, {len(who)} pictures, {len(whose)} unseen ones)",
            accuracy,
            f"at least {RECOGNISED}",
            accuracy >= RECOGNISED,
        )
    ]
    if drawn := _backgrounds(source, names):
        blind = recognition(*drawn)
        most = chance + _tolerance(chance, len(whose))
        bound = f"at most {most:.3f} (chance {chance:.3f})"
        proofs.append(CheckResult("the same from the backgrounds alone", blind, bound, blind <= most))
    else:
        reason = "not available: only drawn data sets can be drawn again without the people"
        proofs.append(CheckResult("the same from the backgrounds alone", None, reason, None))

    texts = {split: list(rows.remove_columns("image")) for split, rows in splits.items()}
    rows = [*texts["finetune"], *texts["test"]]
    shared = shared_personal_values(rows)
    proofs.append(
        CheckResult("personal values that two people share", len(shared), "none", not shared),
    )
    faulty = sum(any(True for _ in text_faults(row)) for row in rows)
    proofs.append(
        CheckResult(
            f"rows of {len(rows)} with a fault of keyword or cloze prompt", faulty, "none", not faulty
        )
    )

    deep = {split: [row for row in rows if row["hop"] > 1] for split, rows in texts.items()}
    for asked, about, unseen in (
        (texts, "people never seen", True),
        (deep, "people not named (2 hops or more)", False),
    ):
        if not asked["finetune"] or not asked["test"]:
            continue
        baseline = majority_guess(asked["finetune"], asked["test"], unseen)
        words = word_guess(asked["finetune"], asked["test"], unseen)
        most = baseline + _tolerance(baseline, len(asked["test"]))
        proofs += [
            CheckResult(f"values guessed of {about}: the commonest", baseline, "the baseline", None),
            CheckResult(
                f"values guessed of {about}: by the question's words",
                words,
                f"at most {most:.3f} (baseline {baseline:.3f})",
                words <= most,
            ),
        ]
    return proofs
