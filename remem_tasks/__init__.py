"""ReMem and its neighbours as lmms-eval tasks, a model to score them with, and the data forge.

From Python: `import remem_tasks as remem`; `remem_tasks.api` says what is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remem_tasks.api import (
        Benchmark,
        Metric,
        RememError,
        Request,
        RunContext,
        losses,
        metrics,
        read_results,
        read_rows,
        score,
        train,
        trainer,
    )

__version__ = "0.1.0"

__all__ = [
    "Benchmark",
    "Metric",
    "RememError",
    "Request",
    "RunContext",
    "__version__",
    "losses",
    "metrics",
    "read_results",
    "read_rows",
    "score",
    "train",
    "trainer",
]
"""All but the version is of `remem_tasks.api`, loaded when it is first asked for: `remem --help` stays quick."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("remem_tasks.api"), name)
    raise AttributeError(f"module 'remem_tasks' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
