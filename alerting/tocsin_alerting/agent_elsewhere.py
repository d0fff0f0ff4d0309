"""What an agent has elsewhere: the engines that evaluate its rules."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.elsewhere import DatasourceSection, datasource_of
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.store_watch import WatchedStore
from tocsin_alerting.loops.metrics import Families
from tocsin_alerting.loops.remote_engine import AnsweringSources, RemoteEngine
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_alerting.rules.rule import RuleGroup
from tocsin_alerting.rules.state import GroupState
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
        self._engines = {id(one): self._engine(one) for one in remote}
        self._chosen: dict[tuple[str, str], tuple[RuleGroup, DatasourceSection | None]] = {}

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(engine.address for engine in self._engines.values())

    def asks_store(self, progress: GroupState) -> bool:
        """Whether the group is evaluated on our own store."""
        return self._chosen_for(progress.group) is None

    def deps_of(self, own: EvaluationDeps) -> Callable[[RuleGroup], EvaluationDeps]:
        """What a group is evaluated with; `own` is that of our own store."""
        sources = AnsweringSources()
        remote = {
            id(one): replace(
                own,
                engine=self._engines[id(one)],
                sources=sources,
                query_offset_ms=one.offset,
                remote=True,
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
        silent = [one for one in self._engines.values() if not one.state.answers]
        await asyncio.gather(*map(self._try, silent))

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.close()

    def samples(self, families: Families) -> Iterator[Sample]:
        for engine in self._engines.values():
            own, state = {"datasource": engine.address}, engine.state
            yield Sample(families["tocsin_datasource_up"], float(state.answers), labels(**own))
            counts = state.counts
            for outcome in ("answered", "refused", "failed"):
                about = labels(**own, outcome=outcome)
                count = getattr(counts, outcome)
                yield Sample(families["tocsin_datasource_queries_total"], count, about)

    def _chosen_for(self, group: RuleGroup) -> DatasourceSection | None:
        known = self._chosen.get(group.key)
        if known is None or known[0] is not group:
            chosen = datasource_of(group, self._every, self._some)
            known = self._chosen[group.key] = (group, chosen)
        return known[1]

    def _engine(self, section: DatasourceSection) -> RemoteEngine:
        access = section.access
        store = WatchedStore(access.url, access.target, section.unreachable_after)
        tell, limit_s = partial(self._tell, store), section.timeout / 1000
        return RemoteEngine(access, limit_s, self._seconds, self._threads, tell)

    async def _tell(self, store: WatchedStore, error: str) -> None:
        await self._dispatcher().stores.take(store, error, self._now_ms())

    async def _try(self, engine: RemoteEngine) -> None:
        try:
            await engine.instant("vector(1)", self._now_ms())
        except (EngineUnreachable, ValueError):
            return  # it was told
