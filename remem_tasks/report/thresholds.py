"""What the gate asks of a starting model; apart from the gate, as a command line that shows it needs no more."""

from __future__ import annotations

from dataclasses import dataclass

from remem_tasks.errors import RememError

METRICS = ("em", "memo", "exposure", "visual")


@dataclass(frozen=True)
class Thresholds:
    """What each mean has to reach, in [0, 1], and how sure a verdict has to be.

    `em` holds for what stands in its place too: ROUGE-L recall of CLEAR, accuracy or ROUGE-L of MLLMU-Bench.
    `visual` is of the visual gap: the main score with the picture less the better of none and another person's, as
    in ULBench.
    """

    em: float = 0.8
    memo: float = 0.6
    exposure: float = 0.8
    visual: float = 0.2
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in METRICS:
            if not 0 <= getattr(self, name) <= 1:
                raise RememError(f"threshold of {name} {getattr(self, name)} is out of range: 0 to 1")
        if not 0.5 <= self.confidence < 1:
            raise RememError(f"confidence {self.confidence} is out of range: 0.5 to below 1")
