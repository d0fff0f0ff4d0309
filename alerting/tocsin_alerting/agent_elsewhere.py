"""What an agent has elsewhere: the engines that evaluate its rules, Alertmanagers, and
receivers of its samples."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.elsewhere import (
    AlertmanagerSection,
    DatasourceSection,
    RemoteWriteSection,
    datasource_of,
)
from tocsin_alerting.config.load import external_url, own_addresses
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.store_watch import WatchedStore
from tocsin_alerting.loops.alert_forwarding import AlertForwarder
from tocsin_alerting.loops.metrics import Families
from tocsin_alerting.loops.remote_client import RemoteClient
from tocsin_alerting.loops.remote_engine import Reachability, RemoteEngine
from tocsin_alerting.loops.remote_gaps import RemoteGaps
from tocsin_alerting.loops.sample_sender import SampleSender
from tocsin_alerting.loops.supervise import restart_on_error
from tocsin_alerting.notify.own_address import guarded_lookup
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.remote_read.samples import ReadSamples, read_samples
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_alerting.rules.rule import RecordingRule, RuleGroup
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.rules.unknown_alerts import AllAlive
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Sample, labels
from tocsin_exporter.threads import Threads

_LOOK_AGAIN_S = 5.0


class Datasources:
    """The engines of `datasource` and `group_datasources`, and which group asks which of them.

    What rules give is written to our own store all the same. `dispatcher` hears which engine
    answers; `seconds` is a monotonic clock.
    """

    def __init__(
        self,
        config: Config,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        dispatcher: Callable[[], Dispatcher],
    ) -> None:
        self._every, self._some = config.datasource, config.group_datasources
        self._now_ms, self._seconds, self._dispatcher = now_ms, seconds, dispatcher
        named = [*([self._every] if self._every else []), *self._some]
        remote = [one for one in named if not one.embedded]
        self._threads = Threads(1, "answers")
        if remote:
            self._threads.begin()
        self._errors: dict[str, dict[int, str]] = defaultdict(dict)  # by address, of who has one
        asked: list[DatasourceSection] = []
        self._engines: dict[int, RemoteEngine] = {}
        for one in remote:
            same = next((other for other in asked if _is_same_engine(one, other)), None)
            self._engines[id(one)] = self._engine(one) if same is None else self._engines[id(same)]
            asked.append(one)
        self._chosen: dict[tuple[str, str], tuple[RuleGroup, DatasourceSection | None]] = {}

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(engine.address for engine in self._engines.values())

    def asks_store(self, progress: GroupState) -> bool:
        """Whether the group is evaluated on our own store."""
        return self._chosen_for(progress.group) is None

    def deps_of(self, own: EvaluationDeps) -> Callable[[RuleGroup], EvaluationDeps]:
        """What a group is evaluated with; `own` is that of our own store."""
        sources = AllAlive()
        remote = {
            id(one): replace(
                own,
                engine=self._engines[id(one)],
                sources=sources,
                query_offset_ms=one.offset,
                remote=True,
                unproven=RemoteGaps(self._engines[id(one)], self._now_ms, self._seconds).unproven,
            )
            for one in (self._every, *self._some)
            if one is not None and id(one) in self._engines
        }

        def of(group: RuleGroup) -> EvaluationDeps:
            chosen = self._chosen_for(group)
            return own if chosen is None else remote[id(chosen)]

        return of

    async def watch(self) -> None:
        """Look after them for ever."""
        while self._engines:
            await self.look()
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def look(self) -> None:
        """Ask those that answer nothing, or were never asked, whether they do: the next evaluation
        may be an hour away."""
        silent = [one for one in self._distinct() if not one.state.answers]
        await asyncio.gather(*map(self._try, silent))

    async def close(self) -> None:
        for engine in self._distinct():
            await engine.close()

    def samples(self, families: Families) -> Iterator[Sample]:
        """Of an address with several logins or tenants, whether it answers all of them."""
        by_address: dict[str, list[Reachability]] = defaultdict(list)
        for engine in self._distinct():
            by_address[engine.address].append(engine.state)
        for address, states in by_address.items():
            own = {"datasource": address}
            answers = float(all(state.answers for state in states))
            yield Sample(families["tocsin_datasource_up"], answers, labels(**own))
            for outcome in ("answered", "refused", "failed"):
                about = labels(**own, outcome=outcome)
                count = sum(getattr(state.counts, outcome) for state in states)
                yield Sample(families["tocsin_datasource_queries_total"], count, about)

    def _distinct(self) -> list[RemoteEngine]:
        return list(dict.fromkeys(self._engines.values()))

    def _chosen_for(self, group: RuleGroup) -> DatasourceSection | None:
        known = self._chosen.get(group.key)
        if known is None or known[0] is not group:
            chosen = datasource_of(group, self._every, self._some)
            known = self._chosen[group.key] = (group, chosen)
        return known[1]

    def _engine(self, section: DatasourceSection) -> RemoteEngine:
        access = section.access
        store = WatchedStore(access.url, access.target, section.unreachable_after)
        tell, limit_s = partial(self._tell, store, id(section)), section.timeout / 1000
        return RemoteEngine(access, limit_s, self._seconds, self._threads, tell)

    async def _tell(self, store: WatchedStore, who: int, error: str) -> None:
        """An address is silent while it answers one of those who ask it nothing."""
        errors = self._errors[store.address]
        errors.pop(who, None)
        if error:
            errors[who] = error
        left = error or next(iter(errors.values()), "")
        await self._dispatcher().stores.take(store, left, self._now_ms())

    async def _try(self, engine: RemoteEngine) -> None:
        try:
            await engine.probe(self._now_ms())
        except (EngineUnreachable, ValueError):
            return  # it was told


def _is_same_engine(one: DatasourceSection, other: DatasourceSection) -> bool:
    """Whether both ask as the same; when about is each one's own."""
    asks = [(s.access, s.timeout, s.unreachable_after) for s in (one, other)]
    return asks[0] == asks[1]


class Alertmanagers:
    """Those of `alertmanagers`, which get all alerts of the rules that `groups` gives."""

    def __init__(
        self,
        config: Config,
        groups: Callable[[], Sequence[GroupState]],
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
    ) -> None:
        self._groups, self._now_ms, self._seconds = groups, now_ms, seconds
        self._evaluated: dict[tuple[str, str], GroupState] = {}
        self._more, self._changed = asyncio.Event(), asyncio.Event()
        self._config = config
        self._forwarders = [self._forwarder(one, config) for one in config.alertmanagers]
        self.urls = [forwarder.url for forwarder in self._forwarders]

    async def prepare(self, config: Config) -> Sequence[AlertForwarder]:
        """Those of this configuration. Those that are equal go on; a new one gets all that fires.
        Raises RuntimeError and OSError; nothing has changed then."""
        same = self._config.external_labels == config.external_labels
        known = [*zip(self._config.alertmanagers, self._forwarders, strict=True)] if same else []
        return await _made(config.alertmanagers, known, lambda one: self._forwarder(one, config))

    async def take(self, config: Config, forwarders: Sequence[AlertForwarder]) -> None:
        """Send to these from now on."""
        gone, self._forwarders, self._config = self._forwarders, [*forwarders], config
        if gone != self._forwarders:
            self.urls[:] = [forwarder.url for forwarder in self._forwarders]
            self._changed.set()
        await _close(gone, self._forwarders)

    async def discard(self, forwarders: Sequence[AlertForwarder]) -> None:
        """They are not taken."""
        await _close(forwarders, self._forwarders)

    def _forwarder(self, section: AlertmanagerSection, config: Config) -> AlertForwarder:
        lookup = guarded_lookup("alertmanager", section.url, own_addresses(config))
        forwarder = AlertForwarder(
            RemoteClient(section.access, lookup),
            section.timeout / 1000,
            section.resend_delay,
            config.external_labels,
            external_url(config),
            self._now_ms,
        )
        forwarder.client.begin()
        return forwarder

    def evaluated(self, group: GroupState) -> None:
        """It was evaluated just now."""
        if self._forwarders:
            self._evaluated[group.group.key] = group
            self._more.set()

    async def run(self) -> None:
        """Send for ever, and look after what is to be sent again: a group may be evaluated once an
        hour, or hang."""
        async with asyncio.TaskGroup() as tasks:
            every = partial(getattr, self, "_forwarders")
            tasks.create_task(_run_each("alertmanager", every, self._changed))
            tasks.create_task(restart_on_error("resending", self._resend))
            while True:
                await self._more.wait()
                self._more.clear()
                await self._look()

    async def _resend(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            groups = self._groups() if self._forwarders else ()
            self._evaluated.update((group.group.key, group) for group in groups)
            self._more.set()
            origins = [rule.origin for group in groups for rule in group.rules]
            for forwarder in self._forwarders:
                forwarder.resender.forget(origins)

    async def _look(self) -> None:
        """At the groups that were evaluated, in slices."""
        while self._evaluated:
            group = self._evaluated.pop(next(iter(self._evaluated)))
            for forwarder in self._forwarders:
                for one in forwarder.resender.due(group, self._seconds(), self._now_ms()):
                    if one is None:
                        await asyncio.sleep(0)
                    else:
                        forwarder.put([one])
            await asyncio.sleep(0)

    async def close(self) -> None:
        for forwarder in self._forwarders:
            await forwarder.client.close()

    def samples(self, families: Families) -> Iterator[Sample]:
        for forwarder in self._forwarders:
            own, counts = labels(alertmanager=forwarder.client.address), forwarder.counts
            values = {
                "tocsin_alertmanager_alerts_sent_total": counts.sent,
                "tocsin_alertmanager_alerts_dropped_total": counts.dropped,
                "tocsin_alertmanager_errors_total": counts.errors,
                "tocsin_alertmanager_alerts_waiting": forwarder.waiting,
            }
            for name, value in values.items():
                yield Sample(families[name], value, own)


class RemoteWriters:
    """The receivers of `remote_write`; `groups` gives those whose recording rules name series."""

    def __init__(
        self,
        config: Config,
        store: Store,
        groups: Callable[[], Sequence[GroupState]],
        now_ms: Callable[[], int],
    ) -> None:
        self._store, self._groups, self._now_ms = store, groups, now_ms
        self._config, self._external = config, config.external_labels
        self._threads, self._changed = Threads(1, "sample reader"), asyncio.Event()
        if config.remote_write:
            self._threads.begin()
        self._senders = [self._sender(one, config) for one in config.remote_write]

    async def prepare(self, config: Config) -> Sequence[SampleSender]:
        """Those of this configuration. Those that are equal go on; another one begins where it
        ended, if it was one of these before. Raises RuntimeError and OSError; nothing has changed
        then."""
        if config.remote_write:
            self._threads.begin()
        known = [*zip(self._config.remote_write, self._senders, strict=True)]
        return await _made(config.remote_write, known, lambda one: self._sender(one, config))

    async def take(self, config: Config, senders: Sequence[SampleSender]) -> None:
        """Send to these from now on."""
        gone, self._senders, self._config = self._senders, [*senders], config
        self._external = config.external_labels
        if gone != self._senders:
            self._changed.set()
        await _close(gone, self._senders)

    async def discard(self, senders: Sequence[SampleSender]) -> None:
        """They are not taken."""
        await _close(senders, self._senders)

    def _sender(self, section: RemoteWriteSection, config: Config) -> SampleSender:
        lookup = guarded_lookup("remote_write", section.url, own_addresses(config))
        sender = SampleSender(
            RemoteClient(section.access, lookup),
            section.timeout / 1000,
            section.protocol,
            self._read_all if section.send == "all" else self._read_rules,
            Path(config.storage.path) / "remote_write" / f"{_file_name(section)}.json",
            self._now_ms,
            self._threads,
        )
        sender.client.begin()
        return sender

    async def run(self) -> None:
        """For ever, each for itself."""
        await _run_each("remote write", partial(getattr, self, "_senders"), self._changed)

    def shift(self, delta_ms: int) -> None:
        """The wall clock was set."""
        for sender in self._senders:
            sender.shift(delta_ms)

    async def close(self) -> None:
        for sender in self._senders:
            await sender.client.close()

    def samples(self, families: Families) -> Iterator[Sample]:
        for sender in self._senders:
            own, counts = labels(receiver=sender.client.address), sender.counts
            values = {
                "tocsin_remote_write_sent_samples_total": counts.sent,
                "tocsin_remote_write_sent_samples_refused_total": counts.refused,
                "tocsin_remote_write_send_errors_total": counts.errors,
                "tocsin_remote_write_send_behind_seconds": sender.behind_ms / 1000,
            }
            for name, value in values.items():
                yield Sample(families[name], value, own)

    def _read_all(self, t0_ms: int, t1_ms: int) -> ReadSamples:
        return self._read(((Matcher("__name__", MatchOp.NOT_EQUAL, ""),),), t0_ms, t1_ms)

    def _read_rules(self, t0_ms: int, t1_ms: int) -> ReadSamples:
        rules = (state.rule for group in self._groups() for state in group.rules)
        recorded = {rule.name for rule in rules if isinstance(rule, RecordingRule)}
        names = sorted(recorded | {"ALERTS", "ALERTS_FOR_STATE"})
        sets = tuple((Matcher("__name__", MatchOp.EQUAL, name),) for name in names)
        return self._read(sets, t0_ms, t1_ms)

    def _read(self, sets: MatcherSets, t0_ms: int, t1_ms: int) -> ReadSamples:
        chosen = self._store.select(sets, t0_ms, t1_ms)
        return read_samples(chosen, t0_ms, t1_ms, self._external, Budget())


class _Runs(Protocol):
    async def run(self) -> None: ...


class _HasClient(Protocol):
    client: RemoteClient


S = TypeVar("S")
C = TypeVar("C", bound=_HasClient)


async def _made(
    sections: Sequence[S], known: Sequence[tuple[S, C]], make: Callable[[S], C]
) -> Sequence[C]:
    """One for each section, of those that are known the very one. Raises what `make` raises; what
    was made until then is closed."""
    made: list[C] = []
    try:
        for section in sections:
            kept = next((one for other, one in known if other == section), None)
            made.append(kept or make(section))
    except BaseException:  # why: whatever happens, what was made has threads, which must end
        await _close(made, [one for _, one in known])
        raise
    return made


async def _close(clients: Iterable[C], but: Collection[C]) -> None:
    for one in clients:
        if one not in but:
            await one.client.close()


async def _run_each(
    name: str, every: Callable[[], Sequence[_Runs]], changed: asyncio.Event
) -> None:
    """Each for itself, for ever; whenever they have `changed`, those that there are then."""
    while True:
        changed.clear()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(restart_on_error(name, one.run)) for one in every()]
            await changed.wait()
            for task in running:
                task.cancel()


def _file_name(section: RemoteWriteSection) -> str:
    """By where it goes, so that entries may change their order; no secret is in it."""
    about = f"{section.access.url} {section.send} {sorted(section.headers.items())}"
    return sha256(about.encode()).hexdigest()[:16]


Destinations = tuple[Sequence[AlertForwarder], Sequence[SampleSender]]


class Elsewhere:
    """All of it; `dispatcher` and `groups` give those of the agent, once they are made."""

    def __init__(
        self,
        config: Config,
        store: Store,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        dispatcher: Callable[[], Dispatcher],
        groups: Callable[[], Sequence[GroupState]],
    ) -> None:
        self.datasources = Datasources(config, now_ms, seconds, dispatcher)
        self.alertmanagers = Alertmanagers(config, groups, now_ms, seconds)
        self.remote_writers = RemoteWriters(config, store, groups, now_ms)
        self.asks_store = self.datasources.asks_store

    async def prepare(self, config: Config) -> Destinations:
        """Whom alerts and samples go to by this configuration. Raises RuntimeError where there is
        no thread for one of them, and OSError for a certificate that is gone; nothing has changed
        then."""
        forwarders = await self.alertmanagers.prepare(config)
        try:
            senders = await self.remote_writers.prepare(config)
        except BaseException:  # why: whatever happens, nobody else would end these
            await self.alertmanagers.discard(forwarders)
            raise
        return forwarders, senders

    async def take(self, config: Config, prepared: Destinations) -> None:
        """Where alerts and samples go from now on; where rules are evaluated takes a restart."""
        await self.alertmanagers.take(config, prepared[0])
        await self.remote_writers.take(config, prepared[1])

    async def discard(self, prepared: Destinations) -> None:
        """What was prepared is not taken."""
        await self.alertmanagers.discard(prepared[0])
        await self.remote_writers.discard(prepared[1])

    async def run(self) -> None:
        """For ever, each for itself."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(restart_on_error("datasources", self.datasources.watch))
            tasks.create_task(restart_on_error("alertmanagers", self.alertmanagers.run))
            tasks.create_task(self.remote_writers.run())

    async def close(self) -> None:
        await self.datasources.close()
        await self.alertmanagers.close()
        await self.remote_writers.close()

    def samples(self, families: Families) -> Iterator[Sample]:
        yield from self.datasources.samples(families)
        yield from self.alertmanagers.samples(families)
        yield from self.remote_writers.samples(families)
