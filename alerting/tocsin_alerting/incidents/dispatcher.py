"""The dispatcher: alerts, timers, people and delivery results come in here.

Every call is one step, written as one transaction; its caller owns the clock.
"""

import asyncio
import logging
from collections import ChainMap
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from tocsin_alerting.incidents.actions import Action
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.correlation import Correlator, Recall, no_rules
from tocsin_alerting.incidents.errors import (
    Conflict,
    JournalDown,
    JournalError,
    JournalReplaced,
    NoSuchIncident,
)
from tocsin_alerting.incidents.escalation_policy import Severity
from tocsin_alerting.incidents.event_log import log_entries
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.protocol import LAST_EVAL, NO_NUMBER, Journal, JournalState
from tocsin_alerting.incidents.journal.serialize import EngineRow
from tocsin_alerting.incidents.journal.writer import (
    NO_WAIT_S,
    TIMEOUT_S,
    WRITE_WAIT_S,
    JournalWriter,
)
from tocsin_alerting.incidents.outbox_message import (
    Delivery,
    MessageState,
    OutboxMessage,
    Outcome,
    after_attempt,
    history_event,
    is_awaited,
)
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.timeline import IncidentTimeline
from tocsin_alerting.incidents.timer_rules import TimerDue
from tocsin_alerting.incidents.timers import Timer, TimerKind
from tocsin_alerting.incidents.transitions import StepFailed, transition
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import AlertEvent, EventKind
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_exporter.clock import set_back_ms

T = TypeVar("T")
log = logging.getLogger(__name__)

# After a start, overdue P1..P4 pages wait this long for the first evaluation.
START_HOLD_MS = 60_000
# P2..P4 messages wait this long for a journal that is down; P0 and P1 do not wait.
UNRECORDED_HOLD_MS = 300_000
MAX_ROUNDS = 100
OPEN_STATES = (IncidentState.TRIGGERED, IncidentState.ACKED, IncidentState.SNOOZED)


class Dispatcher:
    """`jitter` gives numbers in [0, 1). `changed`: a due time may move. `recall`: Correlator's."""

    def __init__(
        self,
        config: IncidentConfig,
        journal: Journal,
        jitter: Callable[[], float],
        *,
        patience_s: float = WRITE_WAIT_S,
        answer_s: float = TIMEOUT_S,
        start_patience_s: float = 5.0,
    ) -> None:
        self.working = WorkingSet(config)
        self.writer = JournalWriter(journal, self._recorded, patience_s)
        self.changed = asyncio.Event()
        self.recall: Recall = no_rules
        self.saved_instances: tuple[InstanceRow, ...] = ()
        self.saved_engines: tuple[EngineRow, ...] = ()
        self.saved_forgotten = frozenset[str]()
        self.journal_is_new = False
        self.saved_ms: int | None = None  # when the last run was alive, by its clock and journal
        self._samples_ms: int | None = None
        self._started_ms = self._hold_until_ms = 0
        self._moved_ms = 0  # of our clock, since the start
        self._journal = journal
        self._jitter = jitter
        self._claim_wait_s, self._page_wait_ms = patience_s / 3, round(1000 * patience_s)
        self._journal_timeout_s, self._start_patience_s = answer_s, start_patience_s
        self._correlator = Correlator(self.working)
        self._unrecorded: dict[str, int] = {}  # since when
        self._reconciled: set[str] = set()
        self._journal_unread = self._was_down = False
        self._late_state: JournalState | None = None  # of which the rules have yet to hear
        self._reconnecting: asyncio.Task[None] | None = None

    async def start(self, now_ms: int, samples_ms: int | None = None) -> None:
        """Load the journal. Without one that answers it starts empty, and pages all the same.

        `samples_ms` is the time of the last run's newest sample. Sets `saved_instances` for the
        rules layer, `saved_ms` and `journal_is_new`. Raises SchemaTooNew.
        """
        self._started_ms, self._samples_ms = now_ms, samples_ms
        try:
            async with asyncio.timeout(self._start_patience_s):
                saved = await self._first_load(now_ms)
        except (JournalDown, TimeoutError) as error:
            self._start_without_journal(error, now_ms)
        else:
            self._start_with(saved, now_ms)
        self.working.changes().meta["clean_shutdown"] = "0"
        await self._save(now_ms, self._start_patience_s)  # what opens next needs its numbers

    async def _first_load(self, now_ms: int) -> JournalState:
        """What a broken journal held is not known: its numbers are not given again."""
        try:
            return await self._journal.load()
        except JournalReplaced as error:
            saved = await self._journal.load()
            self.working.numbers.begin_apart(now_ms)
            self.working.note(0, "journal_replaced", now_ms, data={"trouble": str(error)})
            return saved

    def _start_with(self, saved: JournalState, now_ms: int) -> None:
        saved = self._load(saved, now_ms)
        self.saved_instances, self.saved_engines = saved.instances, saved.engines
        self.saved_forgotten = saved.forgotten
        last_eval = saved.meta.get(LAST_EVAL, "")
        down_ms = max(0, now_ms - int(last_eval)) if last_eval.isdecimal() else None
        self.journal_is_new = "clean_shutdown" not in saved.meta
        clean = saved.meta.get("clean_shutdown", "1") == "1"
        self.working.note(0, "started", now_ms, data={"downtime_ms": down_ms, "clean": clean})
        self.working.readdress(now_ms)
        incidents = saved.incidents
        urgent = {
            incident.number
            for incident in incidents
            if incident.is_open and incident.severity is Severity.P0
        }
        self.working.schedule.hold({incident.number for incident in incidents} - urgent)
        self._hold_until_ms = now_ms + START_HOLD_MS

    def _load(self, saved: JournalState, now_ms: int) -> JournalState:
        """Take what the journal holds, by our clock: it may have been written by one that was ahead
        of it, and ours may have been set since the start."""
        self.saved_ms = saved.newest_ms
        delta_ms = set_back_ms(self._started_ms, self.saved_ms, self._samples_ms) + self._moved_ms
        saved = saved.shifted(delta_ms) if delta_ms else saved
        self.working.load(saved, now_ms)
        if delta_ms:
            self.working.changes().merge(self.working.snapshot(now_ms))
            self.working.note(0, "clock_jumped", now_ms, data={"delta_ms": delta_ms})
        return saved

    def _start_without_journal(self, error: Exception, now_ms: int) -> None:
        trouble = str(error) or "the journal took too long to open"
        self._journal_unread = not (isinstance(error, JournalDown) and error.blank)
        if not self._journal_unread:
            self.working.numbers.begin()
        self.writer.mark_down(trouble, now_ms)
        self.working.note(0, "started", now_ms, data={"journal": trouble})

    async def reconcile(
        self,
        standing: Sequence[AlertEvent],
        origins: Collection[str],
        now_ms: int,
        kind: EventKind = EventKind.CLEAR,
    ) -> None:
        """`standing` is all that `origins` have to say: what fires, is unknown or lost its rule.

        What one of them said before and says no more has cleared or lost its rule (`kind`); what is
        new has begun. What others say is left alone. Ends the hold on the overdue pages of
        incidents of which every origin has spoken.
        """
        about = {
            self.working.number_of(member)
            for name in origins
            for member in self.working.members_of_origin(name)
        }
        for _ in self._correlator.reconcile(standing, origins, now_ms, kind):
            await self._run_and_save(now_ms)
        self._reconciled.update(origins)
        self.working.release(number for number in about if self._is_settled(number))
        await self._run_and_save(now_ms)

    @property
    def origins(self) -> Collection[str]:
        """Those who say of an alert that it fires, or that nobody can tell."""
        return self.working.origins

    def _is_settled(self, number: int) -> bool:
        """Whether everyone who spoke of the incident's alerts has spoken since the start."""
        incident = self.working.incidents.get(number)
        members = incident.active if incident else ()
        return all(self._reconciled.issuperset(member.origins) for member in members)

    async def close(self, now_ms: int) -> None:
        """Write what can be written, and let go of the journal."""
        self.working.end()
        await self._save(now_ms)
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        try:
            async with asyncio.timeout(self._journal_timeout_s):
                if not self._journal_unread:
                    await self.writer.flush(now_ms)
                await self._journal.close()
        except (TimeoutError, JournalError):
            return  # nothing more can be done for this disk

    async def handle(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """Take what changed in one evaluation: the worst first, in slices, others in between. A
        crash loses nothing: at the next start the rules say again all that fires."""
        for _ in self._correlator.apply(events, now_ms):
            await self._run_and_save(now_ms, None if self.working.numbers.few else NO_WAIT_S)
            await asyncio.sleep(0)
        await self.writer.wait()

    async def remember(
        self, file: str, group: str, rows: Sequence[InstanceRow], now_ms: int
    ) -> None:
        """Keep these for the rules layer: all that this group of rules has to remember."""
        self.working.changes().instances[file, group] = tuple(rows)
        await self._save(now_ms)

    async def remember_engine(self, row: EngineRow, now_ms: int) -> None:
        """Keep it for the next start."""
        self.working.changes().engines[row.target] = row
        await self._save(now_ms)

    async def forget_engine(self, target: str, now_ms: int) -> None:
        self.working.forget_engine(target)
        await self._save(now_ms, self._journal_timeout_s)

    async def due(self, now_ms: int) -> int | None:
        """Run the timers that are due, and say when the next one is (None: never)."""
        if self.working.schedule.held and now_ms >= self._hold_until_ms:
            self.working.release(self.working.schedule.held)
            self.changed.set()
        await self._run_and_save(now_ms)
        self._reconnect(now_ms)
        return self.next_due_ms()

    def next_due_ms(self) -> int | None:
        hold = [self._hold_until_ms] if self.working.schedule.held else []
        retry = [self.writer.retry_at_ms] if self.writer.down and not self._reconnecting else []
        timer = self.working.schedule.next_due_ms()
        return min([*hold, *retry, *([] if timer is None else [timer])], default=None)

    async def act(self, action: Action, now_ms: int) -> Incident:
        """Do what a person asks; repeated with the same `request_id` it is done once.

        Raises NoSuchIncident and Conflict.
        """
        done = self.working.requests.get(action.request_id) if action.request_id else None
        if done is not None:
            return await self.incident(done[0])
        incident = self.working.incidents.get(action.incident)
        if incident is None:
            closed = await self.incident(action.incident)
            raise Conflict(closed.number, closed.state, f"nothing to {action.verb}")
        self.working.apply(transition(incident, action, now_ms, self.working.config), now_ms)
        if action.request_id:
            self.working.requests[action.request_id] = (action.incident, now_ms)
            self.working.changes().requests[action.request_id] = (action.incident, now_ms)
        await self._run_and_save(now_ms, self._journal_timeout_s)
        return self.working.incidents[action.incident]

    async def heartbeat(self, now_ms: int) -> None:
        """Remember that evaluation was alive now."""
        self.working.changes().meta[LAST_EVAL] = str(now_ms)
        await self._save(now_ms)

    def clock_jumped(self, delta_ms: int, now_ms: int) -> None:
        """The wall clock was stepped by `delta_ms` and reads `now_ms`: no timer comes nearer.

        It is done when this returns, and written with the next step.
        """
        self.working.shift(delta_ms)
        self.writer.shift(delta_ms)
        self._hold_until_ms += delta_ms
        self._moved_ms += delta_ms
        self._unrecorded = {key: at + delta_ms for key, at in self._unrecorded.items()}
        self.working.note(0, "clock_jumped", now_ms, data={"delta_ms": delta_ms})
        self.changed.set()

    async def claim(self, now_ms: int, limit: int = 64) -> list[Delivery]:
        """Messages to send now. What is not reported within 30 s is handed out again."""
        self._check_journal()
        marked = self.working.outbox.claim(now_ms, limit, self._may_send_at)
        before = {sent.key for sent in marked if sent.key in self._unrecorded}
        await self._save(now_ms, self._claim_wait_s)
        missing = before & self._unrecorded.keys()
        return [
            Delivery(key, replace(sent.notification, not_recorded=key in missing), sent.attempts)
            for key, sent in ((sent.key, sent) for sent in marked)
        ]

    def next_claim_ms(self, now_ms: int) -> int | None:
        """When there may be something to claim (None: not before `changed` is set)."""
        self._check_journal()
        return self.working.outbox.next_due_ms(now_ms, self._may_send_at)

    async def delivered(self, delivery: Delivery, outcome: Outcome, now_ms: int) -> None:
        """Take the outcome of an attempt: done, again later, or refused (rules 9 and 28)."""
        message = self.working.outbox.get(delivery.key)
        if message is None or not is_awaited(message, delivery.attempt, outcome):
            return
        after = after_attempt(message, outcome, now_ms, self._jitter())
        self.working.outbox.put(after)
        event, data = history_event(after)
        self.working.note(after.notification.incident, event, now_ms, data=data)
        if after.is_page and after.state is not MessageState.SENT:
            self._page_failed(after, now_ms, news=after.is_lost and not message.is_lost)
        await self._run_and_save(now_ms)

    def _page_failed(self, message: OutboxMessage, now_ms: int, *, news: bool) -> None:
        """`news`: until now there was hope that the page would reach somebody in time."""
        incident = self.working.incidents.get(message.notification.incident)
        if incident is None:
            return
        if message.state in (MessageState.FAILED, MessageState.CANCELLED):
            self.working.outbox.retract(message, incident.cycle)
        if news and self.working.outbox.step_failed(message):
            sent = message.notification
            failed = StepFailed(message.generation, sent.step, sent.loop)
            self.working.apply(transition(incident, failed, now_ms, self.working.config), now_ms)

    def _may_send_at(self, message: OutboxMessage) -> int | None:
        """From when on the message may go; None: not before the outbox is told to look again."""
        if message.is_page and self.working.is_held(message.notification.incident):
            return None
        if self.writer.down:
            return 0 if message.is_urgent else message.notification.at_ms + UNRECORDED_HOLD_MS
        since_ms = self._unrecorded.get(message.key)
        if since_ms is None:
            return 0
        return since_ms + self._page_wait_ms if message.is_urgent else None

    def _check_journal(self) -> None:  # with its end or return other messages may go
        if self._was_down != self.writer.down:
            self._was_down = self.writer.down
            self.working.outbox.resume()

    async def incident(self, number: int) -> Incident:
        """Raises NoSuchIncident; a closed one comes from the journal."""
        loaded = self.working.incidents.get(number)
        if loaded is None:
            loaded = await self._query(self._journal.incident(number), None)
        if loaded is None:
            raise NoSuchIncident(number)
        return loaded

    async def incidents(
        self,
        states: Collection[IncidentState] = OPEN_STATES,
        limit: int = 1000,
        below: int = NO_NUMBER,
    ) -> list[Incident]:
        """The newest first, of those with a number below `below`."""
        open_ones = self.working.incidents.values()
        matching = [
            incident
            for incident in open_ones
            if incident.state in states and incident.number < below
        ]
        if IncidentState.CLOSED in states:
            matching += await self._query(
                self._journal.incidents([IncidentState.CLOSED], limit, below), []
            )
        return sorted(matching, key=lambda incident: -incident.number)[:limit]

    async def timeline(self, number: int) -> IncidentTimeline:
        """Raises NoSuchIncident."""
        incident = await self.incident(number)
        written = await self._query(self._journal.history(number), [])
        entries = {entry.seq: entry for entry in (*written, *self.writer.unwritten)}
        messages = {
            message.key: message
            for message in await self._query(self._journal.messages(number), [])
        }
        messages |= {message.key: message for message in self.working.outbox.of_incident(number)}
        return IncidentTimeline(
            incident,
            tuple(entries[seq] for seq in sorted(entries) if entries[seq].incident == number),
            self.timers(number),
            tuple(sorted(messages.values(), key=lambda message: message.id)),
        )

    def timers(self, number: int) -> tuple[Timer, ...]:
        """The live timers of an incident, the next one first."""
        timers = self.working.schedule.of_incident(number).values()
        return tuple(sorted(timers, key=lambda timer: timer.due_at_ms))

    def overdue_ms(self, now_ms: int) -> int:
        """How late the oldest timer is; over two minutes the incident loop is stuck."""
        next_ms = self.working.schedule.next_due_ms()
        return 0 if next_ms is None else max(0, now_ms - next_ms)

    async def prune(self, before_ms: int) -> int:
        """Forget the incidents that were closed before then, with their history; how many."""
        requests = self.working.requests
        self.working.requests = {k: v for k, v in requests.items() if v[1] >= before_ms}
        return await self._query(self._journal.prune(before_ms), 0)

    async def _query(self, answer: Awaitable[T], otherwise: T) -> T:
        """The journal's answer; what memory knows must do when it does not answer."""
        try:
            async with asyncio.timeout(self._journal_timeout_s):
                return await answer
        except (JournalError, TimeoutError):
            return otherwise

    async def _run_and_save(self, now_ms: int, patience_s: float | None = None) -> None:
        self._run_due(now_ms)
        await self._save(now_ms, patience_s)

    def _run_due(self, now_ms: int) -> None:
        """Mute and unmute, run what is due, until nothing is."""
        for _ in range(MAX_ROUNDS):
            self._correlator.update_mutes(now_ms)
            due = self.working.schedule.due(now_ms)
            if not due:
                return
            for number, timer in due:
                self._run_timer(number, timer.kind, timer, now_ms)

    def _run_timer(self, number: int, kind: TimerKind, timer: Timer, now_ms: int) -> None:
        if self.working.schedule.of_incident(number).get(kind) is not timer:
            return  # replaced by one that ran before it
        incident = self.working.incidents[number]
        change = transition(incident, TimerDue(timer), now_ms, self.working.config)
        self.working.remove_timer(number, kind)  # after the step: one that fails keeps its timer
        self.working.apply(change, now_ms)

    async def _save(self, now_ms: int, patience_s: float | None = None) -> bool:
        changeset = self.working.drain_changes(now_ms)
        if not changeset:
            return not self.writer.down
        for key in changeset.messages:
            self._unrecorded.setdefault(key, now_ms)
        log_entries(changeset.history, ChainMap(self.working.incidents, changeset.incidents))
        self.changed.set()  # whoever waits is to know until when
        return await self.writer.record(changeset, now_ms, patience_s)

    def _recorded(self, changeset: Changeset) -> None:
        self.working.numbers.recorded(changeset.meta)
        for key in changeset.messages:
            self._unrecorded.pop(key, None)
        self.working.outbox.resume(changeset.messages)
        self.changed.set()

    def _reconnect(self, now_ms: int) -> None:
        if self._reconnecting is not None and self._reconnecting.done():
            self._reconnecting = None
        due = self.writer.down and now_ms >= self.writer.retry_at_ms
        if due and self._reconnecting is None:
            self._reconnecting = asyncio.create_task(self._recover(now_ms))
            self._reconnecting.add_done_callback(lambda _: self.changed.set())

    async def _recover(self, now_ms: int) -> None:
        since_ms, trouble = self.writer.down_since_ms, self.writer.last_error
        try:
            if self._journal_unread:
                self._load_late(await self._journal.load(), now_ms)
            if self._late_state is not None:
                self._merge_journal(self._late_state, now_ms)
            elif self.writer.replaced:
                await self._journal.load()
                self.working.note(0, "journal_replaced", now_ms, data={"trouble": trouble})
                self.writer.start_over(self.working.snapshot(now_ms))
        except JournalError as error:
            self.writer.mark_down(str(error), now_ms, soon=isinstance(error, JournalReplaced))
            return
        except Exception as error:  # why: a fault of ours must not have it tried without a pause
            log.exception("what the journal remembers could not be taken over")
            self.writer.mark_down(f"{type(error).__name__}: {error}", now_ms)
            return
        if await self.writer.flush(now_ms):
            data = {"trouble": trouble, "since_ms": since_ms}
            self.working.note(0, "journal_back", now_ms, data=data)
            await self._save(now_ms)

    def _load_late(self, saved: JournalState, now_ms: int) -> None:
        """Once: should the rest fail and be tried again, what people did since stays done."""
        self.working.renumber(self.writer.backlog, saved, now_ms)
        self._late_state, self._journal_unread = self._load(saved, now_ms), False

    def _merge_journal(self, saved: JournalState, now_ms: int) -> None:
        """The journal that could not be read at the start is there: take what it remembers."""
        self._correlator.merge_journal(saved, self._reconciled, self.recall, now_ms)
        self._late_state = None
        self.working.readdress(now_ms)
        self.writer.backlog.merge(self.working.drain_changes(now_ms))
        self._unrecorded |= dict.fromkeys(self.writer.backlog.messages, now_ms)
