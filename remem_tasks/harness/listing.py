"""Our tasks and models in lmms-eval's own lists: `lmms-eval tasks` and `lmms-eval models`, whichever way they start.

`lmms-eval tasks list` imports no model, so never asks for the entry points of `lmms_eval.models`. It does import
torch, which calls the entry points of the group `torch.backends` (as it does for out-of-tree devices; not with
TORCH_DEVICE_BACKEND_AUTOLOAD=0). `autoload` is ours: it does nothing unless lmms-eval is being imported, and loads
nothing, so that `import torch` costs no more and cannot fail by it.
"""

from __future__ import annotations

import sys
import types


def autoload() -> None:
    """Have `lmms_eval.tasks`, where it is being imported, hand out its TaskManager with our tasks in it."""
    upstream = sys.modules.get("lmms_eval.tasks")
    if type(upstream) is types.ModuleType:
        upstream.__class__ = _TasksModule


class _TasksModule(types.ModuleType):
    """`lmms_eval.tasks` until someone takes TaskManager from it."""

    def __getattribute__(self, name: str):
        found = super().__getattribute__(name)
        if name == "TaskManager":
            self.__class__ = types.ModuleType
            from remem_tasks.harness.plugin import install

            install()
        return found


def show_models(names: tuple[str, ...]) -> None:
    """Put our chat models into the table that `lmms-eval models` prints; it knows only built-in ones."""
    models = sys.modules.get("lmms_eval.models")
    table = getattr(models, "AVAILABLE_CHAT_TEMPLATE_MODELS", None)
    if table is not None:
        for name in names:
            table.setdefault(name, name)
