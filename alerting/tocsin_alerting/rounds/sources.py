"""What the rules may know of the sources: which a query touches, which of them are alive."""

from collections.abc import Callable, Collection

from tocsin_alerting.promql.ast import Expr, VectorSelector
from tocsin_alerting.rules.progress import RULES_JOB
from tocsin_alerting.rules.unknown import LOOK_BACK_MS, Health
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Source


class StoreSources:
    """`watched` gives the sources of the configuration, `ready` whether each was read once.

    A source that somebody else watches, and sends us, says nothing when it dies or its sender
    does: after `silence_ms` without a sample it counts as dead.
    """

    def __init__(
        self,
        store: Store,
        watched: Callable[[], Collection[Source]],
        ready: Callable[[], bool],
        now_ms: Callable[[], int],
        silence_ms: int = LOOK_BACK_MS,
    ) -> None:
        self._store = store
        self._watched = watched
        self._ready = ready
        self._now_ms = now_ms
        self._silence_ms = silence_ms

    def touched(self, selector: VectorSelector) -> frozenset[Source]:
        return self._store.touched(selector.matcher_sets)

    def health(self, source: Source) -> Health:
        last = self._store.last(source)
        ours = source.job == RULES_JOB or source in self._watched()
        if last is None:
            return Health.DEAD if ours else Health.GONE
        silent = not ours and self._now_ms() - last.at_ms >= self._silence_ms
        return Health.DEAD if silent or not last.ok else Health.ALIVE

    def ready(self, expr: Expr) -> bool:
        return self._ready()
