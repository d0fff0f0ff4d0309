"""Heartbeats that are expected from others: a job, a machine, a second Tocsin.

One that was seen and stays away for longer than its interval and its grace is missing. One that was
never seen is not: it may not have been set up yet.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tocsin_alerting.annotations import DEFAULT_AGENT_URL
from tocsin_alerting.rules.alert import Alert, firing_alert
from tocsin_alerting.rules.severity import SEVERITY_LABEL, Severity
from tocsin_alerting.time_format import format_duration, rfc3339
from tocsin_exporter.snapshot import Labels

HEARTBEAT = "heartbeat;"  # and its name: the origin of what is said of it
ALERT_NAME = "HeartbeatMissing"
OWN_LABELS = frozenset({"alertname", "heartbeat", SEVERITY_LABEL})
MOST_HEARTBEATS = 1000
DEFAULT_GRACE_MS = 120_000


class HeartbeatState(StrEnum):
    NEVER_SEEN = "never seen"
    OK = "ok"
    LATE = "late"  # within its grace
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class ExpectedHeartbeat:
    """`sha256` is of its token, in hex, "" for one whose token the configuration names."""

    name: str
    every_ms: int
    grace_ms: int = DEFAULT_GRACE_MS
    severity: Severity = Severity.P2
    labels: Labels = ()
    annotations: Labels = ()
    sha256: str = field(default="", repr=False)
    created_ms: int = 0
    created_by: str = ""

    @property
    def origin(self) -> str:
        return HEARTBEAT + self.name

    def alert(self, seen_ms: int | None, since_ms: int) -> Alert:
        """It is told apart from other heartbeats by `instance`, unless it has one of its own.
        `since_ms` is when it was to come and did not."""
        own = {"alertname": ALERT_NAME, "heartbeat": self.name, SEVERITY_LABEL: self.severity.value}
        labels = {"instance": self.name, **dict(self.labels), **own}
        last = "before a restart" if seen_ms is None else rfc3339(seen_ms - seen_ms % 1000)
        words = (
            f"It is expected every {format_duration(self.every_ms)}, with"
            f" {format_duration(self.grace_ms)} of grace, and came last {last}."
        )
        said = {
            "summary": f'Heartbeat "{self.name}" is missing',
            "description": words,
            "runbook_url": f"{DEFAULT_AGENT_URL}runbooks/{ALERT_NAME}",
        }
        annotations = said | dict(self.annotations)
        return firing_alert(labels, annotations, since_ms, since_ms)


@dataclass(frozen=True, slots=True)
class HeartbeatRow:
    """What the journal keeps of one: when it was seen last, and `added`, unless the configuration
    has it."""

    name: str
    seen_ms: int | None
    added: ExpectedHeartbeat | None = None


class ExpectedHeartbeats:
    """All of them, and when each came last; `drain_changes` gives what to write down.

    They are counted from when we began to listen: what came while we did not run, nobody knows.
    """

    def __init__(self, configured: Iterable[ExpectedHeartbeat] = ()) -> None:
        self.configure(configured)
        self._added: dict[str, ExpectedHeartbeat] = {}
        self._seen_ms: dict[str, int] = {}
        self._heard = set[str]()  # since the start
        self._missing = set[str]()
        self._all_expected = False
        self._began_ms: int | None = None
        self._changes: dict[str, HeartbeatRow | None] = {}

    def configure(self, configured: Iterable[ExpectedHeartbeat]) -> None:
        """The configuration has these from now on; when they came is kept."""
        self._configured = {one.name: one for one in configured}

    def __iter__(self) -> Iterator[ExpectedHeartbeat]:
        return iter((self._added | self._configured).values())

    def get(self, name: str) -> ExpectedHeartbeat | None:
        return self._configured.get(name) or self._added.get(name)

    def is_configured(self, name: str) -> bool:
        return name in self._configured

    def seen_ms(self, name: str) -> int | None:
        return self._seen_ms.get(name)

    def was_heard(self, name: str) -> bool:
        """Whether it came since the start."""
        return name in self._heard

    def expect_all(self) -> None:
        """The journal does not say which were seen before: all of them are to come."""
        self._all_expected = True

    def begin(self, now_ms: int) -> None:
        """From now on we listen: at the start, and after a time in which we were stopped. What
        came meanwhile is lost."""
        self._began_ms = now_ms

    def due_ms(self, one: ExpectedHeartbeat) -> int | None:
        """When it is missing, if it does not come; None for one that is not expected yet."""
        counted_ms = self._counted_ms(one)
        return None if counted_ms is None else counted_ms + one.every_ms + one.grace_ms

    def state(self, one: ExpectedHeartbeat, now_ms: int) -> HeartbeatState:
        counted_ms = self._counted_ms(one)
        if one.name in self._missing:
            return HeartbeatState.MISSING
        if counted_ms is None:
            return HeartbeatState.NEVER_SEEN
        return HeartbeatState.LATE if now_ms > counted_ms + one.every_ms else HeartbeatState.OK

    def beat(self, name: str, now_ms: int) -> bool:
        """It came; whether it was missing."""
        self._seen_ms[name] = now_ms
        self._heard.add(name)
        self._changes[name] = self._row(name)
        was_missing = name in self._missing
        self._missing.discard(name)
        return was_missing

    def is_missing(self, name: str) -> bool:
        return name in self._missing

    def mark_missing(self, name: str) -> None:
        """Somebody was told before."""
        self._missing.add(name)

    def newly_missing(self, now_ms: int) -> list[ExpectedHeartbeat]:
        """Those that are missing since the last call."""
        found = [one for one in self if self._is_due(one, now_ms)]
        self._missing.update(one.name for one in found)
        return found

    def missed_since_ms(self, one: ExpectedHeartbeat, now_ms: int) -> int:
        """When it was to come and did not."""
        counted_ms = self._counted_ms(one)
        return now_ms if counted_ms is None else min(now_ms, counted_ms + one.every_ms)

    def next_due_ms(self) -> int | None:
        if self._began_ms is None:
            return None
        due = (self.due_ms(one) for one in self if one.name not in self._missing)
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def add(self, one: ExpectedHeartbeat) -> None:
        """One of the same name is replaced, and its time goes on."""
        self._added[one.name] = one
        self._changes[one.name] = self._row(one.name)

    def forget(self, name: str) -> None:
        del self._added[name]
        self._seen_ms.pop(name, None)
        self._missing.discard(name)
        self._heard.discard(name)
        self._changes[name] = None

    def load(self, saved: Iterable[HeartbeatRow]) -> None:
        """What the journal holds; what came or was added since the start is newer."""
        self._all_expected = False
        for row in saved:
            if row.name in self._changes:
                continue
            if row.added is not None:
                self._added[row.name] = row.added
            if row.seen_ms is not None:
                self._seen_ms.setdefault(row.name, row.seen_ms)

    def rows(self) -> dict[str, HeartbeatRow | None]:
        """All that is known, for a journal that begins anew."""
        return {name: self._row(name) for name in (*self._added, *self._seen_ms)}

    def drain_changes(self) -> dict[str, HeartbeatRow | None]:
        """By name; None for what is forgotten."""
        taken, self._changes = self._changes, {}
        return taken

    def shift(self, delta_ms: int) -> None:
        """Live by a clock that reads `delta_ms` more from now on."""
        self._seen_ms = {name: at_ms + delta_ms for name, at_ms in self._seen_ms.items()}
        if self._began_ms is not None:
            self._began_ms += delta_ms
        self._changes |= self.rows()

    def _counted_ms(self, one: ExpectedHeartbeat) -> int | None:
        seen_ms = self._seen_ms.get(one.name)
        if seen_ms is None and not self._all_expected:
            return None
        return max(at_ms for at_ms in (seen_ms, self._began_ms, 0) if at_ms is not None)

    def _is_due(self, one: ExpectedHeartbeat, now_ms: int) -> bool:
        due_ms = self.due_ms(one)
        return one.name not in self._missing and due_ms is not None and due_ms <= now_ms

    def _row(self, name: str) -> HeartbeatRow:
        return HeartbeatRow(name, self._seen_ms.get(name), self._added.get(name))


def tokens_of(heartbeats: Iterable[ExpectedHeartbeat]) -> Mapping[str, str]:
    """Their names by the SHA-256 of their tokens."""
    return {one.sha256: one.name for one in heartbeats if one.sha256}


def shifted_row(row: HeartbeatRow, delta_ms: int) -> HeartbeatRow:
    """The same by a clock that reads `delta_ms` more."""
    return row if row.seen_ms is None else replace(row, seen_ms=row.seen_ms + delta_ms)
