"""How often what is grouped has fired lately: each time that an incident opened, or opened again.

Beside the journal, which has them all: a count must not cost a question to the disk.
"""

from collections import Counter, deque
from collections.abc import Iterable

DAY_MS = 86_400_000
NEVER_ENDED = "never_ended"
"""In what the history says of "reopened": closed by hand, and raised as it fires still."""


class RecentOpenings:
    """Of the last 24 hours, by the key of the group; each is taken in and let go once."""

    def __init__(self) -> None:
        self._times: deque[tuple[int, str]] = deque()  # in order
        self._counts: Counter[str] = Counter()

    def add(self, key: str, at_ms: int) -> int:
        """How often it was within 24 hours, with this time."""
        self._forget(at_ms - DAY_MS)
        self._times.append((at_ms, key))
        self._counts[key] += 1
        return self._counts[key]

    def load(self, openings: Iterable[tuple[str, int]]) -> None:
        """What the journal knows of the times before; those that were added since come after."""
        earlier = [(at_ms, key) for key, at_ms in openings]
        self._times.extendleft(sorted(earlier, reverse=True))
        self._counts.update(key for _, key in earlier)

    def shift(self, delta_ms: int) -> None:
        self._times = deque((at_ms + delta_ms, key) for at_ms, key in self._times)

    def _forget(self, before_ms: int) -> None:
        while self._times and self._times[0][0] < before_ms:
            _, key = self._times.popleft()
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
