"""What remote writers send: who may write what, and whether it fits its source's time axis.

A sample fits when its time has a column, or is later than all columns and a new one costs no more
than pairs would. A series with a sample that does not fit is loose from then on, with a time for
each sample; what it has in columns stays there.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.store.archive import Archive, Column, Owner, Scraps
from tocsin_alerting.store.cell import NEVER_MS, Floats, Ints, Mask, is_stale, normalised
from tocsin_alerting.store.last import Lasts
from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.matchers import Matcher, MatchOp
from tocsin_alerting.store.numbers import DEAD, UNPLACED, Numbers, is_loose, loose_place
from tocsin_alerting.store.requests import alike, columns, distinct, in_order, newest, repeats
from tocsin_alerting.store.rows import NO_LIMIT, Rows
from tocsin_alerting.store.table import Table
from tocsin_alerting.store.target import NAME, UP, source_of
from tocsin_exporter.snapshot import Labels, Source

log = logging.getLogger(__name__)

SOURCES = 10_000
_TABLES = 64  # with more, a source of a few series is cheaper in pairs
_FEW = 32
_IDLE = 10_000  # numbers of no use, before all are given out anew
AHEAD_MS = 600_000
_UP = ((Matcher(NAME, MatchOp.EQUAL, UP),),)


# What becomes of a sample. Plain numbers: numpy compares them faster than those of an Enum.
TAKEN = 0
LOOSE = 1  # it does not fit its source's columns
TWIN = 2  # the request has another one of the same series and time, which decides
OUT_OF_ORDER, DUPLICATE, TOO_OLD, TOO_FAR_AHEAD, OWN_SOURCE = range(3, 8)

_REASONS = {
    OUT_OF_ORDER: "out_of_order",
    DUPLICATE: "duplicate",
    TOO_OLD: "too_old",
    TOO_FAR_AHEAD: "too_far_ahead",
    OWN_SOURCE: "own_source",
}
Verdicts: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Written:
    """How many samples were taken, and how many were refused, by reason: out_of_order, duplicate,
    too_old, too_far_ahead (of the clock), own_source (the agent itself appends to it).

    `first` is the place of the first that was refused, with its reason."""

    taken: int
    refused: Mapping[str, int]
    first: tuple[int, str] | None = None


class Span(NamedTuple):
    """The times that samples may have, in Unix ms, both included."""

    first_ms: int
    last_ms: int


class Intake:
    """The store's door for remote writers. Whoever calls it holds the store's lock.

    `table` gives the columns of a source, new ones if it has none, and `drop` is told of each new
    column; `own` are the sources that the agent itself appends to. `gone` tells up to when, both
    included, the columns of a source are in the archive alone.
    """

    def __init__(
        self,
        tables: Mapping[Source, Table],
        table: Callable[[Source], Table],
        drop: Callable[[Table, int], None],
        changed: Callable[[], None],
        lasts: Lasts,
        archive: Archive | None,
        max_series: int,
    ) -> None:
        self.own: set[Source] = set()
        self.gone: Mapping[Source, int] = {}
        self.over_limit = self.over_sources = 0
        self.numbers = Numbers()
        self._tables = tables
        self._table = table
        self._drop = drop
        self.loose = Loose(Rows(NO_LIMIT, changed, self._taken_loose, self._left_loose))
        self._lasts = lasts
        self._archive = archive
        self._max_series = max_series
        self._strays: Counter[Source] = Counter()  # loose series
        self._dropped: dict[Labels, int] = {}  # the newest loose sample of those in columns again
        self._said: set[Source] = set()

    def register(self, series: Sequence[Labels]) -> Ints:
        """The numbers of these series; -1: no place."""
        return np.fromiter((self._number(labels) for labels in series), np.int64, len(series))

    def write(self, numbers: Ints, times: Ints, values: Floats, span: Span) -> Written | None:
        """None: some of the numbers are dead, and a new epoch has begun."""
        if not len(numbers):
            return Written(0, {})
        places, sources = self.numbers.place[numbers], self.numbers.source[numbers]
        values = normalised(values)
        if places.min() >= 0:
            if self._piece(places, numbers, sources, times, values, span):
                return Written(len(numbers), {})
        elif (places == DEAD).any():
            self.numbers.renew()
            return None
        verdicts = self._screened(sources, times, span)
        if repeats(numbers):
            at, of = _twins(numbers, times, verdicts)
            self._place(places, numbers, times, values, verdicts)
            _settle(at, of, values, verdicts)
        else:
            self._place(places, numbers, times, values, verdicts)
        written = _written(verdicts)
        if written.taken:
            self._hear(numbers, sources, times, values, verdicts)
        return written

    def expire(self, before_ms: int) -> None:
        """Forgets sources that have no series, and all numbers if too many are of no use."""
        self._lasts.expire(before_ms)
        for source in self._lasts.all():
            if not self._is_live(source):
                self._lasts.forget(source)
        live = [one for one in self.numbers.sources if self._is_live(one)]
        useless = len(self.numbers.sources) - len(live) > SOURCES // 10
        if useless or self.numbers.idle > _IDLE + len(self.numbers) // 2:
            self.numbers.renew()

    def restored(self) -> None:
        """After a log was read: what the newest samples of each remote source say."""
        remote = [(one, table) for one, table in self._tables.items() if one not in self.own]
        for source, table in remote:
            if (heard_ms := table.heard_ms()) is not None:
                self._lasts.heard(source, heard_ms)
        times, values = self.loose.newest()
        rows, series = self.loose.rows.owned()
        for row, labels in zip(rows.tolist(), series, strict=True):
            if not is_stale(values[row : row + 1])[0]:
                self._lasts.heard(source_of(labels), int(times[row]))
        ups = [(source, *up) for source, table in remote for up in table.newest(_UP)]
        for row in self.loose.rows.find(_UP).tolist():
            (labels,) = self.loose.rows.labels([row])
            ups.append((source_of(labels), int(times[row]), float(values[row])))
        for source, at_ms, value in sorted(ups, key=lambda up: up[1]):
            self._say_up(source, at_ms, value)

    def _say_up(self, source: Source, at_ms: int, value: float) -> None:
        if is_stale(np.array([value]))[0]:
            self._lasts.ended(source, at_ms)
        else:
            self._lasts.up(source, bool(value))

    @property
    def strays(self) -> Collection[Source]:
        """The sources that have loose series."""
        return self._strays.keys()

    # what rows say

    def _taken_loose(self, row: int, labels: Labels) -> None:
        source = source_of(labels)
        self._strays[source] += 1
        if self._archive is not None:
            self._archive.record(Owner(None, row, labels))

    def _left_loose(self, row: int, labels: Labels) -> None:
        source = source_of(labels)
        self._strays[source] -= 1
        if not self._strays[source]:
            del self._strays[source]
        table = self._tables.get(source)
        after = table.rows.known(labels) if table else -1
        if after >= 0:
            self._dropped[labels] = self.loose.last_ms(row)
        self.numbers.move(labels, loose_place(row), after if after >= 0 else DEAD)

    def left_column(self, row: int, labels: Labels) -> None:
        self._dropped.pop(labels, None)
        self.numbers.move(labels, row, DEAD)

    # numbers

    def _number(self, labels: Labels) -> int:
        number = self.numbers.known(labels)
        return self._registered(labels) if number is None else number

    def _registered(self, labels: Labels) -> int:
        source = source_of(labels)
        table = self._tables.get(source)
        loose = self.loose.rows.known(labels)
        if loose >= 0:
            return self.numbers.add(labels, loose_place(loose))
        row = table.rows.known(labels) if table else -1
        if row < 0 and not self._has_room(source, table):
            return -1
        return self.numbers.add(labels, row if row >= 0 else UNPLACED)

    def _has_room(self, source: Source, table: Table | None) -> bool:
        if len(self.numbers.sources) >= SOURCES and not self.numbers.knows(source):
            if not self.over_sources:
                log.warning("remote writers send more than %d sources: others are refused", SOURCES)
            self.over_sources += 1
            return False
        kept = self._strays[source] + self.numbers.waiting[source]
        if kept + (len(table.rows) if table else 0) >= self._max_series:
            self.over_limit += 1
            return False
        return True

    def _is_live(self, source: Source) -> bool:
        return source in self._tables or source in self._strays

    # samples

    def _piece(
        self, rows: Ints, numbers: Ints, sources: Ints, times: Ints, values: Floats, span: Span
    ) -> bool:
        """The shortest way, for most requests: a piece of one scrape of series in columns.

        False: it is not just that, and goes the long way, where what was taken is taken again.
        """
        at_ms, source = int(times[0]), self.numbers.sources[int(sources[0])]
        if not (alike(times) and alike(sources) and span.first_ms <= at_ms <= span.last_ms):
            return False
        table = self._tables.get(source)
        if table is None or source in self.own or repeats(numbers):
            return False
        if table.last_ms is None or at_ms > table.last_ms:
            if not table.roomy(1, 0, len(rows)):
                return False
            table.append(at_ms, rows, values)
            self._drop(table, at_ms)
        elif (index := table.index(at_ms)) < 0 or not table.fill(index, rows, values).taken.all():
            return False
        self._record(source, at_ms, rows, values)
        if not is_stale(values).all():
            self._lasts.heard(source, at_ms)
        ups = self.numbers.up[numbers]
        if ups.any():
            for value in values[ups].tolist():
                self._say_up(source, at_ms, value)
        return True

    def _screened(self, sources: Ints, times: Ints, span: Span) -> Verdicts:
        verdicts = np.zeros(len(times), np.int8)
        if times.min() < span.first_ms or times.max() > span.last_ms:
            verdicts[times < span.first_ms] = TOO_OLD
            verdicts[times > span.last_ms] = TOO_FAR_AHEAD
        for at in distinct(sources):
            source = self.numbers.sources[at]
            if source in self.own:
                verdicts[sources == at] = OWN_SOURCE
                self._say(source)
        return verdicts

    def _place(
        self, places: Ints, numbers: Ints, times: Ints, values: Floats, verdicts: Verdicts
    ) -> None:
        """Where each of those that are TAKEN so far goes, or why it does not."""
        if places.min() < DEAD:
            verdicts[is_loose(places) & (verdicts == TAKEN)] = LOOSE
        sources = self.numbers.source[numbers]
        if not verdicts.any() and alike(times) and alike(sources):
            verdicts[:] = self._column(int(times[0]), numbers, values)
        else:
            fitting = np.flatnonzero(verdicts == TAKEN)
            for here in columns(fitting, sources[fitting], times[fitting]):
                verdicts[here] = self._column(int(times[here[0]]), numbers[here], values[here])
        if not verdicts.any():
            return
        loose = np.flatnonzero(verdicts == LOOSE)
        if len(loose):
            verdicts[loose] = self._pairs(numbers[loose], times[loose], values[loose])

    def _column(self, at_ms: int, numbers: Ints, values: Floats) -> Verdicts:
        """Samples of one source and time, of different series, into its columns."""
        source = self._source(numbers)
        table = self._tables.get(source)
        verdicts = np.full(len(numbers), LOOSE, np.int8)
        if table is None or table.last_ms is None or at_ms > table.last_ms:
            fits = self._fitting(table, numbers) & (at_ms > self.gone.get(source, NEVER_MS))
            if fits.any():
                table = self._table(source)
                rows, values = self._rows(source, table, numbers[fits]), values[fits]
                table.append(at_ms, rows, values)
                self._record(source, at_ms, rows, values)
                self._drop(table, at_ms)
                verdicts[fits] = TAKEN
        else:
            self._late(table, at_ms, numbers, values, verdicts)
        if verdicts.any():
            loose = verdicts == LOOSE
            verdicts[loose] = self._loosen(table, at_ms, numbers[loose])
        return verdicts

    def _fitting(self, table: Table | None, numbers: Ints) -> Mask:
        """Which of these samples, later than all columns, are worth a new one."""
        places = self.numbers.place[numbers]
        known, new = places >= 0, places == UNPLACED
        some, more = int(np.count_nonzero(known)), int(np.count_nonzero(new))
        fits: Mask = known | new
        if table is None:
            fits &= len(self._tables) < _TABLES or more >= _FEW
        elif not table.roomy(1, more, some + more):
            fits = known & (some > 0 and table.roomy(1, 0, some))
        return fits

    def _late(
        self, table: Table, at_ms: int, numbers: Ints, values: Floats, verdicts: Verdicts
    ) -> None:
        """Fills the column at that time, if there is one."""
        index = table.index(at_ms)
        places = self.numbers.place[numbers]
        fits = places >= 0
        if index < 0:
            past = table.newest_ms(places[fits]) >= at_ms
            verdicts[np.flatnonzero(fits)[past]] = OUT_OF_ORDER
            return
        if not fits.all() and table.open_to_new(index):
            new = places == UNPLACED
            more = int(np.count_nonzero(new))
            fits |= new & table.roomy(0, more, more)
        if fits.all():
            verdicts[:] = self._fill(table, index, at_ms, numbers, values)
        else:
            verdicts[fits] = self._fill(table, index, at_ms, numbers[fits], values[fits])

    def _fill(
        self, table: Table, index: int, at_ms: int, numbers: Ints, values: Floats
    ) -> Verdicts:
        if not len(numbers):
            return np.empty(0, np.int8)
        source = self._source(numbers)
        rows = self._rows(source, table, numbers)
        filled = table.fill(index, rows, values)
        if filled.taken.all():
            self._record(source, at_ms, rows, values)
            return np.zeros(len(rows), np.int8)
        self._record(source, at_ms, rows[filled.taken], values[filled.taken])
        verdicts = np.where(filled.taken, TAKEN, LOOSE).astype(np.int8)
        verdicts[filled.differs] = DUPLICATE
        verdicts[filled.late] = OUT_OF_ORDER
        return verdicts

    def _rows(self, source: Source, table: Table, numbers: Ints) -> Ints:
        """The rows of these series in their source's columns, new ones where they have none."""
        rows: Ints = self.numbers.place[numbers]
        if rows.min(initial=0) < 0:
            new = np.flatnonzero(rows == UNPLACED)
            labels = self.numbers.labels(numbers[new])
            rows[new] = [table.rows.take(one) for one in labels]
            self.numbers.put(source, numbers[new], rows[new])
        return rows

    def _loosen(self, table: Table | None, at_ms: int, numbers: Ints) -> Verdicts:
        """Series that are loose from now on, unless nobody knows any more what they had then."""
        places = self.numbers.place[numbers]
        verdicts = np.full(len(numbers), LOOSE, np.int8)
        gone_ms = self.gone.get(self._source(numbers), NEVER_MS) if len(numbers) else NEVER_MS
        if at_ms < self.loose.floor_ms or at_ms <= gone_ms:
            verdicts[places == UNPLACED] = TOO_OLD
        moving = ~is_loose(places) & (verdicts == LOOSE)
        if moving.any():
            places, numbers = places[moving], numbers[moving]
            labels = self.numbers.labels(numbers)
            rows = np.array([self.loose.rows.take(one) for one in labels], np.int64)
            last_ms = np.full(len(rows), NEVER_MS)
            if table is not None:
                held = places >= 0
                last_ms[held] = table.newest_ms(places[held])
            dropped = (self._dropped.pop(one, NEVER_MS) for one in labels)
            last_ms = np.maximum(last_ms, np.fromiter(dropped, np.int64, len(rows)))
            self.loose.take(rows, last_ms)
            self.numbers.put(self._source(numbers), numbers, loose_place(rows))
        return verdicts

    def _pairs(self, numbers: Ints, times: Ints, values: Floats) -> Verdicts:
        """Samples of loose series, those of one in ascending time."""
        rows = loose_place(self.numbers.place[numbers])
        told = self.loose.write(rows, times, values)
        fresh = told.fresh
        if self._archive is not None and fresh.any():
            self._archive.record(Scraps(rows[fresh], times[fresh], values[fresh]))
        verdicts = np.full(len(rows), DUPLICATE, np.int8)
        verdicts[told.late] = OUT_OF_ORDER
        verdicts[fresh | told.same] = TAKEN
        return verdicts

    def _source(self, numbers: Ints) -> Source:
        return self.numbers.sources[int(self.numbers.source[numbers[0]])]

    def _record(self, source: Source, at_ms: int, rows: Ints, values: Floats) -> None:
        if self._archive is not None and len(rows):
            self._archive.record(Column(source, at_ms, rows, values, False))

    def _hear(
        self, numbers: Ints, sources: Ints, times: Ints, values: Floats, verdicts: Verdicts
    ) -> None:
        real = (verdicts == TAKEN) & ~is_stale(values)
        said = newest(sources, times) if real.all() else newest(sources[real], times[real])
        for at, at_ms in said:
            self._lasts.heard(self.numbers.sources[at], at_ms)
        ups = np.flatnonzero(self.numbers.up[numbers])
        ups = ups[verdicts[ups] == TAKEN]
        for at in ups[np.argsort(times[ups], kind="stable")].tolist():
            source = self.numbers.sources[int(sources[at])]
            self._say_up(source, int(times[at]), values[at].item())

    def _say(self, source: Source) -> None:
        if source not in self._said:
            self._said.add(source)
            log.warning("a remote writer sends %s, which is ours: its samples are refused", source)


def _twins(numbers: Ints, times: Ints, verdicts: Verdicts) -> tuple[Ints, Ints]:
    """Refuses what is late within the request; (those that another decides on, these others)."""
    here = np.flatnonzero(verdicts == TAKEN)
    if not len(here):
        return here, here
    order = in_order(numbers[here], times[here])
    verdicts[here[order.late]] = OUT_OF_ORDER
    again = ~order.late & (order.twin != np.arange(len(here)))
    verdicts[here[again]] = TWIN
    return here[again], here[order.twin[again]]


def _settle(at: Ints, of: Ints, values: Floats, verdicts: Verdicts) -> None:
    """A twin of the same value fares like the first one; another value is a duplicate."""
    same = values[at].view(np.int64) == values[of].view(np.int64)
    fared = verdicts[of]
    verdicts[at] = np.where(same | (fared != TAKEN), fared, DUPLICATE)


def _written(verdicts: Verdicts) -> Written:
    if not verdicts.any():
        return Written(len(verdicts), {})
    counts = np.bincount(verdicts, minlength=OWN_SOURCE + 1).tolist()
    refused = {name: counts[one] for one, name in _REASONS.items() if counts[one]}
    if not refused:
        return Written(counts[TAKEN], refused)
    at = int(np.argmax(verdicts >= OUT_OF_ORDER))
    return Written(counts[TAKEN], refused, (at, _REASONS[int(verdicts[at])]))
