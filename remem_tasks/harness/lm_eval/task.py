"""The Task class of lm_eval: a task of lmms-eval inside, whose rows, requests and scores it hands on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig
from lmms_eval.api.instance import TokenCounts
from lmms_eval.api.metrics import mean as lmms_mean

from remem_tasks.benchmarks.scoring_config import BackendCapabilities
from remem_tasks.errors import RememError
from remem_tasks.harness import exit_status
from remem_tasks.harness.backends import ANCESTRAL, capabilities_of, computed_by, passing_on
from remem_tasks.harness.lm_eval.model import RememLM
from remem_tasks.harness.task import BenchmarkTask

PICTURE = "<image>"
"""What lm_eval's models take the place of a picture from."""
REFUSED = ("num_fewshot", "description", "gen_prefix", "doc_to_image", "doc_to_choice", "use_prompt")
"""Settings of a task that would change what is asked, and are not offered."""

log = logging.getLogger(__name__)


class LmEvalTask(Task):
    """A task that `remem_tasks.harness.task.BenchmarkTask` asks and scores.

    Attributes:
        inner: that task.
    """

    OUTPUT_TYPE = "generate_until"
    MULTIMODAL = True

    def __init__(self, config: Mapping | None = None) -> None:
        given = dict(config or {})
        given.pop("class", None)
        if refused := [name for name in REFUSED if given.get(name)]:
            raise RememError(f"task '{given.get('task')}': {', '.join(refused)} is not offered under lm_eval")
        self.inner = BenchmarkTask(config=given)
        # (In place of the parent's constructor, which hands a config on as if it were the task's name.)
        self._training_docs = self._fewshot_docs = self._instances = self.fewshot_rnd = None
        self._config = TaskConfig(
            task=given["task"],
            tag=given.get("tag"),
            dataset_path=self.inner.DATASET_PATH,
            test_split=self._split,
            output_type="generate_until",
            generation_kwargs=dict(self.inner.config.generation_kwargs),
            repeats=self.inner.config.repeats,
            metadata=self.inner.config.metadata,
        )
        self.VERSION = self.inner.config.metadata.get("version")
        rows = self.test_docs()
        self._places = {row_id: place for place, row_id in enumerate(rows["row_id"][:])}
        self._asked: dict[str, list] = {}
        self._model: Any = None

    @property
    def _split(self) -> str:
        return self.inner.config.test_split

    # Rows

    def download(self, *unused: object, **unused_too: object) -> None:
        """The inner task has them."""

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> datasets.Dataset:
        return self.inner.dataset_no_image[self._split]

    def doc_to_text(self, doc: Mapping) -> str:
        return self.inner.doc_to_text(doc)

    def doc_to_target(self, doc: Mapping) -> str:
        return self.inner.doc_to_target(doc)

    # Requests

    def build_all_requests(
        self,
        *,
        cache_requests: bool = False,
        chat_template: Callable | None = None,
        system_instruction: str | None = None,
        **more: Any,
    ) -> None:
        """Ask what the model can do, then make the requests.

        Raises:
            RememError: a way of asking that would give other prompts than the model was taught, or requests kept
                by the name of the task alone.
        """
        name = self.config.task
        if cache_requests:
            raise RememError(
                f"task '{name}': --cache_requests keeps requests by the task's name, whatever its data are"
            )
        if self.config.num_fewshot:
            raise RememError(f"task '{name}': few-shot prompts are not offered")
        model = getattr(chat_template, "__self__", None) or RememLM.latest()
        if model is None:
            raise RememError(
                f"task '{name}': --apply_chat_template is needed: without it a model does not get the prompts of its chat"
            )
        settings = dict(self.config.generation_kwargs)
        if "max_gen_toks" in settings:
            settings["max_new_tokens"] = settings.pop("max_gen_toks")
        self.inner.config.generation_kwargs = settings
        self.inner.request_style = "chat"
        self.inner._system_instruction = system_instruction
        self.inner.serve(can(model), computed_by(getattr(model, "inner", model)))
        self._config.metadata = self.inner.config.metadata
        self._model, self._asked = model, {}
        super().build_all_requests(
            system_instruction=system_instruction,
            chat_template=chat_template,
            **{**more, "apply_chat_template": False},
        )

    def fewshot_context(self, doc: Mapping, *unused: object, **unused_too: object) -> str:
        return self.doc_to_text(doc)

    def construct_requests(self, doc: Mapping, ctx: str, metadata: tuple, **unused: object) -> list[Instance]:
        """Of each request of the row: (prompt, generation settings, {"visual": its pictures})."""
        _, doc_id, repeats = metadata
        at = self._places[doc["row_id"]]  # (with --samples, doc_id counts the chosen rows)
        place = {"task": self.config.task, "doc_id": at, "split": self._split, "repeats": repeats}
        inner = self.inner.construct_requests(at, ctx, metadata=place)
        row = None if isinstance(self._model, RememLM) else self.inner.dataset[self._split][at]
        made = []
        for request in inner:
            context, messages, settings = request.args[:3]
            if row is None:
                arguments = (context, settings, self._told(doc["row_id"], len(made)))
            else:
                arguments = self._portable(messages(row), settings, f"task '{self.config.task}', row {at}")
            told = (self.config.task, doc_id, request.metadata["repeats"])
            instance = Instance("generate_until", dict(doc), arguments, len(made), told)
            instance.asks = request, self.inner.dataset  # of `RememLM`
            made.append(instance)
        self._asked[doc["row_id"]] = inner
        return made

    def _told(self, row_id: str, place: int) -> dict:
        """What a request depends on beside its prompt, since `--use_cache` keeps replies by what is told here."""
        metadata = self.inner.config.metadata
        return {
            "row": row_id,
            "request": place,
            "data": metadata["fingerprint"],
            "suite": self.inner.context.scoring.record(),
            "model": self._model.told,
        }

    def _portable(self, messages: Sequence[Mapping], settings: Mapping, row: str) -> tuple[str, dict, dict]:
        """A chat as lm_eval's own multimodal models take it."""
        turns, pictures = [], []
        for turn in messages:
            text = ""
            for part in turn["content"]:
                if part["type"] == "text":
                    if PICTURE in part["text"]:
                        raise RememError(
                            f"{row}: its text holds '{PICTURE}', which stands for a picture under lm_eval"
                        )
                    text += part["text"]
                else:
                    pictures.append(part.get("image", part.get("url")))
                    text += PICTURE
            turns.append({"role": turn["role"], "content": text})
        if not pictures:
            raise RememError(
                f"{row} shows no picture, which lm_eval's own models cannot be asked: use --model remem_hf"
            )
        prompt = self._model.apply_chat_template(turns)
        options = {name: value for name, value in settings.items() if name != "max_new_tokens"}
        options["max_gen_toks"] = settings["max_new_tokens"]
        self._fits(prompt, pictures, options["max_gen_toks"], row)
        return prompt, options, {"visual": pictures}

    def _fits(self, prompt: str, pictures: Sequence, room: int, row: str) -> None:
        """Refuse a prompt whose beginning lm_eval would cut off without a word."""
        processor = getattr(self._model, "processor", None)
        longest = getattr(self._model, "max_length", None)
        if processor is None or not isinstance(longest, int):
            return
        tokens = len(processor(text=[prompt], images=list(pictures))["input_ids"][0])
        if tokens + room > longest:
            raise RememError(
                f"{row}: a prompt of {tokens} tokens and a reply of {room} are longer than the model's {longest}; "
                "set max_length in --model_args, or max_gen_toks in --gen_kwargs"
            )

    # Replies

    def apply_filters(self) -> list[Instance]:
        """Hand the replies to the inner task, and its reading of them back.

        Raises:
            RememError: more than a hundredth of them failed.
        """
        pairs = []
        for instance in self._instances:
            inner = self._asked[instance.doc["row_id"]][instance.idx]
            inner.resps = list(instance.resps)
            if not isinstance(self._model, RememLM):
                # lm_eval counts no tokens, and lets no error pass as an empty reply.
                inner.token_counts = [TokenCounts(input_tokens=0, output_tokens=1) for _ in inner.resps]
            pairs.append((instance, inner))
        self.inner._instances = [inner for _, inner in pairs]
        self.inner.apply_filters()
        for instance, inner in pairs:
            instance.filtered_resps = dict(inner.filtered_resps)
        if failed := exit_status.failed_reply_lines({"results": {}}, [self.inner]):
            raise RememError(failed[0])
        for line in exit_status.collapsed_lines({}, [self.inner]):
            log.warning("task '%s': %s", self.config.task, line)
        return self._instances

    def process_results(self, doc: Mapping, results: Sequence) -> dict:
        return self.inner.process_results(doc, results)

    def aggregation(self) -> dict[str, Callable]:
        return {
            name: mean if function is lmms_mean else function
            for name, function in self.inner._aggregation_list.items()
        }

    def higher_is_better(self) -> dict[str, bool | None]:
        return dict(self.inner._higher_is_better)

    def override_metric(self, metric_name: str) -> None:
        """`--predict_only`."""
        self.inner.override_metric(metric_name)

    @property
    def _metric_fn_list(self) -> dict:
        return self.inner._metric_fn_list


def can(model: Any) -> BackendCapabilities:
    """What a model of lm_eval can do beside greedy replies."""
    if isinstance(model, RememLM):
        return capabilities_of(model.inner)
    config = getattr(getattr(model, "model", None), "generation_config", None)
    return BackendCapabilities() if config is None else passing_on(config, {**ANCESTRAL, "top_k": 0})
