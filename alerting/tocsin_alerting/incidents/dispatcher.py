"""The dispatcher: alerts, timers, people and delivery results come in here.

Every call is one step, written as one transaction; its caller owns the clock.
"""

import asyncio
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from tocsin_alerting.incidents.actions import Action, Verb, comment_record
from tocsin_alerting.incidents.changeset import Changeset, EngineRow
from tocsin_alerting.incidents.channel_watch import STALE_MS, ChannelWatch
from tocsin_alerting.incidents.correlation import SLICE_ALERTS, Correlator
from tocsin_alerting.incidents.delivery_outcome import look_for_late, note_rate_waits, take_outcome
from tocsin_alerting.incidents.digests import deliveries
from tocsin_alerting.incidents.drills import DrillRunner
from tocsin_alerting.incidents.due_steps import DueSteps
from tocsin_alerting.incidents.errors import (
    Conflict,
    IncidentError,
    JournalError,
)
from tocsin_alerting.incidents.event_log import log_entries
from tocsin_alerting.incidents.external_alerts import ExternalAlert, unheard
from tocsin_alerting.incidents.heartbeat_watch import HeartbeatWatch
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.journal.protocol import LAST_EVAL, Journal
from tocsin_alerting.incidents.journal.writer import (
    NO_WAIT_S,
    SENDER_WAIT_S,
    TIMEOUT_S,
    WRITE_WAIT_S,
    JournalWriter,
)
from tocsin_alerting.incidents.oncall import Override
from tocsin_alerting.incidents.outbox_message import (
    Delivery,
    Outcome,
)
from tocsin_alerting.incidents.records import IncidentRecords, sent_before
from tocsin_alerting.incidents.recovery import JournalRecovery
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.send_gate import SendGate
from tocsin_alerting.incidents.silence_end import forget_old_silences
from tocsin_alerting.incidents.silencing import Silencing
from tocsin_alerting.incidents.store_watch import StoreWatch
from tocsin_alerting.incidents.tally import IncidentTally
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import AlertEvent, EventKind
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.severity import Severity
from tocsin_exporter.slices import parts

# After a start, overdue P1..P4 pages wait this long for the first evaluation.
START_HOLD_MS = 60_000
ACTIONS_A_STEP = 50


@dataclass(frozen=True, slots=True)
class Receipt:
    """Whether what a sender said is on the disk, and of how many alerts there are too many."""

    recorded: bool
    refused: int


class Dispatcher:
    """`jitter` gives numbers in [0, 1). `changed` is set when a due time may move."""

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
        self._hold_until_ms = 0
        self._jitter = jitter
        self._claim_wait_s = patience_s / 3
        self._gate = SendGate(self.working, self.writer, round(1000 * patience_s))
        self._journal_timeout_s, self._start_patience_s = answer_s, start_patience_s
        self.records = IncidentRecords(self.working, self.writer, answer_s)
        self.incidents, self.timeline = self.records.incidents, self.records.timeline
        self.timers = self.records.timers
        self._correlator = Correlator(self.working)
        self._due_steps = DueSteps(self.working, self._correlator)
        self.tally = IncidentTally()
        parts_of_start = (self.working, self.writer, self._correlator, self.tally)
        self.recovery = JournalRecovery(*parts_of_start)
        self._reconciled: set[str] = set()
        self.silencing = Silencing(self.working, self.writer, self._act_and_save)
        self.drills = DrillRunner(self.working, self._act_and_save)
        self.heartbeats = HeartbeatWatch(self.working, self.handle, self._act_and_save)
        self.channels = ChannelWatch(self.working, self.handle)
        self.stores = StoreWatch(self.working, self.handle)
        self._reconnecting: asyncio.Task[None] | None = None

    async def start(self, now_ms: int, samples_ms: int | None = None) -> None:
        """Load the journal. Without one that answers it starts empty, and pages all the same.

        `samples_ms` is the time of the last run's newest sample. Raises SchemaTooNew.
        """
        if await self.recovery.start(now_ms, samples_ms, self._start_patience_s):
            self._hold_overdue(now_ms)
            await self._load_recent(now_ms)
        self._correlator.storms.loaded()
        self.working.changes().meta["clean_shutdown"] = "0"
        await self._save(now_ms, self._start_patience_s)  # what opens next needs its numbers
        await self.handle(unheard(self.working.external, self.working.incidents, now_ms), now_ms)
        if self.recovery.unread or self.recovery.journal_was_broken:
            self.working.heartbeats.expect_all()
        self.working.heartbeats.begin(now_ms)
        await self.heartbeats.settle(now_ms)
        await self.channels.settle(now_ms)
        await self.stores.settle(now_ms)

    def _hold_overdue(self, now_ms: int) -> None:
        """What was due while nobody ran waits for the first evaluation: it may be over, or fire
        again. A P0 that fires does not."""
        incidents = self.working.incidents.values()
        milder = {
            incident.number
            for incident in incidents
            if incident.in_hold or not (incident.is_open and incident.severity is Severity.P0)
        }
        self.working.schedule.hold(milder)
        self._hold_until_ms = now_ms + START_HOLD_MS

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
            self.working.index[member.alert.fingerprint]
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
        return self.working.index.origins

    def _is_settled(self, number: int) -> bool:
        """Whether everyone who spoke of the incident's alerts has spoken since the start."""
        incident = self.working.incidents.get(number)
        members = incident.active if incident else ()
        return all(self._reconciled.issuperset(member.origins) for member in members)

    async def close(self, now_ms: int) -> None:
        """Write what can be written, and let go of the journal."""
        await self.tally.close()
        self.tally.keep(self.working, self.writer, now_ms, at_once=True)
        self.working.end()
        await self._save(now_ms)
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        try:
            async with asyncio.timeout(self._journal_timeout_s):
                if not self.recovery.unread:
                    await self.writer.flush(now_ms)
                await self.writer.journal.close()
        except (TimeoutError, JournalError):
            return  # nothing more can be done for this disk

    async def handle(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """Take what changed in one evaluation: the worst first, in slices, others in between. A
        crash loses nothing: at the next start the rules say again all that fires."""
        for _ in self._correlator.apply(events, now_ms):
            await asyncio.sleep(0)  # ten thousand alerts of one incident are heard in one go
            await self._run_and_save(now_ms, None if self.working.numbers.few else NO_WAIT_S)
            await asyncio.sleep(0)
        await self.writer.wait()

    async def receive(self, posted: Sequence[ExternalAlert], now_ms: int) -> Receipt:
        """Take what others say of their alerts; it is in force, whether it is on the disk or not.
        Pages that waited for their word since the start go out."""
        working, events, refused = self.working, list[AlertEvent](), 0
        for part in parts(posted, SLICE_ALERTS):
            for alert in part:
                if working.external.has_room(alert, now_ms):
                    events += working.external.receive(alert, now_ms, working.incident_of)
                else:
                    refused += 1
            await asyncio.sleep(0)
        await self.handle(events, now_ms)
        if working.schedule.held:
            holders = (working.incident_of(alert.fingerprint) for alert in posted)
            working.release(holder.number for holder in holders if holder)
        await self._run_and_save(now_ms, NO_WAIT_S)
        return Receipt(await self.writer.wait(SENDER_WAIT_S), refused)

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

    async def override(self, override: Override, now_ms: int) -> None:
        """Somebody else is on call in a schedule for a time; one of the same id is replaced."""
        self.working.put_override(override)
        data = override.as_data()
        self.working.note(0, "override_added", now_ms, override.created_by, data)
        await self._run_and_save(now_ms, self._journal_timeout_s)

    async def remove_override(self, id: str, actor: str, now_ms: int) -> bool:
        """Whether there was one."""
        removed = self.working.remove_override(id)
        if removed is not None:
            self.working.note(0, "override_removed", now_ms, actor, removed.as_data())
            await self._run_and_save(now_ms, self._journal_timeout_s)
        return removed is not None

    async def due(self, now_ms: int) -> int | None:
        """Run the timers that are due, and say when the next one is (None: never)."""
        if self.working.schedule.held and now_ms >= self._hold_until_ms:
            self.working.release(self.working.schedule.held)
            self.changed.set()
        look_for_late(self.working, now_ms)
        await self._run_and_save(now_ms)
        if expired := self.working.external.expire(now_ms):
            await self.handle(expired, now_ms)
        if missing := self.heartbeats.missing(now_ms):
            await self.handle(missing, now_ms)
        self._reconnect(now_ms)
        self.tally.follow(self.writer.journal)
        if self.tally.keep(self.working, self.writer, now_ms):
            await self._save(now_ms)
        return self.next_due_ms()

    def next_due_ms(self) -> int | None:
        hold = [self._hold_until_ms] if self.working.schedule.held else []
        retry = [self.writer.retry_at_ms] if self.writer.down and not self._reconnecting else []
        timers = (
            self.working.schedule.next_due_ms(),
            self.working.external.next_due_ms(),
            self.working.heartbeats.next_due_ms(),
            self.working.outbox.deadlines.next_ms(),
            self.working.mute_rules.next_change_ms,
            *self.working.subject_timers.values(),
        )
        return min([*hold, *retry, *(at for at in timers if at is not None)], default=None)

    async def act(self, action: Action, now_ms: int) -> Incident:
        """Do what a person asks; repeated with the same `request_id` it is done once.

        Raises NoSuchIncident and Conflict.
        """
        number = await self._do(action, now_ms)
        await self._run_and_save(now_ms, self._journal_timeout_s)
        return await self.incident(number)

    async def act_all(
        self, actions: Sequence[Action], now_ms: int
    ) -> list[Incident | IncidentError]:
        """The same for many: each for itself, some of them in one transaction. What one of them
        could not do stands in its place."""
        done: list[int | IncidentError] = []
        for count, action in enumerate(actions, 1):
            try:
                done.append(await self._do(action, now_ms))
            except IncidentError as error:
                done.append(error)
            if count % ACTIONS_A_STEP == 0 or count == len(actions):
                await self._run_and_save(now_ms, self._journal_timeout_s)
        return [
            result if isinstance(result, IncidentError) else await self.incident(result)
            for result in done
        ]

    async def _do(self, action: Action, now_ms: int) -> int:
        """Apply it; the number of the incident that it is about, or was the first time."""
        done = self.working.requests.get(action.request_id) if action.request_id else None
        if done is not None:
            return done[0]
        incident = self.working.incidents.get(action.incident)
        if incident is not None:
            self._correlator.storms.act(action, now_ms)
        else:
            await self._act_on_closed(action, now_ms)
        if action.request_id:
            self.working.requests[action.request_id] = (action.incident, now_ms)
            self.working.changes().requests[action.request_id] = (action.incident, now_ms)
        return action.incident

    async def _act_on_closed(self, action: Action, now_ms: int) -> None:
        """What is over can still be commented on: most reports are written the day after."""
        closed = await self.incident(action.incident)
        if action.verb is not Verb.COMMENT:
            raise Conflict(closed.number, closed.state, f"nothing to {action.verb}")
        record = comment_record(action)
        self.working.note(closed.number, record.event, now_ms, record.actor, record.data)

    async def reconfigure(
        self, config: IncidentConfig, now_ms: int, renamed: Mapping[str, str] | None = None
    ) -> None:
        """Live by another configuration, as after a restart, but that nothing is forgotten.
        `renamed` are the receivers that are the same by another name, by the one before."""
        self.working.reconfigure(config, now_ms, renamed or {})
        await self.heartbeats.settle(now_ms)
        await self.channels.settle(now_ms)
        await self._run_and_save(now_ms)

    def note_changed_rules(self, changed: Mapping[str, tuple[str, str]], now_ms: int) -> None:
        """A reload changed rules of which incidents are open: by origin, the rule's name and what
        of it is another one."""
        working = self.working
        for origin, (rule, what) in changed.items():
            data = {"rule": rule, "parts": what}
            for number in sorted({working.index[name] for name in working.index.alerts_of(origin)}):
                working.note(number, "rule_changed", now_ms, data=data)
        self.changed.set()

    def note(self, event: str, actor: str, data: Mapping[str, str], now_ms: int) -> None:
        """Add a line that is about no incident to the history; it is written at once."""
        self.working.note(0, event, now_ms, actor, data)
        self.changed.set()

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
        self.recovery.shift(delta_ms)
        self._gate.shift(delta_ms)
        self.channels.shift(delta_ms)
        self.stores.shift(delta_ms)
        self.working.note(0, "clock_jumped", now_ms, data={"delta_ms": delta_ms})
        self.changed.set()

    async def claim(self, now_ms: int, limit: int = 64) -> list[Delivery]:
        """Messages to send now. What is not reported within 30 s is handed out again."""
        self._gate.check_journal()
        marked = self.working.outbox.claim(now_ms, limit, self._gate.may_send_at)
        note_rate_waits(self.working, now_ms)
        before = {sent.key for sent in marked if sent.key in self._gate.unrecorded}
        await self._save(now_ms, self._claim_wait_s)
        unrecorded = frozenset(before & self._gate.unrecorded.keys())
        return deliveries(marked, unrecorded, self.working.outbox.thread)

    def next_claim_ms(self, now_ms: int) -> int | None:
        """When there may be something to claim (None: not before `changed` is set)."""
        self._gate.check_journal()
        due_ms = self.working.outbox.next_due_ms(now_ms, self._gate.may_send_at)
        note_rate_waits(self.working, now_ms)
        return due_ms

    async def delivered(self, delivery: Delivery, outcome: Outcome, now_ms: int) -> None:
        """Take the outcome of an attempt: done, again later, or refused (rules 9 and 28)."""
        jitter = self._jitter()  # the items of a digest are tried again together
        for item in delivery.items or (delivery,):
            take_outcome(self.working, item, outcome, now_ms, jitter)
        await self.channels.take(delivery.notification.receiver, outcome, now_ms)
        await self._run_and_save(now_ms)

    async def incident(self, number: int) -> Incident:
        """Raises NoSuchIncident; a closed one comes from the journal."""
        return await self.records.incident(number)

    def overdue_ms(self, now_ms: int) -> int:
        """How late the oldest timer is; over two minutes the incident loop is stuck."""
        next_ms = self.working.schedule.next_due_ms()
        due = [*self.working.subject_timers.values(), *([] if next_ms is None else [next_ms])]
        return max(0, now_ms - min(due, default=now_ms))

    async def prune(self, now_ms: int, kept_ms: int) -> int:
        """Forget the incidents that were closed longer ago than that, with their history; how many.
        And the silences that ended long ago."""
        before_ms = now_ms - kept_ms
        for override in [o for o in self.working.overrides.values() if o.end_ms < before_ms]:
            self.working.remove_override(override.id)
        forget_old_silences(self.working, now_ms)
        self.tally.keep(self.working, self.writer, now_ms, at_once=True)
        await self._save(now_ms)
        if self.tally.counted is None:
            return 0  # what is forgotten must be counted before
        requests = self.working.requests
        self.working.requests = {k: v for k, v in requests.items() if v[1] >= before_ms}
        return await self.records.prune(before_ms)

    async def _act_and_save(self, now_ms: int) -> None:
        await self._run_and_save(now_ms, self._journal_timeout_s)

    async def _run_and_save(self, now_ms: int, patience_s: float | None = None) -> None:
        while self._due_steps.run(now_ms):
            await self._save(now_ms, NO_WAIT_S)
            await asyncio.sleep(0)
        await self._save(now_ms, patience_s)

    async def _save(self, now_ms: int, patience_s: float | None = None) -> bool:
        changeset = self.working.drain_changes(now_ms)
        if not changeset:
            return not self.writer.down
        self._gate.awaits(changeset.messages, now_ms)
        log_entries(changeset.history, ChainMap(self.working.incidents, changeset.incidents))
        self.changed.set()  # whoever waits is to know until when
        return await self.writer.record(changeset, now_ms, patience_s)

    def _recorded(self, changeset: Changeset) -> None:
        self.working.numbers.recorded(changeset.meta)
        self.tally.take(changeset.history)
        self._gate.recorded(changeset.messages)
        self.working.outbox.resume(changeset.messages)
        self.changed.set()

    def _reconnect(self, now_ms: int) -> None:
        if self._reconnecting is not None and self._reconnecting.done():
            self._reconnecting = None
        due = self.writer.down and now_ms >= self.writer.retry_at_ms
        if due and self._reconnecting is None:
            self._reconnecting = asyncio.create_task(self._recover(now_ms))
            self._reconnecting.add_done_callback(lambda _: self.changed.set())

    async def _load_recent(self, now_ms: int) -> None:
        """What memory is to know of the last run's history."""
        await self.records.load_openings(now_ms)
        budgets = self.working.outbox.budgets
        sent = await self.records.attempts(now_ms - max(budgets.longest_ms, STALE_MS))
        budgets.load(map(sent_before, sent))
        self.channels.load(sent)

    async def _recover(self, now_ms: int) -> None:
        since_ms, trouble = self.writer.down_since_ms, self.writer.last_error
        was_unread = self.recovery.unread
        messages = await self.recovery.take_over(self._reconciled, now_ms)
        if messages is None:
            return
        if was_unread:
            await self._load_recent(now_ms)
        self._gate.unrecorded |= dict.fromkeys(messages, now_ms)
        await self.handle(unheard(self.working.external, self.working.incidents, now_ms), now_ms)
        await self.heartbeats.settle(now_ms)
        await self.channels.settle(now_ms)
        await self.stores.settle(now_ms)
        if await self.writer.flush(now_ms):
            data = {"trouble": trouble, "since_ms": since_ms}
            self.working.note(0, "journal_back", now_ms, data=data)
            await self._save(now_ms)
