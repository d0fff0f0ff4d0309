"""What is kept of the alert instances over a restart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tocsin_alerting.rules.alert import Alert, AlertState, moved
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.snapshot import Source


@dataclass(frozen=True, slots=True)
class EngineGap:
    """A time for which an engine elsewhere answered nothing, and may have read nothing; `until_ms`
    is None while that lasts."""

    since_ms: int
    until_ms: int | None = None

    def end_ms(self, now_ms: int) -> int:
        return now_ms if self.until_ms is None else self.until_ms

    def shifted(self, delta_ms: int) -> "EngineGap":
        until_ms = None if self.until_ms is None else self.until_ms + delta_ms
        return EngineGap(self.since_ms + delta_ms, until_ms)


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One alert of one rule, or that it is unknown, or both.

    `rule` is the rule's uid, `seen_ms` its last evaluation that succeeded: Prometheus's "down at".
    Of an alert that waits it is the last one at all where an engine elsewhere did not answer: it
    goes on waiting. `sources` are those that were alive then and took part, `gaps` those of an
    engine that the rule's ranges may still hold.
    """

    file: str
    group: str
    rule: str
    seen_ms: int
    alert: Alert | None = None
    unknown_alert: UnknownAlert | None = None
    sources: frozenset[Source] = frozenset()
    gaps: tuple[EngineGap, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it fires, or nobody can tell."""
        if self.unknown_alert is not None:
            return not self.unknown_alert.over
        return self.alert is not None and self.alert.state is AlertState.FIRING

    @property
    def fingerprint(self) -> str:
        alert = self.alert or (self.unknown_alert.alert if self.unknown_alert else None)
        return alert.fingerprint if alert else ""

    def shifted(self, delta_ms: int) -> "InstanceRow":
        """The same by a clock that reads `delta_ms` more."""
        return replace(
            self,
            seen_ms=self.seen_ms + delta_ms,
            alert=self.alert and moved(self.alert, delta_ms),
            unknown_alert=self.unknown_alert and self.unknown_alert.shifted(delta_ms),
            gaps=tuple(gap.shifted(delta_ms) for gap in self.gaps),
        )


class InstanceJournal(Protocol):
    """Where the rows lie. An error is the journal's to report; rules go on without it."""

    async def load(self) -> Sequence[InstanceRow]:
        """Every row that was saved last."""
        ...

    async def save(self, file: str, group: str, rows: Sequence[InstanceRow]) -> None:
        """These are the group's rows now; none means that it has none any more."""
        ...
