"""Alerts that others send over Alertmanager's API, each held by the word of its sender.

An alert fires until its sender says that it ended (`ends_at_ms` in the past). One whose end passes
without a word is unknown: its sender may be dead, and a dead sender resolves nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from tocsin_alerting.incidents.incident import Condition, Incident, Member
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, fingerprint, plus
from tocsin_exporter.snapshot import Labels

EXTERNAL = "alertmanager;"  # and the sender: the origin of what it says
MAX_ALERTS, MAX_BYTES = 20_000, 64 << 20  # of one address, with their labels and annotations
MAX_ALL_ALERTS, MAX_ALL_BYTES = 50_000, 128 << 20
NOT_RENEWED = "its sender no longer sends it"
_EXPIRED_AT_ONCE = 200
_SPARE_TIMES = 1_000

Key = tuple[str, str]
"""An origin, and the fingerprint of an alert."""
HolderOf = Callable[[str], Incident | None]
"""The incident in which the alert with this fingerprint fires or is unknown."""


@dataclass(frozen=True, slots=True)
class ExternalAlert:
    """What a sender said last of an alert; times are Unix milliseconds.

    `client` is the address that it came from. `times_out`: the sender named no end, and
    `ends_at_ms` is a default. `unknown_since_ms` is set while nobody can tell whether it fires.
    `fingerprint` is that of the labels.
    """

    origin: str
    labels: Labels
    annotations: Labels
    starts_at_ms: int
    ends_at_ms: int
    updated_at_ms: int
    times_out: bool = False
    generator_url: str = ""
    client: str = ""
    unknown_since_ms: int | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:  # once: it is looked up by it many times, and by what follows it
            object.__setattr__(self, "fingerprint", fingerprint(self.labels))

    @property
    def key(self) -> Key:
        return self.origin, self.fingerprint

    @property
    def sender(self) -> str:
        return self.origin.removeprefix(EXTERNAL)

    @property
    def size_bytes(self) -> int:
        pairs = (*self.labels, *self.annotations)
        return len(self.generator_url) + sum(len(name) + len(value) for name, value in pairs)

    def as_alert(self) -> Alert:
        """An alert that a sender dates into the future has begun when it came."""
        began_ms = min(self.starts_at_ms, self.updated_at_ms)
        return Alert(
            rule="",
            labels=self.labels,
            annotations=self.annotations,
            state=AlertState.FIRING,
            value=0.0,
            active_at_ms=began_ms,
            fired_at_ms=began_ms,
        )

    def shifted(self, delta_ms: int) -> "ExternalAlert":
        """The same by a clock that reads `delta_ms` more."""
        return replace(
            self,
            starts_at_ms=self.starts_at_ms + delta_ms,
            ends_at_ms=self.ends_at_ms + delta_ms,
            updated_at_ms=self.updated_at_ms + delta_ms,
            unknown_since_ms=plus(self.unknown_since_ms, delta_ms),
        )


def merged(before: ExternalAlert, posted: ExternalAlert) -> ExternalAlert:
    """As Alertmanager: where the two overlap, the earlier start counts, and an end that the sender
    named outlasts an earlier one."""
    ends_within = before.starts_at_ms < posted.ends_at_ms < before.ends_at_ms
    starts_within = before.starts_at_ms < posted.starts_at_ms < before.ends_at_ms
    if not (ends_within or starts_within):
        return posted
    latest_ms = posted.ends_at_ms if before.times_out else max(before.ends_at_ms, posted.ends_at_ms)
    started_ms = min(before.starts_at_ms, posted.starts_at_ms)
    return replace(posted, starts_at_ms=started_ms, ends_at_ms=latest_ms)


class ExternalAlerts:
    """All that senders say fires, or that is unknown; `drain_changes` gives what to write down.

    What was unknown for `unknown_max_ms` is given up. An address may have `max_alerts`.
    `unknown` counts those of which nobody can tell; `received` what was posted.
    """

    def __init__(self, unknown_max_ms: int, max_alerts: int = MAX_ALERTS) -> None:
        self.unknown_max_ms, self._max_alerts = unknown_max_ms, max_alerts
        self._by_fingerprint: dict[str, dict[str, ExternalAlert]] = {}
        self._count: Counter[str] = Counter()  # by address
        self._bytes: Counter[str] = Counter()
        self._all_count = self._all_bytes = 0
        self.unknown = 0
        self.received = Counter[str]()  # by status: firing, resolved, invalid, refused
        self._times: list[tuple[int, Key]] = []  # a heap; some are out of date
        self._scheduled: dict[Key, int] = {}  # the earliest of an alert's times that counts
        self._changes: dict[Key, ExternalAlert | None] = {}

    def __iter__(self) -> Iterator[ExternalAlert]:
        return (alert for alerts in self._by_fingerprint.values() for alert in alerts.values())

    def __len__(self) -> int:
        return self._all_count

    def of(self, name: str) -> Mapping[str, ExternalAlert]:
        """Those with the fingerprint `name`, by origin."""
        return self._by_fingerprint.get(name, {})

    def receive(self, posted: ExternalAlert, now_ms: int, holder: HolderOf) -> list[AlertEvent]:
        """Take what a sender says; the events that bring its incident to agree with it."""
        if posted.ends_at_ms <= now_ms:
            return self._resolve(posted, now_ms, holder)
        known = self.of(posted.fingerprint).get(posted.origin)
        alert = merged(known, posted) if known else posted
        self._put(alert)
        if _condition(holder(alert.fingerprint), alert) is Condition.FIRING:
            return []
        return [_event(EventKind.FIRING, alert, now_ms)]

    def _resolve(self, posted: ExternalAlert, now_ms: int, holder: HolderOf) -> list[AlertEvent]:
        """Whoever names no generator resolves all that its address said of the alert: people do,
        with curl and amtool."""
        name, ended = posted.fingerprint, {posted.origin}
        for known in list(self.of(name).values()):
            by_hand = not posted.generator_url and known.client == posted.client
            if known.origin == posted.origin or by_hand:
                self._remove(known)
                ended.add(known.origin)
        incident = holder(name)
        return [
            _event(EventKind.CLEAR, replace(posted, origin=origin), now_ms)
            for origin in (incident.members[name].origins if incident else ())
            if origin in ended
        ]

    def has_room(self, posted: ExternalAlert, now_ms: int) -> bool:
        """Whether its address may have one more; what is known or over always has a place."""
        if posted.ends_at_ms <= now_ms or posted.origin in self.of(posted.fingerprint):
            return True
        client, size = posted.client, posted.size_bytes
        own = self._count[client] < self._max_alerts and self._bytes[client] + size <= MAX_BYTES
        return own and self._all_count < MAX_ALL_ALERTS and self._all_bytes + size <= MAX_ALL_BYTES

    def expire(self, now_ms: int) -> list[AlertEvent]:
        """What was not renewed is unknown; what was unknown for too long is given up. Not more at
        once than the loop has time for: `next_due_ms` says that the rest is due."""
        events: list[AlertEvent] = []
        while self._times and self._times[0][0] <= now_ms and len(events) < _EXPIRED_AT_ONCE:
            due_ms, key = heappop(self._times)
            if self._scheduled.get(key) != due_ms:
                continue
            del self._scheduled[key]
            alert = self.of(key[1])[key[0]]
            if self._due_ms(alert) > now_ms:  # it was renewed
                self._schedule(alert)
            elif alert.unknown_since_ms is None:
                self._put(replace(alert, unknown_since_ms=now_ms))
                events.append(_event(EventKind.UNKNOWN, alert, now_ms, NOT_RENEWED))
            else:
                self._remove(alert)
                events.append(_event(EventKind.GIVEN_UP, alert, now_ms, NOT_RENEWED))
        return events

    def next_due_ms(self) -> int | None:
        return self._times[0][0] if self._times else None

    def load(self, saved: Iterable[ExternalAlert]) -> None:
        """What the journal holds; what was said since the start is newer."""
        for alert in saved:
            if alert.origin not in self.of(alert.fingerprint):
                self._put(alert)
                self._changes.pop(alert.key, None)

    def shift(self, delta_ms: int) -> None:
        every = list(self)
        self._times, self._scheduled = [], {}
        for alert in every:
            self._put(alert.shifted(delta_ms))

    def drain_changes(self) -> dict[Key, ExternalAlert | None]:
        """By origin and fingerprint; None for what is gone."""
        taken, self._changes = self._changes, {}
        return taken

    def _put(self, alert: ExternalAlert) -> None:
        name = alert.fingerprint
        alerts = self._by_fingerprint.setdefault(name, {})
        if (before := alerts.get(alert.origin)) is not None:
            self._account(before, -1)
        alerts[alert.origin] = self._changes[alert.origin, name] = alert
        self._account(alert, 1)
        self._schedule(alert)

    def _remove(self, alert: ExternalAlert) -> None:
        name = alert.fingerprint
        alerts = self._by_fingerprint[name]
        self._account(alerts.pop(alert.origin), -1)
        if not alerts:
            del self._by_fingerprint[name]
        self._scheduled.pop(alert.key, None)
        self._changes[alert.key] = None

    def _account(self, alert: ExternalAlert, sign: int) -> None:
        self.unknown += sign * (alert.unknown_since_ms is not None)
        size = sign * alert.size_bytes
        self._count[alert.client] += sign
        self._bytes[alert.client] += size
        self._all_count, self._all_bytes = self._all_count + sign, self._all_bytes + size
        if not self._count[alert.client]:
            del self._count[alert.client], self._bytes[alert.client]

    def _due_ms(self, alert: ExternalAlert) -> int:
        """When the alert is unknown, or given up, if its sender says nothing."""
        since_ms = alert.unknown_since_ms
        return alert.ends_at_ms if since_ms is None else since_ms + self.unknown_max_ms

    def _schedule(self, alert: ExternalAlert) -> None:
        """Look at the alert when it is due; a later time than the one that is set waits for it."""
        due_ms, key = self._due_ms(alert), alert.key
        if self._scheduled.get(key, due_ms + 1) <= due_ms:
            return
        self._scheduled[key] = due_ms
        heappush(self._times, (due_ms, key))
        if len(self._times) > 2 * len(self._scheduled) + _SPARE_TIMES:
            self._times = [(at_ms, other) for other, at_ms in self._scheduled.items()]
            heapify(self._times)


def unheard(
    alerts: ExternalAlerts, incidents: Mapping[int, Incident], now_ms: int
) -> list[AlertEvent]:
    """What a crash kept from the incidents. Of what stands in them by a sender's word, and is not
    among `alerts`, nobody knows until when that word holds: it is unknown."""
    held: dict[Key, Member] = {
        (origin, name): member
        for incident in incidents.values()
        for name, member in incident.members.items()
        for origin in member.origins
        if origin.startswith(EXTERNAL)
    }
    events = [
        AlertEvent(EventKind.UNKNOWN, member.alert, now_ms, NOT_RENEWED, origin)
        for (origin, name), member in held.items()
        if origin not in alerts.of(name) and member.origins[origin] is Condition.FIRING
    ]
    missing = [alert for alert in alerts if alert.key not in held]
    events += [_event(EventKind.FIRING, alert, now_ms) for alert in missing]
    doubted = [alert for alert in missing if alert.unknown_since_ms is not None]
    return events + [_event(EventKind.UNKNOWN, alert, now_ms, NOT_RENEWED) for alert in doubted]


def _event(kind: EventKind, alert: ExternalAlert, now_ms: int, why: str = "") -> AlertEvent:
    return AlertEvent(kind, alert.as_alert(), now_ms, why, alert.origin)


def _condition(incident: Incident | None, alert: ExternalAlert) -> Condition | None:
    """What its incident holds that the origin of the alert says of it."""
    if incident is None:
        return None
    return incident.members[alert.fingerprint].origins.get(alert.origin)
