"""What an engine elsewhere no longer says after it was away.

One that was stopped or down has read nothing meanwhile. What it answers first is right of the
samples that it has, and an alert is not in it because nobody has looked yet: its targets are read
again one after the other, and a `rate()` needs two samples. So an alert that has left the result
has cleared when a sample shows it that is newer than the outage; at the latest when the samples
from before it are out of sight, as for every Prometheus. A range that still holds the outage, and
lacks a tenth of itself by it, shows nothing either, unless the engine has samples of that time: one
that we could not reach may have read all the same.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

import re2

from tocsin_alerting.loops.remote_engine import RemoteEngine
from tocsin_alerting.promql.parser.ast import VectorSelector, selectors
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.inputs import LOOK_BACK_MS, reads
from tocsin_alerting.rules.instance_journal import EngineGap
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_alerting.rules.state import RuleState
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp

MOST_ASKED = 50  # alerts of a rule at one evaluation; the others are asked for at the next
MOST_LACKING = 0.1  # of a range
_SAME_MS = 2_000  # what two readings of one time differ by, at most
_PARTS = 4  # of an outage, each of which must have samples


class RemoteGaps:
    """When an engine was away. `now_ms` reads the wall clock, `seconds` the one of the engine's own
    times."""

    def __init__(
        self, engine: RemoteEngine, now_ms: Callable[[], int], seconds: Callable[[], float]
    ) -> None:
        self._engine, self._now_ms, self._seconds = engine, now_ms, seconds

    async def unproven(
        self, progress: RuleState, present: Collection[str], at_ms: int
    ) -> frozenset[str]:
        """The alerts (fingerprints) that are not `present` in the result for `at_ms`, without it
        being known that they are over."""
        gaps = progress.gaps = self._gaps(progress, at_ms)
        missing = {alert.fingerprint: alert for alert in _active(progress)}
        missing = {key: alert for key, alert in missing.items() if key not in present}
        if not gaps or not missing:
            return frozenset()
        again_ms = max(gap.end_ms(at_ms) for gap in gaps)  # it may be after `at_ms`
        if at_ms - again_ms < min(progress.window_ms, LOOK_BACK_MS):
            return frozenset(missing)
        if await self._lacks_much(progress, gaps, at_ms):
            return frozenset(missing)
        if at_ms - again_ms >= LOOK_BACK_MS:
            return frozenset()
        asked = list(missing.items())[:MOST_ASKED]
        proven = [key for key, one in asked if await self._shows(progress, one, again_ms, at_ms)]
        return frozenset(missing).difference(proven)

    def _gaps(self, progress: RuleState, at_ms: int) -> tuple[EngineGap, ...]:
        """Those that the rule may still hold: of the last run, which ended by the first answer in
        this one, and of the engine itself, which knows better what was in this run."""
        state = self._engine.state
        first_ms = at_ms if state.first is None else self._wall_ms(state.first)
        known = [
            gap if gap.until_ms is not None else EngineGap(gap.since_ms, first_ms)
            for gap in progress.gaps
            if gap.until_ms is not None or gap.since_ms < first_ms
        ]
        for since, until in state.outages:
            gap = EngineGap(self._wall_ms(since), self._wall_ms(until))
            if not any(_is_same(gap, other) for other in known):
                known.append(gap)
        reach_ms = max([LOOK_BACK_MS, *(w.reach_ms for _, w in reads(progress.rule.query))])
        return tuple(gap for gap in known if gap.end_ms(at_ms) > at_ms - reach_ms)

    def _wall_ms(self, at_s: float) -> int:
        return self._now_ms() - round(1000 * (self._seconds() - at_s))

    async def _lacks_much(
        self, progress: RuleState, gaps: Collection[EngineGap], at_ms: int
    ) -> bool:
        """Whether a range of the rule lacks more than a tenth of its time."""
        for selector, window in reads(progress.rule.query):
            end_ms = at_ms - window.offset_ms
            begin_ms = end_ms - window.length_ms
            if lost_ms(gaps, begin_ms, end_ms) <= MOST_LACKING * window.length_ms:
                continue
            held = [gap for gap in gaps if lost_ms([gap], begin_ms, end_ms)]
            empty = [gap for gap in held if not await self._has_samples_of(selector, gap)]
            if lost_ms(empty, begin_ms, end_ms) > MOST_LACKING * window.length_ms:
                return True
        return False

    async def _has_samples_of(self, selector: VectorSelector, gap: EngineGap) -> bool:
        """Whether each part of the outage has some."""
        end_ms = gap.end_ms(self._now_ms())
        lasted_ms = max(_PARTS, end_ms - gap.since_ms)
        part, plain = f"{lasted_ms // _PARTS}ms", print_expr(replace(selector, offset=0, at=None))
        query = f"count_over_time(count(count_over_time({plain}[{part}]))[{lasted_ms}ms:{part}])"
        return (await self._number(query, end_ms) or 0) >= _PARTS

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
        newest_s = await self._number(f"max(timestamp({print_expr(selector)}))", at_ms)
        return None if newest_s is None else 1000 * newest_s

    async def _number(self, query: str, at_ms: int) -> float | None:
        try:
            value = (await self._engine.instant(query, at_ms)).value
        except (EngineUnreachable, ValueError):
            return None
        return float(value.values[0]) if isinstance(value, InstantVector) and len(value) else None


def lost_ms(gaps: Iterable[EngineGap], begin_ms: int, end_ms: int) -> int:
    """How much of the time from `begin_ms` to `end_ms` lies in gaps; those that overlap count
    once."""
    lost, reached_ms = 0, begin_ms
    for gap in sorted(gaps, key=lambda gap: gap.since_ms):
        since_ms = max(gap.since_ms, reached_ms)
        until_ms = min(gap.end_ms(end_ms), end_ms)
        lost += max(0, until_ms - since_ms)
        reached_ms = max(reached_ms, until_ms)
    return lost


def _is_same(one: EngineGap, other: EngineGap) -> bool:
    ends = (one.since_ms - other.since_ms, one.end_ms(0) - other.end_ms(0))
    return max(map(abs, ends)) < _SAME_MS


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
