"""The store: one table of columns a source, and the selections that queries made of them."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial

import numpy as np

from tocsin_alerting.store.archive import Archive, Checkpoint, Column, Live, LivePairs, Owner, Shift
from tocsin_alerting.store.backlog import MOST, Backlog
from tocsin_alerting.store.cell import (
    END_OF_TIME,
    NEVER_MS,
    STALE_BITS,
    Floats,
    Ints,
    is_stale,
    normalised,
)
from tocsin_alerting.store.choices import Chooser
from tocsin_alerting.store.columns import part
from tocsin_alerting.store.held import LoosePairs, Restored, Stock
from tocsin_alerting.store.intake import AHEAD_MS, Intake, Span
from tocsin_alerting.store.last import Lasts, LastSeen
from tocsin_alerting.store.limits import Most
from tocsin_alerting.store.listing import ordered_in, values_in
from tocsin_alerting.store.matchers import Check, Verdicts, unhurried
from tocsin_alerting.store.placed import NOWHERE, Placed, Preparation, place, place_rules
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.runs import State
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.senders import UNKNOWN, Sender
from tocsin_alerting.store.size import Size, size_of
from tocsin_alerting.store.table import Table
from tocsin_alerting.store.verdict import Written
from tocsin_exporter.snapshot import EMPTY, Family, Labels, Snapshot, Source

HOUR_MS = 3_600_000


class Store:
    """Samples of the last `retention_ms` in memory; those before, if there is one, in an archive.

    One writer at a time; readers may run in other threads at any moment. Memory keeps what is not
    sealed, whatever its age, until the archive did nothing for three times as long.
    """

    def __init__(
        self,
        retention_ms: int = HOUR_MS,
        max_series_per_source: int = 100_000,
        archive: Archive | None = None,
        most_backlog: int = MOST,
        most: Most | None = None,
    ) -> None:
        self.retention_ms = archive.retention_ms if archive else retention_ms
        self._memory_ms = retention_ms
        self._archive = archive
        self._archived_ms = NEVER_MS  # what is later than this is in memory
        self.backlog = Backlog(archive, retention_ms, most_backlog)
        self._now_ms = NEVER_MS
        self._tables: dict[Source, Table] = {}
        self._placed: dict[Source, Placed] = {}
        self._lasts = Lasts()
        self.last = self._lasts.get
        self.covers, self.is_steady = self._lasts.covers, self._lasts.is_steady
        self.has_ended = self._lasts.has_ended
        self._refused: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._chooser = Chooser(self._tables, self._lock)
        self.prepare = Preparation(self._lock, self._own_table, self._placed)
        self._intake = Intake(
            self._tables,
            self._table,
            self._drop,
            self._chooser.changed,
            self._lasts,
            archive,
            most or Most(max_series_per_source),
        )

    def append(self, snapshot: Snapshot) -> bool:
        """One column of a source; False (and counted) when the source has a later one already."""
        with self._lock:
            source, table = snapshot.source, self._own_table(snapshot.source)
            if not self._in_order(table, snapshot.at_ms, len(snapshot.values) + 3):
                return False
            before = self._placed.get(source, NOWHERE)
            found = self.prepare.found(source, snapshot.layout, table)
            placed, ended = place(source, snapshot.layout, snapshot.report, table, before, found)
            self._placed[source] = placed
            values = normalised(snapshot.values)
            if placed.taken is not None:
                values = values[placed.taken]
            if snapshot.report:
                ok, series = float(snapshot.ok), float(len(snapshot.values))
                values = np.concatenate([values, (ok, snapshot.duration_seconds, series)])
            table.append(snapshot.at_ms, placed.rows, values)
            self._record(source, snapshot.at_ms, placed.rows, values, ended)
            self._finish(source, table, LastSeen(snapshot.at_ms, snapshot.ok, values.size > 0))
            return True

    def append_rules(
        self, source: Source, at_ms: int, samples: Iterable[tuple[Labels, float]]
    ) -> bool:
        """What one evaluation of a rule group gave: recorded series, ALERTS, ALERTS_FOR_STATE.

        `source` names the group and adds no label. Labels are sorted, hold `__name__`, and no two
        samples have the same. A series of the last evaluation that is not among them goes stale.
        """
        with self._lock:
            batch = list(samples)
            table = self._own_table(source)
            if not self._in_order(table, at_ms, len(batch)):
                return False
            values = normalised(np.fromiter((v for _, v in batch), np.float64, len(batch)))
            before = self._placed.get(source, NOWHERE)
            placed, ended = place_rules(tuple(labels for labels, _ in batch), table, before)
            self._placed[source] = placed
            if placed.taken is not None:
                values = values[placed.taken]
            table.append(at_ms, placed.rows, values)
            self._record(source, at_ms, placed.rows, values, ended)
            self._finish(source, table, LastSeen(at_ms, True))
            return True

    def write(self, samples: Iterable[tuple[Labels, int, float]]) -> int:
        """Samples (labels with `__name__`, Unix ms, value) of any time; how many were taken.

        As `write_numbered`, for those who have few.
        """
        batch = list(samples)
        epoch, numbers = self.register([labels for labels, _, _ in batch])
        placed = numbers >= 0
        times = np.fromiter((at_ms for _, at_ms, _ in batch), np.int64, len(batch))
        values = np.fromiter((value for _, _, value in batch), np.float64, len(batch))
        span = Span(NEVER_MS, END_OF_TIME)
        written = self._write(epoch, numbers[placed], times[placed], values[placed], span)
        return written.taken if written else self.write(batch)

    def register(self, series: Sequence[Labels], sender: Sender = UNKNOWN) -> tuple[int, Ints]:
        """(epoch, numbers (n,)) of series of a remote writer; below 0: no place, for a reason as
        in limits.REASONS. Labels are sorted and hold `__name__`; a source is their `job` and
        `instance`. A number is good while the epoch lasts.
        """
        with self._lock:
            numbers = self._intake.register(series, sender, self._now_ms)
            return self._intake.numbers.epoch, numbers

    def write_numbered(
        self, epoch: int, numbers: Ints, times: Ints, values: Floats, now_ms: int
    ) -> Written | None:
        """Samples (n,) of series with these numbers, which are 0 or more, at Unix ms; a stale
        marker is known by its bits. What is out of order is refused, as in Prometheus.

        None, and nothing is done: the epoch is over, and the series must be registered anew.
        Raises Backlogged when the disk does not keep up with what is older than memory keeps.
        """
        self._now_ms = now_ms
        late = self.backlog.admit(times, now_ms)
        keeps_ms = self.backlog.keeps_ms() or self.retention_ms
        span = Span(now_ms - min(keeps_ms, self.retention_ms), now_ms + AHEAD_MS)
        written = self._write(epoch, numbers, times, values, span)
        if late and written and written.taken and self._archive is not None:
            self.backlog.samples += late
            self._archive.seal_due(now_ms)
        return written

    def end(self, source: Source, at_ms: int) -> None:
        """The source is gone from the configuration: all its series go stale."""
        with self._lock:
            placed = self._placed.pop(source, None)
            table = self._tables.get(source)
            self._lasts.forget(source)
            self._lasts.ended(source, at_ms)
            self._intake.disown(source)
            if table is None or placed is None or not self._in_order(table, at_ms, 0):
                return
            table.end(placed.rows)
            table.append(at_ms, NOWHERE.rows, np.empty(0))
            self._record(source, at_ms, NOWHERE.rows, np.empty(0), placed.rows)

    def expire(self, now_ms: int) -> None:
        """Drops what is older than the retention, of sources that no longer append too."""
        with self._lock:
            self._now_ms = now_ms
            if self._archive is not None:
                self._archive.seal_due(now_ms)
                self.backlog.look(now_ms)
            for source, table in list(self._tables.items()):
                self._drop(table, now_ms)
                if table.last_ms is None:
                    del self._tables[source]
                    self._chooser.changed()
                    self._placed.pop(source, None)
                    self._intake.disown(source)
            self._drop_loose(now_ms)
            self._intake.expire(now_ms - self._memory_ms)

    def shift(self, delta_ms: int, now_ms: int) -> None:
        """The wall clock was set by `delta_ms` and says `now_ms`: move what was stored before.

        Windows then reach as far back in real time as they did, whichever way the clock went.
        What is sealed keeps its times; where memory now overlaps with it, memory is read.
        """
        self.move(Shift(delta_ms, now_ms - delta_ms))

    def move(self, shift: Shift) -> None:
        delta_ms, until_ms = shift.delta_ms, shift.until_ms
        with self._lock:
            if self._archive is not None:
                self._archive.record(shift)
            for table in self._tables.values():
                table.shift(delta_ms, until_ms)
            self._lasts.shift(delta_ms, until_ms)
            self._intake.loose.shift(delta_ms, until_ms)
            self._look_at_archive()

    def select(
        self,
        matcher_sets: MatcherSets,
        t0_ms: int,
        t1_ms: int,
        check: Check = unhurried,
    ) -> Selection:
        """The series that satisfy any of the matcher sets, with their columns.

        It holds at least every sample in [t0_ms, t1_ms]; series without one may be among them.
        `check` is called again and again while they are looked for, and may raise.
        """
        verdicts = Verdicts(check)
        found = self._chooser.search(matcher_sets, verdicts, self._intake.loose)
        with self._lock:
            resolved = self._chooser.still(found)
            if self._archive is None or t0_ms > self._archived_ms:
                return resolved.now()
            live = [
                Live(
                    one.source,
                    one.labels,
                    part(one.table.columns, one.rows),
                    self._begins(one.source),
                )
                for one in resolved.chosen.values()
            ]
            strays = resolved.strays
            pairs = LivePairs(strays.labels, strays.rows, strays.loose.runs) if strays else None
        return self._archive.join(matcher_sets, live, pairs, t0_ms, t1_ms, verdicts)

    def sealed_at(self, at_ms: int) -> bool:
        """Whether a question about that time may have to be answered from the disk."""
        return self._archive is not None and at_ms <= self._archived_ms

    def touched(self, matcher_sets: MatcherSets) -> frozenset[Source]:
        """The sources that have, or had within the retention, a series like this."""
        return self._chooser.search(matcher_sets, Verdicts(), self._intake.loose)[1].sources()

    def sources(self) -> Mapping[Source, LastSeen]:
        with self._lock:
            return self._lasts.all()

    def newest_ms(self, source: Source) -> int | None:
        """When it last had a sample of its own, in memory or in the archive."""
        with self._lock:
            table = self._tables.get(source)
            if table is not None and table.last_ms is not None:
                return table.last_ms
        return self._archive.newest().get(source) if self._archive else None

    def last_read_ms(self) -> int | None:
        """The newest time in memory of what the agent itself read or wrote; None: there is none."""
        with self._lock:
            own = (table for one, table in self._tables.items() if one in self._intake.own)
            return max((one.last_ms for one in own if one.last_ms is not None), default=None)

    def families(self) -> Mapping[Source, Mapping[str, Family]]:
        """The families of each source's present layout, for the metadata API."""
        with self._lock:
            return {source: (one.layout or EMPTY).families for source, one in self._placed.items()}

    def series(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: Check = unhurried
    ) -> list[Labels]:
        """The label sets (with `__name__`) that have a sample in [t0_ms, t1_ms], in order."""
        return ordered_in(self.select(matcher_sets, t0_ms, t1_ms, check), t0_ms, t1_ms)

    def label_names(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: Check = unhurried
    ) -> Set[str]:
        """The names of the labels of those series."""
        return values_in(self.select(matcher_sets, t0_ms, t1_ms, check), t0_ms, t1_ms, None)

    def label_values(
        self,
        name: str,
        matcher_sets: MatcherSets,
        t0_ms: int,
        t1_ms: int,
        check: Check = unhurried,
    ) -> Set[str]:
        """The values that this label has among those series."""
        return values_in(self.select(matcher_sets, t0_ms, t1_ms, check), t0_ms, t1_ms, name)

    def size(self) -> Size:
        with self._lock:
            intake, refused = self._intake, dict(self._refused)
            return size_of(self._tables, intake.strays, intake.loose, refused, intake.limits)

    # what the archive asks and says

    def held(self, close_before_ms: int | None = None, early: bool = False) -> Stock:
        """What memory holds. The archive is handed a Checkpoint at the same moment.

        With `close_before_ms` the columns before that, and those that memory wants to be rid of,
        are closed: what is late for them makes its series loose. `early`: it is not their time
        yet, so those that memory keeps of each source stay open.
        """
        with self._lock:
            if self._archive is not None:
                self._archive.record(Checkpoint())
            for table in self._tables.values():
                if close_before_ms is not None and table.last_ms is not None:
                    kept_ms = table.last_ms - self._memory_ms
                    limit = min if early else max
                    table.close(limit(close_before_ms, kept_ms))
            if close_before_ms is not None:
                self._intake.loose.close(close_before_ms)
                self.backlog.samples = 0
            columns = [
                table.held(source, self._placed.get(source, NOWHERE).rows)
                for source, table in self._tables.items()
            ]
            return Stock(columns, self._intake.loose.held())

    def sealed(self, stock: Stock) -> None:
        """What was closed of `stock` is in the archive, and memory may drop it."""
        with self._lock:
            for one in stock.sources:
                table = self._tables.get(one.source)
                if table is not None:
                    table.sealed = max(table.sealed, one.closed)
                    self._drop(table, table.last_ms or NEVER_MS)
            self._intake.loose.sealed(stock.pairs.runs)
            self._look_at_archive()
            self._drop_loose(self._now_ms)

    def restore(self, source: Source, at_ms: int, found: Restored) -> None:
        """Cells that a log gave back; it is not handed over again."""
        with self._lock:
            table = self._table(source)
            rows, taken = table.rows.all_of(found.labels)
            values = found.values[taken]
            if table.last_ms is None or at_ms > table.last_ms:
                if found.whole:
                    self._intake.adopt(source)
                    stale = is_stale(values)
                    table.end(rows[stale])
                    self._placed[source] = Placed(None, rows[~stale], None)
                table.append(at_ms, rows, values)
            elif (index := table.index(at_ms)) >= 0:
                table.widen(index, rows)
                table.fill(index, rows, values)
            self._drop(table, at_ms)

    def restore_end(
        self, source: Source, present: Iterable[Labels], sealed_ms: int, moved_ms: int
    ) -> None:
        """After a source's cells: which series it has at present, until when it is sealed, and
        how far that was moved."""
        with self._lock:
            table = self._table(source)
            rows, _ = table.rows.all_of(present)
            self._placed[source] = Placed(None, rows, None)
            if len(rows):
                self._intake.adopt(source)
            table.close(sealed_ms + 1)
            table.sealed = table.closed
            table.move_sealed(moved_ms)
            self._look_at_archive()

    def restore_pairs(self, series: Sequence[Labels], found: LoosePairs) -> None:
        """Samples of loose series that a log gave back; `found.rows` are positions in `series`."""
        with self._lock:
            loose = self._intake.loose
            rows = np.fromiter((loose.rows.take(one) for one in series), np.int64, len(series))
            state = State.SEALED if found.sealed else State.OPEN
            loose.restore(rows[found.rows], found.times, found.values, state)

    def restore_bounds(self, begins_ms: int, floor_ms: int) -> None:
        """After the loose series's samples: the times as in `Loose`."""
        with self._lock:
            self._intake.loose.begins_ms = begins_ms
            self._intake.loose.floor_ms = floor_ms
            self._look_at_archive()

    def restored(self) -> None:
        """After everything: remote sources were last heard of when they last had a sample."""
        with self._lock:
            self._look_at_archive()
            self._intake.hearing.restored(self._tables, self._intake.loose)
            self._intake.limits.restored()

    def _look_at_archive(self) -> None:
        """Finds out until when no question needs the archive."""
        if self._archive is None:
            return
        newest, pairs_ms = self._archive.newest(), self._archive.newest_pairs()
        everything = [*newest.values(), NEVER_MS if pairs_ms is None else pairs_ms]
        self._intake.sealed_ms = max(everything)
        gone = {one: min(at_ms, self._begins(one) - 1) for one, at_ms in newest.items()}
        self._intake.gone, self._archived_ms = gone, max(gone.values(), default=NEVER_MS)
        if pairs_ms is not None:
            begins_ms = self._intake.loose.begins_ms
            self._archived_ms = max(self._archived_ms, min(pairs_ms, begins_ms - 1))

    def _begins(self, source: Source) -> int:
        table = self._tables.get(source)
        begins_ms = table.begins_ms if table else None
        return END_OF_TIME if begins_ms is None else begins_ms

    def _record(self, source: Source, at_ms: int, rows: Ints, values: Floats, ended: Ints) -> None:
        """Hands over a whole column: what has ended is in it, stale."""
        if self._archive is None:
            return
        if len(ended):
            stale = np.full(len(ended), STALE_BITS, np.int64).view(np.float64)
            rows, values = np.concatenate([rows, ended]), np.concatenate([values, stale])
        self._archive.record(Column(source, at_ms, rows, values, True))

    def _drop(self, table: Table, now_ms: int) -> None:
        before_ms = now_ms - self._memory_ms
        if self._archive is None:
            table.expire(before_ms)
            return
        if table.expire(before_ms, self.backlog.unsealed_ms):
            self._look_at_archive()

    def _table(self, source: Source) -> Table:
        if source not in self._tables:
            taken, left = partial(self._taken, source), partial(self._intake.left_column, source)
            rows = self._intake.limits.rows(self._chooser.changed, taken, left)
            self._tables[source] = Table(rows)
            self._chooser.changed()
        return self._tables[source]

    def _own_table(self, source: Source) -> Table:
        self._intake.adopt(source)
        return self._table(source)

    def _taken(self, source: Source, row: int, labels: Labels) -> None:
        self._intake.took_column(source, labels)
        if self._archive is not None:
            self._archive.record(Owner(source, row, labels))

    def _drop_loose(self, now_ms: int) -> None:
        before_ms = now_ms - self._memory_ms
        unsealed_ms = before_ms if self._archive is None else self.backlog.unsealed_ms
        if self._intake.loose.expire(before_ms, unsealed_ms):
            self._look_at_archive()

    def _in_order(self, table: Table, at_ms: int, samples: int) -> bool:
        last = table.last_ms
        if last is None or at_ms > last:
            return True
        self._refused["duplicate" if at_ms == last else "out_of_order"] += samples
        return False

    def _finish(self, source: Source, table: Table, last: LastSeen) -> None:
        self._lasts.set(source, last)
        self._drop(table, last.at_ms)

    def _write(
        self, epoch: int, numbers: Ints, times: Ints, values: Floats, span: Span
    ) -> Written | None:
        with self._lock:
            if epoch != self._intake.numbers.epoch:
                return None
            forgotten, in_columns = self._intake.unasked(numbers, times)
        if self._archive is not None and (forgotten or in_columns):
            self._ask(self._archive, forgotten, in_columns)
        with self._lock:
            if epoch != self._intake.numbers.epoch:
                return None
            written = self._intake.write(numbers, times, values, span)
            if written is not None and written.refused:
                self._refused.update(written.refused)
            return written

    def _ask(
        self, archive: Archive, forgotten: Sequence[Labels], in_columns: Sequence[Labels]
    ) -> None:
        """Lets the intake know what it cannot: off the lock, for the archive reads its files."""
        sealed, pairs = archive.newest_of(forgotten), archive.newest_of(in_columns, True)
        with self._lock:
            self._intake.learn(forgotten, *sealed)
            self._intake.learn(in_columns, *pairs)
