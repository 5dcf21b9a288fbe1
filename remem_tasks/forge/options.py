"""ForgeOptions of the forges: checked alike, and shown as they are given on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.forge.scenes import STYLES


def check_options(knobs: Any, ranges: Iterable[tuple[str, float, float]]) -> None:
    """Raise a RememError that names the first knob out of range, or an unknown `style`."""
    for name, low, high in ranges:
        value = getattr(knobs, name)
        if not low <= value <= high:
            raise RememError(f"--{name.replace('_', '-')} {value} is out of range: {low} to {high}")
    if knobs.style not in STYLES:
        raise RememError(f"--style '{knobs.style}' unknown; choose from {', '.join(STYLES)}")


def option_line(knobs: Any) -> str:
    """The knobs as they are given on the command line."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in asdict(knobs).items())
