"""What one step changed, to be written as one transaction.

Writing a changeset twice is writing it once: rows have keys of their own, history entries a number.
Changesets of a time when the disk was gone are merged into one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tocsin_alerting.incidents.external_alerts import ExternalAlert
from tocsin_alerting.incidents.heartbeats import HeartbeatRow
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, Member, Timer
from tocsin_alerting.incidents.oncall import Override
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.silences import Silence
from tocsin_alerting.rules.instance_journal import InstanceRow

RESERVED_NUMBER = "reserved_number"
RuleGroupKey = tuple[str, str]
"""A group of rules: its file and name."""
ExternalRows = dict[tuple[str, str], ExternalAlert | None]
"""By origin and fingerprint; None: it ended."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of the history; `incident` 0 is about no incident in particular."""

    seq: int
    at_ms: int
    incident: int
    event: str
    actor: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EngineRow:
    """An engine that was found by itself: it is expected after a restart.

    `model` is what it served, "" when it did not say; `seen_ms` when that was last noted.
    """

    target: str
    url: str
    kind: str
    model: str = ""
    seen_ms: int = 0


@dataclass(slots=True)
class Changeset:
    """New values by their keys.

    Of the messages in `state_only` only the state is new: what they say was written before.
    `timers` are all that an incident has, `instances` all that a (file, group) of rules has. Where
    these are very many, `begun` holds those from one number to another that are written first, and
    `upserted` how many were.
    """

    at_ms: int = 0
    incidents: dict[int, Incident] = field(default_factory=dict)
    members: dict[tuple[int, str], Member] = field(default_factory=dict)
    timers: dict[int, tuple[Timer, ...]] = field(default_factory=dict)
    messages: dict[str, OutboxMessage] = field(default_factory=dict)
    state_only: set[str] = field(default_factory=set)
    history: list[HistoryEntry] = field(default_factory=list)
    instances: dict[RuleGroupKey, tuple[InstanceRow, ...]] = field(default_factory=dict)
    begun: dict[RuleGroupKey, tuple[tuple[InstanceRow, ...], int, int]] = field(
        default_factory=dict
    )
    upserted: dict[RuleGroupKey, int] = field(default_factory=dict)
    requests: dict[str, tuple[int, int]] = field(default_factory=dict)  # id -> incident, at_ms
    meta: dict[str, str] = field(default_factory=dict)
    engines: dict[str, EngineRow | None] = field(default_factory=dict)  # None: forgotten
    overrides: dict[str, Override | None] = field(default_factory=dict)  # by id; None: removed
    external: ExternalRows = field(default_factory=dict)
    heartbeats: dict[str, HeartbeatRow | None] = field(default_factory=dict)  # None: forgotten
    silences: dict[str, Silence | None] = field(default_factory=dict)  # None: forgotten
    subject_timers: dict[str, int | None] = field(default_factory=dict)  # when due; None: removed

    def __bool__(self) -> bool:
        return any(
            (
                self.incidents,
                self.members,
                self.timers,
                self.messages,
                self.history,
                self.instances,
                self.begun,
                self.requests,
                self.meta,
                self.engines,
                self.overrides,
                self.external,
                self.heartbeats,
                self.silences,
                self.subject_timers,
            )
        )

    def merge(self, later: "Changeset") -> None:
        self.at_ms = max(self.at_ms, later.at_ms)
        self.incidents |= later.incidents
        self.members |= later.members
        self.timers |= later.timers
        for message in later.messages.values():
            self.put_message(message, moved=message.key in later.state_only)
        self.history += later.history
        self.instances |= later.instances
        self.begun |= later.begun
        for group, rows in later.instances.items():
            self.upserted[group] = later.upserted.get(group, 0)
            if group in self.begun and self.begun[group][0] is not rows:
                del self.begun[group]  # of rows that are gone
        self.requests |= later.requests
        self.meta |= later.meta
        self.engines |= later.engines
        self.overrides |= later.overrides
        self.external |= later.external
        self.heartbeats |= later.heartbeats
        self.silences |= later.silences
        self.subject_timers |= later.subject_timers

    def put_message(self, message: OutboxMessage, *, moved: bool) -> None:
        """`moved`: what it says is in the journal, or stands here already."""
        if not moved:
            self.state_only.discard(message.key)
        elif message.key not in self.messages:
            self.state_only.add(message.key)
        self.messages[message.key] = message

    def split(self, most: int) -> tuple["Changeset", "Changeset"]:
        """About `most` rows to write first, and the rest: a transaction that takes seconds would
        hold up every page.

        Closed incidents come first, as a key has one that is not, then the worst. What is new of an
        incident stays together, but for alerts that fire: after a crash the rules say them again.
        """
        if len(self.external) > most:
            return self._split_external(most)
        sizes = self._rows_per_incident()
        if sizes.total() <= most:
            return self._split_instances(most)
        chosen = self._first_incidents(sizes, most)
        first, rest = Changeset(self.at_ms, meta=self._ahead()), Changeset(self.at_ms)
        for name, number in _INCIDENT_OF.items():
            for key, row in getattr(self, name).items():
                getattr(first if number(key, row) in chosen else rest, name)[key] = row
        for entry in self.history:
            (first if entry.incident in chosen else rest).history.append(entry)
        first.external = self.external
        for part in (first, rest):
            part.state_only = self.state_only & part.messages.keys()
        firing = [key for key, member in first.members.items() if member.source is Condition.FIRING]
        for key in firing[most:]:
            rest.members[key] = first.members.pop(key)
        rest.instances, rest.meta, rest.engines = self.instances, self.meta, self.engines
        rest.begun, rest.upserted = self.begun, self.upserted
        rest.overrides = self.overrides
        first.heartbeats = self.heartbeats
        first.silences, first.subject_timers = self.silences, self.subject_timers
        return first, rest

    def _split_external(self, most: int) -> tuple["Changeset", "Changeset"]:
        """Alerts of others, before the incidents that hold them: at a start these are made of them,
        and none that stands in an incident alone would be heard of again."""
        rows = list(self.external.items())
        first = Changeset(self.at_ms, meta=self._ahead(), external=dict(rows[:most]))
        return first, replace(self, external=dict(rows[most:]))

    def _split_instances(self, most: int) -> tuple["Changeset", "Changeset"]:
        """The first rows of a group that has very many; the last of them end what is gone."""
        for group, rows in self.instances.items():
            begin = stop = self.upserted.get(group, 0)
            if group in self.begun and self.begun[group][0] is rows:
                begin = self.begun[group][1]  # they were to be written, and may not have been
            stop += most
            if stop < len(rows):
                rest = Changeset(self.at_ms, instances=self.instances, meta=self.meta)
                rest.engines, rest.upserted = self.engines, {**self.upserted, group: stop}
                rest.overrides = self.overrides
                first = replace(
                    self, instances={}, upserted={}, engines={}, overrides={}, meta=self._ahead()
                )
                first.begun = {**self.begun, group: (rows, begin, stop)}
                return first, rest
        return self, Changeset()

    def _ahead(self) -> dict[str, str]:
        """What may not wait for the rest: numbers for the incidents that open meanwhile."""
        return {name: self.meta[name] for name in (RESERVED_NUMBER,) if name in self.meta}

    def _rows_per_incident(self) -> Counter[int]:
        """How many rows there are of each incident."""
        sizes = Counter(entry.incident for entry in self.history)
        for name, number in _INCIDENT_OF.items():
            sizes.update(number(key, row) for key, row in getattr(self, name).items())
        return sizes

    def _first_incidents(self, sizes: Counter[int], most: int) -> set[int]:
        worst = {
            message.notification.incident: message.notification.severity
            for message in self.messages.values()
        }

        def rank(number: int) -> tuple[bool, str, int]:
            incident = self.incidents.get(number)
            closed = incident is not None and incident.state is IncidentState.CLOSED
            severity = incident.severity if incident else worst.get(number, "")
            return not closed, severity, number

        chosen: set[int] = set()
        for number in sorted(sizes, key=rank):
            if most <= 0:
                break
            chosen.add(number)
            most -= sizes[number]
        return chosen


class JournalOnly:
    """The newest of what only the journal keeps, for one that begins anew."""

    def __init__(self) -> None:
        self._newest = Changeset()

    @property
    def overrides(self) -> dict[str, Override | None]:
        return self._newest.overrides

    @property
    def meta(self) -> Mapping[str, str]:
        return self._newest.meta

    def keep(self, taken: Changeset) -> None:
        """What of it is to be written."""
        kept = {name: getattr(taken, name) for name in _JOURNAL_ONLY}
        self._newest.merge(Changeset(taken.at_ms, **kept))

    def as_changeset(self, now_ms: int) -> Changeset:
        whole = Changeset(now_ms)
        whole.merge(self._newest)
        return whole

    def load(
        self,
        meta: Mapping[str, str],
        engines: Iterable[EngineRow],
        overrides: Iterable[Override],
        instances: Iterable[InstanceRow],
    ) -> None:
        """What came since the start is newer."""
        newest = Changeset(
            meta=dict(meta),
            engines={engine.target: engine for engine in engines},
            overrides={override.id: override for override in overrides},
        )
        rows: dict[RuleGroupKey, list[InstanceRow]] = {}
        for row in instances:
            rows.setdefault((row.file, row.group), []).append(row)
        newest.instances = {group: tuple(several) for group, several in rows.items()}
        newest.merge(self._newest)
        self._newest = newest


_JOURNAL_ONLY = ("instances", "meta", "engines", "overrides")
_INCIDENT_OF: Mapping[str, Callable[[Any, Any], int]] = {
    "incidents": lambda number, _: number,
    "members": lambda key, _: key[0],
    "timers": lambda number, _: number,
    "messages": lambda _, message: message.notification.incident,
    "requests": lambda _, about: about[0],
}
