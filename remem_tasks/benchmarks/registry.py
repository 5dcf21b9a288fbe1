"""Which benchmark's shape a data set has, told by the configs it names."""

from __future__ import annotations

import os
from types import ModuleType

from remem_tasks.data import clear, mllmu
from remem_tasks.data.configs import has_config
from remem_tasks.data.load import resolve_source
from remem_tasks.errors import RememError

SHAPES: dict[str, tuple[ModuleType, tuple[str, ...]]] = {
    "clear": (clear, ("full+tofu", "forget10+tofu", "real_faces")),
    "mllmu": (mllmu, ("ft_Data", "forget_5", "Test_Set")),
}
"""Name → the module of its data, and configs by one of which it is known."""


def module_of(source: str | None, name: str | None = None) -> ModuleType | None:
    """The module of a data set's shape (`clear`, `mllmu`); None for the shape of ReMem.

    Args:
        source: folder or Hub id; None for the published set of `name`, or for ReMem's.
        name: the shape, where it is known.
    """
    if name:
        return SHAPES[name][0] if name in SHAPES else None
    place = resolve_source(source)
    for module, configs in SHAPES.values():
        if place == module.HOME.hub_id:
            return module
        if os.path.isdir(place) and os.path.isfile(os.path.join(place, "README.md")):
            try:
                if any(has_config(place, config, module.HOME) for config in configs):
                    return module
            except RememError:
                continue  # its own loader says what is wrong with it
    return None


def name_of(module: ModuleType) -> str:
    """The shape's name: the opposite of `module_of`."""
    return next(name for name, (other, _) in SHAPES.items() if other is module)
