"""A journal that forgets everything with the process: for dry runs and for tests."""

from collections.abc import Collection

from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.protocol import FIRST_OF_TIME, NO_NUMBER, JournalState
from tocsin_alerting.incidents.outbox_message import WAITING_STATES, OutboxMessage


class MemoryJournal:
    def __init__(self) -> None:
        self._state = Changeset()

    async def load(self) -> JournalState:
        kept = self._state
        live = {
            incident.number
            for incident in kept.incidents.values()
            if incident.state is not IncidentState.CLOSED
        }
        messages = [
            message
            for message in kept.messages.values()
            if message.notification.incident in live or message.state in WAITING_STATES
        ]
        return JournalState(
            incidents=tuple(kept.incidents[number] for number in sorted(live)),
            timers={number: kept.timers.get(number, ()) for number in live},
            messages=tuple(messages),
            instances=tuple(row for rows in kept.instances.values() for row in rows),
            requests=dict(kept.requests),
            meta=dict(kept.meta),
            engines=tuple(row for row in kept.engines.values() if row is not None),
            last_number=max(
                (message for message in kept.incidents if message < FIRST_OF_TIME), default=0
            ),
            last_entry=max((entry.seq for entry in kept.history), default=0),
            last_message=max((message.id for message in kept.messages.values()), default=0),
        )

    async def commit(self, changeset: Changeset) -> None:
        self._state.merge(changeset)

    async def incident(self, number: int) -> Incident | None:
        return self._state.incidents.get(number)

    async def incidents(
        self, states: Collection[IncidentState], limit: int, below: int = NO_NUMBER
    ) -> list[Incident]:
        stored = self._state.incidents.values()
        matching = [
            incident for incident in stored if incident.state in states and incident.number < below
        ]
        return sorted(matching, key=lambda incident: -incident.number)[:limit]

    async def history(self, number: int) -> list[HistoryEntry]:
        return [entry for entry in self._state.history if entry.incident == number]

    async def messages(self, number: int) -> list[OutboxMessage]:
        stored = self._state.messages.values()
        return [message for message in stored if message.notification.incident == number]

    async def prune(self, before_ms: int) -> int:
        kept = self._state
        old = {
            incident.number
            for incident in kept.incidents.values()
            if incident.state is IncidentState.CLOSED and (incident.resolved_at_ms or 0) < before_ms
        }
        kept.incidents = {n: incident for n, incident in kept.incidents.items() if n not in old}
        kept.history = [entry for entry in kept.history if entry.incident not in old]
        kept.messages = {
            key: message
            for key, message in kept.messages.items()
            if message.notification.incident not in old
        }
        return len(old)

    async def close(self) -> None:
        """Nothing is held open."""
