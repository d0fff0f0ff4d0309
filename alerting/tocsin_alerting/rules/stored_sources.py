"""Which sources a rule touches and how they are, by the embedded store and the configuration."""

from collections.abc import Callable, Mapping

from tocsin_alerting.promql.ast import Expr, selectors
from tocsin_alerting.rules.progress import RULES_JOB, RuleProgress
from tocsin_alerting.rules.unknown import Health
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Source

SILENT_MS = 5 * 60_000


class StoredSources:
    """Answers for the rules from what was stored.

    `expected()` are the configured sources, each with the Unix ms by which it should have been read
    for the first time. `rules()` are all rules, so that a recorded series stands for the sources
    that it was made from. A source that is not configured (remote write) is dead when it has been
    silent for `silent_ms`.
    """

    def __init__(
        self,
        store: Store,
        expected: Callable[[], Mapping[Source, int]],
        rules: Callable[[], Mapping[Source, RuleProgress]],
        now_ms: Callable[[], int],
        silent_ms: int = SILENT_MS,
    ) -> None:
        self._store, self._expected, self._rules = store, expected, rules
        self._now_ms, self._silent_ms = now_ms, silent_ms

    def touched(self, expr: Expr) -> frozenset[Source]:
        found: set[Source] = set()
        waiting, seen = [expr], {expr}
        while waiting:
            for source in self._selected(waiting.pop()):
                recorded = self._rules().get(source)
                if source.job != RULES_JOB:
                    found.add(source)
                elif recorded is not None and recorded.rule.query not in seen:
                    seen.add(recorded.rule.query)
                    waiting.append(recorded.rule.query)
        return frozenset(found)

    def health(self, source: Source) -> Health:
        last, expected = self._store.last(source), source in self._expected()
        if last is None:
            return Health.DEAD if expected else Health.GONE
        if not last.ok or self._now_ms() - last.at_ms > self._silent_ms:
            return Health.DEAD
        return Health.ALIVE

    def ready(self, expr: Expr) -> bool:
        """What a source holds is not known before it was read, so each one counts for each rule."""
        now_ms = self._now_ms()
        return all(
            self._store.last(source) is not None or now_ms >= deadline_ms
            for source, deadline_ms in self._expected().items()
        )

    def _selected(self, expr: Expr) -> frozenset[Source]:
        sets = {selector.matcher_sets for selector in selectors(expr)}
        return frozenset[Source]().union(*map(self._store.touched, sets))
