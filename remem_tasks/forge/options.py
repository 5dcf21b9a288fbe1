"""Options of the forges: declared with their ranges, checked alike, and shown as they are given on the command line."""

from __future__ import annotations

from dataclasses import asdict, field, fields
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.forge.scenes import STYLES


def ranged(default: float, low: float, high: float) -> Any:
    """A number of a dataclass of options, from `low` to `high`."""
    return field(default=default, metadata={"range": (low, high)})


class Options:
    """What a forge's dataclass of options has in common; its numbers are `ranged`, its `style` one of the scenes'."""

    style: str

    def check(self) -> None:
        """Raise a RememError that names the first option out of range, or an unknown `style`."""
        for one in fields(self):  # type: ignore[arg-type]
            low, high = one.metadata.get("range", (None, None))
            value = getattr(self, one.name)
            if low is not None and not low <= value <= high:
                raise RememError(f"--{one.name.replace('_', '-')} {value} is out of range: {low} to {high}")
        if self.style not in STYLES:
            raise RememError(f"--style '{self.style}' unknown; choose from {', '.join(STYLES)}")


def option_line(knobs: Any) -> str:
    """The knobs as they are given on the command line."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in asdict(knobs).items())
