"""What forges draw that show no people: colours by their names, and stars."""

from __future__ import annotations

import math

COLOURS = {
    "red": (190, 30, 45),
    "green": (20, 130, 60),
    "blue": (30, 60, 180),
    "orange": (230, 120, 20),
    "violet": (120, 50, 150),
    "black": (20, 20, 20),
}


def star(x: float, y: float, radius: float, points: int, turn: float = 0) -> list[tuple[float, float]]:
    """The outline of a star around (x, y), from its first point on; `turn` in radians."""
    corners = []
    for step in range(2 * points):
        far, angle = radius * (0.45 if step % 2 else 1), turn + math.pi * step / points
        corners.append((x + far * math.sin(angle), y - far * math.cos(angle)))
    return corners
