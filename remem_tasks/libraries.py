"""Imported by the process that `preloaded` forks from, and for nothing else: loads what trains, scores and attacks."""

from contextlib import suppress
from importlib import import_module

from remem_tasks.training import find_ours

find_ours()
for _name in (
    "unlearning.run",
    "unlearning.experiments.attack",
    "lmms_eval.__main__",
    "remem_tasks.harness.remem_hf",
    "accelerate.commands.launch",
):
    with suppress(Exception):  # whatever needs it says so
        import_module(_name)
