"""What people ask of incidents: what memory knows and what the journal holds, as one answer.

The journal is read in its own thread, a page at a time, and one that does not answer leaves what
memory knows.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.errors import JournalError, NoSuchIncident
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Incident, IncidentState, Timer
from tocsin_alerting.incidents.journal.protocol import NO_NUMBER
from tocsin_alerting.incidents.journal.pruning import Pruned
from tocsin_alerting.incidents.journal.questions import (
    EVERY_INCIDENT,
    PAGE,
    EntryQuery,
    IncidentFilter,
)
from tocsin_alerting.incidents.journal.writer import JournalWriter
from tocsin_alerting.incidents.openings import DAY_MS
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.rate_budget import SentBefore
from tocsin_alerting.incidents.statistics import COUNTED_EVENTS, IncidentStatistics
from tocsin_alerting.incidents.working_set import WorkingSet

T = TypeVar("T")

OPEN_STATES = (IncidentState.TRIGGERED, IncidentState.ACKED, IncidentState.SNOOZED)
ATTEMPTS = ("delivered", "delivery_retry", "delivery_failed")  # lines of messages that went out
MAX_ATTEMPTS = 2_000  # of them are read at a start
MAX_LINES_READ = 20_000  # of the history, for one answer


@dataclass(frozen=True, slots=True)
class IncidentTimeline:
    """All that is known of one incident, for a person who asks."""

    incident: Incident
    history: tuple[HistoryEntry, ...]
    timers: tuple[Timer, ...]
    messages: tuple[OutboxMessage, ...]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Lines of the history with the incidents that they are about (0: none), and how to ask for
    what follows (None: nothing does)."""

    entries: tuple[HistoryEntry, ...]
    incidents: Mapping[int, Incident]
    following: EntryQuery | None


class IncidentRecords:
    """`answer_s` is how long the journal may take."""

    def __init__(self, working: WorkingSet, writer: JournalWriter, answer_s: float) -> None:
        self._working, self._writer, self._answer_s = working, writer, answer_s

    async def incident(self, number: int) -> Incident:
        """Raises NoSuchIncident; a closed one comes from the journal."""
        loaded = self._working.incidents.get(number)
        if loaded is None:
            loaded = await self.answer(self._writer.journal.incident(number), None)
        if loaded is None:
            raise NoSuchIncident(number)
        return loaded

    async def incidents(
        self,
        states: Collection[IncidentState] = OPEN_STATES,
        limit: int = 1000,
        below: int = NO_NUMBER,
        wanted: IncidentFilter = EVERY_INCIDENT,
    ) -> list[Incident]:
        """The newest first, of those with a number below `below`."""
        wanted = await self._with_numbers(wanted)
        matching = [
            incident
            for incident in self._working.incidents.values()
            if incident.state in states and incident.number < below and wanted.matches(incident)
        ]
        if IncidentState.CLOSED in states:
            closed = [IncidentState.CLOSED]
            journal = self._writer.journal
            matching += await self.answer(journal.incidents(closed, limit, below, wanted), [])
        return sorted(matching, key=lambda incident: -incident.number)[:limit]

    async def _with_numbers(self, wanted: IncidentFilter) -> IncidentFilter:
        """A person did something about these, also where somebody else has it now."""
        if not wanted.person:
            return wanted
        written = await self.answer(self._writer.journal.answered_by(wanted.person), frozenset())
        waiting = {e.incident for e in self._writer.unwritten if e.actor == wanted.person}
        return replace(wanted, numbers=wanted.numbers | written | waiting)

    async def timeline(self, number: int) -> IncidentTimeline:
        """Raises NoSuchIncident."""
        incident = await self.incident(number)
        written = await self.answer(self._writer.journal.history(number), [])
        entries = {entry.seq: entry for entry in (*written, *self._writer.unwritten)}
        messages = {
            message.key: message
            for message in await self.answer(self._writer.journal.messages(number), [])
        }
        messages |= {message.key: message for message in self._working.outbox.of_incident(number)}
        return IncidentTimeline(
            incident,
            tuple(entries[seq] for seq in sorted(entries) if entries[seq].incident == number),
            self.timers(number),
            tuple(sorted(messages.values(), key=lambda message: message.id)),
        )

    async def load_openings(self, now_ms: int) -> None:
        """Memory is to know what happened within the last day."""
        asked = self._writer.journal.openings(now_ms - DAY_MS)
        self._working.openings.load(await self.answer(asked, []))

    async def attempts(self, since_ms: int) -> list[HistoryEntry]:
        """The lines of messages that went out since then, the oldest first."""
        found: list[HistoryEntry] = []
        query = EntryQuery(PAGE, since_ms, events=ATTEMPTS, newest=True)
        while len(found) < MAX_ATTEMPTS and (page := await self._entries(query)):
            found += page[::-1]
            query = self._from(query, page[0])
            if len(page) < PAGE:
                break
        return found[::-1]

    def timers(self, number: int) -> tuple[Timer, ...]:
        """The live timers of an incident, the next one first."""
        timers = self._working.schedule.of_incident(number).values()
        return tuple(sorted(timers, key=lambda timer: timer.due_at_ms))

    async def history(
        self, query: EntryQuery, wanted: IncidentFilter = EVERY_INCIDENT
    ) -> HistoryPage:
        """The lines that `query` asks for, of incidents that are `wanted`; after MAX_LINES_READ of
        others it ends, and can be asked for more."""
        chosen: list[HistoryEntry] = []
        incidents: dict[int, Incident] = {}
        wanted, read = await self._with_numbers(wanted), 0
        while len(chosen) < query.limit and read < MAX_LINES_READ:
            page = await self._entries(replace(query, limit=PAGE))
            await self._load_incidents(page, incidents)
            for entry in page[::-1] if query.newest else page:
                query = self._from(query, entry)
                if not wanted or _is_wanted(incidents.get(entry.incident), wanted):
                    chosen.append(entry)
                    if len(chosen) == query.limit:
                        break
            read += len(page)
            if len(page) < PAGE and len(chosen) < query.limit:
                return _page(chosen, incidents, None)
        return _page(chosen, incidents, query)

    async def statistics(
        self,
        since_ms: int,
        until_ms: int,
        wanted: IncidentFilter = EVERY_INCIDENT,
        drills: bool = False,
    ) -> IncidentStatistics:
        """Of the incidents that are `wanted` and were open between these times, `drills` or not.
        The loop turns after every few of them."""
        within = replace(wanted, since_ms=since_ms, until_ms=until_ms)
        counted = IncidentStatistics(since_ms, until_ms, drills=drills)
        every = tuple(IncidentState)
        below = NO_NUMBER
        while incidents := await self.incidents(every, PAGE, below, within):
            below = incidents[-1].number
            numbers = {incident.number for incident in incidents}
            counted.take(await self._counted_entries(numbers, until_ms))
        return counted

    async def _counted_entries(self, numbers: set[int], until_ms: int) -> list[HistoryEntry]:
        """All that counts of these incidents, in the order in which it was noted."""
        query = EntryQuery(
            limit=10 * PAGE,
            until_ms=until_ms,
            incidents=numbers,
            events=COUNTED_EVENTS,
            by_number=True,
        )
        entries: list[HistoryEntry] = []
        while page := await self._entries(query):
            entries += page
            if len(page) < query.limit:
                break
            query = self._from(query, page[-1])
        return entries

    def _from(self, query: EntryQuery, entry: HistoryEntry) -> EntryQuery:
        place = query.place(entry)
        return replace(query, before=place) if query.newest else replace(query, after=place)

    async def _entries(self, query: EntryQuery) -> list[HistoryEntry]:
        written = await self.answer(self._writer.journal.entries(query), [])
        every = {entry.seq: entry for entry in (*self._writer.unwritten, *written)}
        return query.cut(every.values())

    async def _load_incidents(
        self, entries: Sequence[HistoryEntry], known: dict[int, Incident]
    ) -> None:
        numbers = {entry.incident for entry in entries} - known.keys() - {0}
        known |= {n: self._working.incidents[n] for n in numbers & self._working.incidents.keys()}
        if closed := numbers - known.keys():
            wanted = IncidentFilter(only=frozenset(closed))
            question = self._writer.journal.incidents(tuple(IncidentState), PAGE, NO_NUMBER, wanted)
            known |= {incident.number: incident for incident in await self.answer(question, [])}

    async def prune(self, before_ms: int) -> int:
        """Forget what was closed before then; how many incidents. What is to be written meanwhile
        comes between two slices."""
        forgotten, pruned = 0, Pruned(more=True)
        while pruned.more:
            pruned = await self.answer(self._writer.journal.prune(before_ms), Pruned())
            forgotten += pruned.incidents
        return forgotten

    async def answer(self, question: Awaitable[T], otherwise: T) -> T:
        """The journal's answer; what memory knows must do when it does not answer."""
        try:
            async with asyncio.timeout(self._answer_s):
                return await question
        except (JournalError, TimeoutError):
            return otherwise


def sent_before(entry: HistoryEntry) -> SentBefore:
    """A line of `attempts`, as budgets count it."""
    receiver, contact = (str(entry.data.get(name, "")) for name in ("receiver", "contact"))
    return SentBefore(entry.at_ms, Addressee(receiver, contact), bool(entry.data.get("digest")))


def _is_wanted(incident: Incident | None, wanted: IncidentFilter) -> bool:
    return incident is not None and wanted.matches(incident)


def _page(
    entries: Sequence[HistoryEntry], incidents: Mapping[int, Incident], following: EntryQuery | None
) -> HistoryPage:
    about = {entry.incident for entry in entries}
    return HistoryPage(
        tuple(entries), {n: one for n, one in incidents.items() if n in about}, following
    )
