"""What became of a request's samples, in numbers and in words for the sender's log."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Refusals:
    """Samples that were refused, by reason; `first` says of the first which series and why.
    `native_histograms` are metrics that came as such."""

    counts: Counter[str] = field(default_factory=Counter)
    first: str = ""
    native_histograms: set[str] = field(default_factory=set)
    _at: int | None = None

    def add(self, reason: str, samples: int, at: int, message: str) -> None:
        """`at` is where the series stands in the request."""
        self.counts[reason] += samples
        self.name_first(at, message)

    def name_first(self, at: int, message: str) -> None:
        """Says of a refused sample which it is; the first in the request is told."""
        if self._at is None or at < self._at:
            self._at, self.first = at, message


@dataclass(frozen=True, slots=True)
class ReceiveResult:
    """`accepted` samples are in the store; `refused` counts the others by reason."""

    accepted: int
    refused: Mapping[str, int]
    first_refused: str

    @property
    def message(self) -> str:
        """For the sender's log: how many, why, and the first of them."""
        lost = sum(self.refused.values())
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(self.refused.items()))
        first = f"; the first: {self.first_refused}" if self.first_refused else ""
        return f"{lost} of {lost + self.accepted} samples refused ({why}){first}"


@dataclass(slots=True)
class RemoteWriteCounters:
    """`requests` by HTTP status, `samples` that were taken, `refused` ones by reason."""

    requests: Counter[int] = field(default_factory=Counter)
    samples: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, result: ReceiveResult) -> None:
        self.samples += result.accepted
        if result.refused:
            self.refused.update(result.refused)
