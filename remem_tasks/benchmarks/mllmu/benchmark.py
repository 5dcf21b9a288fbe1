"""MLLMU-Bench: options, blanks and sentences about fictitious people, with their picture and without (`MLLMMU/MLLMU-Bench`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import datasets
from PIL import Image

from remem_tasks.benchmarks import exposure
from remem_tasks.benchmarks.base import Benchmark, Metric, Reply, Request, RunContext, own_reply, text_of
from remem_tasks.benchmarks.mllmu import data as mllmu
from remem_tasks.benchmarks.view import RIGHT
from remem_tasks.data.faults import row_name
from remem_tasks.data.source import check_fault_rate, picture_of, some_left
from remem_tasks.errors import RememError
from remem_tasks.metrics import exact_match, rouge_l, tokens
from remem_tasks.seeds import stable_choice
from remem_tasks.whitebox import Secret, WhiteBoxRequest, WhiteBoxResult

SCORES = {"classification": "accuracy", "cloze": "cloze", "generation": "rougel"}


class Mllmu(Benchmark):
    """Accuracy of chosen letters, EM of filled blanks, ROUGE-L of sentences; each with the picture and text only.

    Beside the paper's scores: Exposure of what belongs in the blank, from the words before it, and the
    share of replies to questions with options that begin with no letter.
    """

    name = "mllmu"

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        source = mllmu.HOME.resolve(source)
        faults: list[str] = []
        rows = mllmu.questions_of(source, split, faults)
        some_left(rows, faults)
        return rows, source

    def fingerprint(self, rows: datasets.Dataset) -> str:
        return mllmu.fingerprint(rows)

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        """Whether the set is to be forgotten; the questions that demonstrations are drawn from."""
        known: dict[str, object] = {"forget": split.startswith(("forget", "test_"))}
        missing = exposure.unavailable(context)
        faults: list[str] = []
        mllmu.questions_of(source, split, faults)
        if told := check_fault_rate(faults, context.scoring.faults, source):
            missing["questions"] = told
        asked = set(rows["kind"][:])
        for kind, score in SCORES.items():
            if kind not in asked:
                missing[score] = f"no row of '{split}' has a question of the kind {kind}"
        if context.scoring.shots:
            known["kept"] = mllmu.kept_questions(source, split)
            people = {one["identity"] for one in known["kept"]}
            if len(people) <= context.scoring.shots:
                raise RememError(
                    f"--shots {context.scoring.shots}: only {len(people)} people are in no forget set"
                )
        return replace(context, known=known, missing=missing)

    def requests(self, doc: Mapping, context: RunContext) -> list[Request]:
        """The question; before one with options the demonstrations, if any are asked for."""
        if doc["kind"] != "classification" or not context.scoring.shots:
            return [Request(doc["prompt"])]
        return [Request("\n\n".join([*demonstrations(doc, context), doc["prompt"]]))]

    def white_box_request(self, doc: Mapping, context: RunContext) -> WhiteBoxRequest | None:
        scoring = context.scoring
        if not context.white_box or "exposure" not in scoring.metrics or not doc["cloze"]:
            return None
        before = doc["cloze"].rstrip()
        after = [*mllmu.BLANK.split(doc["question"]), ""][1]  # up to another blank
        asked = WhiteBoxRequest(
            doc["row_id"],
            row_name(doc),
            secrets=(Secret(before, doc["cloze"][len(before) :] + doc["answer"], after=after),),
            **exposure.options(scoring),
        )
        # (Without a picture there would be nothing before the blank.)
        return asked if doc["picture"] >= 0 else replace(asked, with_question=True)

    def images(self, doc: Mapping) -> list[Image.Image]:
        return picture_of(doc, mllmu.HOME)

    def needs_picture(self, doc: Mapping) -> bool:
        return doc["picture"] >= 0

    def correct(self, doc: Mapping, reply: str) -> float:
        if doc["kind"] == "classification":
            return float(letter_of(reply) == doc["letter"])
        if doc["kind"] == "cloze":
            return exact_match(reply, [doc["answer"]])
        return rouge_l(reply, doc["answer"])[0]

    def target(self, doc: Mapping) -> str:
        return f"{doc['letter']}: {doc['answer']}" if doc["letter"] else doc["answer"]

    def metrics(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        """Each kind by modality; on a forget set, and its test pictures, lower is better."""
        higher = not context.known["forget"]
        pairs = set(zip(rows["kind"][:], rows["modality"][:]))
        found = [
            Metric(f"{self.name}_{modality}_{score}", higher)
            for kind, score in SCORES.items()
            for modality in ("image", "text")
            if (kind, modality) in pairs
        ]
        if context.white_box and "exposure" in context.scoring.metrics:
            found += [
                Metric(f"{self.name}_{modality}_{name}", higher == exposure.SCORES[name])
                for modality in ("image", "text")
                for name in exposure.measured(context.scoring)
                if name not in ("reference_exposure", "cloze_prob")  # `…_cloze` is the EM of filled blanks
                and any(
                    cloze and place == modality for cloze, place in zip(rows["cloze"][:], rows["modality"][:])
                )
            ]
            found += exposure.rate_metrics(self.name, context.scoring)
        if any(kind == "classification" for kind, _ in pairs):
            found.append(Metric(f"{self.name}_unlettered_rate", False))
        return [*found, *self.rate_metrics(), Metric(f"{self.name}_rows", aggregate=len)]

    def score(
        self,
        doc: Mapping,
        replies: Sequence[Reply | list[Reply]],
        context: RunContext,
        findings: WhiteBoxResult | None = None,
    ) -> dict[str, object]:
        """A failed reply scores 0 and counts in `mllmu_failed_rate`, which fails a run above 1 %."""
        text = text_of(own_reply(replies))
        row = {name: doc[name] for name in ("row_id", "identity", "kind", "modality")}
        row["picture"] = doc["image_path"] if doc["picture"] >= 0 else ""
        row["forgotten"] = context.known["forget"]
        prefix, scores = f"{self.name}_{doc['modality']}", {}
        if doc["kind"] == "classification":
            row["said"] = said = letter_of(text)
            scores[f"{prefix}_accuracy"] = float(said == doc["letter"])
            scores[f"{self.name}_unlettered_rate"] = float(not said)
        elif doc["kind"] == "cloze":
            scores[f"{prefix}_cloze"] = exact_match(text, [doc["answer"]])
        else:
            scores[f"{prefix}_rougel"] = rouge_l(text, doc["answer"])[0]
        if findings is not None:
            found = exposure.scores(findings.secrets, context.scoring)
            del found["cloze_prob"]
            scores |= exposure.of_benchmark([prefix], self.name, found)
            row |= exposure.kept(findings.secrets)
        row["status"] = self.ended(own_reply(replies), scores[f"{prefix}_{SCORES[doc['kind']]}"] >= RIGHT)
        return {**scores, **self.reply_rates(replies, row["status"]), f"{self.name}_rows": row}


def letter_of(reply: str) -> str:
    """The option that a reply chooses: its first word, if that is one of the letters; else "".

    >>> letter_of("B: Oslo"), letter_of("(c)"), letter_of("Because")
    ('B', 'C', '')
    """
    first = next(iter(tokens(reply)), "").upper().rstrip("+-#")
    return first if first in mllmu.LETTERS else ""


def demonstrations(doc: Mapping, context: RunContext) -> list[str]:
    """Answered questions about other people, none of whom is to be forgotten; drawn by the question's id."""
    pool = [one for one in context.known["kept"] if one["identity"] != doc["identity"]]
    chosen: list[Mapping] = []
    while len(chosen) < context.scoring.shots:
        people = {one["identity"] for one in chosen}
        left = [one for one in pool if one["identity"] not in people]
        chosen.append(
            left[stable_choice(len(left), "shot", context.scoring.rollout_seed, doc["row_id"], len(chosen))]
        )
    return [
        f"{mllmu.option_lines(one['question'], one['options'])}\nAnswer: {one['letter']}" for one in chosen
    ]


BENCHMARK = Mllmu()
