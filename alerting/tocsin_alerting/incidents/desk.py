"""The desk where incidents are kept: alerts, timers, people and delivery results come in here.

Every call is one step: the working copy changes, then one transaction writes all of it. The state
machine itself is `transitions.step`; whoever drives the desk owns the clock.
"""

import asyncio
import logging
from collections import ChainMap
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tocsin_alerting.incidents.action import Action
from tocsin_alerting.incidents.batch import Batch
from tocsin_alerting.incidents.clocks import TimerDue
from tocsin_alerting.incidents.errors import (
    Conflict,
    JournalDown,
    JournalError,
    JournalReplaced,
    NoSuchIncident,
)
from tocsin_alerting.incidents.event_log import log_entries
from tocsin_alerting.incidents.hearing import Hearing, Recall, nobody
from tocsin_alerting.incidents.incident import Incident, State
from tocsin_alerting.incidents.journal import LAST_EVAL, NO_NUMBER, Journal, Saved
from tocsin_alerting.incidents.ledger import Ledger
from tocsin_alerting.incidents.message import (
    Message,
    MessageState,
    history_of,
    is_awaited,
    settled,
)
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outcome import Outcome
from tocsin_alerting.incidents.policy import Severity
from tocsin_alerting.incidents.recorder import LIMIT_S, NOT_AT_ALL_S, PATIENCE_S, Recorder
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.rows import EngineRow
from tocsin_alerting.incidents.story import Story
from tocsin_alerting.incidents.timer import Timer, TimerKind
from tocsin_alerting.incidents.transitions import StepFailed, step
from tocsin_alerting.rules.alert import AlertEvent, EventKind
from tocsin_alerting.rules.journal import InstanceRow
from tocsin_exporter.clock import set_back_ms

T = TypeVar("T")
log = logging.getLogger(__name__)

# After a start, overdue P1..P4 pages wait this long for the first evaluation.
HOLD_MS = 60_000
# P2..P4 messages wait this long for a journal that is down; P0 and P1 do not wait.
UNRECORDED_HOLD_MS = 300_000
MOST_ROUNDS = 100
OPEN_STATES = (State.TRIGGERED, State.ACKED, State.SNOOZED)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is the caller's to send: report the outcome, or it is sent again later."""

    key: str
    notification: Notification
    attempt: int


class Desk:
    """`jitter` gives numbers in [0, 1). `changed`: a due time may move. `recall`: as in Hearing."""

    def __init__(
        self,
        config: IncidentConfig,
        journal: Journal,
        jitter: Callable[[], float],
        *,
        patience_s: float = PATIENCE_S,
        answer_s: float = LIMIT_S,
        start_patience_s: float = 5.0,
    ) -> None:
        self.ledger = Ledger(config)
        self.recorder = Recorder(journal, self._recorded, patience_s)
        self.changed = asyncio.Event()
        self.recall: Recall = nobody
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
        self._claim_s, self._page_wait_ms = patience_s / 3, round(1000 * patience_s)
        self._answer_s, self._start_patience_s = answer_s, start_patience_s
        self._hearing = Hearing(self.ledger)
        self._unrecorded: dict[str, int] = {}  # since when
        self._reconciled: set[str] = set()
        self._blind = self._was_down = False
        self._late: Saved | None = None  # of which the rules have yet to hear
        self._mending: asyncio.Task[None] | None = None

    # the start and the end

    async def start(self, now_ms: int, samples_ms: int | None = None) -> None:
        """Load the journal. Without one that answers the desk starts empty, and pages all the same.

        `samples_ms` is the time of the last run's newest sample. Sets `saved_instances` for the
        rules layer, `saved_ms` and `journal_is_new`. Raises SchemaTooNew.
        """
        self._started_ms, self._samples_ms = now_ms, samples_ms
        try:
            async with asyncio.timeout(self._start_patience_s):
                saved = await self._first_load(now_ms)
        except (JournalDown, TimeoutError) as error:
            self._start_blind(error, now_ms)
        else:
            self._start_with(saved, now_ms)
        self.ledger.changes().meta["clean_shutdown"] = "0"
        await self._save(now_ms, self._start_patience_s)  # what opens next needs its numbers

    async def _first_load(self, now_ms: int) -> Saved:
        """What a broken journal held is not known: its numbers are not given again."""
        try:
            return await self._journal.load()
        except JournalReplaced as error:
            saved = await self._journal.load()
            self.ledger.numbers.begin_apart(now_ms)
            self.ledger.note(0, "journal_replaced", now_ms, data={"trouble": str(error)})
            return saved

    def _start_with(self, saved: Saved, now_ms: int) -> None:
        saved = self._load(saved, now_ms)
        self.saved_instances, self.saved_engines = saved.instances, saved.engines
        self.saved_forgotten = saved.forgotten
        last_eval = saved.meta.get(LAST_EVAL, "")
        down_ms = max(0, now_ms - int(last_eval)) if last_eval.isdecimal() else None
        self.journal_is_new = "clean_shutdown" not in saved.meta
        clean = saved.meta.get("clean_shutdown", "1") == "1"
        self.ledger.note(0, "started", now_ms, data={"downtime_ms": down_ms, "clean": clean})
        self.ledger.readdress(now_ms)
        every = saved.incidents
        urgent = {one.number for one in every if one.is_open and one.severity is Severity.P0}
        self.ledger.schedule.hold({one.number for one in every} - urgent)
        self._hold_until_ms = now_ms + HOLD_MS

    def _load(self, saved: Saved, now_ms: int) -> Saved:
        """Take what the journal holds, by our clock: it may have been written by one that was ahead
        of it, and ours may have been set since the start."""
        self.saved_ms = saved.newest_ms
        delta_ms = set_back_ms(self._started_ms, self.saved_ms, self._samples_ms) + self._moved_ms
        saved = saved.shifted(delta_ms) if delta_ms else saved
        self.ledger.load(saved, now_ms)
        if delta_ms:
            self.ledger.changes().merge(self.ledger.everything(now_ms))
            self.ledger.note(0, "clock_jumped", now_ms, data={"delta_ms": delta_ms})
        return saved

    def _start_blind(self, error: Exception, now_ms: int) -> None:
        trouble = str(error) or "the journal took too long to open"
        self._blind = not (isinstance(error, JournalDown) and error.blank)
        if not self._blind:
            self.ledger.numbers.begin()
        self.recorder.fail(trouble, now_ms)
        self.ledger.note(0, "started", now_ms, data={"journal": trouble})

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
        about = {self.ledger.holder(one) for name in origins for one in self.ledger.said_by(name)}
        for _ in self._hearing.reconcile(standing, origins, now_ms, kind):
            await self._run_and_save(now_ms)
        self._reconciled.update(origins)
        self.ledger.release(number for number in about if self._is_settled(number))
        await self._run_and_save(now_ms)

    @property
    def origins(self) -> Collection[str]:
        """Those who say of an alert that it fires, or that nobody can tell."""
        return self.ledger.origins

    def _is_settled(self, number: int) -> bool:
        """Whether everyone who spoke of the incident's alerts has spoken since the start."""
        incident = self.ledger.incidents.get(number)
        members = incident.active if incident else ()
        return all(self._reconciled.issuperset(one.origins) for one in members)

    async def close(self, now_ms: int) -> None:
        """Write what can be written, and let go of the journal."""
        self.ledger.end()
        await self._save(now_ms)
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
        try:
            async with asyncio.timeout(self._answer_s):
                if not self._blind:
                    await self.recorder.flush(now_ms)
                await self._journal.close()
        except (TimeoutError, JournalError):
            return  # nothing more can be done for this disk

    # what happens

    async def handle(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """Take what changed in one evaluation: the worst first, in slices, others in between. A
        crash loses nothing: at the next start the rules say again all that fires."""
        for _ in self._hearing.hear(events, now_ms):
            await self._run_and_save(now_ms, None if self.ledger.numbers.few else NOT_AT_ALL_S)
            await asyncio.sleep(0)
        await self.recorder.wait()

    async def remember(
        self, file: str, group: str, rows: Sequence[InstanceRow], now_ms: int
    ) -> None:
        """Keep these for the rules layer: all that this group of rules has to remember."""
        self.ledger.changes().instances[file, group] = tuple(rows)
        await self._save(now_ms)

    async def remember_engine(self, row: EngineRow, now_ms: int) -> None:
        """Keep it for the next start."""
        self.ledger.changes().engines[row.target] = row
        await self._save(now_ms)

    async def forget_engine(self, target: str, now_ms: int) -> None:
        self.ledger.forget_engine(target)
        await self._save(now_ms, self._answer_s)

    async def due(self, now_ms: int) -> int | None:
        """Run the timers that are due, and say when the next one is (None: never)."""
        if self.ledger.schedule.held and now_ms >= self._hold_until_ms:
            self.ledger.release(self.ledger.schedule.held)
            self.changed.set()
        await self._run_and_save(now_ms)
        self._mend(now_ms)
        return self.next_due_ms()

    def next_due_ms(self) -> int | None:
        held = [self._hold_until_ms] if self.ledger.schedule.held else []
        retry = [self.recorder.retry_at_ms] if self.recorder.down and not self._mending else []
        timer = self.ledger.schedule.next_due_ms()
        return min([*held, *retry, *([] if timer is None else [timer])], default=None)

    async def act(self, action: Action, now_ms: int) -> Incident:
        """Do what a person asks; repeated with the same `request_id` it is done once.

        Raises NoSuchIncident and Conflict.
        """
        done = self.ledger.requests.get(action.request_id) if action.request_id else None
        if done is not None:
            return await self.incident(done[0])
        incident = self.ledger.incidents.get(action.incident)
        if incident is None:
            closed = await self.incident(action.incident)
            raise Conflict(closed.number, closed.state, f"nothing to {action.verb}")
        self.ledger.apply(step(incident, action, now_ms, self.ledger.config), now_ms)
        if action.request_id:
            self.ledger.requests[action.request_id] = (action.incident, now_ms)
            self.ledger.changes().requests[action.request_id] = (action.incident, now_ms)
        await self._run_and_save(now_ms, self._answer_s)
        return self.ledger.incidents[action.incident]

    async def heartbeat(self, now_ms: int) -> None:
        """Remember that evaluation was alive now."""
        self.ledger.changes().meta[LAST_EVAL] = str(now_ms)
        await self._save(now_ms)

    def clock_jumped(self, delta_ms: int, now_ms: int) -> None:
        """The wall clock was stepped by `delta_ms` and reads `now_ms`: no timer comes nearer.

        It is done when this returns, and written with the next step.
        """
        self.ledger.shift(delta_ms)
        self.recorder.shift(delta_ms)
        self._hold_until_ms += delta_ms
        self._moved_ms += delta_ms
        self._unrecorded = {key: at + delta_ms for key, at in self._unrecorded.items()}
        self.ledger.note(0, "clock_jumped", now_ms, data={"delta_ms": delta_ms})
        self.changed.set()

    # delivery

    async def claim(self, now_ms: int, limit: int = 64) -> list[Delivery]:
        """Messages to send now. What is not reported within 30 s is handed out again."""
        self._look_at_journal()
        marked = self.ledger.outbox.claim(now_ms, limit, self._goes_at)
        before = {one.key for one in marked if one.key in self._unrecorded}
        await self._save(now_ms, self._claim_s)
        missing = before & self._unrecorded.keys()
        return [
            Delivery(key, replace(one.notification, not_recorded=key in missing), one.attempts)
            for key, one in ((one.key, one) for one in marked)
        ]

    def next_claim_ms(self, now_ms: int) -> int | None:
        """When there may be something to claim (None: not before `changed` is set)."""
        self._look_at_journal()
        return self.ledger.outbox.next_due_ms(now_ms, self._goes_at)

    async def delivered(self, delivery: Delivery, outcome: Outcome, now_ms: int) -> None:
        """Take the outcome of an attempt: done, again later, or refused (rules 9 and 28)."""
        message = self.ledger.outbox.get(delivery.key)
        if message is None or not is_awaited(message, delivery.attempt, outcome):
            return
        after = settled(message, outcome, now_ms, self._jitter())
        self.ledger.outbox.put(after)
        event, data = history_of(after)
        self.ledger.note(after.notification.incident, event, now_ms, data=data)
        if after.is_page and after.state is not MessageState.SENT:
            self._page_failed(after, now_ms, news=after.lost and not message.lost)
        await self._run_and_save(now_ms)

    def _page_failed(self, message: Message, now_ms: int, *, news: bool) -> None:
        """`news`: until now there was hope that the page would reach somebody in time."""
        incident = self.ledger.incidents.get(message.notification.incident)
        if incident is None:
            return
        if message.state in (MessageState.FAILED, MessageState.CANCELLED):
            self.ledger.outbox.retract(message, incident.cycle)
        if news and self.ledger.outbox.step_failed(message):
            sent = message.notification
            failed = StepFailed(message.generation, sent.step, sent.loop)
            self.ledger.apply(step(incident, failed, now_ms, self.ledger.config), now_ms)

    def _goes_at(self, message: Message) -> int | None:
        """From when on the message may go; None: not before the outbox is told to look again."""
        if message.is_page and self.ledger.is_held(message.notification.incident):
            return None
        if self.recorder.down:
            return 0 if message.urgent else message.notification.at_ms + UNRECORDED_HOLD_MS
        since_ms = self._unrecorded.get(message.key)
        if since_ms is None:
            return 0
        return since_ms + self._page_wait_ms if message.urgent else None

    def _look_at_journal(self) -> None:  # with its end or return other messages may go
        if self._was_down != self.recorder.down:
            self._was_down = self.recorder.down
            self.ledger.outbox.resume()

    # questions

    async def incident(self, number: int) -> Incident:
        """Raises NoSuchIncident; a closed one comes from the journal."""
        found = self.ledger.incidents.get(number)
        if found is None:
            found = await self._ask(self._journal.incident(number), None)
        if found is None:
            raise NoSuchIncident(number)
        return found

    async def incidents(
        self,
        states: Collection[State] = OPEN_STATES,
        limit: int = 1000,
        below: int = NO_NUMBER,
    ) -> list[Incident]:
        """The newest first, of those with a number below `below`."""
        every = self.ledger.incidents.values()
        found = [one for one in every if one.state in states and one.number < below]
        if State.CLOSED in states:
            found += await self._ask(self._journal.incidents([State.CLOSED], limit, below), [])
        return sorted(found, key=lambda one: -one.number)[:limit]

    async def story(self, number: int) -> Story:
        """Raises NoSuchIncident."""
        incident = await self.incident(number)
        written = await self._ask(self._journal.history(number), [])
        entries = {one.seq: one for one in (*written, *self.recorder.unwritten)}
        messages = {one.key: one for one in await self._ask(self._journal.messages(number), [])}
        messages |= {one.key: one for one in self.ledger.outbox.of(number)}
        return Story(
            incident,
            tuple(entries[seq] for seq in sorted(entries) if entries[seq].incident == number),
            self.timers(number),
            tuple(sorted(messages.values(), key=lambda one: one.id)),
        )

    def timers(self, number: int) -> tuple[Timer, ...]:
        """The live timers of an incident, the next one first."""
        timers = self.ledger.schedule.of(number).values()
        return tuple(sorted(timers, key=lambda one: one.due_at_ms))

    def overdue_ms(self, now_ms: int) -> int:
        """How late the oldest timer is; over two minutes the loop that drives the desk is stuck."""
        next_ms = self.ledger.schedule.next_due_ms()
        return 0 if next_ms is None else max(0, now_ms - next_ms)

    async def prune(self, before_ms: int) -> int:
        """Forget the incidents that were closed before then, with their history; how many."""
        requests = self.ledger.requests
        self.ledger.requests = {k: v for k, v in requests.items() if v[1] >= before_ms}
        return await self._ask(self._journal.prune(before_ms), 0)

    async def _ask(self, answer: Awaitable[T], otherwise: T) -> T:
        """The journal's answer; what memory knows must do when it does not answer."""
        try:
            async with asyncio.timeout(self._answer_s):
                return await answer
        except (JournalError, TimeoutError):
            return otherwise

    # one step

    async def _run_and_save(self, now_ms: int, patience_s: float | None = None) -> None:
        self._run(now_ms)
        await self._save(now_ms, patience_s)

    def _run(self, now_ms: int) -> None:
        """Mute and unmute, run what is due, until nothing is."""
        for _ in range(MOST_ROUNDS):
            self._hearing.mute(now_ms)
            due = self.ledger.schedule.due(now_ms)
            if not due:
                return
            for number, timer in due:
                self._run_timer(number, timer.kind, timer, now_ms)

    def _run_timer(self, number: int, kind: TimerKind, timer: Timer, now_ms: int) -> None:
        if self.ledger.schedule.of(number).get(kind) is not timer:
            return  # replaced by one that ran before it
        incident = self.ledger.incidents[number]
        change = step(incident, TimerDue(timer), now_ms, self.ledger.config)
        self.ledger.remove_timer(number, kind)  # after the step: one that fails keeps its timer
        self.ledger.apply(change, now_ms)

    async def _save(self, now_ms: int, patience_s: float | None = None) -> bool:
        batch = self.ledger.take(now_ms)
        if not batch:
            return not self.recorder.down
        for key in batch.messages:
            self._unrecorded.setdefault(key, now_ms)
        log_entries(batch.history, ChainMap(self.ledger.incidents, batch.incidents))
        self.changed.set()  # whoever waits is to know until when
        return await self.recorder.record(batch, now_ms, patience_s)

    def _recorded(self, batch: Batch) -> None:
        self.ledger.numbers.recorded(batch.meta)
        for key in batch.messages:
            self._unrecorded.pop(key, None)
        self.ledger.outbox.resume(batch.messages)
        self.changed.set()

    # when the journal is down

    def _mend(self, now_ms: int) -> None:
        if self._mending is not None and self._mending.done():
            self._mending = None
        due = self.recorder.down and now_ms >= self.recorder.retry_at_ms
        if due and self._mending is None:
            self._mending = asyncio.create_task(self._recover(now_ms))
            self._mending.add_done_callback(lambda _: self.changed.set())

    async def _recover(self, now_ms: int) -> None:
        since_ms, trouble = self.recorder.since_ms, self.recorder.trouble
        try:
            if self._blind:
                self._take_late(await self._journal.load(), now_ms)
            if self._late is not None:
                self._adopt(self._late, now_ms)
            elif self.recorder.replaced:
                await self._journal.load()
                self.ledger.note(0, "journal_replaced", now_ms, data={"trouble": trouble})
                self.recorder.begin_anew(self.ledger.everything(now_ms))
        except JournalError as error:
            self.recorder.fail(str(error), now_ms, soon=isinstance(error, JournalReplaced))
            return
        except Exception as error:  # why: a fault of ours must not have it tried without a pause
            log.exception("what the journal remembers could not be taken over")
            self.recorder.fail(f"{type(error).__name__}: {error}", now_ms)
            return
        if await self.recorder.flush(now_ms):
            data = {"trouble": trouble, "since_ms": since_ms}
            self.ledger.note(0, "journal_back", now_ms, data=data)
            await self._save(now_ms)

    def _take_late(self, saved: Saved, now_ms: int) -> None:
        """Once: should the rest fail and be tried again, what people did since stays done."""
        self.ledger.renumbered(self.recorder.backlog, saved, now_ms)
        self._late, self._blind = self._load(saved, now_ms), False

    def _adopt(self, saved: Saved, now_ms: int) -> None:
        """The journal that could not be read at the start is there: take what it remembers."""
        self._hearing.adopt(saved, self._reconciled, self.recall, now_ms)
        self._late = None
        self.ledger.readdress(now_ms)
        self.recorder.backlog.merge(self.ledger.take(now_ms))
        self._unrecorded |= dict.fromkeys(self.recorder.backlog.messages, now_ms)
