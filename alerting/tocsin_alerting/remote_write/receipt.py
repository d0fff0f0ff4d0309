"""What became of a request's samples, in numbers and in words for the sender's log."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Refusals:
    """Samples that were refused, by reason; `first` says of the first which series and why."""

    counts: Counter[str] = field(default_factory=Counter)
    first: str = ""
    _at: int | None = None

    def add(self, reason: str, samples: int, at: int, words: str) -> None:
        """`at` is where the series stands in the request."""
        self.counts[reason] += samples
        self.name(at, words)

    def name(self, at: int, words: str) -> None:
        """Says of a refused sample which it is; the first in the request is told."""
        if self._at is None or at < self._at:
            self._at, self.first = at, words


@dataclass(frozen=True, slots=True)
class Receipt:
    """`taken` samples are in the store; `refused` counts the others by reason."""

    taken: int
    refused: Mapping[str, int]
    first: str

    @property
    def words(self) -> str:
        """For the sender's log: how many, why, and the first of them."""
        lost = sum(self.refused.values())
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(self.refused.items()))
        first = f"; the first: {self.first}" if self.first else ""
        return f"{lost} of {lost + self.taken} samples refused ({why}){first}"
