"""Takes over what the journal remembers: at the start, or when it can be read again.

The pager does not wait for its journal: without one that answers it starts empty, and pages. What
the journal holds then joins what has happened since.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from tocsin_alerting.incidents.changeset import EngineRow
from tocsin_alerting.incidents.correlation import Correlator, end_event
from tocsin_alerting.incidents.errors import JournalDown, JournalError, JournalReplaced
from tocsin_alerting.incidents.incident import Incident, IncidentState, Record
from tocsin_alerting.incidents.journal.protocol import LAST_EVAL, JournalState
from tocsin_alerting.incidents.journal.writer import JournalWriter
from tocsin_alerting.incidents.succession import Succession
from tocsin_alerting.incidents.tally import IncidentTally
from tocsin_alerting.incidents.transitions import transition
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import RULES, AlertEvent, EventKind
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_exporter.clock import set_back_ms

log = logging.getLogger(__name__)

Recall = Callable[[Sequence[AlertEvent], Sequence[InstanceRow]], Sequence[AlertEvent]]
"""Tells the rules what was said of alerts before, with their rows; gives what is of none."""


def no_rules(events: Sequence[AlertEvent], _rows: Sequence[InstanceRow]) -> Sequence[AlertEvent]:
    """There are no rules to tell."""
    return events


class JournalRecovery:
    """`saved_*` is what the last run left for the rules and the engines; `saved_ms` is when it was
    last alive, by its clock and journal. `unread`: the journal has yet to be read."""

    def __init__(
        self,
        working: WorkingSet,
        writer: JournalWriter,
        correlator: Correlator,
        tally: IncidentTally,
    ) -> None:
        self.recall: Recall = no_rules
        self.saved_instances: tuple[InstanceRow, ...] = ()
        self.saved_engines: tuple[EngineRow, ...] = ()
        self.saved_forgotten = frozenset[str]()
        self.saved_ms: int | None = None
        self.journal_is_new = self.journal_was_broken = self.unread = False
        self._working, self._writer, self._correlator = working, writer, correlator
        self._tally = tally
        self._started_ms = 0
        self._samples_ms: int | None = None
        self._moved_ms = 0  # of our clock, since the start
        self._late_state: JournalState | None = None  # of which the rules have yet to hear

    async def start(self, now_ms: int, samples_ms: int | None, patience_s: float) -> bool:
        """Whether the journal could be read. `samples_ms` is the time of the last run's newest
        sample. Raises SchemaTooNew."""
        self._started_ms, self._samples_ms = now_ms, samples_ms
        try:
            async with asyncio.timeout(patience_s):
                saved = await self._first_load(now_ms)
        except (JournalDown, TimeoutError) as error:
            self._start_without_journal(error, now_ms)
            return False
        self._start_with(saved, now_ms)
        return True

    def shift(self, delta_ms: int) -> None:
        """Our clock was set: what the journal holds is by the one before."""
        self._moved_ms += delta_ms

    async def take_over(self, reconciled: AbstractSet[str], now_ms: int) -> Collection[str] | None:
        """Read the journal if that has yet to be done, or begin one in the place of one that broke.

        The keys of messages that go into it then and stand in none; None when it is down still.
        """
        trouble = self._writer.last_error
        try:
            if self.unread:
                self._load_late(await self._writer.journal.load(), now_ms)
            if self._late_state is not None:
                return self._merge_journal(self._late_state, reconciled, now_ms)
            if self._writer.replaced:
                await self._writer.journal.load()
                self._working.note(0, "journal_replaced", now_ms, data={"trouble": trouble})
                self._writer.start_over(self._working.snapshot(now_ms))
            return ()
        except JournalError as error:
            self._writer.mark_down(str(error), now_ms, soon=isinstance(error, JournalReplaced))
        except Exception as error:  # why: a fault of ours must not have it tried without a pause
            log.exception("failed to restore incidents from the journal, retrying")
            self._writer.mark_down(f"{type(error).__name__}: {error}", now_ms)
        return None

    async def _first_load(self, now_ms: int) -> JournalState:
        """What a broken journal held is not known: its numbers are not given again."""
        try:
            return await self._writer.journal.load()
        except JournalReplaced as error:
            saved = await self._writer.journal.load()
            self.journal_was_broken = True
            self._working.numbers.begin_apart(now_ms)
            self._working.note(0, "journal_replaced", now_ms, data={"trouble": str(error)})
            return saved

    def _start_with(self, saved: JournalState, now_ms: int) -> None:
        saved = self._load(saved, now_ms)
        self.saved_instances, self.saved_engines = saved.instances, saved.engines
        self.saved_forgotten = saved.forgotten
        last_eval = saved.meta.get(LAST_EVAL, "")
        down_ms = max(0, now_ms - int(last_eval)) if last_eval.isdecimal() else None
        self.journal_is_new = "clean_shutdown" not in saved.meta
        clean = saved.meta.get("clean_shutdown", "1") == "1"
        self._working.note(0, "started", now_ms, data={"downtime_ms": down_ms, "clean": clean})
        self._working.readdress(now_ms)

    def _load(self, saved: JournalState, now_ms: int) -> JournalState:
        """Take what the journal holds, by our clock: it may have been written by one that was ahead
        of it, and ours may have been set since the start."""
        self.saved_ms = saved.newest_ms
        delta_ms = set_back_ms(self._started_ms, self.saved_ms, self._samples_ms) + self._moved_ms
        saved = saved.shifted(delta_ms) if delta_ms else saved
        self._working.load(saved, now_ms)
        self._tally.begin(saved)
        if delta_ms:
            self._working.changes().merge(self._working.snapshot(now_ms))
            self._working.note(0, "clock_jumped", now_ms, data={"delta_ms": delta_ms})
        return saved

    def _start_without_journal(self, error: Exception, now_ms: int) -> None:
        trouble = str(error) or "journal open took too long"
        self.unread = not (isinstance(error, JournalDown) and error.blank)
        if not self.unread:
            self._working.numbers.begin()
            self._tally.begin(JournalState())
        self._writer.mark_down(trouble, now_ms)
        self._working.note(0, "started", now_ms, data={"journal": trouble})

    def _load_late(self, saved: JournalState, now_ms: int) -> None:
        """Once: should the rest fail and be tried again, what people did since stays done."""
        self._working.renumber(self._writer.backlog, saved, now_ms)
        self._late_state, self.unread = self._load(saved, now_ms), False

    def _merge_journal(
        self, saved: JournalState, reconciled: AbstractSet[str], now_ms: int
    ) -> Collection[str]:
        """The journal that could not be read at the start is there: take what it remembers."""
        self._merge_incidents(saved, reconciled, now_ms)
        self._late_state = None
        self._working.readdress(now_ms)
        self._writer.backlog.merge(self._working.drain_changes(now_ms))
        return self._writer.backlog.messages.keys()

    def _merge_incidents(
        self, saved: JournalState, reconciled: AbstractSet[str], now_ms: int
    ) -> None:
        """Incidents that turned up late: one whose key or alert is in one that was opened anew
        meanwhile is closed here, and its alerts join the new one; so does what a person answered,
        unless somebody has answered to the new one.

        What was said of the alerts is recalled to the rules, whether they have run since
        or not. Of a rule that is gone, they are no longer watched; what somebody else among the
        `reconciled` said has cleared.
        """
        working = self._working
        numbers = [
            incident.number for incident in saved.incidents if incident.number in working.incidents
        ]
        events_by_incident = {
            number: self._active_events(working.incidents[number], now_ms) for number in numbers
        }
        unclaimed = self.recall(
            [event for several in events_by_incident.values() for event in several], saved.instances
        )
        for (
            number,
            events,
        ) in events_by_incident.items():  # after the recall: what fails is tried again, whole
            if working.index.is_superseded(number):
                former = working.incidents[number]
                left = Succession(former, dict(working.schedule.of_incident(number)))
                self._supersede(former, events, now_ms)
                self._hand_on(left, now_ms)
        ended: list[AlertEvent] = []
        for event in unclaimed:
            holder = working.incident_of(event.alert.fingerprint)
            is_rule = event.origin.startswith(RULES)
            if holder is not None and (is_rule or event.origin in reconciled):
                member = holder.members[event.alert.fingerprint]
                kind = EventKind.REMOVED if is_rule else EventKind.CLEAR
                ended.append(end_event(member, event.origin, now_ms, kind))
        self._apply_at_once(ended, now_ms)

    def _active_events(self, incident: Incident, now_ms: int) -> list[AlertEvent]:
        """What was said of its alerts, but for those that have fired anew in another incident."""
        working = self._working
        return [
            event
            for event in working.active_events(now_ms, incident)
            if working.incident_of(event.alert.fingerprint) in (None, incident)
        ]

    def _supersede(self, incident: Incident, events: Sequence[AlertEvent], now_ms: int) -> None:
        """Close it; those of its alerts that have yet to fire anew join another one."""
        closed = replace(incident, state=IncidentState.CLOSED)
        data = {
            "successor": min(
                (successor.number for successor in self._successors(incident)), default=None
            )
        }
        self._working.apply((closed, (Record("superseded", data=data),)), now_ms)
        joins = [replace(event, kind=EventKind.FIRING) for event in events]
        doubted = [event for event in events if event.kind is EventKind.UNKNOWN]
        self._apply_at_once([*joins, *doubted], now_ms)

    def _hand_on(self, left: Succession, now_ms: int) -> None:
        working = self._working
        for incident in self._successors(left.former):
            if incident.number not in working.answered:
                working.apply(transition(incident, left, now_ms, working.config), now_ms)

    def _successors(self, former: Incident) -> list[Incident]:
        """The incidents that now have its key, or one of its alerts."""
        working = self._working
        holders = [working.incident_of(member.alert.fingerprint) for member in former.active]
        holders.append(working.by_group_key(former.key))
        return list(
            {
                successor.number: successor
                for successor in holders
                if successor and successor is not former
            }.values()
        )

    def _apply_at_once(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """In one turn, whatever their number: nothing that comes meanwhile may be overwritten."""
        for _ in self._correlator.apply(events, now_ms):
            pass
