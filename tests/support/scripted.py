"""Ways to run the harness in this process: a scripted model, and short ways into its results."""

from __future__ import annotations

from collections.abc import Callable

from lmms_eval import evaluator
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.tasks import TaskManager


class Scripted(lmms):
    """A backend that says what `reply(row)` gives and keeps what it was asked.

    Args:
        reply: a row of the task's data set to a text, a GenerationResult or None.
        simple: whether it takes simple or chat requests.
        counts: whether it reports token counts for texts.
    """

    def __init__(self, reply: Callable, simple: bool = False, counts: bool = True) -> None:
        super().__init__()
        self.reply, self.is_simple, self.counts = reply, simple, counts
        self.asked = []

    def generate_until(self, requests):
        answers = []
        for request in requests:
            doc_id, task, split = request.args[3:]
            row = self.task_dict[task][split][doc_id]
            if self.is_simple:
                context, settings, doc_to_visual = request.args[:3]
                pictures, text, system = doc_to_visual(row), context, None
            else:
                context, doc_to_messages, settings = request.args[:3]
                *before, user = doc_to_messages(row)
                system = before[0]["content"][0]["text"] if before else None
                pictures = [part["url"] for part in user["content"] if part["type"] == "image"]
                text = "".join(part["text"] for part in user["content"] if part["type"] == "text")
            self.asked.append(
                {"row": row, "text": text, "pictures": pictures, "settings": settings, "system": system}
            )
            said = self.reply(row)
            if isinstance(said, str) and self.counts:
                said = GenerationResult(said, TokenCounts(output_tokens=1 + len(said.split())))
            answers.append(said)
        return answers

    def loglikelihood(self, requests):
        raise AssertionError("not asked for")

    generate_until_multi_round = loglikelihood


def run(model: lmms, tasks: str | list, **options):
    """`simple_evaluate` without the 1985 tasks of others and without bootstrap."""
    manager = TaskManager(include_path=options.pop("include_path", None), include_defaults=False)
    tasks = tasks.split(",") if isinstance(tasks, str) else tasks
    return evaluator.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options
    )


def value(results: dict, task: str, metric: str):
    return results["results"][task][f"{metric},none"]


def texts(results: dict, task: str) -> list[str]:
    return [sample["filtered_resps"][0] for sample in results["samples"][task]]
