"""A journal that forgets everything with the process: for dry runs and for tests."""

from collections.abc import Collection

from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.protocol import (
    FIRST_OF_TIME,
    NO_NUMBER,
    IncidentLabels,
    JournalState,
)
from tocsin_alerting.incidents.journal.pruning import Pruned
from tocsin_alerting.incidents.journal.questions import (
    EVERY_INCIDENT,
    OPENING_EVENTS,
    EntryQuery,
    IncidentFilter,
)
from tocsin_alerting.incidents.openings import NEVER_ENDED
from tocsin_alerting.incidents.outbox_message import WAITING_STATES, OutboxMessage


class MemoryJournal:
    def __init__(self) -> None:
        self._state = Changeset()

    async def load(self) -> JournalState:
        state = self._state
        live = {
            incident.number
            for incident in state.incidents.values()
            if incident.state is not IncidentState.CLOSED
        }
        messages = [
            message
            for message in state.messages.values()
            if message.notification.incident in live or message.state in WAITING_STATES
        ]
        return JournalState(
            incidents=tuple(state.incidents[number] for number in sorted(live)),
            timers={number: state.timers.get(number, ()) for number in live},
            messages=tuple(messages),
            instances=tuple(row for rows in state.instances.values() for row in rows),
            requests=dict(state.requests),
            meta=dict(state.meta),
            engines=tuple(row for row in state.engines.values() if row is not None),
            overrides=tuple(row for row in state.overrides.values() if row is not None),
            external=tuple(alert for alert in state.external.values() if alert is not None),
            heartbeats=tuple(row for row in state.heartbeats.values() if row is not None),
            silences=tuple(silence for silence in state.silences.values() if silence is not None),
            subject_timers={n: at for n, at in state.subject_timers.items() if at is not None},
            last_number=max(
                (number for number in state.incidents if number < FIRST_OF_TIME), default=0
            ),
            last_entry=max((entry.seq for entry in state.history), default=0),
            last_message=max((message.id for message in state.messages.values()), default=0),
        )

    async def commit(self, changeset: Changeset) -> None:
        self._state.merge(changeset)

    async def incident(self, number: int) -> Incident | None:
        return self._state.incidents.get(number)

    async def incidents(
        self,
        states: Collection[IncidentState],
        limit: int,
        below: int = NO_NUMBER,
        wanted: IncidentFilter = EVERY_INCIDENT,
    ) -> list[Incident]:
        stored = self._state.incidents.values()
        matching = [
            incident
            for incident in stored
            if incident.state in states and incident.number < below and wanted.matches(incident)
        ]
        return sorted(matching, key=lambda incident: -incident.number)[:limit]

    async def history(self, number: int) -> list[HistoryEntry]:
        return [entry for entry in self._state.history if entry.incident == number]

    async def entries(self, query: EntryQuery) -> list[HistoryEntry]:
        return query.cut(self._state.history)

    async def answered_by(self, person: str) -> frozenset[int]:
        return frozenset(
            entry.incident for entry in self._state.history if person and entry.actor == person
        )

    async def openings(self, since_ms: int) -> list[tuple[str, int]]:
        incidents = self._state.incidents
        return [
            (incidents[entry.incident].key, entry.at_ms)
            for entry in self._state.history
            if entry.event in OPENING_EVENTS
            and NEVER_ENDED not in entry.data
            and entry.at_ms >= since_ms
            and entry.incident in incidents
        ]

    async def messages(self, number: int) -> list[OutboxMessage]:
        stored = self._state.messages.values()
        return [message for message in stored if message.notification.incident == number]

    async def labels_since(self, since_ms: int, above: int, limit: int) -> list[IncidentLabels]:
        stored = sorted(self._state.incidents.values(), key=lambda incident: incident.number)
        recent = [
            incident
            for incident in stored
            if incident.number > above and (incident.resolved_at_ms or since_ms) >= since_ms
        ]
        return [
            IncidentLabels(
                incident.number,
                incident.severity.value,
                tuple(dict(member.alert.labels) for member in incident.members.values()),
            )
            for incident in recent[:limit]
        ]

    async def prune(self, before_ms: int) -> Pruned:
        state = self._state
        old = {
            incident.number
            for incident in state.incidents.values()
            if incident.state is IncidentState.CLOSED
            and (incident.resolved_at_ms or incident.opened_at_ms) < before_ms
        }
        state.incidents = {n: incident for n, incident in state.incidents.items() if n not in old}
        state.history = [entry for entry in state.history if entry.incident not in old]
        state.messages = {
            key: message
            for key, message in state.messages.items()
            if message.notification.incident not in old
        }
        return Pruned(len(old))

    async def close(self) -> None:
        """Nothing is held open."""
