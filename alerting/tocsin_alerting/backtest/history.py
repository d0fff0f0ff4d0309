"""The samples that a backtest reads: those of the past, and what the rules record beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import DeadlineCheck, Matcher, MatchOp, no_deadline
from tocsin_alerting.tsdb.query.aligned_parts import MergedPart
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
_FRAMES = 64  # of a selection: each has a price of its own
InputSeries = Mapping[Labels, tuple[Sequence[int] | Ints, Sequence[float] | Floats]]
"""By labels: times in Unix ms, and values."""


class PastSeries:
    """Series with their samples, sorted by time; of two at one time the later given counts.

    Those that have the same times, as the series of a target have, are columns of one frame.
    """

    def __init__(self, series: InputSeries) -> None:
        self.labels = tuple(series)
        numbers: dict[bytes, int] = {}
        axes: list[Ints] = []
        columns: list[list[Floats]] = []
        self._places: Ints = np.empty((len(series), 2), np.int64)  # frame, column of it
        for row, samples in enumerate(series.values()):
            times, values = _in_order(*samples)
            number = numbers.setdefault(times.tobytes(), len(axes))
            if number == len(axes):
                axes.append(times)
                columns.append([])
            self._places[row] = number, len(columns[number])
            columns[number].append(values)
        self._frames = [
            _Frame(axis, normalised(np.stack(same, axis=1)))
            for axis, same in zip(axes, columns, strict=True)
        ]
        spans = [(int(axis[0]), int(axis[-1])) for axis in axes if len(axis)] or [(0, 0)]
        self.first_ms = min(first for first, _ in spans)
        self.last_ms = max(last for _, last in spans)

    def chosen(self, rows: Ints) -> "_PastSelection":
        """Of these rows the largest frames, and the others with times of their own."""
        frames, columns = self._places[rows].T
        numbers, counts = np.unique(frames, return_counts=True)
        kept = numbers[np.argsort(-counts, kind="stable")[:_FRAMES]]
        order: list[Ints] = []
        parts: list[MergedPart] = []
        for number in kept.tolist():
            which = np.flatnonzero(frames == number)
            order.append(which)
            part = _FramePart(self._frames[number], columns[which])
            parts.append(MergedPart((part,), len(which)))
        apart = np.flatnonzero(~np.isin(frames, kept))
        labels = tuple(self.labels[row] for row in rows[np.concatenate([*order, apart])].tolist())
        rest = (_PastPart(self, rows[apart]),) if len(apart) else ()
        return _PastSelection(LabelSets(labels), tuple(parts), rest)

    def between(self, rows: Ints, t0_ms: int, t1_ms: int) -> SeriesSamples:
        """The samples of these rows in the closed interval."""
        pieces = [self._within(row, t0_ms, t1_ms) for row in rows.tolist()]
        offsets = np.cumsum([0, *(len(times) for times, _ in pieces)])
        times = np.concatenate([np.empty(0, np.int64), *(times for times, _ in pieces)])
        values = np.concatenate([np.empty(0), *(values for _, values in pieces)])
        return SeriesSamples(offsets, times, values)

    def _within(self, row: int, t0_ms: int, t1_ms: int) -> tuple[Ints, Floats]:
        number, column = self._places[row].tolist()
        frame = self._frames[number]
        start, stop = frame.times.searchsorted((t0_ms, t1_ms + 1)).tolist()
        return frame.times[start:stop], frame.cells[start:stop, column]


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
class _Frame:
    """`cells` (times, series) without a gap: each series has a sample at each time."""

    times: Ints
    cells: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _FramePart:
    """Some columns of a frame, as the store gives those of a target."""

    frame: _Frame
    columns: Ints

    @property
    def times(self) -> Ints:
        return self.frame.times

    def cells_in(self, start: int, stop: int, alone: bool) -> Floats:
        cells = self.frame.cells[start:stop]
        if len(self.columns) == cells.shape[1]:  # rows ascend, and so do their columns
            return cells
        return cells.take(self.columns, axis=1)

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        start, stop = self.times.searchsorted((t0_ms, t1_ms + 1)).tolist()
        mask: Mask = np.any(is_sample(self.cells_in(start, stop, False)), axis=0)
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class _PastSelection:
    """`series` are those of the parts, one after the other."""

    series: LabelSets
    parts: tuple[MergedPart, ...] = ()
    unaligned: "tuple[_PastPart, ...]" = ()


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


_NOTHING = _PastSelection(LabelSets(()))


class History:
    """A reader of the query engine. What is added is seen by all later selections."""

    def __init__(self, past: PastSeries) -> None:
        self.past = past
        self._recorded: list[RecordedSeries] = []
        self._chosen: dict[MatcherSets, _PastSelection] = {}
        self._label_sets: dict[tuple[LabelSets, tuple[Labels, ...]], LabelSets] = {}
        names: dict[str, list[int]] = {}
        for row, labels in enumerate(past.labels):
            names.setdefault(dict(labels).get(METRIC_NAME, ""), []).append(row)
        self._past_rows = names

    def add(self, recorded: RecordedSeries) -> None:
        self._recorded.append(recorded)

    def select(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: DeadlineCheck = no_deadline
    ) -> Selection:
        past = self._of_the_past(matcher_sets)
        found = [(one, _matching(one.labels, matcher_sets)) for one in self._recorded]
        present = [(one, rows) for one, rows in found if rows]
        series = past.series
        if present:
            more = tuple(one.labels[row] for one, rows in present for row in rows)
            series = self._label_sets.setdefault((series, more), LabelSets(series.labels + more))
        recorded = tuple(one.part(np.array(rows, np.int64)) for one, rows in present)
        return Selection(series, past.parts, past.unaligned + recorded)

    def _of_the_past(self, matcher_sets: MatcherSets) -> _PastSelection:
        """What is chosen of it is always the same."""
        known = self._chosen.get(matcher_sets)
        if known is not None:
            return known
        labels, name = self.past.labels, _one_name(matcher_sets)
        candidates = range(len(labels)) if name is None else self._past_rows.get(name, [])
        rows = [row for row in candidates if _matches(dict(labels[row]), matcher_sets)]
        chosen = self.past.chosen(np.array(rows, np.int64)) if rows else _NOTHING
        self._chosen[matcher_sets] = chosen
        return chosen


def _matching(labels: Sequence[Labels], matcher_sets: MatcherSets) -> list[int]:
    return [row for row, each in enumerate(labels) if _matches(dict(each), matcher_sets)]


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
