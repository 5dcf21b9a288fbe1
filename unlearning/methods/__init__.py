"""The registry of methods: every module of this folder is imported, every trainer in it registered.

A new method is one new file; the flag `--method`, its own flags, the help text and the tests that run
over all methods pick it up from here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from unlearning.trainer import UnlearnTrainer


def _found() -> dict[str, type[UnlearnTrainer]]:
    methods: dict[str, type[UnlearnTrainer]] = {}
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        if module.name.endswith(".__main__"):
            continue
        for _, item in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if not issubclass(item, UnlearnTrainer) or item.__module__ != module.name or not item.name:
                continue
            for name in (item.name, *item.aliases):
                if name in methods:
                    raise TypeError(f"two methods are called '{name}': {methods[name]} and {item}")
                methods[name] = item
    return methods


METHODS = _found()
NAMES = sorted({method.name for method in METHODS.values()})
