"""The rule groups, each at its slots; what they say goes to the desk at once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from tocsin_alerting.incidents.desk import Desk
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.journal import InstanceJournal, InstanceRow
from tocsin_alerting.rules.progress import GroupProgress
from tocsin_exporter.clock import Clock

log = logging.getLogger(__name__)

HEARTBEAT_MS = 10_000
EARLY_MS = 100


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


def troubled_targets(rows: Iterable[InstanceRow]) -> set[str]:
    """The engines (host:port) about which something fired or was in doubt at the last end."""
    found = (dict(alert.labels).get("target", "") for row in rows for alert in _standing_of(row))
    return {target for target in found if target}


def _standing_of(row: InstanceRow) -> Iterator[Alert]:
    if row.doubt is not None and not row.doubt.over:
        yield row.doubt.alert
    elif row.alert is not None and row.alert.state is AlertState.FIRING:
        yield row.alert


class RuleRounds:
    """Evaluates for ever. `ready` says whether every source was read once or missed its deadline.

    After the first evaluation of every group the desk is told what fires, so that what ended while
    the agent was down ends now.
    """

    def __init__(
        self,
        groups: Groups,
        desk: Desk,
        instances: InstanceJournal,
        clock: Clock,
        ready: Callable[[], bool],
    ) -> None:
        self.reconciled = False
        self._groups = groups
        self._desk = desk
        self._instances = instances
        self._clock = clock
        self._ready = ready
        self._beat_ms = 0

    async def run(self) -> None:
        done_ms = 0
        while True:
            due_ms, groups = self._groups.next_due(after_ms(self._clock.now_ms(), done_ms))
            if not await self._clock.sleep_until(due_ms):
                continue  # the clock was set: the slots are others now
            done_ms = due_ms
            for progress in groups:
                await self.evaluate(progress, max(due_ms, self._clock.now_ms()))
            await self._settle()

    async def evaluate(self, progress: GroupProgress, now_ms: int) -> None:
        """One group, in the slot that `now_ms` falls into."""
        events = await self._groups.evaluate(progress, self._groups.slot(progress, now_ms))
        if events and self.reconciled:
            await self._desk.handle(events, self._clock.now_ms())
        await self._groups.persist(progress, self._instances)

    async def _settle(self) -> None:
        now_ms = self._clock.now_ms()
        if not self.reconciled and self._ready() and self._all_evaluated():
            firing, unknown = self._standing()
            self.reconciled = True
            await self._desk.reconcile(firing, now_ms, unknown)
        if now_ms - self._beat_ms >= HEARTBEAT_MS or now_ms < self._beat_ms:
            self._beat_ms = now_ms
            await self._desk.heartbeat(now_ms)

    def _all_evaluated(self) -> bool:
        return all(rule.evaluated_ms for group in self._groups.all for rule in group.rules)

    def _standing(self) -> tuple[Sequence[Alert], set[str]]:
        """The alerts that fire or are in doubt, and the fingerprints of the latter."""
        firing: list[Alert] = []
        unknown: set[str] = set()
        for group in self._groups.all:
            for rule in group.rules:
                open_doubts = [one.alert for one in rule.doubts.values() if not one.over]
                unknown.update(alert.fingerprint for alert in open_doubts)
                firing += open_doubts
                firing += [a for a in rule.alerts.values() if a.state is AlertState.FIRING]
        return list({alert.fingerprint: alert for alert in firing}.values()), unknown
