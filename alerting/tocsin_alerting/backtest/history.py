"""The samples that a backtest reads: those of the past, and what the rules record beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import DeadlineCheck, Matcher, MatchOp, no_deadline
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.query.unaligned_parts import SeriesSamples
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import (
    ABSENT,
    STALE_BITS,
    Floats,
    Ints,
    Mask,
    is_absent,
    is_sample,
    normalised,
)
from tocsin_exporter.snapshot import Labels

STALE_MARKER = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])
InputSeries = Mapping[Labels, tuple[Sequence[int] | Ints, Sequence[float] | Floats]]
"""By labels: times in Unix ms, and values."""


class PastSeries:
    """Series with their samples, sorted by time; of two at one time the later given counts."""

    def __init__(self, series: InputSeries) -> None:
        self.labels = tuple(series)
        each = [_in_order(*samples) for samples in series.values()]
        counts = [len(times) for times, _ in each]
        self.times: Ints = np.concatenate([np.empty(0, np.int64), *(times for times, _ in each)])
        self.values: Floats = normalised(np.concatenate([np.empty(0), *(v for _, v in each)]))
        self.first_ms = int(self.times.min()) if len(self.times) else 0
        self.last_ms = int(self.times.max()) if len(self.times) else 0
        self._width = self.last_ms - self.first_ms + 2
        numbers = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        self._keys = numbers * self._width + (self.times - self.first_ms)

    def part(self, rows: Ints) -> "_PastPart":
        return _PastPart(self, rows)

    def between(self, rows: Ints, t0_ms: int, t1_ms: int) -> SeriesSamples:
        """The samples of these rows in the closed interval."""
        since = min(max(t0_ms - self.first_ms, 0), self._width - 1)
        until = min(max(t1_ms - self.first_ms, -1), self._width - 2)
        starts = self._keys.searchsorted(rows * self._width + since, side="left")
        stops = self._keys.searchsorted(rows * self._width + until, side="right")
        counts = np.maximum(stops - starts, 0)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
        return SeriesSamples(offsets, self.times[places], self.values[places])


class RecordedSeries:
    """What one rule gives, on the times (steps,) at which it is evaluated: a column a series, in
    which "no sample" stands where there is none."""

    def __init__(self, times: Ints) -> None:
        self.times = times
        self._columns: dict[Labels, Floats] = {}

    @property
    def labels(self) -> tuple[Labels, ...]:
        return tuple(self._columns)

    def column(self, labels: Labels) -> Floats:
        """The column of a series, a new one if it has none."""
        column = self._columns.get(labels)
        if column is None:
            column = self._columns[labels] = np.full(len(self.times), ABSENT)
        return column

    def mark_stale(self, steps: Ints) -> None:
        """Ends each series at the step at which the rule no longer gives it; `steps` (ascending)
        are those at which it was evaluated without failing, which alone can end one."""
        for column in self._columns.values():
            cells = column[steps]
            gone = np.flatnonzero(is_sample(cells)[:-1] & is_absent(cells)[1:])
            column[steps[gone + 1]] = STALE_MARKER

    def part(self, rows: Ints) -> "_RecordedPart":
        columns = list(self._columns.values())
        return _RecordedPart(self.times, [columns[row] for row in rows.tolist()])


@dataclass(frozen=True, slots=True, eq=False)
class _PastPart:
    series: PastSeries
    rows: Ints

    @property
    def count(self) -> int:
        return len(self.rows)

    def between(self, t0_ms: int, t1_ms: int) -> SeriesSamples:
        return self.series.between(self.rows, t0_ms, t1_ms)

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        return _any_samples(self.between(t0_ms, t1_ms))


@dataclass(frozen=True, slots=True, eq=False)
class _RecordedPart:
    times: Ints
    columns: Sequence[Floats]

    @property
    def count(self) -> int:
        return len(self.columns)

    def between(self, t0_ms: int, t1_ms: int) -> SeriesSamples:
        start = int(self.times.searchsorted(t0_ms, side="left"))
        stop = int(self.times.searchsorted(t1_ms, side="right"))
        cells = np.stack([column[start:stop] for column in self.columns])
        series, steps = np.nonzero(~is_absent(cells))
        counts = np.bincount(series, minlength=self.count)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return SeriesSamples(offsets, self.times[start + steps], cells[series, steps])

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        return _any_samples(self.between(t0_ms, t1_ms))


def _any_samples(samples: SeriesSamples) -> Mask:
    sums = np.concatenate([[0], np.cumsum(is_sample(samples.values))])
    mask: Mask = sums[samples.offsets[1:]] > sums[samples.offsets[:-1]]
    return mask


class History:
    """A reader of the query engine. What is added is seen by all later selections."""

    def __init__(self, past: PastSeries) -> None:
        self.past = past
        self._members: list[PastSeries | RecordedSeries] = [past]
        self._chosen: dict[tuple[int, MatcherSets], tuple[tuple[Labels, ...], Ints]] = {}
        self._label_sets: dict[tuple[Labels, ...], LabelSets] = {}
        names: dict[str, list[int]] = {}
        for row, labels in enumerate(past.labels):
            names.setdefault(dict(labels).get(METRIC_NAME, ""), []).append(row)
        self._past_rows = names

    def add(self, recorded: RecordedSeries) -> None:
        self._members.append(recorded)

    def select(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: DeadlineCheck = no_deadline
    ) -> Selection:
        found = [
            (member, *self._rows(number, member, matcher_sets))
            for number, member in enumerate(self._members)
        ]
        present = [(member, labels, rows) for member, labels, rows in found if len(rows)]
        every = tuple(series for _, labels, _ in present for series in labels)
        series = self._label_sets.setdefault(every, LabelSets(every))
        return Selection(series, (), tuple(member.part(rows) for member, _, rows in present))

    def _rows(
        self, number: int, member: PastSeries | RecordedSeries, matcher_sets: MatcherSets
    ) -> tuple[tuple[Labels, ...], Ints]:
        """What is chosen of a member; of the past it is always the same."""
        known = self._chosen.get((number, matcher_sets))
        if known is not None and isinstance(member, PastSeries):
            return known
        labels = member.labels
        candidates: Iterable[int] = range(len(labels))
        name = _one_name(matcher_sets)
        if name is not None and isinstance(member, PastSeries):
            candidates = self._past_rows.get(name, [])
        rows = [row for row in candidates if _matches(dict(labels[row]), matcher_sets)]
        chosen = tuple(labels[row] for row in rows), np.array(rows, np.int64)
        if isinstance(member, PastSeries):
            self._chosen[number, matcher_sets] = chosen
        return chosen


def _name_chosen(matchers: Sequence[Matcher]) -> str | None:
    equal = (m.value for m in matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL)
    return next(equal, None)


def _one_name(matcher_sets: MatcherSets) -> str | None:
    names = {_name_chosen(matchers) for matchers in matcher_sets}
    return names.pop() if len(names) == 1 else None


def _matches(labels: Mapping[str, str], matcher_sets: MatcherSets) -> bool:
    return any(
        all(matcher.matches(labels.get(matcher.name, "")) for matcher in matchers)
        for matchers in matcher_sets
    )


def _in_order(times: Sequence[int] | Ints, values: Sequence[float] | Floats) -> tuple[Ints, Floats]:
    at, number = np.asarray(times, np.int64), np.asarray(values, np.float64)
    if len(at) < 2 or (np.diff(at) > 0).all():
        return at, number
    order = np.argsort(at, kind="stable")
    at, number = at[order], number[order]
    last = np.append(at[1:] != at[:-1], True)
    return at[last], number[last]
