"""When each source was last heard of, and whether it was well then."""

from collections.abc import Mapping
from dataclasses import dataclass

from tocsin_alerting.store.cell import NEVER_MS
from tocsin_exporter.snapshot import Source


@dataclass(frozen=True, slots=True)
class LastSeen:
    """When a source last had a sample, and whether it answered then."""

    at_ms: int
    ok: bool


class Lasts:
    """Of our own sources and of those that remote writers send."""

    def __init__(self) -> None:
        self._last: dict[Source, LastSeen] = {}
        self._ended_ms: dict[Source, int] = {}

    def get(self, source: Source) -> LastSeen | None:
        return self._last.get(source)

    def all(self) -> Mapping[Source, LastSeen]:
        return dict(self._last)

    def set(self, source: Source, last: LastSeen) -> None:
        self._last[source] = last

    def forget(self, source: Source) -> None:
        self._last.pop(source, None)
        self._ended_ms.pop(source, None)

    def heard(self, source: Source, at_ms: int) -> None:
        """A remote writer sent a sample of it that is no stale marker."""
        before = self._last.get(source)
        if before is not None and at_ms <= before.at_ms:
            return
        if self._ended_ms:
            if at_ms <= self._ended_ms.get(source, NEVER_MS):
                return
            self._ended_ms.pop(source, None)
        self._last[source] = LastSeen(at_ms, before is None or before.ok)

    def up(self, source: Source, ok: bool) -> None:
        """The newest sample of its `up` says so."""
        last = self._last.get(source)
        if last is not None and last.ok is not ok:
            self._last[source] = LastSeen(last.at_ms, ok)

    def ended(self, source: Source, at_ms: int) -> None:
        """Its `up` went stale: its writer has removed it, and what comes for that time or an
        earlier one is no sign of life. Nothing, if a later sample of it is known."""
        last = self._last.get(source)
        if last is not None and last.at_ms > at_ms:
            return
        self._last.pop(source, None)
        self._ended_ms[source] = at_ms

    def shift(self, delta_ms: int, until_ms: int) -> None:
        """The wall clock was set: what was heard up to then was heard so much later."""
        for source, last in self._last.items():
            if last.at_ms <= until_ms:
                self._last[source] = LastSeen(last.at_ms + delta_ms, last.ok)
        for source, at_ms in self._ended_ms.items():
            self._ended_ms[source] = at_ms + delta_ms

    def expire(self, before_ms: int) -> None:
        for source in [one for one, at_ms in self._ended_ms.items() if at_ms < before_ms]:
            del self._ended_ms[source]
