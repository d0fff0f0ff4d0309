"""The store: one head of columns a source, and the selections that queries made of them."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial

import numpy as np

from tocsin_alerting.tsdb.backlog import MAX_LATE_SAMPLES, Backlog
from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.remote_appender import RemoteAppender
from tocsin_alerting.tsdb.head.remote_limits import MAX_AHEAD_MS, SeriesLimits, TimeLimits
from tocsin_alerting.tsdb.head.request_samples import WriteResult
from tocsin_alerting.tsdb.head.scrape_cache import (
    EMPTY_CACHE,
    ScrapeCache,
    ScrapePreparation,
    cache_layout,
    cache_rule_series,
)
from tocsin_alerting.tsdb.head.snapshot import HeadSnapshot
from tocsin_alerting.tsdb.head.sorted_run import RunState
from tocsin_alerting.tsdb.matchers import DeadlineCheck, MatchMemo, no_deadline
from tocsin_alerting.tsdb.persistence import (
    Checkpoint,
    ClockShift,
    Persistence,
    SeriesRecord,
    UnalignedRecord,
    whole_column,
)
from tocsin_alerting.tsdb.query.selection import Selection, label_sets_in, label_texts_in
from tocsin_alerting.tsdb.query.selector_cache import HeadSelectors
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.source_health import LastSeen, SourceHealth
from tocsin_alerting.tsdb.stats import StoreStats, store_stats
from tocsin_alerting.tsdb.values import END_OF_TIME, NEVER_MS, Floats, Ints, is_stale, normalised
from tocsin_exporter.snapshot import EMPTY, Family, Labels, Snapshot, Source

HOUR_MS = 3_600_000


class Store:
    """Samples of the last `retention_ms` in memory; those before, if there is one, in persistence.

    One writer at a time; readers may run in other threads at any moment. Memory keeps what is not
    sealed, whatever its age, until the persistence did nothing for three times as long.
    """

    def __init__(
        self,
        retention_ms: int = HOUR_MS,
        max_series_per_source: int = 100_000,
        persistence: Persistence | None = None,
        max_late_samples: int = MAX_LATE_SAMPLES,
        limits: SeriesLimits | None = None,
    ) -> None:
        self.retention_ms = persistence.retention_ms if persistence else retention_ms
        self._memory_ms = retention_ms
        self._disk = persistence
        self._archived_until_ms = NEVER_MS  # what is later than this is in memory
        self.backlog = Backlog(persistence, retention_ms, max_late_samples)
        self._now_ms = NEVER_MS
        self._heads: dict[Source, AlignedHead] = {}
        self._caches: dict[Source, ScrapeCache] = {}
        self._health = SourceHealth()
        self.last_seen = self._health.get
        self.covers, self.is_steady = self._health.covers, self._health.is_steady
        self.has_ended = self._health.has_ended
        self._refused: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.busy = self._lock.locked
        self._selectors = HeadSelectors(self._heads, self._lock)
        self.prepare = ScrapePreparation(self._lock, self._own_head, self._caches)
        self._appender = RemoteAppender(
            self._heads,
            self._head,
            self._expire_head,
            self._selectors.on_change,
            self._health,
            persistence,
            limits or SeriesLimits(max_series_per_source),
        )

    def append(self, snapshot: Snapshot) -> bool:
        """One column of a source; False (and counted) when the source has a later one already."""
        with self._lock:
            source, head = snapshot.source, self._own_head(snapshot.source)
            if not self._in_order(head, snapshot.at_ms, len(snapshot.values) + 3):
                return False
            before = self._caches.get(source, EMPTY_CACHE)
            rows = self.prepare.take(source, snapshot.layout, head)
            cache, ended = cache_layout(snapshot, head, before, rows)
            self._caches[source] = cache
            values = normalised(snapshot.values)
            if cache.positions is not None:
                values = values[cache.positions]
            if snapshot.report:
                ok = float(snapshot.ok)
                series = float(len(snapshot.values) if snapshot.scraped < 0 else snapshot.scraped)
                values = np.concatenate([values, (ok, snapshot.duration_seconds, series)])
            head.append(snapshot.at_ms, cache.rows, values)
            self._record(source, snapshot.at_ms, cache.rows, values, ended)
            self._finish(source, head, LastSeen(snapshot.at_ms, snapshot.ok, values.size > 0))
            return True

    def append_rule_samples(
        self, source: Source, at_ms: int, samples: Iterable[tuple[Labels, float]]
    ) -> bool:
        """What one evaluation of a rule group gave: recorded series, ALERTS, ALERTS_FOR_STATE.

        `source` names the group and adds no label. Labels are sorted, hold `__name__`, and no two
        samples have the same. A series of the last evaluation that is not among them goes stale.
        """
        with self._lock:
            batch = list(samples)
            head = self._own_head(source)
            if not self._in_order(head, at_ms, len(batch)):
                return False
            values = normalised(np.fromiter((v for _, v in batch), np.float64, len(batch)))
            before = self._caches.get(source, EMPTY_CACHE)
            cache, ended = cache_rule_series(tuple(labels for labels, _ in batch), head, before)
            self._caches[source] = cache
            if cache.positions is not None:
                values = values[cache.positions]
            head.append(at_ms, cache.rows, values)
            self._record(source, at_ms, cache.rows, values, ended)
            self._finish(source, head, LastSeen(at_ms, True))
            return True

    def write(self, samples: Iterable[tuple[Labels, int, float]]) -> int:
        """Samples (labels with `__name__`, Unix ms, value) of any time; how many were accepted."""
        batch = list(samples)
        epoch, refs = self.register([labels for labels, _, _ in batch])
        placed = refs >= 0
        times = np.fromiter((at_ms for _, at_ms, _ in batch), np.int64, len(batch))
        values = np.fromiter((value for _, _, value in batch), np.float64, len(batch))
        time_limits = TimeLimits(NEVER_MS, END_OF_TIME)
        written = self._write(epoch, refs[placed], times[placed], values[placed], time_limits)
        return written.accepted if written else self.write(batch)

    def register(self, series: Sequence[Labels], sender: Sender = UNKNOWN) -> tuple[int, Ints]:
        """(epoch, numbers (n,)) of series of a remote writer; below 0: no place, for a reason as
        in remote_limits.REASONS. Labels are sorted and hold `__name__`; a source is their `job` and
        `instance`. A number is good while the epoch lasts.
        """
        with self._lock:
            refs = self._appender.register(series, sender, self._now_ms)
            return self._appender.refs.epoch, refs

    def write_refs(
        self, epoch: int, refs: Ints, times: Ints, values: Floats, now_ms: int
    ) -> WriteResult | None:
        """Samples (n,) of series with these numbers, which are 0 or more, at Unix ms; a stale
        marker is known by its bits. What is out of order is refused, as in Prometheus.

        None, and nothing is done: the epoch is over, and the series must be registered anew.
        Raises Backlogged when the disk does not keep up with what is older than memory keeps.
        """
        late = self.backlog.late(times, now_ms)
        keeps_ms = self.backlog.max_age_ms() or self.retention_ms
        time_limits = TimeLimits(now_ms - min(keeps_ms, self.retention_ms), now_ms + MAX_AHEAD_MS)
        if self._now_ms == NEVER_MS:
            self._observe_time(now_ms)
        return self._write(epoch, refs, times, values, time_limits, late)

    def end_source(self, source: Source, at_ms: int) -> None:
        """The source is gone from the configuration: all its series go stale."""
        with self._lock:
            cache = self._caches.pop(source, None)
            head = self._heads.get(source)
            self._health.forget(source)
            self._health.mark_ended(source, at_ms)
            self._appender.disown(source)
            if head is None or cache is None or not self._in_order(head, at_ms, 0):
                return
            head.mark_stale(cache.rows)
            head.append(at_ms, EMPTY_CACHE.rows, np.empty(0))
            self._record(source, at_ms, EMPTY_CACHE.rows, np.empty(0), cache.rows)

    def expire(self, now_ms: int) -> None:
        """Drops what is older than the retention, of sources that no longer append too."""
        self._observe_time(now_ms)
        with self._lock:
            self.backlog.observe_progress(now_ms)
            for source, head in list(self._heads.items()):
                self._expire_head(head, now_ms)
                if head.last_ms is None:
                    del self._heads[source]
                    self._selectors.on_change()
                    self._caches.pop(source, None)
                    self._appender.disown(source)
            self._expire_unaligned(now_ms)
            self._appender.expire(now_ms - self._memory_ms)

    def shift_clock(self, delta_ms: int, now_ms: int) -> None:
        """The wall clock was set by `delta_ms` and says `now_ms`: move what was stored before.

        Windows then reach as far back in real time as they did, whichever way the clock went.
        What is sealed keeps its times; where memory now overlaps with it, memory is read.
        """
        until_ms = now_ms - delta_ms
        with self._lock:
            if self._disk is not None:
                self._disk.record(ClockShift(delta_ms, until_ms))
            for head in self._heads.values():
                head.shift_clock(delta_ms, until_ms)
            if self._now_ms != NEVER_MS:
                self._now_ms += delta_ms
            self.backlog.shift_clock(delta_ms)
            self._health.shift_clock(delta_ms, until_ms)
            self._appender.unaligned.shift_clock(delta_ms, until_ms)
            self._update_archived_until()

    def select(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: DeadlineCheck = no_deadline
    ) -> Selection:
        """The series that satisfy any of the matcher sets, with their columns.

        It holds at least every sample in [t0_ms, t1_ms]; series without one may be among them.
        `check` is called again and again while they are looked for, and may raise.
        """
        memo = MatchMemo(check)
        entry = self._selectors.resolve(matcher_sets, memo, self._appender.unaligned)
        with self._lock:
            resolved = self._selectors.current(entry)
            if self._disk is None or t0_ms > self._archived_until_ms:
                return resolved.selection()
            aligned = resolved.head_slices(self._begins_ms)
            unaligned = resolved.unaligned_slice()
        return self._disk.join(matcher_sets, aligned, unaligned, t0_ms, t1_ms, memo)

    def reaches_disk(self, at_ms: int) -> bool:
        """Whether a question about that time may have to be answered from the disk."""
        return self._disk is not None and at_ms <= self._archived_until_ms

    def matching_sources(self, matcher_sets: MatcherSets) -> frozenset[Source]:
        """The sources that have, or had within the retention, a series like this."""
        memo, unaligned = MatchMemo(), self._appender.unaligned
        return self._selectors.resolve(matcher_sets, memo, unaligned)[1].sources()

    def sources(self) -> Mapping[Source, LastSeen]:
        with self._lock:
            return self._health.all()

    def newest_ms(self, source: Source) -> int | None:
        """When it last had a sample of its own, in memory or in the persistence."""
        with self._lock:
            head = self._heads.get(source)
            if head is not None and head.last_ms is not None:
                return head.last_ms
        return self._disk.newest_sealed().get(source) if self._disk else None

    def newest_own_ms(self) -> int | None:
        """The newest time in memory of what the agent itself read or wrote; None: there is none."""
        with self._lock:
            own = (head for source, head in self._heads.items() if source in self._appender.own)
            return max((head.last_ms for head in own if head.last_ms is not None), default=None)

    def families(self) -> Mapping[Source, Mapping[str, Family]]:
        """The families of each source's present layout, for the metadata API."""
        with self._lock:
            return {
                source: (cache.layout or EMPTY).families for source, cache in self._caches.items()
            }

    def series(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: DeadlineCheck = no_deadline
    ) -> list[Labels]:
        """The label sets (with `__name__`) that have a sample in [t0_ms, t1_ms], in order."""
        return label_sets_in(self.select(matcher_sets, t0_ms, t1_ms, check), t0_ms, t1_ms)

    def label_names(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: DeadlineCheck = no_deadline
    ) -> Set[str]:
        """The names of the labels of those series."""
        return label_texts_in(self.select(matcher_sets, t0_ms, t1_ms, check), t0_ms, t1_ms, None)

    def label_values(
        self,
        name: str,
        matcher_sets: MatcherSets,
        t0_ms: int,
        t1_ms: int,
        check: DeadlineCheck = no_deadline,
    ) -> Set[str]:
        """The values that this label has among those series."""
        return label_texts_in(self.select(matcher_sets, t0_ms, t1_ms, check), t0_ms, t1_ms, name)

    def stats(self) -> StoreStats:
        with self._lock:
            return store_stats(self._heads, self._appender, dict(self._refused))

    # what the persistence asks and says

    def snapshot(self, close_before_ms: int | None = None, early: bool = False) -> HeadSnapshot:
        """What memory holds: for the writer alone, who finds a Checkpoint of that moment queued.

        With `close_before_ms` the columns before that, and those that memory wants to be rid of,
        are closed: what is late for them makes its series unaligned. `early`: it is not their time
        yet, so those that memory keeps of each source stay open.
        """
        with self._lock:
            if self._disk is not None:
                self._disk.record(Checkpoint())
            for head in self._heads.values():
                if close_before_ms is not None and head.last_ms is not None:
                    kept_ms = head.last_ms - self._memory_ms
                    limit = min if early else max
                    head.close(limit(close_before_ms, kept_ms))
            if close_before_ms is not None:
                self._appender.unaligned.close(close_before_ms)
            late = self.backlog.samples if close_before_ms is not None else 0
            columns = [
                head.snapshot(source, self._caches.get(source, EMPTY_CACHE).rows)
                for source, head in self._heads.items()
            ]
            return HeadSnapshot(columns, self._appender.unaligned.snapshot(), late)

    def mark_sealed(self, snapshot: HeadSnapshot) -> None:
        """What was closed of `snapshot` is in the persistence, and memory may drop it."""
        with self._lock:
            self.backlog.samples -= snapshot.late_samples
            for source_snapshot in snapshot.sources:
                head = self._heads.get(source_snapshot.source)
                if head is not None:
                    head.sealed = max(head.sealed, source_snapshot.closed)
                    self._expire_head(head, head.last_ms or NEVER_MS)
            self._appender.unaligned.mark_sealed(snapshot.unaligned.runs)
            self._update_archived_until()
            self._expire_unaligned(self._now_ms)

    def restore_column(
        self, source: Source, at_ms: int, labels: Sequence[Labels], values: Floats, whole: bool
    ) -> None:
        """Cells that a WAL gave back, `whole` as in `AlignedRecord`; not handed over again."""
        with self._lock:
            head = self._head(source)
            rows, taken = head.index.get_or_create_all(labels)
            values = values[taken]
            if head.last_ms is None or at_ms > head.last_ms:
                if whole:
                    self._appender.adopt(source)
                    stale = is_stale(values)
                    head.mark_stale(rows[stale])
                    self._caches[source] = ScrapeCache(None, rows[~stale], None)
                head.append(at_ms, rows, values)
            elif (index := head.column_at(at_ms)) >= 0:
                head.widen(index, rows)
                head.fill(index, rows, values)
            self._expire_head(head, at_ms)

    def restore_source_state(
        self, source: Source, present: Iterable[Labels], sealed_ms: int, moved_ms: int
    ) -> None:
        """After a source's cells: its series at present, until when it is sealed, how far moved."""
        with self._lock:
            head = self._head(source)
            rows, _ = head.index.get_or_create_all(present)
            self._caches[source] = ScrapeCache(None, rows, None)
            if len(rows):
                self._appender.adopt(source)
            head.close(sealed_ms + 1)
            head.sealed = head.closed
            head.move_sealed(moved_ms)
            self._update_archived_until()

    def restore_unaligned(self, series: Sequence[Labels], run: UnalignedRecord) -> None:
        """Samples of unaligned series that a WAL gave back; `run.rows` are positions in
        `series`."""
        with self._lock:
            unaligned = self._appender.unaligned
            rows = np.fromiter(
                (unaligned.index.ensure(labels) for labels in series), np.int64, len(series)
            )
            state = RunState.SEALED if run.sealed else RunState.OPEN
            unaligned.restore(rows[run.rows], run.times, run.values, state)

    def restore_unaligned_bounds(self, begins_ms: int, floor_ms: int) -> None:
        """After the unaligned series' samples: the times as in `UnalignedHead`."""
        with self._lock:
            self._appender.unaligned.begins_ms = begins_ms
            self._appender.unaligned.floor_ms = floor_ms
            self._update_archived_until()

    def finish_restore(self) -> None:
        """After everything: remote sources were last heard of when they last had a sample."""
        with self._lock:
            self._update_archived_until()
            self._appender.remote_health.restore(self._heads, self._appender.unaligned)
            self._appender.limits.restore()

    def _update_archived_until(self) -> None:
        """Finds out until when no question needs the persistence."""
        if self._disk is None:
            return
        newest = self._disk.newest_sealed()
        pairs_ms = self._disk.newest_unaligned_ms()
        everything = [*newest.values(), NEVER_MS if pairs_ms is None else pairs_ms]
        self._appender.sealed_ms = max(everything)
        gone = {source: min(at_ms, self._begins_ms(source) - 1) for source, at_ms in newest.items()}
        self._appender.archived_ms = gone
        self._archived_until_ms = max(gone.values(), default=NEVER_MS)
        if pairs_ms is not None:
            begins_ms = self._appender.unaligned.begins_ms
            self._archived_until_ms = max(self._archived_until_ms, min(pairs_ms, begins_ms - 1))

    def _begins_ms(self, source: Source) -> int:
        head = self._heads.get(source)
        begins_ms = head.begins_ms if head else None
        return END_OF_TIME if begins_ms is None else begins_ms

    def _record(self, source: Source, at_ms: int, rows: Ints, values: Floats, ended: Ints) -> None:
        """Hands over a whole column: what has ended is in it, stale."""
        if self._disk is not None:
            self._disk.record(whole_column(source, at_ms, rows, values, ended))

    def _expire_head(self, head: AlignedHead, now_ms: int) -> None:
        before_ms = now_ms - self._memory_ms
        if self._disk is None:
            head.expire(before_ms)
            return
        if head.expire(before_ms, self.backlog.unsealed_before_ms):
            self._update_archived_until()

    def _head(self, source: Source) -> AlignedHead:
        if source not in self._heads:
            taken = partial(self._on_series_added, source)
            left = partial(self._appender.on_aligned_removed, source)
            rows = self._appender.limits.new_index(self._selectors.on_change, taken, left)
            self._heads[source] = AlignedHead(rows)
            self._selectors.on_change()
        return self._heads[source]

    def _own_head(self, source: Source) -> AlignedHead:
        self._appender.adopt(source)
        return self._head(source)

    def _on_series_added(self, source: Source, row: int, labels: Labels) -> None:
        self._appender.on_aligned_added(source, labels)
        if self._disk is not None:
            self._disk.record(SeriesRecord(source, (row,), (labels,)))

    def _expire_unaligned(self, now_ms: int) -> None:
        before_ms = now_ms - self._memory_ms
        unsealed_ms = before_ms if self._disk is None else self.backlog.unsealed_before_ms
        if self._appender.unaligned.expire(before_ms, unsealed_ms):
            self._update_archived_until()

    def _in_order(self, head: AlignedHead, at_ms: int, samples: int) -> bool:
        last = head.last_ms
        if last is None or at_ms > last:
            return True
        self._refused["duplicate" if at_ms == last else "out_of_order"] += samples
        return False

    def _finish(self, source: Source, head: AlignedHead, last: LastSeen) -> None:
        self._health.set(source, last)
        self._expire_head(head, last.at_ms)

    def _observe_time(self, now_ms: int) -> None:
        """Not of a request that is not the first: it may come from before a step of the clock."""
        with self._lock:
            self._now_ms = now_ms
            if self._disk is not None:
                self._disk.seal_due(now_ms)

    def _write(
        self, epoch: int, refs: Ints, times: Ints, values: Floats, limits: TimeLimits, late: int = 0
    ) -> WriteResult | None:
        with self._lock:
            self.backlog.admit(late)
            if epoch != self._appender.refs.epoch:
                return None
            forgotten, in_columns = self._appender.unknown_past(refs, times)
        if self._disk is not None and (forgotten or in_columns):
            self._look_up_past(self._disk, forgotten, in_columns)
        with self._lock:
            if epoch != self._appender.refs.epoch:
                return None
            written = self._appender.write(refs, times, values, limits)
            if written is not None:
                self.backlog.samples += late if written.accepted else 0
                if written.refused:
                    self._refused.update(written.refused)
            return written

    def _look_up_past(
        self, persistence: Persistence, forgotten: Sequence[Labels], in_columns: Sequence[Labels]
    ) -> None:
        """Lets the appender know what it cannot: off the lock, for the persistence reads its
        files."""
        sealed = persistence.newest_samples(forgotten)
        unaligned_past = persistence.newest_samples(in_columns, True)
        with self._lock:
            self._appender.learn_past(forgotten, *sealed)
            self._appender.learn_past(in_columns, *unaligned_past)
