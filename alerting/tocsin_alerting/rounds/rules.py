"""The rule groups, each at its slots; what they say goes to the desk at once.

Every group has a task of its own while it runs, so that none waits for another one's sources.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import is_not

from tocsin_alerting.incidents.desk import Desk
from tocsin_alerting.incidents.policy import Severity, severity_of
from tocsin_alerting.incidents.routing import SEVERITY_LABEL
from tocsin_alerting.rounds.arrivals import Arrivals
from tocsin_alerting.rounds.turns import Turns, Urgency
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
from tocsin_alerting.rules.journal import InstanceJournal, InstanceRow
from tocsin_alerting.rules.progress import GroupProgress, RuleHealth, RuleProgress
from tocsin_alerting.rules.rule import AlertingRule, Group
from tocsin_exporter.clock import Clock
from tocsin_exporter.engine_access import EngineAccess, place

log = logging.getLogger(__name__)

HEARTBEAT_MS = 10_000
EARLY_MS = 100
GRACE_MS = 5_000
Key = tuple[str, str]


def after_ms(now_ms: int, done_ms: int) -> int:
    """The moment after which the next slot is looked for, when the one at `done_ms` was run last.

    A sleeper may be woken a moment early, and must not run the same slot again; a slot that lies
    further ahead was run before the clock was set back.
    """
    return done_ms if now_ms < done_ms <= now_ms + EARLY_MS else now_ms


class Instances:
    """The desk's journal as the rules use it."""

    def __init__(self, desk: Desk, now_ms: Callable[[], int]) -> None:
        self._desk = desk
        self._now_ms = now_ms

    async def load(self) -> Sequence[InstanceRow]:
        return self._desk.saved_instances

    async def save(self, file: str, group: str, rows: Sequence[InstanceRow]) -> None:
        await self._desk.remember(file, group, rows, self._now_ms())


_TARGET = re.compile(r"[^/\s]+:[0-9]+(/\S*)?")


def troubled_targets(rows: Iterable[InstanceRow], forgotten: Collection[str] = ()) -> set[str]:
    """The engines (host:port) about which something fired or was in doubt at the last end, but for
    those at the places `forgotten`: of them the rules had not heard yet.

    Others use the label `target` too (probes, whose `instance` is the prober or a URL): an engine
    of ours is its own instance.
    """
    standing = [dict(alert.labels) for row in rows for alert in _standing_of(row)]
    named = [(one.get("target", ""), one.get("instance")) for one in standing]
    engines = {target for target, instance in named if instance in (None, target)}
    usable = {target for target in engines if _TARGET.fullmatch(target) and _can_be_asked(target)}
    return {target for target in usable if place(target) not in forgotten}


def _can_be_asked(target: str) -> bool:
    """A rule may write anything into a label, a port that cannot be as well."""
    try:
        EngineAccess.of(f"http://{target}")
    except ValueError:
        return False
    return True


def _standing_of(row: InstanceRow) -> Iterator[Alert]:
    if row.doubt is not None and not row.doubt.over:
        yield row.doubt.alert
    elif row.alert is not None and row.alert.state is AlertState.FIRING:
        yield row.alert


class RuleRounds:
    """Evaluates for ever.

    After the first evaluation of a rule the desk is told all that fires by it, so that what ended
    while the agent was down ends now. No rule waits for another one's first evaluation.
    """

    def __init__(
        self,
        groups: Groups,
        desk: Desk,
        instances: InstanceJournal,
        clock: Clock,
        arrivals: Arrivals,
    ) -> None:
        self._groups = groups
        self._desk = desk
        self._instances = instances
        self._clock = clock
        self._arrivals = arrivals
        self._turns = Turns(clock.monotonic)
        self._urgencies: dict[Key, tuple[Group, Urgency]] = {}
        self._running: set[Key] = set()
        self._late: set[Key] = set()  # whose next slot has come while they run
        self._beat_ms = 0
        self._reconciled: set[str] = set()
        self._unheard: dict[Key, list[AlertEvent]] = {}  # ends that no later evaluation gives again
        self._known: Sequence[GroupProgress] = ()
        self._present: set[str] = set()  # the origins of the known groups' rules

    async def run(self) -> None:
        self._running.clear()
        self._late.clear()
        done_ms = 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                due_ms, groups = self._groups.next_due(after_ms(self._clock.now_ms(), done_ms))
                if not await self._clock.sleep_until(due_ms):
                    continue  # the clock was set: the slots are others now
                done_ms = due_ms
                for progress in groups:
                    now_ms = max(due_ms, self._clock.now_ms())
                    progress.begun_ms = self._groups.slot(progress, now_ms)
                    if progress.group.key in self._running:
                        self._late.add(progress.group.key)
                    else:
                        self._running.add(progress.group.key)
                        tasks.create_task(self._run_group(progress))

    async def _run_group(self, progress: GroupProgress) -> None:
        """The slot that it has begun, and the newest of those that come meanwhile."""
        key = progress.group.key
        try:
            while True:
                self._late.discard(key)
                read_ms = await self._arrivals.wait(progress)
                await self.evaluate(progress, progress.begun_ms or 0, read_ms)
                await self._settle()
                if key not in self._late:
                    break
        except Exception:  # why: whatever breaks one group must cost no other an evaluation
            log.exception("a rule group broke; it goes on at its next slot", extra=_about(progress))
        self._running.discard(key)

    async def evaluate(self, progress: GroupProgress, at_ms: int, read_ms: int = 0) -> None:
        """One group in its slot `at_ms`, with the samples up to `read_ms` if that is later."""
        pause = partial(self._turns.take, self._urgency(progress))
        await pause()
        events = self._unheard.pop(progress.group.key, [])
        try:
            events += await self._groups.evaluate(progress, at_ms, read_ms, pause)
            await self._report(progress, events, self._clock.now_ms())
        except BaseException:  # why: who was to hear the events did not, so all is said again
            self._unheard[progress.group.key] = [one for one in events if one.kind in UNCLEARED]
            self._reconciled.difference_update(rule.origin for rule in progress.rules)
            raise
        await self._groups.persist(progress, self._instances)

    def _urgency(self, progress: GroupProgress) -> Urgency:
        """Those that may page P0 go first, then those that run more often."""
        group, key = progress.group, progress.group.key
        kept = self._urgencies.get(key)
        if kept is None or kept[0] is not group:
            words = self._desk.ledger.config.severity_words
            kept = self._urgencies[key] = group, (_rank(group, words), progress.interval_ms)
        return kept[1]

    def waiting(self, now_ms: int) -> list[GroupProgress]:
        """The groups that have never run and whose slot came a while ago: they page nobody yet.

        A group that runs in its time waits for its sources first: that is not late.
        """
        due_ms = now_ms - GRACE_MS
        return [
            one
            for one in self._groups.all
            if not _has_run(one) and self._groups.slot(one, due_ms) > one.loaded_ms
        ]

    def unready(self, now_ms: int) -> str:
        """Why rules page nobody: some have not run yet, or not a single one can be evaluated."""
        if waiting := [one.group.name for one in self.waiting(now_ms)]:
            return f"rule groups have not run yet: {', '.join(waiting)}"
        rules = [rule for one in self._groups.all for rule in one.rules]
        if not rules or any(rule.health is not RuleHealth.ERR for rule in rules):
            return ""
        return f"no rule can be evaluated: {rules[0].last_error}"

    async def _report(
        self, progress: GroupProgress, events: Sequence[AlertEvent], now_ms: int
    ) -> None:
        """A rule that has run for the first time says all that it holds, then what changes."""
        first = [
            rule
            for rule in progress.rules
            if rule.evaluated_ms and rule.origin not in self._reconciled
        ]
        if first:
            standing = [event for rule in first for event in _standing(rule, events, now_ms)]
            origins = {name for rule in first for name in _origins(rule)}
            await self._desk.reconcile(standing, origins, now_ms)
            self._reconciled |= origins
            events = [event for event in events if event.origin not in origins]
        if events:
            await self._desk.handle(events, now_ms)

    async def _settle(self) -> None:
        now_ms = self._clock.now_ms()
        groups = self._groups.all
        if len(groups) != len(self._known) or any(map(is_not, groups, self._known)):
            self._known = groups
            self._present = {
                name for one in groups for rule in one.rules for name in _origins(rule)
            }
        gone = {one for one in self._desk.origins if one.startswith(RULES)} - self._present
        if gone:
            await self._desk.reconcile([], gone, now_ms, EventKind.REMOVED)
        if now_ms - self._beat_ms >= HEARTBEAT_MS or now_ms < self._beat_ms:
            self._beat_ms = now_ms
            await self._desk.heartbeat(now_ms)


def _has_run(progress: GroupProgress) -> bool:
    return all(rule.evaluated_ms for rule in progress.rules)


def _about(progress: GroupProgress) -> dict[str, str]:
    return {"file": progress.group.file, "group": progress.group.name}


def _origins(rule: RuleProgress) -> tuple[str, ...]:
    """As whom the rule speaks, and spoke before it was moved or its file was named."""
    return rule.origin, rules_origin("", rule.rule.uid), *rule.former


def _standing(
    rule: RuleProgress, events: Iterable[AlertEvent], now_ms: int
) -> Iterator[AlertEvent]:
    """All that fires by this rule, or is in doubt; and what ended without being over: what it gave
    up, and what it no longer watches, as `events` say."""
    own = (one for one in events if one.kind in UNCLEARED and one.origin == rule.origin)
    ended = {event.alert.fingerprint: event for event in own}
    for key, doubt in rule.doubts.items():
        if doubt.over:
            why = f"unknown for too long, given up: {doubt.reason}"
            ended.setdefault(key, AlertEvent(EventKind.GIVEN_UP, doubt.alert, now_ms, why))
        else:
            yield AlertEvent(EventKind.UNKNOWN, doubt.alert, now_ms, origin=rule.origin)
    for event in ended.values():
        yield from (replace(event, origin=name) for name in _origins(rule))
    for row in rule.rows:  # that came while it ran
        if row.holds and (alert := row.alert or (row.doubt and row.doubt.alert)):
            kind = EventKind.UNKNOWN if row.doubt else EventKind.FIRING
            yield AlertEvent(kind, alert, now_ms, origin=rule.origin)
    for key, alert in rule.alerts.items():
        if alert.state is AlertState.FIRING and key not in rule.doubts:
            yield AlertEvent(EventKind.FIRING, alert, now_ms, origin=rule.origin)


def _rank(group: Group, words: Mapping[str, Severity]) -> int:
    labels = (dict(rule.labels) for rule in group.rules if isinstance(rule, AlertingRule))
    severities = (severity_of(one.get(SEVERITY_LABEL, ""), words) for one in labels)
    order = list(Severity)
    return min((order.index(one) for one in severities if one), default=len(order))
