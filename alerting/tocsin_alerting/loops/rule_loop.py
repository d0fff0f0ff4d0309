"""The rule groups, each at its slots; what they say goes to the dispatcher at once.

Every group has a task of its own while it runs, so that none waits for another one's sources.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import is_not

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.loops.rule_scheduler import RuleScheduler, Urgency
from tocsin_alerting.loops.scrape_barrier import ScrapeBarrier
from tocsin_alerting.rules.alert import (
    RULES,
    UNCLEARED,
    Alert,
    AlertEvent,
    AlertState,
    EventKind,
    rules_origin,
)
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.instance_journal import InstanceJournal, InstanceRow
from tocsin_alerting.rules.rule import AlertingRule, RuleFile, RuleGroup
from tocsin_alerting.rules.severity import SEVERITY_LABEL, Severity, severity_of
from tocsin_alerting.rules.state import GroupState, RuleHealth, RuleState
from tocsin_exporter.clock import Clock
from tocsin_exporter.engine_access import EngineAccess, place
from tocsin_exporter.slices import in_slices

log = logging.getLogger(__name__)

HEARTBEAT_MS = 10_000
RELOAD_WAIT_S = 2.0  # for evaluations that are under way
EARLY_MS = 100
GRACE_MS = 5_000
GroupKey = tuple[str, str]


def next_slot_after_ms(now_ms: int, done_ms: int) -> int:
    """The moment after which the next slot is looked for, when the one at `done_ms` was run last.

    A sleeper may be woken a moment early, and must not run the same slot again; a slot that lies
    further ahead was run before the clock was set back.
    """
    return done_ms if now_ms < done_ms <= now_ms + EARLY_MS else now_ms


class DispatcherInstances:
    """The dispatcher's journal as the rules use it."""

    def __init__(self, dispatcher: Dispatcher, now_ms: Callable[[], int]) -> None:
        self._dispatcher = dispatcher
        self._now_ms = now_ms

    async def load(self) -> Sequence[InstanceRow]:
        return self._dispatcher.recovery.saved_instances

    async def save(self, file: str, group: str, rows: Sequence[InstanceRow]) -> None:
        await self._dispatcher.remember(file, group, rows, self._now_ms())


_NO_RULES = "no rule can be evaluated: the files of rule_files hold none"
_TARGET = re.compile(r"[^/\s]+:[0-9]+(/\S*)?")


def targets_in_trouble(rows: Iterable[InstanceRow], forgotten: Collection[str] = ()) -> set[str]:
    """The engines (host:port) about which something fired or was in doubt at the last end, but for
    those at the places `forgotten`: of them the rules had not heard yet.

    Others use the label `target` too (probes, whose `instance` is the prober or a URL): an engine
    of ours is its own instance.
    """
    standing = [dict(alert.labels) for row in rows for alert in _active_alert_of(row)]
    named = [(labels.get("target", ""), labels.get("instance")) for labels in standing]
    engines = {target for target, instance in named if instance in (None, target)}
    usable = {
        target for target in engines if _TARGET.fullmatch(target) and _is_engine_address(target)
    }
    return {target for target in usable if place(target) not in forgotten}


def _is_engine_address(target: str) -> bool:
    """A rule may write anything into a label, a port that cannot be as well."""
    try:
        EngineAccess.of(f"http://{target}")
    except ValueError:
        return False
    return True


def _active_alert_of(row: InstanceRow) -> Iterator[Alert]:
    if row.unknown_alert is not None and not row.unknown_alert.over:
        yield row.unknown_alert.alert
    elif row.alert is not None and row.alert.state is AlertState.FIRING:
        yield row.alert


class RuleLoop:
    """Evaluates for ever.

    After the first evaluation of a rule the dispatcher is told all that fires by it, so that what
    ended while the agent was down ends now. No rule waits for another one's first evaluation.
    `expects_rules`: the configuration names rules, so that none at all is a fault. `evaluated` is
    called with each group that was.
    """

    def __init__(
        self,
        groups: Groups,
        dispatcher: Dispatcher,
        instances: InstanceJournal,
        clock: Clock,
        barrier: ScrapeBarrier,
        expects_rules: bool = False,
        evaluated: Callable[[GroupState], None] = lambda group: None,
    ) -> None:
        self._groups = groups
        self._evaluated = evaluated
        self.expects_rules = expects_rules
        self._evaluating, self._none_evaluates = 0, asyncio.Event()
        self._may_evaluate, self._reloaded = asyncio.Event(), asyncio.Event()
        self._may_evaluate.set()
        self._dispatcher = dispatcher
        self._instances = instances
        self._clock = clock
        self._barrier = barrier
        self._scheduler = RuleScheduler(clock.monotonic)
        self._urgencies: dict[GroupKey, tuple[RuleGroup, Urgency]] = {}
        self._running: set[GroupKey] = set()
        self._due_again: set[GroupKey] = set()  # whose next slot has come while they run
        self._heartbeat_ms = 0
        self.turns_by_s: float | None = None
        self._reconciled_origins: set[str] = set()
        self._unreported: dict[
            GroupKey, list[AlertEvent]
        ] = {}  # ends that no later evaluation gives again
        self._known_groups: Sequence[GroupState] = ()
        self._known_origins: set[str] = set()  # the origins of the known groups' rules

    async def run(self) -> None:
        self._running.clear()
        self._due_again.clear()
        done_ms = 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                due_ms, groups = self._groups.next_due(
                    next_slot_after_ms(self._clock.now_ms(), done_ms)
                )
                wait_s = max(0, due_ms - self._clock.now_ms()) / 1000
                self.turns_by_s = self._clock.monotonic() + wait_s
                loaded_ms = [progress.loaded_ms for progress in groups]
                slept = await self._sleep_until(due_ms)
                if not slept or loaded_ms != [progress.loaded_ms for progress in groups]:
                    continue  # the clock was set, or a reload came: the slots are others now
                done_ms = due_ms
                now_ms = max(due_ms, self._clock.now_ms())
                # All that are late at once: slot by slot, those of many groups would keep the one
                # that comes most often, whose slot is the newest, from ever beginning.
                for progress in self._groups.due(now_ms):
                    progress.begun_ms = self._groups.slot(progress, now_ms)
                    if progress.group.key in self._running:
                        self._due_again.add(progress.group.key)
                    else:
                        self._running.add(progress.group.key)
                        tasks.create_task(self._run_group(progress))

    async def _sleep_until(self, due_ms: int) -> bool:
        self._reloaded.clear()
        sleeper = asyncio.ensure_future(self._clock.sleep_until(due_ms))
        waker = asyncio.ensure_future(self._reloaded.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
            return sleeper.done() and sleeper.result()
        finally:
            for task in (sleeper, waker):
                task.cancel()
            await asyncio.wait({sleeper, waker})

    async def _run_group(self, progress: GroupState) -> None:
        """The slot that it has begun, and the newest of those that come meanwhile."""
        key = progress.group.key
        try:
            while True:
                self._due_again.discard(key)
                read_ms = await self._barrier.wait(progress)
                await self._may_evaluate.wait()
                current = self._groups.current(progress)
                if current is None:  # a reload took it away meanwhile
                    break
                current.begun_ms, progress = progress.begun_ms, current
                await self.evaluate(progress, progress.begun_ms or 0, read_ms)
                await self._end_removed_rules()
                if key not in self._due_again:
                    break
        except Exception:  # why: whatever breaks one group must cost no other an evaluation
            log.exception(
                "rule group evaluation failed, retrying at its next slot",
                extra=_log_fields(progress),
            )
        self._running.discard(key)

    async def load(self, files: Sequence[RuleFile], now_ms: int) -> list[AlertEvent]:
        """Take these rules in place of others, between two evaluations; what ends with them is
        given, to be handed on. One that takes long is not waited for: it ends with its own rules.
        """
        self._may_evaluate.clear()
        try:
            self._none_evaluates.clear()
            if self._evaluating:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RELOAD_WAIT_S):
                        await self._none_evaluates.wait()
            before = {id(rule): rule.origin for group in self._groups.all for rule in group.rules}
            events = await in_slices(self._groups.loading(files, now_ms))
            rules = [rule for group in self._groups.all for rule in group.rules]
            self._reconciled_origins &= {
                name for rule in rules if before.get(id(rule)) == rule.origin
                for name in _origins(rule)
            }  # fmt: skip
            self._urgencies.clear()
            return events
        finally:
            self._may_evaluate.set()
            self._reloaded.set()

    async def evaluate(self, progress: GroupState, at_ms: int, read_ms: int = 0) -> None:
        """One group in its slot `at_ms`, with the samples up to `read_ms` if that is later."""
        self._evaluating += 1
        try:
            await self._evaluate(progress, at_ms, read_ms)
        finally:
            self._evaluating -= 1
            if not self._evaluating:
                self._none_evaluates.set()

    async def _evaluate(self, progress: GroupState, at_ms: int, read_ms: int) -> None:
        pause = partial(self._scheduler.turn, self._urgency(progress))
        loaded_ms = progress.loaded_ms
        await pause()
        moved_ms = progress.loaded_ms - loaded_ms  # the clock was set while it waited for its turn
        at_ms, read_ms = at_ms + moved_ms, read_ms and read_ms + moved_ms
        events = self._unreported.pop(progress.group.key, [])
        try:
            events += await self._groups.evaluate(progress, at_ms, read_ms, pause)
            self._evaluated(progress)
            await self._report(progress, events, self._clock.now_ms())
        except BaseException:  # why: who was to hear the events did not, so all is said again
            self._unreported[progress.group.key] = [
                event for event in events if event.kind in UNCLEARED
            ]
            self._reconciled_origins.difference_update(rule.origin for rule in progress.rules)
            raise
        await self._groups.persist(progress, self._instances)

    def _urgency(self, progress: GroupState) -> Urgency:
        """Those that may page P0 go first, then those that run more often."""
        group, key = progress.group, progress.group.key
        cached = self._urgencies.get(key)
        if cached is None or cached[0] is not group:
            words = self._dispatcher.working.config.severity_words
            cached = self._urgencies[key] = (
                group,
                (_severity_rank(group, words), progress.interval_ms),
            )
        return cached[1]

    def waiting(self, now_ms: int) -> list[GroupState]:
        """The groups that have never run and whose slot came a while ago: they page nobody yet.

        A group that runs in its time waits for its sources first: that is not late.
        """
        due_ms = now_ms - GRACE_MS
        return [
            group
            for group in self._groups.all
            if not _has_run(group) and self._groups.slot(group, due_ms) > group.loaded_ms
        ]

    def late(self, now_ms: int, patience_ms: int) -> list[str]:
        """The groups of which no slot has ended for two intervals and so long."""
        return [
            group.group.name
            for group in self._groups.all
            if now_ms - max(group.evaluated_ms or 0, group.loaded_ms)
            > 2 * group.interval_ms + patience_ms
        ]

    def unready(self, now_ms: int) -> str:
        """Why rules page nobody: some have not run yet, or not a single one can be evaluated, for
        another reason than an engine elsewhere, which is an incident of its own."""
        if waiting := [group.group.name for group in self.waiting(now_ms)]:
            return f"rule groups have not run yet: {', '.join(waiting)}"
        rules = [rule for group in self._groups.all for rule in group.rules]
        if not rules:
            return _NO_RULES if self.expects_rules else ""
        if any(rule.health is not RuleHealth.ERR or rule.unreachable for rule in rules):
            return ""
        return f"no rule can be evaluated: {rules[0].last_error}"

    async def _report(
        self, progress: GroupState, events: Sequence[AlertEvent], now_ms: int
    ) -> None:
        """A rule that has run for the first time says all that it holds, then what changes."""
        first = [
            rule
            for rule in progress.rules
            if rule.evaluated_ms and rule.origin not in self._reconciled_origins
        ]
        if first:
            standing = [event for rule in first for event in _standing_events(rule, events, now_ms)]
            origins = {name for rule in first for name in _origins(rule)}
            await self._dispatcher.reconcile(standing, origins, now_ms)
            self._reconciled_origins |= origins
            events = [event for event in events if event.origin not in origins]
        if events:
            await self._dispatcher.handle(events, now_ms)

    async def _end_removed_rules(self) -> None:
        now_ms = self._clock.now_ms()
        groups = self._groups.all
        if len(groups) != len(self._known_groups) or any(map(is_not, groups, self._known_groups)):
            self._known_groups = groups
            self._known_origins = {
                name for group in groups for rule in group.rules for name in _origins(rule)
            }
        gone = {
            origin
            for origin in self._dispatcher.origins
            if origin.startswith(RULES) and not self._groups.is_unread(origin)
        } - self._known_origins
        if gone:
            await self._dispatcher.reconcile([], gone, now_ms, EventKind.REMOVED)
        if now_ms - self._heartbeat_ms >= HEARTBEAT_MS or now_ms < self._heartbeat_ms:
            self._heartbeat_ms = now_ms
            await self._dispatcher.heartbeat(now_ms)


def _has_run(progress: GroupState) -> bool:
    return all(rule.evaluated_ms for rule in progress.rules)


def _log_fields(progress: GroupState) -> dict[str, str]:
    return {"file": progress.group.file, "group": progress.group.name}


def _origins(rule: RuleState) -> tuple[str, ...]:
    """As whom the rule speaks, and spoke before it was moved or its file was named."""
    return rule.origin, rules_origin("", rule.rule.uid), *rule.former_origins


def _standing_events(
    rule: RuleState, events: Iterable[AlertEvent], now_ms: int
) -> Iterator[AlertEvent]:
    """All that fires by this rule, or is in doubt; and what ended without being over: what it gave
    up, and what it no longer watches, as `events` say."""
    own = (event for event in events if event.kind in UNCLEARED and event.origin == rule.origin)
    ended = {event.alert.fingerprint: event for event in own}
    for key, unknown_alert in rule.unknown_alerts.items():
        if unknown_alert.over:
            why = f"unknown for too long, given up: {unknown_alert.reason}"
            ended.setdefault(key, AlertEvent(EventKind.GIVEN_UP, unknown_alert.alert, now_ms, why))
        else:
            yield AlertEvent(EventKind.UNKNOWN, unknown_alert.alert, now_ms, origin=rule.origin)
    for event in ended.values():
        yield from (replace(event, origin=name) for name in _origins(rule))
    for row in rule.rows:  # that came while it ran
        if row.holds and (alert := row.alert or (row.unknown_alert and row.unknown_alert.alert)):
            kind = EventKind.UNKNOWN if row.unknown_alert else EventKind.FIRING
            yield AlertEvent(kind, alert, now_ms, origin=rule.origin)
    for key, alert in rule.alerts.items():
        if alert.state is AlertState.FIRING and key not in rule.unknown_alerts:
            yield AlertEvent(EventKind.FIRING, alert, now_ms, origin=rule.origin)


def _severity_rank(group: RuleGroup, words: Mapping[str, Severity]) -> int:
    labels = (dict(rule.labels) for rule in group.rules if isinstance(rule, AlertingRule))
    severities = (severity_of(rule_labels.get(SEVERITY_LABEL, ""), words) for rule_labels in labels)
    order = list(Severity)
    return min((order.index(severity) for severity in severities if severity), default=len(order))
