"""What remote writers send: who may write what, and whether it fits its source's time axis.

A sample fits when its time has a column, or is later than all columns and a new one costs no more
than pairs would. A series with a sample that does not fit is loose from then on, with a time for
each sample; what it has in columns stays there. Columns are later than all that is sealed of
their source, so what comes for an earlier time is loose. A series may be older than memory: then
the archive says which is its newest sample.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tocsin_alerting.store.archive import Archive, Column, Owner, Scraps
from tocsin_alerting.store.cell import (
    END_OF_TIME,
    NEVER_MS,
    Floats,
    Ints,
    Mask,
    normalised,
)
from tocsin_alerting.store.hearing import RemoteHealth
from tocsin_alerting.store.last import Lasts
from tocsin_alerting.store.limits import Limits, Most
from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.numbers import (
    DEAD,
    UNASKED,
    UNPLACED,
    Numbers,
    is_loose,
    loose_place,
)
from tocsin_alerting.store.requests import alike, columns, distinct, repeats
from tocsin_alerting.store.rows import NO_LIMIT, Rows
from tocsin_alerting.store.senders import Sender
from tocsin_alerting.store.table import Table
from tocsin_alerting.store.target import source_of
from tocsin_alerting.store.verdict import (
    DUPLICATE,
    LOOSE,
    OUT_OF_ORDER,
    OWN_SOURCE,
    TAKEN,
    TOO_FAR_AHEAD,
    TOO_OLD,
    Verdicts,
    Written,
    of_cells,
    of_pairs,
    twins,
    written,
)
from tocsin_exporter.snapshot import Labels, Source

_TABLES = 64  # with more, a source of a few series is cheaper in pairs
_FEW = 32
_SCRAPES = 8  # in a request; one with more times is of another kind
_IDLE_SOURCES = 1_000
_IDLE = 10_000  # numbers of no use, before all are given out anew
AHEAD_MS = 600_000


class Span(NamedTuple):
    """The times that samples may have, in Unix ms, both included."""

    first_ms: int
    last_ms: int


class Intake:
    """The store's door for remote writers. Whoever calls it holds the store's lock.

    `table` gives the columns of a source, new ones if it has none, and `drop` is told of new
    columns once a request is done; `own` are the sources that the agent itself appends to. `gone`
    tells up to when, both included, the columns of a source are in the archive alone; `sealed_ms`
    is the time of the newest sample in there.
    """

    def __init__(
        self,
        tables: Mapping[Source, Table],
        table: Callable[[Source], Table],
        drop: Callable[[Table, int], None],
        changed: Callable[[], None],
        lasts: Lasts,
        archive: Archive | None,
        most: Most,
    ) -> None:
        self.own: set[Source] = set()
        self.gone: Mapping[Source, int] = {}
        self.sealed_ms = NEVER_MS
        self.numbers = Numbers()
        self._tables = tables
        self._table = table
        self._drop = drop
        self._grown: dict[Table, int] = {}  # in this request, with the time of the newest column
        held = self.numbers.held
        self.loose = Loose(Rows(NO_LIMIT, changed, self._taken_loose, self._left_loose, held))
        self._lasts = lasts
        self.hearing = RemoteHealth(lasts, self.own)
        self._archive = archive
        self._strays: Counter[Source] = Counter()  # loose series
        loose = self.loose.rows
        self.limits = Limits(self.numbers, tables, loose, self._strays, self.own, lasts, most)

    def register(self, series: Sequence[Labels], sender: Sender, now_ms: int) -> Ints:
        """The numbers of these series; below 0: why there is no place, as in limits.REASONS."""
        numbers = (self._number(labels, sender, now_ms) for labels in series)
        return np.fromiter(numbers, np.int64, len(series))

    def unasked(self, numbers: Ints, times: Ints) -> tuple[list[Labels], list[Labels]]:
        """Series of which only the archive knows whether these samples are newer than all of
        them: those that memory does not have, and those of which it may lack pairs."""
        if not len(times) or times.min() > self.sealed_ms:
            return [], []
        some = np.unique(numbers[self.numbers.past[numbers] == UNASKED])
        places = self.numbers.place[some]
        forgotten, in_columns = some[places == UNPLACED], some[places >= 0]
        return self.numbers.labels(forgotten), self.numbers.labels(in_columns)

    def learn(self, series: Sequence[Labels], times: Ints, bits: Ints) -> None:
        """The archive's answer: the newest sample of each, NEVER_MS where it has none."""
        for labels, at_ms, value in zip(series, times.tolist(), bits.tolist(), strict=True):
            self.numbers.remember(labels, at_ms, value)

    def write(self, numbers: Ints, times: Ints, values: Floats, span: Span) -> Written | None:
        """None: some of the numbers are dead, and a new epoch has begun."""
        if not len(numbers):
            return Written(0, {})
        places = self.numbers.place[numbers]
        values = normalised(values)
        scrapes = 0
        if places.min() >= 0:
            scrapes = self._scrapes(places, numbers, times, values, span)
            if scrapes == len(numbers):
                self._drop_outlived()
                return Written(scrapes, {})
        elif (places == DEAD).any():
            self.numbers.renew()
            return None
        verdicts = np.zeros(len(numbers), np.int8)
        rest = slice(scrapes, None)
        verdicts[rest] = self._judged(numbers[rest], times[rest], values[rest], span)
        self._drop_outlived()
        return written(verdicts)

    def _drop_outlived(self) -> None:
        """Not before a request is done: rows that are given up must be none of its own."""
        for table, at_ms in self._grown.items():
            self._drop(table, at_ms)
        self._grown.clear()

    def expire(self, before_ms: int) -> None:
        """Forgets sources that have no series, and all numbers if too many are of no use."""
        self._lasts.expire(before_ms)
        for source in self._lasts.all():
            if not self.limits.is_live(source):
                self._lasts.forget(source)
        live = [one for one in self.numbers.sources if self.limits.is_live(one)]
        useless = len(self.numbers.sources) - len(live) > _IDLE_SOURCES
        if useless or self.numbers.idle > _IDLE + len(self.numbers) // 2:
            self.numbers.renew()
        self.limits.recount()

    @property
    def strays(self) -> Collection[Source]:
        """The sources that have loose series."""
        return self._strays.keys()

    # what rows say

    def _taken_loose(self, row: int, labels: Labels) -> None:
        self._strays[source_of(labels)] += 1
        if self._archive is not None:
            self._archive.record(Owner(None, row, labels))

    def _left_loose(self, row: int, labels: Labels) -> None:
        source = source_of(labels)
        self._strays[source] -= 1
        if not self._strays[source]:
            del self._strays[source]
        table = self._tables.get(source)
        after = table.rows.known(labels) if table and source not in self.own else -1
        self.numbers.remember(labels, self.loose.last_ms(row), self.loose.last_bits(row))
        self.numbers.move(labels, loose_place(row), after if after >= 0 else DEAD)

    def took_column(self, source: Source, labels: Labels) -> None:
        if source in self.own:
            self.numbers.claim(labels, True)

    def left_column(self, source: Source, row: int, labels: Labels) -> None:
        if source in self.own:
            self.numbers.claim(labels, False)
        else:
            self.numbers.move(labels, row, DEAD)

    def adopt(self, source: Source) -> None:
        """The agent itself appends to it from now on. Series that it takes are claimed one by one;
        an agent that begins adopts many, and that is nothing to those who write others."""
        if source not in self.own:
            self.own.add(source)
            self.limits.adopted(self._tables.get(source))
            if self.numbers.knows(source):
                self.numbers.renew()

    def disown(self, source: Source) -> None:
        """The agent no longer appends to it."""
        if source in self.own:
            self.own.discard(source)
            self.numbers.renew()

    # numbers

    def _number(self, labels: Labels, sender: Sender, now_ms: int) -> int:
        number = self.numbers.known(labels)
        return self._registered(labels, sender, now_ms) if number is None else number

    def _registered(self, labels: Labels, sender: Sender, now_ms: int) -> int:
        source = source_of(labels)
        table = self._tables.get(source)
        loose = self.loose.rows.known(labels)
        ours = self._is_ours(labels)
        row = table.rows.known(labels) if table and source not in self.own else UNPLACED
        place = row if loose < 0 else loose_place(loose)
        kept = place != UNPLACED
        if not ours and (refusal := self.limits.admit(source, labels, sender, kept, now_ms)):
            return refusal
        return self.numbers.add(labels, place, ours, sender)

    def _is_ours(self, labels: Labels) -> bool:
        tables = (self._tables.get(source) for source in self.own)
        return any(table is not None and table.rows.known(labels) >= 0 for table in tables)

    # samples

    def _scrapes(self, places: Ints, numbers: Ints, times: Ints, values: Floats, span: Span) -> int:
        """The shortest way, for most requests: pieces of a few scrapes of series in columns, one
        after the other. How many samples of the request were that, from the first on."""
        sources = self.numbers.source[numbers]
        borders = np.flatnonzero((times[1:] != times[:-1]) | (sources[1:] != sources[:-1])) + 1
        if len(borders) >= _SCRAPES or (times[borders] < times[borders - 1]).any():
            return 0  # columns are made in the order of their times
        begin = 0
        for end in (*borders.tolist(), len(times)):
            here, source = slice(begin, end), self.numbers.sources[int(sources[begin])]
            at_ms = int(times[begin])
            if not span.first_ms <= at_ms <= span.last_ms or not self._piece(
                source, at_ms, places[here], numbers[here], values[here]
            ):
                break
            begin = end
        return begin

    def _piece(self, source: Source, at_ms: int, rows: Ints, numbers: Ints, values: Floats) -> bool:
        """False: it is not just that, and goes the long way, where what was taken is taken
        again."""
        table = self._tables.get(source)
        if table is None or source in self.own or repeats(numbers):
            return False
        if self.numbers.ours[numbers].any() or self.numbers.past[numbers].max() >= at_ms:
            return False
        if table.last_ms is None or at_ms > table.last_ms:
            if not table.roomy(1, 0, len(rows)):
                return False
            table.append(at_ms, rows, values)
            self._grown[table] = at_ms
        elif (index := table.index(at_ms)) < 0 or not table.fill(index, rows, values).taken.all():
            return False
        self._record(source, at_ms, rows, values)
        self.hearing.hear_scrape(source, at_ms, values, self.numbers.up[numbers])
        return True

    def _judged(self, numbers: Ints, times: Ints, values: Floats, span: Span) -> Verdicts:
        """What becomes of samples of any kind, each written to where it belongs."""
        verdicts = self._screened(numbers, times, span)
        if repeats(numbers):
            at, of = twins(numbers, times, verdicts)
            self._place(numbers, times, values, verdicts)
            self._settle(at, of, numbers, times, values, verdicts)
        else:
            self._place(numbers, times, values, verdicts)
        real = verdicts == TAKEN
        if real.any():
            self.hearing.hear(self.numbers, numbers[real], times[real], values[real])
        return verdicts

    def _screened(self, numbers: Ints, times: Ints, span: Span) -> Verdicts:
        verdicts = np.zeros(len(times), np.int8)
        if times.min() < span.first_ms or times.max() > span.last_ms:
            verdicts[times < span.first_ms] = TOO_OLD
            verdicts[times > span.last_ms] = TOO_FAR_AHEAD
        ours = self.numbers.ours[numbers]
        if ours.any():
            verdicts[ours] = OWN_SOURCE
            for at in distinct(self.numbers.source[numbers[ours]]):
                self.limits.refuse(self.numbers.sources[at])
        return verdicts

    def _compare_past(self, numbers: Ints, times: Ints, values: Floats, verdicts: Verdicts) -> None:
        """With what memory has no longer."""
        past = self.numbers.past[numbers]
        if times.min() > past.max():
            return
        taken, same = verdicts == TAKEN, values.view(np.int64) == self.numbers.past_bits[numbers]
        verdicts[taken & (times < past)] = OUT_OF_ORDER
        for at in np.flatnonzero(taken & (times == past) & ~same).tolist():
            place = self.numbers.place[numbers[at : at + 1]]
            if place[0] >= UNPLACED:  # of a loose one memory knows the newest
                table = self._tables.get(self._source(numbers[at : at + 1]))
                newer = place[0] >= 0 and table and table.newest_ms(place)[0] > times[at]
                verdicts[at] = OUT_OF_ORDER if newer else DUPLICATE

    def _place(self, numbers: Ints, times: Ints, values: Floats, verdicts: Verdicts) -> None:
        """Where each of those that are TAKEN so far goes, or why it does not."""
        self._compare_past(numbers, times, values, verdicts)
        self._loosen_backdated(numbers, times, verdicts)
        places = self.numbers.place[numbers]
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
        if source in self.own:
            return self._loosen(table, at_ms, numbers)
        verdicts = np.full(len(numbers), LOOSE, np.int8)
        if table is None or table.last_ms is None or at_ms > table.last_ms:
            fits = self._fitting(table, numbers) & (at_ms > self.gone.get(source, NEVER_MS))
            if fits.any():
                table = self._table(source)
                rows, values = self._rows(source, table, numbers[fits]), values[fits]
                table.append(at_ms, rows, values)
                self._record(source, at_ms, rows, values)
                self._grown[table] = at_ms
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
        return of_cells(filled)

    def _rows(self, source: Source, table: Table, numbers: Ints) -> Ints:
        """The rows of these series in their source's columns, new ones where they have none."""
        rows: Ints = self.numbers.place[numbers]
        if rows.min(initial=0) < 0:
            new = np.flatnonzero(rows == UNPLACED)
            labels = self.numbers.labels(numbers[new])
            rows[new] = table.rows.take_all(labels, self.numbers.senders(numbers[new]))
            self.numbers.put(source, numbers[new], rows[new])
        return rows

    def _loosen(self, table: Table | None, at_ms: int, numbers: Ints) -> Verdicts:
        """Series that are loose from now on, unless nobody knows any more what they had then."""
        places = self.numbers.place[numbers]
        verdicts = np.full(len(numbers), LOOSE, np.int8)
        if self._archive is None and at_ms < self.loose.floor_ms:
            verdicts[places == UNPLACED] = TOO_OLD
        moving = ~is_loose(places) & (verdicts == LOOSE)
        if moving.any():
            places, numbers = places[moving], numbers[moving]
            labels = self.numbers.labels(numbers)
            rows = self.loose.rows.take_all(labels, self.numbers.senders(numbers))
            last_ms, bits = self.numbers.past[numbers], self.numbers.past_bits[numbers]
            if table is not None:
                held = np.flatnonzero(places >= 0)
                held = held[table.newest_ms(places[held]) > last_ms[held]]
                last_ms[held] = table.newest_ms(places[held])
                bits[held] = table.newest_bits(places[held])
            self.loose.take(rows, last_ms, bits)
            self.numbers.put(self._source(numbers), numbers, loose_place(rows))
        return verdicts

    def _pairs(self, numbers: Ints, times: Ints, values: Floats) -> Verdicts:
        """Samples of loose series, those of one in ascending time."""
        rows = loose_place(self.numbers.place[numbers])
        told = self.loose.write(rows, times, values)
        fresh = told.fresh
        if self._archive is not None and fresh.any():
            self._archive.record(Scraps(rows[fresh], times[fresh], values[fresh]))
        return of_pairs(told)

    def _loosen_backdated(self, numbers: Ints, times: Ints, verdicts: Verdicts) -> None:
        """New series that begin before all columns in which they would find a place: a sender of
        whole series, one after the other, has thousands of times in a request."""
        fresh = np.flatnonzero((self.numbers.place[numbers] == UNPLACED) & (verdicts == TAKEN))
        if len(fresh) < 2 or alike(times[fresh]):
            return
        sources = self.numbers.source[numbers[fresh]]
        for at in distinct(sources):
            source = self.numbers.sources[at]
            table = self._tables.get(source)
            open_ms = END_OF_TIME if source in self.own else self.gone.get(source, NEVER_MS) + 1
            if table is not None and table.last_ms is not None:
                open_ms = max(open_ms, min(table.open_ms, table.last_ms))
            here = fresh[(sources == at) & (times[fresh] < open_ms)]
            if len(here):
                self._loosen(table, int(times[here].min()), np.unique(numbers[here]))

    def _settle(
        self,
        at: Ints,
        of: Ints,
        numbers: Ints,
        times: Ints,
        values: Floats,
        verdicts: Verdicts,
    ) -> None:
        """A twin fares like the first one; where that was taken, or its time has a value already,
        it is a duplicate if its own value is not the one that stands there."""
        bits = values.view(np.int64)
        stands = bits[of]
        for twin in np.flatnonzero(verdicts[of] == DUPLICATE).tolist():
            number, at_ms = int(numbers[at[twin]]), int(times[at[twin]])
            stands[twin] = self._standing(number, at_ms)
        fared = verdicts[of]
        known = (fared == TAKEN) | (fared == DUPLICATE)
        verdicts[at] = np.where(known, np.where(bits[at] == stands, TAKEN, DUPLICATE), fared)

    def _standing(self, number: int, at_ms: int) -> int:
        """The bits of the newest sample of a series, which is of that time."""
        if self.numbers.past[number] == at_ms:
            return int(self.numbers.past_bits[number])
        row = loose_place(int(self.numbers.place[number]))
        if row >= 0 and self.loose.last_ms(row) == at_ms:
            return self.loose.last_bits(row)
        (labels,) = self.numbers.labels(np.array([number]))
        table = self._tables[source_of(labels)]
        return table.bits(at_ms, table.rows.known(labels))

    def _source(self, numbers: Ints) -> Source:
        return self.numbers.sources[int(self.numbers.source[numbers[0]])]

    def _record(self, source: Source, at_ms: int, rows: Ints, values: Floats) -> None:
        if self._archive is not None and len(rows):
            self._archive.record(Column(source, at_ms, rows, values, False))
