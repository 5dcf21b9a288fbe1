"""Which scores a run asks for and how they are measured: chosen once, recorded with the results."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.metrics.exposure import M
from remem_tasks.metrics.memo import MAX_NEW_TOKENS, STRIDE

FAMILIES = ("em", "memo", "exposure")
ASKED_FOR = ("visual", "membership", "memorisation")
"""Families that are measured where they are named only."""
ROLLOUTS = ("distinct", "frequency")
CHOICES = {
    "caption_questions": ("own", "published"),
    "faults": ("refuse", "allow"),
    "estimator": ("exact", *ROLLOUTS),
    "cloze_context": ("question", "picture"),
}
RANGES = {
    "rollouts": (1, 4096),
    "rank_budget": (0, 2**31),
    "memo_stride": (1, 10_000),
    "memo_tokens": (1, 4096),
    "references": (0, 100_000),
    "rollout_seed": (0, 2**63 - 1),
    "shots": (0, 16),
}


@dataclass(frozen=True)
class ScoringConfig:
    """The scores of a run.

    Attributes:
        metrics: families of scores: em (with keyword recall and ROUGE-L), memo, exposure; where they are
            named visual (the same questions without the picture, and with another person's), membership and
            memorisation (what the model's probabilities say of the whole answer).
        rollouts: M, the guesses of an attacker among which the secret is ranked.
        estimator: of the guess rank: `exact` (search; Exposure), and one of `distinct` (M distinct outcomes and
            their probabilities) and `frequency` (M true rollouts) for what rollouts show (rollout Exposure).
        rank_budget: prefixes that may be read for one secret where a beam cannot say its exact rank; behind it the
            rank is an interval.
        cloze_context: what stands in the user's turn before the cloze prompt: the picture and the
            `question`, or the `picture` alone.
        references: at most so many values of other identities in the reference rank; more are drawn from.
        memo_stride: characters from one cut of the answer to the next.
        memo_tokens: the longest continuation of a cut.
        rollout_seed: of the rollouts; a row's random stream depends on it and on the row's id alone.
        forget: the forget set, whose people count as forgotten where a split holds others too.
        shots: demonstrations before MLLMU-Bench's questions with options, of people in no forget set.
        caption_questions: which nine questions ask for CLEAR's captions: this project's `own` or the `published` ones.
        faults: what becomes of rows that `remem data check` calls faulty: `refuse` stops the run, `allow`
            goes on and tells of them under `not_available`.
        gold: samples file of the gold model, or the folder it was scored to, for CLEAR's forget quality.
    """

    metrics: tuple[str, ...] = FAMILIES
    rollouts: int = M
    estimator: tuple[str, ...] = ("exact", "distinct")
    rank_budget: int = 2048
    cloze_context: str = "question"
    references: int = 256
    memo_stride: int = STRIDE
    memo_tokens: int = MAX_NEW_TOKENS
    rollout_seed: int = 0
    forget: str = "forget1"
    gold: str = ""
    shots: int = 0
    faults: str = "refuse"
    caption_questions: str = "own"

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise RememError(f"{name} {getattr(self, name)} is out of range: {low} to {high}")
        for name, known in (("metrics", (*FAMILIES, *ASKED_FOR)), *CHOICES.items()):
            value = getattr(self, name)
            chosen = value if isinstance(value, tuple) else (value,)
            if unknown := [item for item in chosen if item not in known] or (not chosen and ["none"]):
                raise RememError(f"{name} '{unknown[0]}' unknown; choose from {', '.join(known)}")
        if set(ROLLOUTS) <= set(self.estimator):
            raise RememError(
                f"estimator {','.join(self.estimator)}: one of {' and '.join(ROLLOUTS)} at a time"
            )

    def record(self) -> dict:
        """What goes into the results file."""
        return {
            **asdict(self),
            "metrics": list(self.metrics),
            "estimator": ",".join(self.estimator),
            "sampling": "temperature 1, no top-k, no top-p"
            + (", prefixes no likelier than the secret merged" if "distinct" in self.estimator else ""),
        }


SETTINGS = tuple(setting.name for setting in fields(ScoringConfig))


def variable(name: str) -> str:
    """The environment variable of a setting: `REMEM_ROLLOUTS`."""
    return f"REMEM_{name.upper()}"


def _parsed(name: str, value: Any) -> Any:
    default = getattr(ScoringConfig, name)
    if isinstance(default, tuple):
        items = value.split(",") if isinstance(value, str) else value
        return tuple(dict.fromkeys(str(item).strip() for item in items if str(item).strip()))
    try:
        return type(default)(value)
    except (TypeError, ValueError) as error:
        raise RememError(f"{name} '{value}' is not a whole number") from error


def scoring_config_of(metadata: Mapping) -> ScoringConfig:
    """The suite of a task: environment (`REMEM_METRICS` …) before the YAML's metadata before the defaults.

    Raises:
        RememError: a value that is unknown or out of range.
    """
    found: dict[str, Any] = {}
    for name in SETTINGS:
        value = os.environ.get(variable(name)) or metadata.get(name)
        if value is not None:
            found[name] = _parsed(name, value)
    return ScoringConfig(**found)


FLAGS = {
    "metrics": "families of scores, by commas: em, memo, exposure, visual, membership, memorisation",
    "rollouts": "M, guesses among which a secret is ranked",
    "estimator": "of that rank, by commas: exact; distinct or frequency for what rollouts show",
    "rank_budget": "prefixes read for one exact rank before it is an interval",
    "cloze_context": "before the cloze prompt: question or picture",
    "references": "at most so many values of other identities in the reference rank",
    "memo_stride": "characters from one cut of an answer to the next",
    "memo_tokens": "the longest continuation of a cut",
    "rollout_seed": "of the guesses",
    "forget": "the forget set whose people count as forgotten",
    "shots": "demonstrations before MLLMU-Bench's questions with options",
    "caption_questions": "which nine questions ask for CLEAR's captions: own or published",
    "faults": "of rows that `remem data check` names: refuse or allow",
    "gold": "samples of the gold model for CLEAR's forget quality: a file, or its --output_path",
}


def flags_parser() -> argparse.ArgumentParser:
    """The suite's settings as flags of `lmms_eval`."""
    parser = argparse.ArgumentParser(prog="lmms_eval", add_help=False, allow_abbrev=False, usage="")
    group = parser.add_argument_group(
        "scores of the tasks of this package (for plain lmms-eval: environment variables such as "
        f"{variable('metrics')}, or `metadata` of a task's YAML)"
    )
    for name in SETTINGS:
        default = getattr(ScoringConfig, name)
        shown = ",".join(default) if isinstance(default, tuple) else default
        group.add_argument(f"--{name}", help=f"{FLAGS[name]} (default: {shown})", metavar="X")
    return parser


NO_TURN = "this backend cannot continue an unfinished assistant turn (remem_hf can)"
NO_ANSWERS = "this backend gives no log-probabilities of given answers (remem_hf does)"
NO_LOGPROBS = (
    "this backend gives no log-probabilities (remem_hf does); for rollouts of it: --estimator frequency"
)


@dataclass(frozen=True)
class BackendCapabilities:
    """What a backend can do beside greedy replies; each a reason why not, empty where it can.

    Attributes:
        white_box: answer an `WhiteBoxRequest`.
        rollouts: sample from the model's own distribution.
        rollout_options: generation settings with which it does.
        without: of a white box, the estimators (`exact`, …) and families of scores that it cannot give, and why not.
    """

    white_box: str = NO_TURN
    rollouts: str = "its sampling cannot be checked"
    rollout_options: Mapping = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)


def fit(scoring: ScoringConfig, capabilities: BackendCapabilities) -> tuple[ScoringConfig, dict[str, str]]:
    """The part of a suite that a backend can do (at least greedy replies), and why the rest is not available.

    A white box that has none of the estimators that are asked for draws rollouts (`frequency`).
    """
    missing: dict[str, str] = {}
    estimators = scoring.estimator
    if not capabilities.white_box:
        missing |= {name: why for name, why in capabilities.without.items() if name not in estimators}
        estimators = tuple(one for one in estimators if one not in capabilities.without) or ("frequency",)
    if capabilities.white_box:
        missing["memo"] = capabilities.white_box
        missing |= dict.fromkeys(("membership", "memorisation"), NO_ANSWERS)
        if "frequency" not in scoring.estimator:
            missing["exposure"] = NO_LOGPROBS
        elif capabilities.rollouts:
            missing["exposure"] = capabilities.rollouts
    missing = {name: why for name, why in missing.items() if name in scoring.metrics}
    kept = tuple(name for name in scoring.metrics if name not in missing) or ("em",)
    if "exposure" in kept and not capabilities.white_box:
        missing |= {one: why for one, why in capabilities.without.items() if one in scoring.estimator}
    return replace(scoring, metrics=kept, estimator=estimators), missing
