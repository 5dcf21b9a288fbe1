"""Which sets of a benchmark can be forgotten, who is kept then, and where the forgotten are asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remem_tasks.errors import RememError


@dataclass(frozen=True)
class ForgetSets:
    """The sets of a benchmark that can be forgotten.

    Attributes:
        benchmark: as messages call it.
        retain: forget set → the set of those who are kept.
        also: other name of a forget set → its own.
        beside: forget set → further sets that ask about its people in the questions of training.
        usual: the set of those who are kept of every other forget set; "": there is no other.
    """

    benchmark: str
    retain: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    usual: str = ""

    def retain_of(self, forget: str) -> str:
        """The set of those who are kept when a set is forgotten.

        Raises:
            RememError: no forget set of this benchmark.

        >>> ForgetSets("Mine", {"forget_5": "retain_95"}).retain_of("forget_5")
        'retain_95'
        """
        found = self.retain.get(self.also.get(forget, forget)) or self.usual
        if not found:
            raise RememError(f"'{forget}' is not a forget set of {self.benchmark}: {', '.join(self.retain)}")
        return found

    def scored_as(self, forget: str) -> tuple[str, ...]:
        """The sets that ask what training on a forget set asked, of the same pictures.

        >>> ForgetSets("Mine", {"forget": "retain"}, beside={"forget": ("reworded",)}).scored_as("forget")
        ('forget', 'reworded')
        """
        own = self.also.get(forget, forget)
        return own, *self.beside.get(own, ())
