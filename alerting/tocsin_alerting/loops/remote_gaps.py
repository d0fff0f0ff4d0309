"""What an engine elsewhere no longer says after it was away.

One that was stopped or down has read nothing meanwhile. What it answers first is right of the
samples that it has, and an alert is not in it because nobody has looked yet: its targets are read
again one after the other, and a `rate()` needs two samples. So an alert that has left the result
has cleared when a sample shows it that is newer than the outage; at the latest when the samples
from before it are out of sight, as for every Prometheus.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import re2

from tocsin_alerting.loops.remote_engine import RemoteEngine
from tocsin_alerting.promql.parser.ast import VectorSelector, selectors
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.inputs import LOOK_BACK_MS
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_alerting.rules.state import RuleState
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp

MOST_ASKED = 50  # alerts of a rule at one evaluation; the others are asked for at the next


class RemoteGaps:
    """Since when an engine answers again. `now_ms` reads the wall clock, `seconds` the one of the
    engine's own times."""

    def __init__(
        self, engine: RemoteEngine, now_ms: Callable[[], int], seconds: Callable[[], float]
    ) -> None:
        self._engine, self._now_ms, self._seconds = engine, now_ms, seconds

    async def unproven(
        self, progress: RuleState, present: Collection[str], at_ms: int
    ) -> frozenset[str]:
        """The alerts (fingerprints) that are not `present` in the result for `at_ms`, without it
        being known that they are over."""
        since_ms = self._since_ms(at_ms)
        missing = {alert.fingerprint: alert for alert in _active(progress)}
        missing = {key: alert for key, alert in missing.items() if key not in present}
        if since_ms is None or not missing:
            return frozenset()
        if since_ms < min(progress.window_ms, LOOK_BACK_MS):
            return frozenset(missing)
        asked = list(missing.items())[:MOST_ASKED]
        again_ms = at_ms - since_ms
        proven = [key for key, one in asked if await self._shows(progress, one, again_ms, at_ms)]
        return frozenset(missing).difference(proven)

    def _since_ms(self, at_ms: int) -> int | None:
        """How long before `at_ms` its last outage ended, which may be after it; None when that is
        long ago, or there was none."""
        again_s = self._engine.state.again
        if again_s is None:
            return None
        since_ms = at_ms - (self._now_ms() - round(1000 * (self._seconds() - again_s)))
        return since_ms if since_ms < LOOK_BACK_MS else None

    async def _shows(self, progress: RuleState, alert: Alert, again_ms: int, at_ms: int) -> bool:
        """Whether each selector of the rule has a sample since then, of series with the alert's
        labels."""
        for selector in selectors(progress.rule.query):
            newest_ms = await self._newest_ms(_of_alert(selector, progress, alert), at_ms)
            if newest_ms is None or newest_ms < again_ms:
                return False
        return True

    async def _newest_ms(self, selector: VectorSelector, at_ms: int) -> float | None:
        if selector.offset or selector.at is not None:
            return None  # it looks at other times
        try:
            query = f"max(timestamp({print_expr(selector)}))"
            value = (await self._engine.instant(query, at_ms)).value
        except (EngineUnreachable, ValueError):
            return None
        if not isinstance(value, InstantVector) or not len(value):
            return None
        return 1000 * float(value.values[0])


def _active(progress: RuleState) -> Iterator[Alert]:
    for alert in progress.alerts.values():
        if alert.state is not AlertState.INACTIVE:
            yield alert
    for unknown in progress.unknown_alerts.values():
        if not unknown.over:
            yield unknown.alert


def _of_alert(selector: VectorSelector, progress: RuleState, alert: Alert) -> VectorSelector:
    """Of the series that have each of the alert's own labels, or lack it."""
    added = {"alertname", *dict(progress.rule.labels)}
    own = tuple(
        Matcher(name, MatchOp.REGEX, f"{re2.escape(text)}|")
        for name, text in alert.labels
        if name not in added
    )
    return replace(
        selector, matcher_sets=tuple((*own, *matchers) for matchers in selector.matcher_sets)
    )
