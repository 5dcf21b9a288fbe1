"""The Task class that all YAMLs name: it turns a benchmark (`remem_tasks.benchmarks`) into harness requests."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import datasets
from lmms_eval.api.instance import Instance
from lmms_eval.api.metrics import mean as upstream_mean
from lmms_eval.api.task import ConfigurableMessagesTask

from remem_tasks.benchmarks import likelihood, visual
from remem_tasks.benchmarks.base import Benchmark, FailedReply, Request, RunContext, mean
from remem_tasks.benchmarks.registry import BENCHMARKS, data_of
from remem_tasks.benchmarks.scoring_config import BackendCapabilities, fit, scoring_config_of
from remem_tasks.binding import digest_of_json
from remem_tasks.data.source import pictures_digest
from remem_tasks.errors import RememError
from remem_tasks.seen import says_nothing
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult

# What lmms-eval's API models write in place of a reply when a request failed for good, and when none was made any more.
FAILURE_MARK = "[LMMS_EVAL_REQUEST_FAILED"
FAILURE_MARKS = (FAILURE_MARK, "[LMMS_EVAL_BUDGET_EXCEEDED")


def failure_of(text: object, counts: object, generated: bool = False) -> FailedReply | None:
    """The failure that a raw reply stands for, or None for a true reply.

    Args:
        text: what the backend gave for one request.
        counts: its `TokenCounts`, or None.
        generated: whether the request asked for a text, so that nothing else is a reply to it.

    A blank text with a token count is a model that said nothing: it ended at once, which is a token. A blank
    text of no token is a failure (lmms-eval's `openai` counts the words where a server counts nothing), and so is
    one without a count: `llava_hf` swallows errors and answers "" so, and a backend that never reports counts
    cannot be told from it. (The harness turns a reply None into the text "None".)
    """
    if text is None:
        return FailedReply("no reply")
    if not isinstance(text, str):
        return FailedReply(f"no text, but a {type(text).__name__}") if generated else None
    if text.startswith(FAILURE_MARKS):
        return FailedReply(text.strip())
    counted = counts is not None and counts.output_tokens is not None
    if not counted and text.strip() in ("", "None"):
        return FailedReply("blank, and the backend reports no tokens")
    if counted and counts.output_tokens == 0 and not text.strip():
        return FailedReply("blank, of no token that the model said")
    return None


@dataclass(frozen=True)
class Messages:
    """What a chat model gets in place of messages: a row to its chat (lmms-eval's `doc_to_messages`).

    Attributes:
        make: a row and the place of the request to its messages.
        index: the place of the request.
        inquire: a row to its white-box request; None on requests for a reply.
        pictures: a row to the pictures that are shown in place of its own; None for its own.
    """

    make: Callable[..., list[dict]]
    index: int = 0
    white_box_request_of: Callable[[Mapping], WhiteBoxRequest | None] | None = None
    pictures: Callable[[Mapping], list] | None = None

    def __call__(self, doc: Mapping) -> list[dict]:
        return self.make(doc, index=self.index, pictures=self.pictures)

    def white_box_request(self, doc: Mapping) -> WhiteBoxRequest | None:
        return None if self.white_box_request_of is None else self.white_box_request_of(doc)


def _digest(pictures: list) -> str:
    """16 hex digits of pictures."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(f"{picture.mode} {picture.size} ".encode() + picture.tobytes())
    return digest.hexdigest()[:16]


class BenchmarkTask(ConfigurableMessagesTask):
    """A task whose YAML names a benchmark: `metadata: {benchmark: remem}`.

    The benchmark gives rows, prompts, pictures, target, metrics and scores. Of the usual YAML keys
    these still work: `dataset_path` (before the benchmark's own source), `process_docs`,
    `doc_to_text` (the first request's prompt), `doc_to_visual`, `doc_to_target`,
    `generation_kwargs`, `filter_list`, `repeats`, and `process_results` together with `metric_list`.

    Attributes:
        benchmark: the entry of BENCHMARKS.
        request_style: "chat" or "simple", by what the model takes; `remem_tasks.harness.plugin` sets it,
            as the harness does not tell a Python task.
        context: which scores are measured, by what the backend can do; see `serve`.
        donors: row id → the row whose picture is shown in its place; empty without `--metrics visual`.
        replies, failed_replies: how many of each `apply_filters` saw on this rank.
        said: the true replies among them, blanks between words aside.
    """

    request_style = "chat"

    def __init__(
        self,
        config: dict | None = None,
        model_name: str | None = None,
        benchmark: Benchmark | None = None,
        **unused,
    ) -> None:
        config = dict(config or {})
        config.pop("class", None)
        self.benchmark = benchmark or self._benchmark_of(config)
        self._system_instruction: str | None = None
        self.replies = self.failed_replies = 0
        self.said: Counter[str] = Counter()
        self.donors: dict[str, Mapping] = {}
        self._pools: Sequence[datasets.Dataset] = ()
        super().__init__(config=config, model_name=model_name)

    @staticmethod
    def _benchmark_of(config: Mapping) -> Benchmark:
        metadata = config.get("metadata")
        name = metadata.get("benchmark") if isinstance(metadata, dict) else None
        if name not in BENCHMARKS:
            raise RememError(
                f"task '{config.get('task')}': metadata names no benchmark of "
                f"{', '.join(BENCHMARKS)} (found {name!r})"
            )
        if not config.get("test_split"):
            raise RememError(f"task '{config.get('task')}': no test_split")
        return BENCHMARKS[name]

    # Rows and metrics

    def download(self, dataset_kwargs: dict | None = None) -> None:
        """Load and check the one split; note its source and fingerprint in the config's metadata.

        Overrides the parent's, which tries five times and hides the reason.
        """
        unknown = set(dataset_kwargs or {}) - {"load_from_disk"}
        if unknown:
            raise RememError(
                f"task '{self.config.task}': dataset_kwargs {', '.join(sorted(unknown))} unknown"
            )
        split = self.config.test_split
        rows, source = self.benchmark.load(self.config.dataset_path, split)
        if self.config.process_docs is not None:
            rows = self.config.process_docs(rows)
        if not len(rows):
            raise RememError(f"{source}: split '{split}' has no rows")
        pictures = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]
        self.DATASET_PATH = source
        self.dataset = datasets.DatasetDict({split: rows})
        self.dataset_no_image = datasets.DatasetDict({split: rows.remove_columns(pictures)})
        self.config.metadata = {
            **self.config.metadata,
            "data": source,
            "fingerprint": self.benchmark.fingerprint(rows),
            "rows": len(rows),
        }
        self.serve(BackendCapabilities())

    def serve(self, capabilities: BackendCapabilities, computed: Mapping[str, str] | None = None) -> None:
        """Choose the scores that a backend can give; `remem_tasks.harness.plugin` calls it before a run.

        Without the call only what any backend can do is measured. The suite, and why a score is not
        available, go into the config's metadata and so into the results file.
        """
        if "bypass" in self._metric_fn_list:  # --predict_only
            return
        (split, rows) = next(iter(self.dataset_no_image.items()))
        scoring, missing = fit(scoring_config_of(self.config.metadata), capabilities)
        context = RunContext(scoring, missing, not capabilities.white_box, capabilities.rollout_options)
        self.context = self.benchmark.prepare(self.DATASET_PATH, split, rows, context)
        if missing := likelihood.missing_of(self.benchmark, rows, self.context):
            self.context = replace(self.context, missing={**self.context.missing, **missing})
        self._find_donors(split, rows)
        computed = self._bound(split, computed)
        self.config.metadata = {
            **self.config.metadata,
            "suite": scoring.record(),
            "not_available": dict(self.context.missing),
            **({"computed": computed} if computed else {}),
        }
        if self.config.metric_list is None:
            for found in (
                self._metric_fn_list,
                self._metric_fn_kwargs,
                self._aggregation_list,
                self._higher_is_better,
            ):
                found.clear()
            visual_metrics = visual.metrics_of(self.benchmark) if self.donors else []
            of_answers = likelihood.metrics_of(self.benchmark, split, self.context)
            for metric in [*self.benchmark.metrics(rows, split, self.context), *visual_metrics, *of_answers]:
                self._metric_fn_list[metric.name] = None
                self._metric_fn_kwargs[metric.name] = {}
                own = metric.aggregate is not mean
                self._aggregation_list[metric.name] = metric.aggregate if own else upstream_mean
                self._higher_is_better[metric.name] = metric.higher_is_better

    def _bound(self, split: str, computed: Mapping[str, str] | None) -> dict[str, str]:
        """How the model computes, and digests of what else numbers depend on: the pictures, the gold model's scores."""
        if not computed:
            return {}
        found = dict(computed)
        home = getattr(data_of(self.benchmark.name), "HOME", None)
        if home is not None and (pictures := pictures_digest(self.dataset[split], home)):
            found["pictures"] = pictures
        if gold := self.context.known.get("gold"):
            found["gold"] = digest_of_json(gold)[:16]
        return found

    def _find_donors(self, split: str, rows: datasets.Dataset) -> None:
        """Whose picture each row that needs one is shown in place of its own, where that is asked for."""
        self.donors = {}
        if "visual" not in self.context.scoring.metrics:
            return
        needing = {doc["row_id"] for doc in rows if self.benchmark.needs_picture(doc)}
        missing = "no question needs a picture"
        if needing:
            self._pools = self.benchmark.picture_pools(self.DATASET_PATH, split, rows)
            own, *others = (
                [
                    {"row_id": row_id, "identity": identity, "place": (number, place)}
                    for place, (row_id, identity) in enumerate(zip(pool["row_id"][:], pool["identity"][:]))
                ]
                for number, pool in enumerate(self._pools)
            )
            try:
                self.donors = visual.donors_of([row for row in own if row["row_id"] in needing], others)
            except RememError as error:
                missing = str(error)
        if not self.donors:
            self.context = replace(self.context, missing={**self.context.missing, "visual": missing})

    def _pictures(self, doc: Mapping, shown: visual.Shown) -> list:
        if shown == visual.Shown.NONE:
            return []
        pool, place = self.donors[doc["row_id"]]["place"]
        return self.benchmark.images(self._pools[pool][place])

    def _prepare_metric_and_aggregation(self) -> None:
        if self.config.metric_list is not None:
            super()._prepare_metric_and_aggregation()
        else:  # filled by `download`, as they depend on the rows
            self._metric_fn_list, self._metric_fn_kwargs = {}, {}
            self._aggregation_list, self._higher_is_better = {}, {}

    # Requests

    def doc_to_text(self, doc: Mapping) -> str:
        return self._requests(doc)[0].prompt

    def doc_to_target(self, doc: Mapping) -> str:
        return self.benchmark.target(doc) if self.config.doc_to_target is None else super().doc_to_target(doc)

    def doc_to_visual(self, doc: Mapping) -> list:
        return self.benchmark.images(doc) if self.config.doc_to_visual is None else super().doc_to_visual(doc)

    def _requests(self, doc: Mapping) -> list[Request]:
        requests = self.benchmark.requests(doc, self.context)
        if self.config.doc_to_text is None:
            return requests
        first = copy.copy(requests[0])
        object.__setattr__(first, "prompt", super().doc_to_text(doc))
        return [first, *requests[1:]]

    def doc_to_messages(
        self, doc: Mapping, index: int = 0, pictures: Callable[[Mapping], list] | None = None
    ) -> list[dict]:
        """The chat of a row's request `index`: the pictures, then the prompt (lmms-eval's message format).

        Args:
            pictures: what is shown in place of the row's own pictures.
        """
        shown = (pictures or self.doc_to_visual)(doc)
        user = self._build_user_turn(shown, self._requests(doc)[index].prompt)
        if not self._system_instruction:
            return user
        return [{"role": "system", "content": [{"type": "text", "text": self._system_instruction}]}, *user]

    def build_all_requests(self, *, system_instruction: str | None = None, **kwargs) -> None:
        if kwargs.get("apply_chat_template") or self.config.num_fewshot:
            raise RememError(
                f"task '{self.config.task}': few-shot prompts and --apply_chat_template are not offered; "
                "the model's own chat template is always used"
            )
        self._system_instruction = system_instruction
        super().build_all_requests(system_instruction=system_instruction, **kwargs)

    def construct_requests(self, doc_id: int, ctx: str, **kwargs) -> list[Instance]:
        """One Instance for each request of the row, in the argument order of the model's style.

        simple: (context, generation settings, doc_to_visual, doc_id, task, split)
        chat:   (context, doc_to_messages, generation settings, doc_id, task, split)
        """
        metadata = kwargs.pop("metadata")
        split, task = metadata["split"], self.config.task
        doc = self.dataset_no_image[split][doc_id]
        requests = self._requests(doc)
        before_prompt = ctx[: len(ctx) - len(requests[0].prompt)]  # a system instruction, if one was given
        instances = []

        def add(
            kind: str, context: str, messages: Messages, settings: Mapping, repeats: int, **more: object
        ) -> None:
            settings = {**copy.deepcopy(self.config.generation_kwargs), **settings}
            if self.request_style == "simple":
                arguments = (context, settings, messages.pictures or self.doc_to_visual, doc_id, task, split)
            else:
                arguments = (context, messages, settings, doc_id, task, split)
            instances.append(
                Instance(
                    request_type=kind,
                    arguments=arguments,
                    idx=len(instances),
                    metadata={**metadata, "repeats": repeats, **more},
                )
            )

        for index, request in enumerate(requests):
            messages = Messages(self.doc_to_messages, index)
            repeats = request.repeats or metadata["repeats"]
            add(request.kind, before_prompt + request.prompt, messages, request.generation_kwargs, repeats)
        if self.donors and doc["row_id"] in self.donors:
            first = requests[0]
            for shown in visual.Shown:
                pictures = partial(self._pictures, shown=shown)
                messages = Messages(self.doc_to_messages, pictures=pictures)
                context = before_prompt + first.prompt
                if (
                    self.request_style == "chat"
                ):  # where it tells requests of a row apart, and is not a prompt
                    context += f"\n[{shown} {_digest(pictures(doc))}]"
                add(first.kind, context, messages, first.generation_kwargs, 1, shown=shown)
        if self._white_box_request(doc) is not None:
            messages = Messages(self.doc_to_messages, white_box_request_of=self._white_box_request)
            first = requests[0]
            add(first.kind, before_prompt + first.prompt, messages, first.generation_kwargs, 1)
        return instances

    def _white_box_request(self, doc: Mapping) -> WhiteBoxRequest | None:
        own = self.benchmark.white_box_request(doc, self.context)
        return likelihood.asked_with(own, self.benchmark, doc, self.context)

    # Replies

    def apply_filters(self) -> None:
        """The YAML's filters (none by default; with repeats all replies are kept), failures marked.

        The marks come last, so that no filter can turn a failure into text.
        """
        for instance in self._instances:
            if not instance.resps:
                raise RememError(
                    f"task '{instance.args[-2]}', row {instance.doc_id}: the backend gave fewer replies than it was asked for"
                )
        super().apply_filters()
        self.replies = self.failed_replies = 0
        self.said = Counter()
        for instance in self._instances:
            if getattr(instance.args[1], "white_box_request_of", None):
                task, split = instance.args[-2:]
                name = f"task '{task}', split '{split}', row {instance.doc_id}"
                findings = WhiteBoxResult.from_text(instance.resps[0], name)
                instance.filtered_resps = dict.fromkeys(instance.filtered_resps, findings)
                continue
            counts = [*instance.token_counts, *[None] * len(instance.resps)]
            generated = instance.request_type == "generate_until"
            failures = [failure_of(text, count, generated) for text, count in zip(instance.resps, counts)]
            if not instance.metadata.get("__padding_only__"):
                self.replies += len(failures)
                self.failed_replies += sum(failure is not None for failure in failures)
                self.said.update(
                    "" if says_nothing(text) else " ".join(text.split())
                    for text, failure in zip(instance.resps, failures)
                    if failure is None and isinstance(text, str)
                )
            if self.config.filter_list is None and instance.repeats > 1:
                instance.filtered_resps = {name: list(instance.resps) for name in instance.filtered_resps}
            for name, value in instance.filtered_resps.items():
                if isinstance(value, list) and len(value) == len(failures):
                    instance.filtered_resps[name] = [bad or text for bad, text in zip(failures, value)]
                elif failures and all(failures):
                    instance.filtered_resps[name] = failures[0]
            if shown := instance.metadata.get("shown"):
                instance.filtered_resps = {
                    name: visual.VisualReply(shown, value[0] if isinstance(value, list) else value)
                    for name, value in instance.filtered_resps.items()
                }

    def process_results(self, doc: Mapping, results: Sequence, full_docs: object = None) -> dict:
        """The row's metric values; with repeats, the mean over them.

        Overrides the parent's, which calls the scorer five times before it shows an error.
        """
        if "bypass" in self._metric_fn_list:  # --predict_only
            return {"bypass": None}
        if self.config.process_results is not None:
            return self.config.process_results(doc, results)
        findings = next((reply for reply in results if isinstance(reply, WhiteBoxResult)), None)
        of_benchmark = findings
        if findings is not None:
            wanted = self.benchmark.white_box_request(doc, self.context)
            if (request := likelihood.asked_with(wanted, self.benchmark, doc, self.context)) is not None:
                findings.check(request)
            if (
                wanted is None
            ):  # whole answers alone, of a row that the benchmark itself asks a white box nothing about
                of_benchmark = None
        others = [reply for reply in results if isinstance(reply, visual.VisualReply)]
        replies = [reply for reply in results if not isinstance(reply, WhiteBoxResult | visual.VisualReply)]
        if not replies:  # the harness asks for each request by itself where it draws several
            return {}
        own = [request.repeats for request in self.benchmark.requests(doc, self.context)]
        several = [isinstance(reply, list) and not own[place] for place, reply in enumerate(replies)]
        draws = max((len(reply) for reply, more in zip(replies, several) if more), default=0)
        scores = [
            self.benchmark.score(
                doc,
                [reply[draw] if more else reply for reply, more in zip(replies, several)],
                self.context,
                of_benchmark,
            )
            for draw in range(draws or 1)
        ]
        if draws:
            scores[0] = {
                name: sum(score[name] for score in scores) / draws
                if isinstance(value, int | float)
                else value
                for name, value in scores[0].items()
            }
        scores[0] |= likelihood.scores_of(self.benchmark, doc, self.context, findings)
        if others:
            own = replies[0][0] if isinstance(replies[0], list) else replies[0]
            scores[0] |= visual.scores_of(self.benchmark, doc, own, others)
            scores[0][f"{self.benchmark.name}_rows"]["donor"] = self.donors[doc["row_id"]]["row_id"]
        return scores[0]
