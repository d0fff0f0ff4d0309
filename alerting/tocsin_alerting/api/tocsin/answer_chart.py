"""The last hour of what an alert's rule compares, as a drawing in the page itself: no script, no
image that a browser would have to fetch."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from html import escape

from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.result import Matrix
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.threshold import comparison
from tocsin_alerting.settings import number_text
from tocsin_exporter.threads import in_thread

log = logging.getLogger(__name__)

SPAN_MS, STEP_MS = 3_600_000, 30_000
SECONDS = 2.0  # then the page comes without it
_MOST_SAMPLES = 2_000_000
_MOST_LINES = 4
_MOST_WAITING = 8  # drawings at once; who asks more often sees the page without one
_WIDTH, _HEIGHT, _TOP, _BOTTOM = 360, 150, 8, 132
_RIGHT = 354  # a stroke has a width
Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class HourOfValues:
    """Each line is of one series, in Unix milliseconds; `limit` is what they are compared with."""

    start_ms: int
    end_ms: int
    lines: tuple[Points, ...]
    limit: Points = ()


class AnswerChart:
    """Evaluates in `threads`; `monotonic` gives seconds, `seconds` is how long a page waits."""

    def __init__(
        self,
        engine: QueryEngine,
        threads: Executor,
        monotonic: Callable[[], float],
        seconds: float = SECONDS,
    ) -> None:
        self._engine, self._threads, self._monotonic = engine, threads, monotonic
        self._seconds = seconds
        self._waiting = 0

    async def hour(
        self, rule: AlertingRule, labels: Mapping[str, str], end_ms: int
    ) -> HourOfValues | None:
        """The hour before `end_ms`; None where it does not come in time."""
        if self._waiting >= _MOST_WAITING:
            return None
        deadline = self._monotonic() + self._seconds
        budget = Budget(_MOST_SAMPLES, expired=lambda: self._monotonic() > deadline)
        self._waiting += 1
        work = asyncio.ensure_future(
            in_thread(
                partial(hour_of_values, self._engine, rule, labels, end_ms, budget), self._threads
            )
        )
        work.add_done_callback(self._done)
        done, _ = await asyncio.wait([work], timeout=self._seconds)
        if not done or work.exception() is not None:
            return None
        return work.result()

    def _done(self, work: asyncio.Future[HourOfValues]) -> None:
        self._waiting -= 1
        if not work.cancelled() and work.exception() is not None:
            log.info("chart of an incident failed: %s", work.exception())


def hour_of_values(
    engine: QueryEngine,
    rule: AlertingRule,
    labels: Mapping[str, str],
    end_ms: int,
    budget: Budget,
) -> HourOfValues:
    """The hour before `end_ms`; raises QueryError where the query has no answer."""
    compared = comparison(rule.query)
    start_ms = end_ms - SPAN_MS

    def lines(query: Expr) -> tuple[Points, ...]:
        """Those that the alert may come from: no label says otherwise."""
        found = engine.evaluate_range(query, start_ms, end_ms, STEP_MS, budget).value
        if not isinstance(found, Matrix):
            return ()
        fitting = (track for track in found if _fits(dict(track.labels), labels))
        return tuple(
            tuple(zip(track.times.tolist(), track.values.tolist(), strict=True))
            for track, _ in zip(fitting, range(_MOST_LINES), strict=False)
        )

    measured = lines(compared.measured)
    limit: Points = ()
    if isinstance(compared.limit, float | int):
        if math.isfinite(compared.limit):
            limit = ((start_ms, float(compared.limit)), (end_ms, float(compared.limit)))
    elif compared.limit is not None:
        limit = next(iter(lines(compared.limit)), ())
    return HourOfValues(start_ms, end_ms, measured, limit)


def _fits(series: Mapping[str, str], alert: Mapping[str, str]) -> bool:
    shared = (name for name in series if name in alert and name != "alertname")
    return all(series[name] == alert[name] for name in shared)


def svg(hour: HourOfValues, name: str, clock: Callable[[int], str]) -> str:
    """The drawing as markup; "" where there is nothing to draw. `name` is what it shows."""
    numbers = [
        value for points in (*hour.lines, hour.limit) for _, value in points if math.isfinite(value)
    ]
    if not any(math.isfinite(value) for points in hour.lines for _, value in points):
        return ""
    low, high = padded(min(numbers), max(numbers))

    def x(at_ms: float) -> float:
        return round((at_ms - hour.start_ms) / (hour.end_ms - hour.start_ms) * _RIGHT, 1)

    def y(value: float) -> float:
        span = high / 2 - low / 2  # halves: a whole one may be more than a number can be
        share = (value / 2 - low / 2) / span if span else 0.5
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    drawn = [
        f'<path class="line n{number}" d="{part}"/>'
        for number, points in enumerate(hour.lines)
        for part in _paths(points, x, y)
    ]
    limit = [f'<path class="limit" d="{part}"/>' for part in _paths(hour.limit, x, y)]
    marks = [
        f'<text x="3" y="{y(max(numbers)) + 11:g}">{number_text(max(numbers))}</text>',
        f'<text x="3" y="{y(min(numbers)) - 4:g}">{number_text(min(numbers))}</text>',
        f'<text x="0" y="{_HEIGHT - 4}">{escape(clock(hour.start_ms))}</text>',
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{escape(clock(hour.end_ms))}'
        "</text>",
    ]
    if hour.limit and len({value for _, value in hour.limit}) == 1:
        level = hour.limit[0][1]
        place = f'x="{_RIGHT}" y="{y(level) - 4:g}" text-anchor="end"'
        marks.append(f'<text class="most" {place}>{number_text(level)}</text>')
    base = f'<path class="axis" d="M0 {_BOTTOM}H{_WIDTH}"/>'
    body = "".join([base, *limit, *drawn, *marks])
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(name)}">{body}</svg>'
    )


def padded(low: float, high: float) -> tuple[float, float]:
    """With room above and below; what is never negative has no room below 0."""
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    bottom = max(low - room, 0.0) if low >= 0 and high > 0 else low - room
    padded = bottom, high + room
    return padded if all(map(math.isfinite, padded)) else (low, high)


def _paths(
    points: Sequence[tuple[int, float]], x: Callable[[float], float], y: Callable[[float], float]
) -> list[str]:
    """A stroke for each stretch without a gap; one value alone is a dot."""
    strokes: list[list[str]] = []
    last_ms = -math.inf
    for at_ms, value in points:
        if not math.isfinite(value):
            continue
        straight = len(points) == 2  # a threshold is said by its ends
        if at_ms - last_ms > STEP_MS * 1.5 and not (straight and strokes):
            strokes.append([])
        strokes[-1].append(f"{x(at_ms):g} {y(value):g}")
        last_ms = at_ms
    return ["M" + "L".join(one if len(one) > 1 else one * 2) for one in strokes]
