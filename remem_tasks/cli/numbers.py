"""Arguments that several commands read."""

from __future__ import annotations

from remem_tasks.errors import RememError


def numbers(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers by commas, as flag `--name` takes them."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RememError(f"--{name} '{text}': whole numbers by commas") from error
