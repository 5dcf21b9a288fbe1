"""ReMem: questions in 1, 2 or more hops about fictitious people in pictures (Hub `herbwood27/Remem`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
from PIL import Image

from remem_tasks.benchmarks import exposure
from remem_tasks.benchmarks.base import FactBenchmark, Metric, Reply, Request, RunContext, own_reply, text_of
from remem_tasks.benchmarks.remem.data import (
    FINETUNE,
    available_splits,
    load_split,
    resolve_source,
    retain_rows,
)
from remem_tasks.benchmarks.remem.perturbed import load_perturbed
from remem_tasks.benchmarks.remem.validate import OF_CLOZE, table_faults
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.data.faults import row_name, settle
from remem_tasks.data.people import check_known
from remem_tasks.data.pictures import decode_image
from remem_tasks.data.rows import fingerprint, parse_keywords
from remem_tasks.errors import RememError
from remem_tasks.metrics import (
    continuations,
    cut_points,
    exact_match,
    extraction_rate,
    frequency_rank,
    keyword_recall,
    mean_over_phrases,
    memo,
    memo_name,
    rouge_l,
)
from remem_tasks.metrics.exposure import exposure as exposure_of_rank
from remem_tasks.metrics.words import length, tokens
from remem_tasks.whitebox import Secret, WhiteBoxRequest, WhiteBoxResult

GREEDY_SCORES = ("em", "keyword_recall", "rougel", "rouge_recall")
PROMPTED_SCORES = ("prompted_exposure", "prompted_extraction_rate")
ROLLOUT_TOKENS = 64  # of a reply that says the cloze prompt again and then completes it


class Remem(FactBenchmark):
    """Replies to `question` with the row's picture, and what the model's probabilities still hold.

    EM, keyword recall and ROUGE-L from greedy replies; MEMO from continued answers; Exposure and its kin
    from the cloze prompt. Overall, by hop, and by target where a split holds forgotten people and others.
    """

    name = "remem"
    scores_other_questions = True  # by the phrases of its answer, whatever was asked

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        source = resolve_source(source)
        rows = load_split(source, split)
        return rows, os.path.abspath(source) if os.path.isdir(source) else source

    def fingerprint(self, rows: datasets.Dataset) -> str:
        return fingerprint(rows)

    def fact(self, doc: Mapping) -> Mapping:
        return doc

    def kept_rows(self, source: str, forget: str) -> datasets.Dataset:
        """The rows that were memorised of everybody else."""
        return retain_rows(load_split(source, FINETUNE), load_split(source, forget))

    def people(self, source: str, split: str) -> set[str]:
        """Nobody where the data have no such split."""
        if split not in available_splits(source):
            return set()
        return set(load_split(source, split, pictures=False)["identity"][:])

    def other_views(self, source: str) -> list[datasets.Dataset]:
        return [load_split(source, "test")] if "test" in available_splits(source) else []

    def scoring_of(self, forget: str) -> Mapping[str, str]:
        return {"forget": forget}

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        """Who is forgotten; and, for Exposure, the values that other identities have."""
        scoring, missing = context.scoring, dict(context.missing)
        known: dict[str, Any] = {}
        if scoring.forget != ScoringConfig.forget and scoring.forget not in (
            splits := available_splits(source)
        ):
            raise RememError(
                f"--forget {scoring.forget}: {source} has no such split; it has {', '.join(splits) or 'none'}"
            )
        faults = table_faults([rows])
        if "exposure" not in scoring.metrics:
            faults = [fault for fault in faults if fault.kind not in OF_CLOZE]
        if told := settle(faults, scoring.faults, source):
            missing["faultless rows"] = told
        if not split.startswith("forget"):
            try:
                forgotten = set(load_split(source, scoring.forget, pictures=False)["identity"][:])
                known["forgotten"] = forgotten
                people = set(rows["identity"][:])
                known["by_target"] = len({identity in forgotten for identity in people}) == 2
                if not forgotten & people and not split.startswith(
                    "retain"
                ):  # of which nobody is meant to be
                    check_known(forgotten, people, f"'{scoring.forget}'", f"'{split}'")
            except RememError as error:
                missing["scores by target"] = str(error)
        for name, wanted in (("memo", "answer"), ("exposure", "cloze_prompt")):
            if name not in scoring.metrics:
                continue
            for row in rows.select_columns([wanted, "row_id", "image_path"]):
                if len((row[wanted] or "").strip()) < 2:
                    others = ",".join(family for family in scoring.metrics if family != name) or "em"
                    raise RememError(
                        f"{row_name(row)}: column '{wanted}' has nothing that {name} could be measured "
                        f"with; --metrics {others} leaves it out"
                    )
        if "exposure" in scoring.metrics and context.white_box:
            if told := _unasked(rows):
                missing["exposure of rows"] = told
            if scoring.references:
                try:
                    known["values"] = _values(load_split(source, "finetune", pictures=False))
                except RememError as error:
                    missing["reference_exposure"] = str(error)
        if "membership" in scoring.metrics and context.white_box:
            try:
                beside = load_perturbed(source, split)["perturbed_answer"][:]
                known["wrong"] = {f"{split}:{place}": wrong for place, wrong in enumerate(beside)}
            except RememError as error:
                missing["member_auc"] = str(error)
        return replace(context, known=known, missing=missing)

    def requests(self, doc: Mapping, context: RunContext) -> list[Request]:
        """The question; and where rollouts are all there is, M replies that are to begin as the cloze prompt."""
        asked = [Request(doc["question"])]
        scoring = context.scoring
        if "exposure" in scoring.metrics and not context.white_box:
            begin = f"Answer with one sentence that begins with these words: {doc['cloze_prompt'].rstrip()}"
            lines = [doc["question"], begin] if scoring.cloze_context == "question" else [begin]
            options = {**context.rollout_options, "max_new_tokens": ROLLOUT_TOKENS}
            asked.append(Request("\n".join(lines), generation_kwargs=options, repeats=scoring.rollouts))
        return asked

    def white_box_request(self, doc: Mapping, context: RunContext) -> WhiteBoxRequest | None:
        scoring = context.scoring
        if not context.white_box or not {"memo", "exposure"} & set(scoring.metrics):
            return None
        cuts: tuple[int, ...] = ()
        secrets: tuple[Secret, ...] = ()
        if "memo" in scoring.metrics:
            cuts = tuple(cut_points(doc["answer"], scoring.memo_stride))
        if "exposure" in scoring.metrics:
            secrets = tuple(self._secrets(doc, context))
        if not cuts and not secrets:
            return None
        return WhiteBoxRequest(
            row_id=doc["row_id"],
            name=row_name(doc),
            answer=doc["answer"] if cuts else "",
            cuts=cuts,
            memo_tokens=scoring.memo_tokens,
            secrets=secrets,
            **exposure.options(scoring),
        )

    @staticmethod
    def _secrets(doc: Mapping, context: RunContext) -> Iterator[Secret]:
        """Each phrase of the row that its cloze prompt leads to, beside what other identities have in its place."""
        phrases = parse_keywords(doc["keywords"])
        found = continuations(doc["answer"], doc["cloze_prompt"], phrases)
        for place, (phrase, secret) in enumerate(zip(phrases, found)):
            if secret is None:
                continue
            values = context.known.get("values", {}).get((doc["attribute"], len(phrases), place), {})
            others = [
                said
                for words, (said, identities) in values.items()
                if words != tuple(tokens(phrase)) and identities - {doc["identity"]}
            ]
            space = secret.text[: len(secret.text) - len(secret.text.lstrip())]
            chosen = exposure.some(others, context.scoring, doc["row_id"], place)
            yield Secret(secret.before, secret.text, tuple(space + other for other in chosen), secret.after)

    def images(self, doc: Mapping) -> list[Image.Image]:
        return [decode_image(doc["image"], row_name(doc))]

    def needs_picture(self, doc: Mapping) -> bool:
        return doc["hop"] != 1  # 1-hop questions name the person

    def wrong_answers(self, doc: Mapping, context: RunContext) -> tuple[str, ...]:
        return tuple(context.known.get("wrong", {}).get(doc["row_id"]) or ())

    def correct(self, doc: Mapping, reply: str) -> float:
        return exact_match(reply, parse_keywords(doc["keywords"]))

    def picture_pools(self, source: str, split: str, rows: datasets.Dataset) -> Sequence[datasets.Dataset]:
        known = available_splits(source)
        others = [name for name in ("retain", "finetune", "test") if name in known and name != split]
        return [load_split(source, name) for name in (split, *others)]

    def target(self, doc: Mapping) -> str:
        return doc["answer"]

    def _scores(self, context: RunContext) -> list[str]:
        scoring = context.scoring
        names = list(GREEDY_SCORES)
        if "memo" in scoring.metrics:
            names.append(memo_name(scoring.memo_stride))
        if "exposure" in scoring.metrics:
            names += exposure.measured(scoring) if context.white_box else PROMPTED_SCORES
        if "values" not in context.known:
            names = [name for name in names if name != "reference_exposure"]
        return names

    def metrics(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        """The scores, overall, for each hop and each target among the rows; both rates; the rows themselves.

        On a forget set a lower score is better; on `test` neither, as its rows are about forgotten
        people and kept ones, but of each by itself.
        """
        higher = None if split == "test" else not split.startswith("forget")
        hops = sorted({hop for hop in rows["hop"][:] if hop})
        prefixes = {self.name: higher, **{f"{self.name}_{hop}hop": higher for hop in hops}}
        if context.known.get("by_target"):
            prefixes |= {f"{self.name}_forgotten": False, f"{self.name}_kept": True}
        scores = self._scores(context)
        exposed = "exposure" in context.scoring.metrics and context.white_box
        return [
            *(
                Metric(
                    f"{prefix}_{score}",
                    better if better is None else better == exposure.SCORES.get(score, True),
                )
                for prefix, better in prefixes.items()
                for score in scores
            ),
            *self.rate_metrics(),
            *(exposure.rate_metrics(self.name, context.scoring) if exposed else []),
            *([Metric(f"{self.name}_unasked_rate")] if exposed else []),
            Metric(f"{self.name}_rows", aggregate=len),
        ]

    def score(
        self,
        doc: Mapping,
        replies: Sequence[Reply | list[Reply]],
        context: RunContext,
        findings: WhiteBoxResult | None = None,
    ) -> dict[str, object]:
        """A failed reply scores 0 and counts in `remem_failed_rate`, which fails a run above 1 %."""
        text = text_of(own_reply(replies))
        phrases = parse_keywords(doc["keywords"])
        row = {name: doc[name] for name in ("row_id", "identity", "hop", "attribute", "qa_category")}
        prefixes = [self.name]
        if doc["hop"]:
            prefixes.append(f"{self.name}_{doc['hop']}hop")
        if forgotten := context.known.get("forgotten"):
            row["forgotten"] = doc["identity"] in forgotten
        if context.known.get("by_target"):
            prefixes.append(f"{self.name}_{'forgotten' if row['forgotten'] else 'kept'}")
        try:
            values = {
                "em": exact_match(text, phrases),
                "keyword_recall": keyword_recall(text, phrases),
                **dict(zip(("rougel", "rouge_recall"), rouge_l(text, doc["answer"]))),
            }
            if findings is not None:
                found, more = _of_findings(doc, findings, context)
                values |= found
                row |= more
            if len(replies) > 1:
                found, more = _of_rollouts(doc, phrases, replies[1])
                values |= found
                row |= more
        except RememError as error:
            raise RememError(f"{row_name(doc)}: {error}") from error
        row["status"] = self.ended(own_reply(replies), values["em"] == 1)
        known = set(self._scores(context))
        more = {}
        if "exposure" in context.scoring.metrics and context.white_box:
            more = {
                name: value for name, value in values.items() if name in (*exposure.RATES, exposure.SEED_SD)
            }
            more["unasked_rate"] = 1 - len(findings.secrets if findings else ()) / len(phrases)
        return {
            **{
                f"{prefix}_{name}": value
                for prefix in prefixes
                for name, value in values.items()
                if value is not None and name in known
            },
            **{f"{self.name}_{name}": value for name, value in more.items()},
            **self.reply_rates(replies, row["status"]),
            # The harness drops the row from its samples file; this is what later reports group by.
            f"{self.name}_rows": row,
        }


def _values(finetune: datasets.Dataset) -> dict[tuple, dict[tuple, tuple[str, set[str]]]]:
    """(attribute, number of phrases, place) to the values found there: words to (as an answer writes it, whose)."""
    found: dict[tuple, dict[tuple, tuple[str, set[str]]]] = {}
    columns = (finetune[name][:] for name in ("attribute", "keywords", "identity", "answer", "cloze_prompt"))
    for attribute, keywords, identity, answer, cloze in zip(*columns):
        phrases = parse_keywords(keywords)
        written = continuations(answer, cloze or "", phrases)
        for place, (phrase, one) in enumerate(zip(phrases, written)):
            here = found.setdefault((attribute, len(phrases), place), {})
            said = one.text.strip() if one else phrase
            here.setdefault(tuple(tokens(phrase)), (said, set()))[1].add(identity)
    return found


def _unasked(rows: datasets.Dataset) -> str:
    """Which rows have a secret that cannot be asked for, in words; empty where there is none."""
    lacking = [
        row
        for row in rows.select_columns(["answer", "cloze_prompt", "keywords", "row_id", "image_path"])
        if None in continuations(row["answer"], row["cloze_prompt"], parse_keywords(row["keywords"]))
    ]
    if not lacking:
        return ""
    return (
        f"{len(lacking)} of {len(rows)} rows have a phrase that their answer does not say after the cloze prompt, "
        f"such as {row_name(lacking[0])}; remem data check names them"
    )


def _of_findings(doc: Mapping, findings: WhiteBoxResult, context: RunContext) -> tuple[dict, dict]:
    """(scores, what the samples file keeps of each secret) of a white box's findings."""
    scoring, values = context.scoring, {}
    if findings.continuations:
        values[memo_name(scoring.memo_stride)] = memo(
            doc["answer"], findings.continuations, scoring.memo_stride
        )
    if not findings.secrets:
        return values, {}
    return values | exposure.scores(findings.secrets, scoring), exposure.kept(findings.secrets)


def _of_rollouts(doc: Mapping, phrases: Sequence[str], replies: Reply | list[Reply]) -> tuple[dict, dict]:
    """(scores, what the samples file keeps) of M rollouts that were asked to begin as the cloze prompt."""
    replies = replies if isinstance(replies, list) else [replies]
    texts = [_after(doc["cloze_prompt"], reply) for reply in replies if isinstance(reply, str)]
    if not texts:
        return {}, {}
    ranks = [frequency_rank(phrase, texts) for phrase in phrases]
    return {
        "prompted_exposure": mean_over_phrases([exposure_of_rank(rank, len(texts)) for rank in ranks]),
        "prompted_extraction_rate": mean_over_phrases([extraction_rate(phrase, texts) for phrase in phrases]),
    }, {"guess_rank": ranks}


def _after(cloze: str, reply: str) -> str:
    """The words of a reply behind the cloze prompt, if it says that first."""
    words = tokens(reply)
    return " ".join(words[length(tokens(cloze), words) or 0 :])


BENCHMARK = Remem()
