"""How much of a log may be looked at: what is above it waits in the file, or is counted as lost."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Lines and bytes a second that are matched, a second's worth at once. A file that is further
    behind than `behind_bytes` loses what is too much of it."""

    lines: int = 20_000
    bytes: int = 4 << 20
    behind_bytes: int = 16 << 20


class LineBudget:
    """`monotonic` gives seconds."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self.limits = limits
        self._monotonic = monotonic
        self._at = monotonic()
        self.lines, self.bytes = limits.lines, limits.bytes

    def refill(self) -> None:
        now = self._monotonic()
        passed, self._at = max(0.0, now - self._at), now
        self.lines = min(self.limits.lines, self.lines + round(passed * self.limits.lines))
        self.bytes = min(self.limits.bytes, self.bytes + round(passed * self.limits.bytes))

    @property
    def spent(self) -> bool:
        return self.lines <= 0 or self.bytes <= 0

    def spend(self, lines: int, size: int) -> None:
        self.lines -= lines
        self.bytes -= size
