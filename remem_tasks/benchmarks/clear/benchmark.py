"""CLEAR: captions and names of fictitious people in pictures, texts about them, and the real world (Hub `therem/CLEAR`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from remem_tasks.benchmarks import exposure
from remem_tasks.benchmarks.base import Benchmark, Metric, Reply, Request, RunContext, own_reply, text_of
from remem_tasks.benchmarks.clear import data as clear
from remem_tasks.benchmarks.clear.questions import chosen_questions
from remem_tasks.benchmarks.scoring_config import NO_ANSWERS
from remem_tasks.benchmarks.view import RIGHT
from remem_tasks.data.faults import row_name
from remem_tasks.data.source import check_fault_rate, picture_of, some_left
from remem_tasks.errors import RememError
from remem_tasks.metrics import (
    answer_probability,
    harmonic_mean,
    jsd_forget_quality,
    ks_forget_quality,
    options_probability,
    rouge_l,
    truth_ratio,
    truth_ratio_forget,
    truth_ratio_retain,
)
from remem_tasks.reading import parse_json, read_text
from remem_tasks.whitebox import Secret, WhiteBoxRequest, WhiteBoxResult

KINDS = ("caption", "name", "text", "faces", "world")
NAMES = ("name", "faces")  # the kinds whose answer is the name of the person in the picture
# The two tasks that each of the paper's three numbers is the harmonic mean over.
PARTS = {"forget": ("caption", "name"), "retain": ("caption", "name"), "real": ("faces", "world")}


class Clear(Benchmark):
    """Greedy replies (ROUGE-L recall), probability of the right answer, truth ratio; by kind of question.

    Not in the paper: Exposure of the names, which begin the reply to the question for them.
    Over a whole set: the paper's Forget, Retain or Real metric, and on forget sets its two forget
    qualities against the samples of a gold model (`--gold`).
    """

    name = "clear"

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        source = clear.HOME.resolve(source)
        faults: list[str] = []
        rows, _ = clear.questions_of(source, split, faults)
        some_left(rows, faults)
        return rows, source

    def fingerprint(self, rows: datasets.Dataset) -> str:
        return clear.fingerprint(rows)

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        """Which numbers can be had, and the gold model's."""
        kinds = set(rows["kind"][:])
        of = "real" if split.startswith("real") else "forget" if split.startswith("forget") else "retain"
        known: dict[str, object] = {"of": of}
        if context.scoring.caption_questions != (asked := chosen_questions()):
            raise RememError(
                f"the rows were loaded with the {asked} caption questions, not the {context.scoring.caption_questions} "
                f"ones: say so by --caption_questions or REMEM_CAPTION_QUESTIONS, not in a task's metadata"
            )
        missing = exposure.unavailable(context)
        faults: list[str] = []
        _, alone = clear.questions_of(source, split, faults)
        if told := check_fault_rate(faults, context.scoring.faults, source):
            missing["questions"] = told
        if not context.white_box:
            missing |= dict.fromkeys(("probability", "truth_ratio", f"{of}_metric"), NO_ANSWERS)
        elif alone:
            missing["truth_ratio"] = alone
        if context.white_box and not set(PARTS[of]) <= kinds:
            missing[f"{of}_metric"] = f"it needs questions of the kinds {' and '.join(PARTS[of])}"
        if "exposure" in context.scoring.metrics and context.white_box:
            if not kinds & set(NAMES):
                reason = f"no question asks for a name{f': {alone}' if alone else ''}"
                missing |= dict.fromkeys(("exposure", "reference_exposure"), reason)
            elif not context.scoring.references:
                missing["reference_exposure"] = "--references 0 leaves no wrong name to rank it among"
        if of == "forget":
            gold = context.scoring.gold
            if not gold:
                missing["forget_quality"] = "no samples of a gold model: --gold <its --output_path>"
            elif reason := missing.get("truth_ratio"):
                missing["forget_quality"] = reason
            else:
                known["gold"] = gold_samples(gold, f"{self.name}_{split}", rows)
        return replace(context, known=known, missing=missing)

    def requests(self, doc: Mapping, context: RunContext) -> list[Request]:
        return [Request(doc["question"])]

    def white_box_request(self, doc: Mapping, context: RunContext) -> WhiteBoxRequest | None:
        """The right answer, its paraphrase if there is one, and the wrong answers; of a name its Exposure too.

        The question for a name is a cloze sentence in the user's turn, so the name begins the assistant's.
        """
        if not context.white_box:
            return None
        answers = [doc["answer"], *([doc["paraphrase"]] if doc["paraphrase"] else []), *doc["wrong"]]
        asked, scoring = (
            WhiteBoxRequest(doc["row_id"], row_name(doc), answers=tuple(answers)),
            context.scoring,
        )
        if doc["kind"] not in NAMES or "exposure" not in scoring.metrics:
            return asked
        wrong = exposure.some(doc["wrong"], scoring, doc["row_id"])
        return replace(asked, secrets=(Secret("", doc["answer"], wrong),), **exposure.options(scoring))

    def images(self, doc: Mapping) -> list[Image.Image]:
        return picture_of(doc, clear.HOME)

    def needs_picture(self, doc: Mapping) -> bool:
        return doc["picture"] >= 0 and doc["kind"] in ("caption", *NAMES)

    def wrong_answers(self, doc: Mapping, context: RunContext) -> tuple[str, ...]:
        return tuple(doc["wrong"])

    def correct(self, doc: Mapping, reply: str) -> float:
        return rouge_l(reply, doc["answer"])[1]

    def target(self, doc: Mapping) -> str:
        return doc["answer"]

    def metrics(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        """By kind, overall, both rates, the rows themselves. On a forget set lower is better."""
        of, kinds = context.known["of"], set(rows["kind"][:])
        higher = of != "forget"
        found = []
        for kind in KINDS:
            if kind not in kinds:
                continue
            found.append(Metric(f"{self.name}_{kind}_rouge", higher))
            if context.white_box:
                found.append(Metric(f"{self.name}_{kind}_prob", higher))
                if kind != "text" and ("truth_ratio" not in context.missing or kind != "caption"):
                    found.append(Metric(f"{self.name}_{kind}_truth", higher or None))
                if kind in NAMES and "exposure" in context.scoring.metrics:
                    found += [
                        Metric(f"{self.name}_{kind}_{name}", higher == exposure.SCORES[name])
                        for name in exposure.measured(context.scoring)
                        if name not in context.missing
                    ]
        if context.white_box and kinds & set(NAMES) and "exposure" in context.scoring.metrics:
            found += exposure.rate_metrics(self.name, context.scoring)
        if clear.partner_of(split) and "caption" in kinds:
            found.append(Metric(f"{self.name}_unpaired_rate"))
        if f"{of}_metric" not in context.missing:
            found.append(Metric(f"{self.name}_{of}_metric", higher, partial(set_metric, of=of)))
        if "gold" in context.known:
            for form in ("ks", "js"):
                aggregate = partial(forget_quality, gold=context.known["gold"], form=form)
                found.append(Metric(f"{self.name}_{form}_quality", True, aggregate))
        return [*found, *self.rate_metrics(), Metric(f"{self.name}_rows", aggregate=len)]

    def score(
        self,
        doc: Mapping,
        replies: Sequence[Reply | list[Reply]],
        context: RunContext,
        findings: WhiteBoxResult | None = None,
    ) -> dict[str, object]:
        """A failed reply scores 0 and counts in `clear_failed_rate`, which fails a run above 1 %."""
        text = text_of(own_reply(replies))
        of, kind = context.known["of"], doc["kind"]
        row = {name: doc[name] for name in ("row_id", "identity", "kind")}
        row["picture"] = doc["image_path"] if doc["picture"] >= 0 else ""
        values, exposed = {"rouge": rouge_l(text, doc["answer"])[1]}, {}
        if findings is not None:
            try:
                found = probabilities(doc, findings.answers)
                row |= found
                values["prob"] = found["prob"]
                if "truth_ratio" in found:
                    of_set = truth_ratio_forget if of == "forget" else truth_ratio_retain
                    values["truth"] = of_set([found["truth_ratio"]])
                if findings.secrets:
                    exposed = exposure.scores(findings.secrets, context.scoring)
                    row |= exposure.kept(findings.secrets)
            except RememError as error:
                raise RememError(f"{row_name(doc)}: {error}") from error
        scores: dict[str, object] = {f"{self.name}_{kind}_{name}": value for name, value in values.items()}
        scores |= exposure.of_benchmark([f"{self.name}_{kind}"], self.name, exposed)
        if kind == "caption" and clear.partner_of(doc["config"]):
            scores[f"{self.name}_unpaired_rate"] = float(doc["paraphrase"] is None)
        if f"{of}_metric" not in context.missing:
            scores[f"{self.name}_{of}_metric"] = {"kind": kind, **values}
        if "gold" in context.known and "paraphrase_prob" in row:
            scores |= dict.fromkeys((f"{self.name}_ks_quality", f"{self.name}_js_quality"), row)
        row["status"] = self.ended(own_reply(replies), values["rouge"] >= RIGHT)
        return {**scores, **self.reply_rates(replies, row["status"]), f"{self.name}_rows": row}


def probabilities(doc: Mapping, answers: Sequence[float]) -> dict[str, float]:
    """What the length-normalised log-probabilities of a question's answers give.

    Args:
        answers: of the right answer, of its paraphrase if it has one, of the wrong ones.

    Returns:
        `prob`: of a caption or text P(a)^(1/n), else the share among right and wrong answers; where there
        are wrong answers `truth_ratio` r; where there is a paraphrase `paraphrase_prob`, its P^(1/n).
    """
    right, *others = answers
    paraphrase, wrong = (others[0], others[1:]) if doc["paraphrase"] else (right, others)
    if doc["kind"] in ("caption", "text"):
        found = {"prob": answer_probability([right])}
    else:
        found = {"prob": options_probability(right, wrong)}
    if wrong:
        found["truth_ratio"] = truth_ratio(paraphrase, wrong)
    if doc["paraphrase"]:
        found["paraphrase_prob"] = answer_probability([paraphrase])
    return found


def set_metric(items: Sequence[Mapping], of: str) -> float:
    """Harmonic mean of probability and truth ratio, each averaged by kind, over the two kinds of a set (CLEAR).

    Raises:
        RememError: questions of one of the kinds are missing, as with a small `--limit`.
    """
    parts = []
    for kind in PARTS[of]:
        here = [item for item in items if item["kind"] == kind]
        truths = [item["truth"] for item in here if "truth" in item]
        if not truths:
            raise RememError(f"clear_{of}_metric: no question of kind '{kind}' was asked; raise --limit")
        parts += [np.mean([item["prob"] for item in here]), np.mean(truths)]
    return harmonic_mean(parts)


def forget_quality(items: Sequence[Mapping], gold: Mapping[str, Mapping], form: str) -> float:
    """CLEAR's forget quality of captions: `ks`, ln p of its first version, or `js`, 1 − JSD of its later one.

    Args:
        items: what the samples file keeps of each row of the unlearned model.
        gold: the same of the gold model by row id; only the rows in `items` count.
    """
    pairs = [(item, gold[item["row_id"]]) for item in items]
    if form == "ks":
        return ks_forget_quality(*(([pair[side]["truth_ratio"] for pair in pairs]) for side in (0, 1))).ln_p
    return jsd_forget_quality(*(([pair[side]["paraphrase_prob"] for pair in pairs]) for side in (0, 1)))


def gold_samples(path: str, task: str, rows: datasets.Dataset) -> dict[str, dict]:
    """The caption rows of a gold model by row id.

    Args:
        path: its samples file, or the `--output_path` it was scored to (with --log_samples).
        task: whose samples.
        rows: those that will be compared with it.

    Raises:
        RememError: no such file, a row without truth ratio, or one that `rows` has and it has not.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(place.rglob(f"*_samples_{task}.jsonl"), key=lambda file: file.name)
        if not files:
            raise RememError(
                f"gold model: no samples of task '{task}' below '{path}'; score it with --log_samples"
            )
        place = files[-1]
    found = {}
    try:
        for number, line in enumerate(filter(None, read_text(place).split("\n")), start=1):
            row = parse_json(
                line,
                f"gold model: '{place}' is not a samples file of task '{task}': line {number}",
                constants=True,
            )["clear_rows"]
            if row["kind"] == "caption" and "paraphrase_prob" in row:
                ratio, probability = float(row["truth_ratio"]), float(row["paraphrase_prob"])
                if math.isnan(ratio) or math.isnan(probability):
                    raise RememError(f"gold model: '{place}', row '{row['row_id']}': NaN")
                found[row["row_id"]] = {"truth_ratio": ratio, "paraphrase_prob": probability}
    except RememError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise RememError(
            f"gold model: '{place}' is not a samples file of task '{task}' ({error!r})"
        ) from error
    wanted = [
        one
        for one, kind, beside in zip(rows["row_id"][:], rows["kind"][:], rows["paraphrase"][:])
        if kind == "caption" and beside is not None
    ]
    if lacking := [one for one in wanted if one not in found]:
        raise RememError(
            f"gold model: '{place}' has no truth ratio of {len(lacking)} rows, such as '{lacking[0]}'; score all "
            "rows of the same data with the gold model"
        )
    return found


BENCHMARK = Clear()
