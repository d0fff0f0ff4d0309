"""From when an alert's condition holds, to when the alert fires: `for` and `keep_firing_for` over
whole days at once, as `rules.alerting.update_alerts` does it evaluation by evaluation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels


@dataclass(frozen=True, slots=True)
class AlertSpan:
    """An alert that fired, in Unix ms; `resolved_ms` is None where it still fires at the end.
    `value` is the one with which it fired."""

    labels: Labels
    active_ms: int
    fired_ms: int
    resolved_ms: int | None
    value: float


@dataclass(slots=True, eq=False)
class ConditionCells:
    """When the condition of one rule held, at the evaluations (steps,) that succeeded: by the
    labels of the alert, whether, and with which value."""

    times: Ints
    present: dict[Labels, Mask] = field(default_factory=dict)
    values: dict[Labels, Floats] = field(default_factory=dict)

    def without(self, failed: Mask) -> "ConditionCells":
        """As if nothing had been evaluated at the steps that failed: the state was held."""
        if not failed.any():
            return self
        kept = ~failed
        return ConditionCells(
            self.times[kept],
            {labels: cells[kept] for labels, cells in self.present.items()},
            {labels: cells[kept] for labels, cells in self.values.items()},
        )


def alert_spans(cells: ConditionCells, for_ms: int, keep_firing_for_ms: int) -> list[AlertSpan]:
    """Each time that an alert fired, by when it did."""
    spans = [
        span
        for labels, present in cells.present.items()
        for span in _of_one(labels, cells, present, for_ms, keep_firing_for_ms)
    ]
    return sorted(spans, key=lambda span: (span.fired_ms, span.labels))


def _of_one(
    labels: Labels, cells: ConditionCells, present: Mask, for_ms: int, keep_ms: int
) -> Iterator[AlertSpan]:
    times, values = cells.times, cells.values[labels]
    runs = list(_runs(present))
    at = 0
    while at < len(runs):
        start, stop = runs[at]
        at += 1
        active_ms = int(times[start])
        fires = int(times.searchsorted(active_ms + for_ms, side="left"))
        if fires >= stop:
            continue
        over = _resolved_at(times, stop, keep_ms)
        while at < len(runs) and (over is None or runs[at][0] <= over):  # it was kept firing
            over = _resolved_at(times, runs[at][1], keep_ms)
            at += 1
        resolved_ms = None if over is None else int(times[over])
        yield AlertSpan(labels, active_ms, int(times[fires]), resolved_ms, float(values[fires]))


def _resolved_at(times: Ints, stop: int, keep_ms: int) -> int | None:
    """The step at which an alert is over whose condition no longer holds at the step `stop`."""
    if stop >= len(times):
        return None
    over = int(times.searchsorted(int(times[stop]) + keep_ms, side="left"))
    return over if over < len(times) else None


def _runs(present: Mask) -> Iterator[tuple[int, int]]:
    """(first, one past the last) of each run of steps at which it holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def pending_and_firing(
    cells: ConditionCells, spans: Mapping[Labels, list[AlertSpan]]
) -> Iterator[tuple[Labels, Mask, Mask, Ints]]:
    """Of each alert at which steps it was pending, and firing, and since when it was active (Unix
    seconds): what ALERTS and ALERTS_FOR_STATE say."""
    for labels, present in cells.present.items():
        firing = np.zeros(len(cells.times), np.bool_)
        since = np.zeros(len(cells.times), np.int64)
        for start, stop in _runs(present):
            since[start:stop] = cells.times[start] // 1000
        for span in spans.get(labels, []):
            first = int(cells.times.searchsorted(span.fired_ms))
            last = len(cells.times)
            if span.resolved_ms is not None:
                last = int(cells.times.searchsorted(span.resolved_ms))
            firing[first:last] = True
            since[first:last] = span.active_ms // 1000
        yield labels, present & ~firing, firing, since
