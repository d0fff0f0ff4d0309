"""A store on disk, rules and a dispatcher that may lose the end of what they wrote, as a crash may.

A remote writer sends; nothing runs beside it, and time is moved by the test.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from support.archives import Kept
from support.dispatcher_setup import START_MS
from support.policies import config
from support.rule_texts import alerting, group
from support.scrape_barrier import nothing_awaited
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import JournalState
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.loops.resume import load_last_run, newest_reading_ms
from tocsin_alerting.loops.rule_loop import DispatcherInstances, RuleLoop
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_exporter.clock import Clock
from tocsin_exporter.snapshot import Labels

Samples = Mapping[str, float]


class ForgetfulJournal(MemoryJournal):
    """Keeps its transactions, so that a prefix of them can be what has survived."""

    def __init__(self, batches: Iterable[Changeset] = ()) -> None:
        super().__init__()
        self.batches: list[Changeset] = []
        self.unreadable = False
        for batch in batches:
            self._keep(batch)

    async def load(self) -> JournalState:
        if self.unreadable:
            raise JournalDown("the disk hangs")
        return await super().load()

    async def commit(self, batch: Changeset) -> None:
        self._keep(batch)

    def _keep(self, batch: Changeset) -> None:
        own = Changeset()
        own.merge(batch)
        self.batches.append(own)
        again = Changeset()
        again.merge(batch)
        self._state.merge(again)


class MortalRules:
    """One run after another on `folder`; `now_ms` is the time. `expr` is a P0 rule."""

    def __init__(self, folder: Path, expr: str, for_ms: int = 0) -> None:
        self.folder, self.expr, self.for_ms = folder, expr, for_ms
        self.now_ms = START_MS
        self.journal = ForgetfulJournal()
        self.reasons: list[str] = []

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kept.disk.abandon_wal()

    async def begin(self) -> None:
        clock = Clock(lambda: self.now_ms / 1000, lambda: self.now_ms / 1000)
        self.kept = Kept(self.folder)
        store = self.kept.store
        sources = StoreSources(store, tuple, lambda: True, lambda: self.now_ms)
        engine = QueryEngine(store)
        deps = EvaluationDeps(engine, store.append_rule_samples, sources, lambda: 0.0)
        self.dispatcher = Dispatcher(config(), self.journal, lambda: 0.0)
        groups = Groups(deps, 5_000)
        self.dispatcher.recovery.recall = groups.recall
        barrier = nothing_awaited(clock)
        instances = DispatcherInstances(self.dispatcher, lambda: self.now_ms)
        self.rounds = RuleLoop(groups, self.dispatcher, instances, clock, barrier)
        await load_last_run(store, self.dispatcher, self.now_ms)
        history_ms = newest_reading_ms(engine, self.now_ms)
        known = history_ms, store.newest_ms, self.dispatcher.working.active_events(self.now_ms)
        groups.remember(self.dispatcher.recovery.saved_instances, *known)
        rule = alerting(self.expr, "Bad", self.for_ms, severity="P0")
        groups.load([RuleFile("f.yml", (group(rule),))], self.now_ms)
        (self.progress,) = groups.all

    async def tick(self, *requests: Samples) -> None:
        """Five seconds later these were sent, one request each, and the rule has run."""
        self.now_ms += 5_000
        for request in requests:
            self.kept.store.write(
                [(labels_of(name), self.now_ms - 1_000, value) for name, value in request.items()]
            )
        await self.rounds.evaluate(self.progress, self.now_ms)
        await self.dispatcher.due(self.now_ms)
        if self.dispatcher._reconnecting is not None:
            await self.dispatcher._reconnecting
        for one in await self.dispatcher.claim(self.now_ms):
            self.reasons.append(one.notification.reason.value)
            await self.dispatcher.delivered(one, Delivered(), self.now_ms)
        self.kept.disk.tick()

    def crash(self, log_share: float | None, transactions: int) -> None:
        """What survives: a share of the log's bytes (None: not even the directory), and the first
        transactions of the journal."""
        path = self.kept.wal
        self.kept.disk.abandon_wal()
        data = path.read_bytes()
        path.write_bytes(data[: round(len(data) * (log_share or 0.0))])
        if log_share is None:
            shutil.rmtree(self.folder)
        self.journal = ForgetfulJournal(self.journal.batches[:transactions])

    def set_clock(self, seconds: int) -> None:
        """So much later by the clock, and no moment by any other."""
        self.now_ms += seconds * 1_000
        self.kept.store.shift_clock(seconds * 1_000, self.now_ms)
        self.rounds._groups.shift(seconds * 1_000)
        self.dispatcher.clock_jumped(seconds * 1_000, self.now_ms)

    @property
    def refused(self) -> Mapping[str, int]:
        """Samples that the store did not take, by why."""
        return self.kept.store.stats().refused

    @property
    def states(self) -> list[str]:
        return [one.state.value for one in self.dispatcher.working.incidents.values()]

    @property
    def says(self) -> list[str]:
        """What the alerts of the open incidents say."""
        return [one.source.value for one in self.dispatcher.working.incidents.values()]


def labels_of(name: str) -> Labels:
    """`m1` is m of gpu 1; all are of one target."""
    metric = name.rstrip("0123456789")
    named = {"__name__": metric, "instance": "far:1", "job": "far"}
    if metric != name:
        named["gpu"] = name[len(metric) :]
    return tuple(sorted(named.items()))
