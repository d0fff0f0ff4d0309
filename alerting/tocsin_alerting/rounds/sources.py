"""What the rules may know of the sources: which a query touches, which of them are alive."""

from collections.abc import Callable, Collection

from tocsin_alerting.promql.ast import Expr, selectors
from tocsin_alerting.rules.progress import RULES_JOB
from tocsin_alerting.rules.unknown import Health
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Source


class StoreSources:
    """`watched` gives the sources of the configuration, `ready` whether each was read once."""

    def __init__(
        self,
        store: Store,
        watched: Callable[[], Collection[Source]],
        ready: Callable[[], bool],
    ) -> None:
        self._store = store
        self._watched = watched
        self._ready = ready

    def touched(self, expr: Expr) -> frozenset[Source]:
        found = (self._store.touched(one.matcher_sets) for one in selectors(expr))
        return frozenset(source for sources in found for source in sources)

    def health(self, source: Source) -> Health:
        last = self._store.last(source)
        if last is not None and last.ok:
            return Health.ALIVE
        if source in self._watched() or source.job == RULES_JOB:
            return Health.DEAD
        return Health.GONE

    def ready(self, expr: Expr) -> bool:
        return self._ready()
