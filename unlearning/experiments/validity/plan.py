"""What a trial of metrics does: its pools, its unlearned models, the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.metrics.memo import memo_name
from unlearning.experiments.sweep.plan import FORGET_METHODS, Settings, SweepPlan, grid, label
from unlearning.methods import METHODS

KNOWS = ("told", "retold")
"""Kinds of models that learned the forgotten people: from their rows; from test rows, in other words and pictures."""
NEVER = ("kept", "wrong", "others")
"""Kinds that never did: more rows of who stays; the forgotten people's questions with other people's values; test
rows of who stays."""
FAMILIES = "em,memo,exposure,membership,memorisation"
LENS = "lens_top4"

HEADS = {
    "em": "EM",
    "keyword_recall": "keyword recall",
    "rougel": "ROUGE-L",
    memo_name(): "MEMO",
    "exposure": "Exposure",
    "rollout_exposure": "rollout Exposure",
    "reference_exposure": "reference exposure",
    "secret_bits": "secret bits",
    "extraction_rate": "extraction rate",
    "cloze_prob": "cloze probability",
    "extraction_strength": "extraction strength",
    "exact_memorisation": "exact memorisation",
    "member_loss": "membership: loss",
    "member_zlib": "membership: zlib",
    "member_mink40": "membership: Min-K 40 %",
    "member_minkpp40": "membership: Min-K++ 40 %",
    "member_auc_loss": "membership: AUC of loss",
    "truth_ratio": "truth ratio",
    LENS: "logit lens, top 4",
}
"""The metrics on trial, as scoring calls them (a mean over the forget rows, or of the set), with their heads."""
MOST = 12
"""Settings of one method: beyond, learning rates are so far from its own that nothing or everything breaks."""
LOWER = ("secret_bits",)
"""Of these less says that more is known."""

PUBLISHED = {
    "em": (0.817, 0.750),
    "extraction_strength": (0.891, 0.859),
    "rougel": (0.722, 0.333),
    "truth_ratio": (0.947, 0.379),
    "cloze_prob": (0.816, 0.757),
    "member_loss": (0.902, 0.668),
    "member_zlib": (0.867, 0.642),
    "member_mink40": (0.907, 0.675),
    "member_minkpp40": (0.816, 0.579),
    LENS: (0.927, 0.879),
    "UDS": (0.971, 0.932),
}
"""Faithfulness and robustness of the like metrics on text models (UDS, arXiv 2605.24614): Llama-3.2-1B on TOFU, 30 + 30
pool models, 150 unlearned. `cloze_prob` stands beside their probability of the whole answer."""


@dataclass(frozen=True)
class Member:
    """A model of a pool.

    Attributes:
        name: of its record.
        knows: which pool.
        kind: of KNOWS or NEVER: what it is trained on.
    """

    name: str
    knows: bool
    kind: str
    rate: float
    steps: int
    seed: int


@dataclass(frozen=True)
class Forgetting:
    """A training that unlearns, looked at after some of its steps: each look is a model."""

    name: str
    method: str
    settings: Settings
    steps: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class ValidityPlan:
    """What is done with one architecture's models.

    Attributes:
        data: folder or Hub id, in ReMem's shape.
        start, gold: the checkpoint that has memorised everything; one that never saw the forgotten people, from which
            both pools are trained.
        forget, retain: splits.
        pool: models of each pool.
        unlearned: unlearned models; looks at one training after `looks` steps are so many models.
        methods: that unlearn.
        rates, lengths: learning rates and steps of the pools' trainings.
        looks: optimizer steps after which unlearning is looked at; the learning rate is constant.
        batch: rows (pairs) per step.
        lr_scale: times a method's own learning rate is the middle of its grid.
        relearn: options of `remem train` for relearning, on all forget rows.
        utility: share of the start's retain EM that an unlearned model has to have left.
        max_rows: rows of each set that are scored at most.
        seed: of everything.
        device: `cpu` or `cuda`.
    """

    data: str
    start: str
    gold: str
    forget: str = "forget1"
    retain: str = "retain"
    pool: int = 20
    unlearned: int = 30
    methods: tuple[str, ...] = ("npo", "idk", "grad_diff", "simnpo", "undial", "rmu")
    rates: tuple[float, ...] = (3e-4, 1e-3)
    lengths: tuple[int, ...] = (24, 48)
    looks: tuple[int, ...] = (10, 20, 40)
    batch: int = 8
    lr_scale: float = 5.0
    relearn: str = "--learning_rate 5e-4 --num_train_epochs 1 --per_device_train_batch_size 8"
    utility: float = 0.8
    max_rows: int = 60
    seed: int = 0
    device: str = "cpu"

    def check(self) -> None:
        """Raise a RememError that names what is unknown or out of range."""
        for name in self.methods:
            if name not in FORGET_METHODS or not METHODS[name].trains:
                raise RememError(f"--methods '{name}' is no forget method that trains")
        for name, least in (("pool", 2), ("unlearned", 1), ("batch", 1), ("max_rows", 1)):
            if getattr(self, name) < least:
                raise RememError(
                    f"--{name.replace('_', '-')} {getattr(self, name)} is out of range: at least {least}"
                )
        for name in ("methods", "rates", "lengths", "looks"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise RememError(f"--{name} needs different values, not {list(values)}")
        if min((*self.rates, *self.lengths, *self.looks, self.lr_scale)) <= 0:
            raise RememError("--rates, --lengths, --looks and --lr-scale are above 0")
        if not 0 <= self.utility <= 1:
            raise RememError(f"--utility {self.utility} is out of range: 0 to 1")

    def shared(self) -> dict[str, Any]:
        """What every record depends on, beside rows and weights: sizes may grow."""
        values = asdict(self)
        for name in ("pool", "unlearned", "methods", "utility", "data", "start", "gold"):
            del values[name]
        return values

    def members(self) -> list[Member]:
        """Both pools: kinds, then learning rates, then lengths in turn, each with a seed of its own."""
        found = []
        for side, kinds in ((True, KNOWS), (False, NEVER)):
            for place in range(self.pool):
                kind, turn = kinds[place % len(kinds)], place // len(kinds)
                rate = self.rates[turn % len(self.rates)]
                steps = self.lengths[turn // len(self.rates) % len(self.lengths)]
                seed = self.seed + place
                name = f"pools/{'knows' if side else 'never'}{place:02d}_{kind}"
                found.append(Member(name, side, kind, rate, steps, seed))
        return found

    def forgettings(self) -> list[Forgetting]:
        """Trainings that give `unlearned` models, method after method, from each method's first setting to its last.

        Raises:
            RememError: so many different ones there are not.
        """
        wanted = -(-self.unlearned // len(self.looks))
        each = -(-wanted // len(self.methods))
        sweep = SweepPlan(self.data, self.start, self.gold, budget=min(each, MOST), lr_scale=self.lr_scale)
        grids: dict[str, Sequence[Settings]] = {name: grid(name, sweep) for name in self.methods}
        found = []
        for place in range(each):
            for method, settings in grids.items():
                if place < len(settings):
                    name = f"unlearned/{method}/{label(settings[place])}"
                    found.append(Forgetting(name, method, settings[place], self.looks, self.seed))
        if len(found) < wanted:
            raise RememError(f"--unlearned {self.unlearned}: these methods have {len(found)} settings alone")
        return found[:wanted]
