"""What one step changed, to be written as one transaction.

Writing a changeset twice is writing it once: rows have keys of their own, history entries a number.
Changesets of a time when the disk was gone are merged into one.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, Member
from tocsin_alerting.incidents.journal.serialize import EngineRow
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.timers import Timer
from tocsin_alerting.rules.instance_journal import InstanceRow

RESERVED_NUMBER = "reserved_number"
RuleGroupKey = tuple[str, str]
"""A group of rules: its file and name."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of the history; `incident` 0 is about no incident in particular."""

    seq: int
    at_ms: int
    incident: int
    event: str
    actor: str
    data: dict[str, Any]


@dataclass(slots=True)
class Changeset:
    """New values by their keys.

    Of the messages in `moved` only the state is new: what they say was written before.
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
        for part in (first, rest):
            part.state_only = self.state_only & part.messages.keys()
        firing = [key for key, member in first.members.items() if member.source is Condition.FIRING]
        for key in firing[most:]:
            rest.members[key] = first.members.pop(key)
        rest.instances, rest.meta, rest.engines = self.instances, self.meta, self.engines
        rest.begun, rest.upserted = self.begun, self.upserted
        return first, rest

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
                first = replace(self, instances={}, upserted={}, engines={}, meta=self._ahead())
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


_INCIDENT_OF: Mapping[str, Callable[[Any, Any], int]] = {
    "incidents": lambda number, _: number,
    "members": lambda key, _: key[0],
    "timers": lambda number, _: number,
    "messages": lambda _, message: message.notification.incident,
    "requests": lambda _, about: about[0],
}
