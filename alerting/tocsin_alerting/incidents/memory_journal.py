"""A journal that forgets everything with the process: for dry runs and for tests."""

from collections.abc import Collection

from tocsin_alerting.incidents.batch import Batch, Entry
from tocsin_alerting.incidents.incident import Incident, State
from tocsin_alerting.incidents.journal import FIRST_OF_TIME, NO_NUMBER, Saved
from tocsin_alerting.incidents.message import WAITING, Message


class MemoryJournal:
    def __init__(self) -> None:
        self._kept = Batch()

    async def load(self) -> Saved:
        kept = self._kept
        live = {one.number for one in kept.incidents.values() if one.state is not State.CLOSED}
        messages = [
            one
            for one in kept.messages.values()
            if one.notification.incident in live or one.state in WAITING
        ]
        return Saved(
            incidents=tuple(kept.incidents[number] for number in sorted(live)),
            timers={number: kept.timers.get(number, ()) for number in live},
            messages=tuple(messages),
            instances=tuple(row for rows in kept.instances.values() for row in rows),
            requests=dict(kept.requests),
            meta=dict(kept.meta),
            engines=tuple(row for row in kept.engines.values() if row is not None),
            last_number=max((one for one in kept.incidents if one < FIRST_OF_TIME), default=0),
            last_entry=max((entry.seq for entry in kept.history), default=0),
            last_message=max((one.id for one in kept.messages.values()), default=0),
        )

    async def commit(self, batch: Batch) -> None:
        self._kept.merge(batch)

    async def incident(self, number: int) -> Incident | None:
        return self._kept.incidents.get(number)

    async def incidents(
        self, states: Collection[State], limit: int, below: int = NO_NUMBER
    ) -> list[Incident]:
        every = self._kept.incidents.values()
        found = [one for one in every if one.state in states and one.number < below]
        return sorted(found, key=lambda one: -one.number)[:limit]

    async def history(self, number: int) -> list[Entry]:
        return [entry for entry in self._kept.history if entry.incident == number]

    async def messages(self, number: int) -> list[Message]:
        found = self._kept.messages.values()
        return [one for one in found if one.notification.incident == number]

    async def prune(self, before_ms: int) -> int:
        kept = self._kept
        old = {
            one.number
            for one in kept.incidents.values()
            if one.state is State.CLOSED and (one.resolved_at_ms or 0) < before_ms
        }
        kept.incidents = {n: one for n, one in kept.incidents.items() if n not in old}
        kept.history = [entry for entry in kept.history if entry.incident not in old]
        kept.messages = {
            key: one for key, one in kept.messages.items() if one.notification.incident not in old
        }
        return len(old)

    async def close(self) -> None:
        """Nothing is held open."""
