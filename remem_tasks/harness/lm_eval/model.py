"""`remem_hf` as a model of lm_eval: one prefill per row, and the scores that need log-probabilities."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import get_model, model_registry

from remem_tasks.engine.cache import hash_of_model
from remem_tasks.errors import RememError
from remem_tasks.harness.backends import computed_by
from remem_tasks.harness.remem_hf import RememHF

NAME = "remem_hf"
DEVICE = "cuda:0"
"""What lm_eval's command line says where nobody said a device; without one, its own models take the CPU too."""
_latest: weakref.ref[RememLM] | None = None


class RememLM(LM):
    """A checkpoint that `remem_tasks.harness.remem_hf.RememHF` reads; takes its arguments, and the tasks of this package.

    Attributes:
        inner: that model.
        told: what its answers depend on, for lm_eval's `--use_cache`.
    """

    MULTIMODAL = True

    def __init__(self, inner: RememHF) -> None:
        global _latest
        super().__init__()
        if inner.world_size > 1:
            raise RememError("remem_hf is one process under lm_eval; lmms_eval runs on several")
        self.inner = inner
        self.told = f"{hash_of_model(inner.model, inner.processor)} {inner.system_prompt}"
        _latest = weakref.ref(self)

    @staticmethod
    def latest() -> RememLM | None:
        """The one that this process made last, while it is there."""
        return _latest() if _latest is not None else None

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping | None = None) -> RememLM:
        more = dict(additional_config or {})
        if more.get("device") == DEVICE and not torch.cuda.is_available():
            del more["device"]
        return cls(RememHF.create_from_arg_string(arg_string, more))

    @classmethod
    def create_from_arg_obj(cls, arg_dict: Mapping, additional_config: Mapping | None = None) -> RememLM:
        text = ",".join(f"{name}={value}" for name, value in arg_dict.items())
        return cls.create_from_arg_string(text, additional_config)

    @property
    def tokenizer_name(self) -> str:
        return str(getattr(self.inner.tokenizer, "name_or_path", ""))

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template that is always used.

        Raises:
            RememError: another one is named.
        """
        if isinstance(chat_template, str) and chat_template:
            raise RememError(
                "--apply_chat_template NAME: give remem_hf a file, chat_template= in --model_args"
            )
        return str(getattr(self.inner.processor, "chat_template", ""))

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        raise RememError("remem_hf makes its prompts itself")

    def get_model_info(self) -> dict[str, Any]:
        """For the results file."""
        return {f"model_{name}": value for name, value in computed_by(self.inner).items()}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Replies in the order of the requests; a white-box request's is `WhiteBoxResult` as JSON.

        Raises:
            RememError: a request that is not of a task of this package.
        """
        asked = []
        for request in requests:
            if not hasattr(request, "asks"):
                raise RememError(
                    f"task '{request.task_name}': remem_hf answers the tasks of this package only"
                )
            one, self.inner.task_dict[request.task_name] = request.asks
            asked.append(one)
        for one in asked:
            one.token_counts = []
        results = self.inner.generate_until(asked)
        for one, result in zip(asked, results):
            one.token_counts.append(result.token_counts)
        return [result.text for result in results]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise RememError("remem_hf does not offer loglikelihood; the tasks of this package do not ask for it")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise RememError("remem_hf does not offer loglikelihood; the tasks of this package do not ask for it")


def register() -> None:
    """Put `remem_hf` into lm_eval's list of models."""
    get_model("hf-multimodal")  # fills the list, which is only filled where it is empty
    if NAME not in model_registry:
        model_registry.register(NAME, target=RememLM)
