"""Appends what remote writers send: who may write what, and what fits its source's time axis.

A sample fits when its time has a column, or is later than all columns and a new one costs no more
than a time for each sample would. A series with a sample that does not fit is unaligned from then
on; what it has in columns stays there. Columns are later than all that is sealed of their source.
Of a series that is older than memory the persistence knows the newest sample.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.remote_health import RemoteHealth
from tocsin_alerting.tsdb.head.remote_limits import RemoteLimits, SeriesLimits, TimeLimits
from tocsin_alerting.tsdb.head.request_samples import (
    ACCEPTED,
    DUPLICATE,
    OUT_OF_ORDER,
    OWN_SOURCE,
    TOO_FAR_AHEAD,
    TOO_OLD,
    UNALIGNED,
    Outcomes,
    WriteResult,
    aligned_outcomes,
    all_equal,
    column_groups,
    distinct,
    has_duplicates,
    mark_repeats,
    unaligned_outcomes,
    write_result,
)
from tocsin_alerting.tsdb.head.series_refs import (
    GONE,
    NO_ROW,
    UNKNOWN_PAST,
    SeriesRefs,
    is_unaligned,
    unaligned_place,
)
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.persistence import (
    Persistence,
    SeriesRecord,
    UnalignedRecord,
    column_record,
)
from tocsin_alerting.tsdb.senders import Sender
from tocsin_alerting.tsdb.series_index import NO_LIMIT, SeriesIndex
from tocsin_alerting.tsdb.source_health import SourceHealth
from tocsin_alerting.tsdb.target_labels import source_of
from tocsin_alerting.tsdb.values import END_OF_TIME, NEVER_MS, Floats, Ints, Mask, normalised
from tocsin_exporter.snapshot import Labels, Source

_MAX_NARROW_SOURCES = 64  # with more, a source of a few series is cheaper unaligned
_WIDE_SERIES = 32
_MAX_SCRAPES = 8  # in a request; one with more times is of another kind
_MAX_IDLE_SOURCES = 1_000
_MAX_IDLE_REFS = 10_000  # numbers of no use, before all are given out anew


class RemoteAppender:
    """The store's door for remote writers. Whoever calls it holds the store's lock.

    `head` gives the columns of a source, new ones if it has none, and `drop` is called for new
    columns once a request is done; `own` are the sources that the agent itself appends to.
    `archived_ms` is up to when, both included, the columns of a source are in the
    persistence alone; `sealed_ms` is the time of the newest sample in there.
    """

    def __init__(
        self,
        heads: Mapping[Source, AlignedHead],
        head: Callable[[Source], AlignedHead],
        drop: Callable[[AlignedHead, int], None],
        changed: Callable[[], None],
        health: SourceHealth,
        persistence: Persistence | None,
        most: SeriesLimits,
    ) -> None:
        self.own: set[Source] = set()
        self.archived_ms: Mapping[Source, int] = {}
        self.sealed_ms = NEVER_MS
        self.refs = SeriesRefs()
        self._heads = heads
        self._head = head
        self._expire_head = drop
        self._grown: dict[AlignedHead, int] = {}  # with the time of the newest column
        index = SeriesIndex(
            NO_LIMIT, changed, self._on_unaligned_added, self._on_unaligned_removed, self.refs.usage
        )
        self.unaligned = UnalignedHead(index)
        self._health = health
        self.remote_health = RemoteHealth(health, self.own)
        self._disk = persistence
        self._unaligned_counts: Counter[Source] = Counter()  # unaligned series
        self.limits = RemoteLimits(
            self.refs, heads, index, self._unaligned_counts, self.own, health, most
        )

    def register(self, series: Sequence[Labels], sender: Sender, now_ms: int) -> Ints:
        """The numbers of these series; below 0: why there is no place, as in
        remote_limits.REASONS."""
        refs = (self._ref(labels, sender, now_ms) for labels in series)
        return np.fromiter(refs, np.int64, len(series))

    def unknown_past(self, refs: Ints, times: Ints) -> tuple[list[Labels], list[Labels]]:
        """Series of which only the persistence knows whether these samples are newer than all of
        them: those that memory does not have, and those of which it may lack unaligned samples."""
        if not len(times) or times.min() > self.sealed_ms:
            return [], []
        unknown = np.unique(refs[self.refs.past[refs] == UNKNOWN_PAST])
        places = self.refs.place[unknown]
        forgotten, in_columns = unknown[places == NO_ROW], unknown[places >= 0]
        return self.refs.labels_of(forgotten), self.refs.labels_of(in_columns)

    def learn_past(self, series: Sequence[Labels], times: Ints, bits: Ints) -> None:
        """The persistence's answer: the newest sample of each, NEVER_MS where it has none."""
        for labels, at_ms, value in zip(series, times.tolist(), bits.tolist(), strict=True):
            self.refs.set_past(labels, at_ms, value)

    def write(
        self, refs: Ints, times: Ints, values: Floats, within: TimeLimits
    ) -> WriteResult | None:
        """None: some of the numbers are dead, and a new epoch has begun."""
        if not len(refs):
            return WriteResult(0, {})
        places = self.refs.place[refs]
        values = normalised(values)
        scrapes = 0
        if places.min() >= 0:
            scrapes = self._append_scrapes(places, refs, times, values, within)
            if scrapes == len(refs):
                self._expire_grown()
                return WriteResult(scrapes, {})
        elif (places == GONE).any():
            self.refs.begin_epoch()
            return None
        outcomes = np.zeros(len(refs), np.int8)
        rest = slice(scrapes, None)
        outcomes[rest] = self._append_any(refs[rest], times[rest], values[rest], within)
        self._expire_grown()
        return write_result(outcomes)

    def _expire_grown(self) -> None:
        """Not before a request is done: rows that are given up must be none of its own."""
        for head, at_ms in self._grown.items():
            self._expire_head(head, at_ms)
        self._grown.clear()

    def expire(self, before_ms: int) -> None:
        """Forgets sources that have no series, and all numbers if too many are of no use."""
        self._health.expire(before_ms)
        for source in self._health.all():
            if not self.limits.is_live(source):
                self._health.forget(source)
        live = [source for source in self.refs.sources if self.limits.is_live(source)]
        useless = len(self.refs.sources) - len(live) > _MAX_IDLE_SOURCES
        if useless or self.refs.idle > _MAX_IDLE_REFS + len(self.refs) // 2:
            self.refs.begin_epoch()
        self.limits.recount()

    @property
    def unaligned_sources(self) -> Collection[Source]:
        """The sources that have unaligned series."""
        return self._unaligned_counts.keys()

    # what rows say

    def _on_unaligned_added(self, row: int, labels: Labels) -> None:
        self._unaligned_counts[source_of(labels)] += 1
        if self._disk is not None:
            self._disk.record(SeriesRecord(None, (row,), (labels,)))

    def _on_unaligned_removed(self, row: int, labels: Labels) -> None:
        source = source_of(labels)
        self._unaligned_counts[source] -= 1
        if not self._unaligned_counts[source]:
            del self._unaligned_counts[source]
        head = self._heads.get(source)
        after = head.index.get(labels) if head and source not in self.own else -1
        self.refs.set_past(labels, self.unaligned.last_ms(row), self.unaligned.last_bits(row))
        self.refs.move(labels, unaligned_place(row), after if after >= 0 else GONE)

    def on_aligned_added(self, source: Source, labels: Labels) -> None:
        if source in self.own:
            self.refs.set_own(labels, True)

    def on_aligned_removed(self, source: Source, row: int, labels: Labels) -> None:
        if source in self.own:
            self.refs.set_own(labels, False)
        else:
            self.refs.move(labels, row, GONE)

    def adopt(self, source: Source) -> None:
        """The agent itself appends to it from now on. Series that it takes are claimed one by one;
        an agent that begins adopts many, and that is nothing to those who write others."""
        if source not in self.own:
            self.own.add(source)
            self.limits.on_adopted(self._heads.get(source))
            if self.refs.has_source(source):
                self.refs.begin_epoch()

    def disown(self, source: Source) -> None:
        """The agent no longer appends to it."""
        if source in self.own:
            self.own.discard(source)
            self.refs.begin_epoch()

    def _ref(self, labels: Labels, sender: Sender, now_ms: int) -> int:
        ref = self.refs.get(labels)
        return self._register(labels, sender, now_ms) if ref is None else ref

    def _register(self, labels: Labels, sender: Sender, now_ms: int) -> int:
        source = source_of(labels)
        head = self._heads.get(source)
        unaligned = self.unaligned.index.get(labels)
        ours = self._is_own(labels)
        row = head.index.get(labels) if head and source not in self.own else NO_ROW
        place = row if unaligned < 0 else unaligned_place(unaligned)
        kept = place != NO_ROW
        if not ours and (refusal := self.limits.admit(source, labels, sender, kept, now_ms)):
            return refusal
        return self.refs.add(labels, place, ours, sender)

    def _is_own(self, labels: Labels) -> bool:
        heads = (self._heads.get(source) for source in self.own)
        return any(head is not None and head.index.get(labels) >= 0 for head in heads)

    # samples

    def _append_scrapes(
        self, places: Ints, refs: Ints, times: Ints, values: Floats, within: TimeLimits
    ) -> int:
        """The shortest way, for most requests: pieces of a few scrapes of series in columns, one
        after the other. How many samples of the request were that, from the first on."""
        sources = self.refs.source[refs]
        borders = np.flatnonzero((times[1:] != times[:-1]) | (sources[1:] != sources[:-1])) + 1
        if len(borders) >= _MAX_SCRAPES or (times[borders] < times[borders - 1]).any():
            return 0  # columns are made in the order of their times
        begin = 0
        for end in (*borders.tolist(), len(times)):
            here, source = slice(begin, end), self.refs.sources[int(sources[begin])]
            at_ms = int(times[begin])
            if not within.first_ms <= at_ms <= within.last_ms or not self._append_scrape(
                source, at_ms, places[here], refs[here], values[here]
            ):
                break
            begin = end
        return begin

    def _append_scrape(
        self, source: Source, at_ms: int, rows: Ints, refs: Ints, values: Floats
    ) -> bool:
        """False: it is not just that, and goes the long way, which takes what was taken again."""
        head = self._heads.get(source)
        if head is None or source in self.own or has_duplicates(refs):
            return False
        if self.refs.own[refs].any() or self.refs.past[refs].max() >= at_ms:
            return False
        if head.last_ms is None or at_ms > head.last_ms:
            if not head.has_room(1, 0, len(rows)):
                return False
            head.append(at_ms, rows, values)
            self._grown[head] = at_ms
        elif (index := head.column_at(at_ms)) < 0 or not head.fill(
            index, rows, values
        ).accepted.all():
            return False
        self._record(source, at_ms, rows, values)
        self.remote_health.observe_scrape(source, at_ms, values, self.refs.up[refs])
        return True

    def _append_any(self, refs: Ints, times: Ints, values: Floats, within: TimeLimits) -> Outcomes:
        """What becomes of samples of any kind, each written to where it belongs."""
        outcomes = self._screen(refs, times, within)
        if has_duplicates(refs):
            at, of = mark_repeats(refs, times, outcomes)
            self._place_samples(refs, times, values, outcomes)
            self._settle_repeats(at, of, refs, times, values, outcomes)
        else:
            self._place_samples(refs, times, values, outcomes)
        real = outcomes == ACCEPTED
        if real.any():
            self.remote_health.observe(self.refs, refs[real], times[real], values[real])
        return outcomes

    def _screen(self, refs: Ints, times: Ints, within: TimeLimits) -> Outcomes:
        outcomes = np.zeros(len(times), np.int8)
        if times.min() < within.first_ms or times.max() > within.last_ms:
            outcomes[times < within.first_ms] = TOO_OLD
            outcomes[times > within.last_ms] = TOO_FAR_AHEAD
        ours = self.refs.own[refs]
        if ours.any():
            outcomes[ours] = OWN_SOURCE
            for at in distinct(self.refs.source[refs[ours]]):
                self.limits.warn_own_source(self.refs.sources[at])
        return outcomes

    def _compare_past(self, refs: Ints, times: Ints, values: Floats, outcomes: Outcomes) -> None:
        """With what memory has no longer."""
        past = self.refs.past[refs]
        if times.min() > past.max():
            return
        taken, same = outcomes == ACCEPTED, values.view(np.int64) == self.refs.past_bits[refs]
        outcomes[taken & (times < past)] = OUT_OF_ORDER
        for at in np.flatnonzero(taken & (times == past) & ~same).tolist():
            place = self.refs.place[refs[at : at + 1]]
            if place[0] >= NO_ROW:  # of an unaligned one memory knows the newest
                head = self._heads.get(self._source_of(refs[at : at + 1]))
                newer = place[0] >= 0 and head and head.newest_ms(place)[0] > times[at]
                outcomes[at] = OUT_OF_ORDER if newer else DUPLICATE

    def _place_samples(self, refs: Ints, times: Ints, values: Floats, outcomes: Outcomes) -> None:
        """Where each of those that are ACCEPTED so far goes, or why it does not."""
        self._compare_past(refs, times, values, outcomes)
        self._make_backdated_unaligned(refs, times, outcomes)
        places = self.refs.place[refs]
        if places.min() < GONE:
            outcomes[is_unaligned(places) & (outcomes == ACCEPTED)] = UNALIGNED
        sources = self.refs.source[refs]
        if not outcomes.any() and all_equal(times) and all_equal(sources):
            outcomes[:] = self._append_column(int(times[0]), refs, values)
        else:
            fitting = np.flatnonzero(outcomes == ACCEPTED)
            for here in column_groups(fitting, sources[fitting], times[fitting]):
                outcomes[here] = self._append_column(int(times[here[0]]), refs[here], values[here])
        if not outcomes.any():
            return
        unaligned = np.flatnonzero(outcomes == UNALIGNED)
        if len(unaligned):
            rest = refs[unaligned], times[unaligned], values[unaligned]
            outcomes[unaligned] = self._append_unaligned(*rest)

    def _append_column(self, at_ms: int, refs: Ints, values: Floats) -> Outcomes:
        """Samples of one source and time, of different series, into its columns."""
        source = self._source_of(refs)
        head = self._heads.get(source)
        if source in self.own:
            return self._make_unaligned(head, at_ms, refs)
        outcomes = np.full(len(refs), UNALIGNED, np.int8)
        if head is None or head.last_ms is None or at_ms > head.last_ms:
            fits = self._worth_column(head, refs) & (at_ms > self.archived_ms.get(source, NEVER_MS))
            if fits.any():
                head = self._head(source)
                rows, values = self._rows_in(source, head, refs[fits]), values[fits]
                head.append(at_ms, rows, values)
                self._record(source, at_ms, rows, values)
                self._grown[head] = at_ms
                outcomes[fits] = ACCEPTED
        else:
            self._append_late(head, at_ms, refs, values, outcomes)
        if outcomes.any():
            unaligned = outcomes == UNALIGNED
            outcomes[unaligned] = self._make_unaligned(head, at_ms, refs[unaligned])
        return outcomes

    def _worth_column(self, head: AlignedHead | None, refs: Ints) -> Mask:
        """Which of these samples, later than all columns, are worth a new one."""
        places = self.refs.place[refs]
        known, new = places >= 0, places == NO_ROW
        old, more = int(np.count_nonzero(known)), int(np.count_nonzero(new))
        fits: Mask = known | new
        if head is None:
            fits &= len(self._heads) < _MAX_NARROW_SOURCES or more >= _WIDE_SERIES
        elif not head.has_room(1, more, old + more):
            fits = known & (old > 0 and head.has_room(1, 0, old))
        return fits

    def _append_late(
        self, head: AlignedHead, at_ms: int, refs: Ints, values: Floats, outcomes: Outcomes
    ) -> None:
        """Fills the column at that time, if there is one."""
        index = head.column_at(at_ms)
        places = self.refs.place[refs]
        fits = places >= 0
        if index < 0:
            past = head.newest_ms(places[fits]) >= at_ms
            outcomes[np.flatnonzero(fits)[past]] = OUT_OF_ORDER
            return
        if not fits.all() and head.open_to_new(index):
            new = places == NO_ROW
            more = int(np.count_nonzero(new))
            fits |= new & head.has_room(0, more, more)
        if fits.all():
            outcomes[:] = self._fill(head, index, at_ms, refs, values)
        else:
            outcomes[fits] = self._fill(head, index, at_ms, refs[fits], values[fits])

    def _fill(
        self, head: AlignedHead, index: int, at_ms: int, refs: Ints, values: Floats
    ) -> Outcomes:
        if not len(refs):
            return np.empty(0, np.int8)
        source = self._source_of(refs)
        rows = self._rows_in(source, head, refs)
        filled = head.fill(index, rows, values)
        if filled.accepted.all():
            self._record(source, at_ms, rows, values)
            return np.zeros(len(rows), np.int8)
        self._record(source, at_ms, rows[filled.accepted], values[filled.accepted])
        return aligned_outcomes(filled)

    def _rows_in(self, source: Source, head: AlignedHead, refs: Ints) -> Ints:
        """The rows of these series in their source's columns, new ones where they have none."""
        rows: Ints = self.refs.place[refs]
        if rows.min(initial=0) < 0:
            new = np.flatnonzero(rows == NO_ROW)
            labels = self.refs.labels_of(refs[new])
            rows[new] = head.index.create_all(labels, self.refs.senders_of(refs[new]))
            self.refs.place_rows(source, refs[new], rows[new])
        return rows

    def _make_unaligned(self, head: AlignedHead | None, at_ms: int, refs: Ints) -> Outcomes:
        """Series that are unaligned from now on, unless nobody knows any more what they had
        then."""
        places = self.refs.place[refs]
        outcomes = np.full(len(refs), UNALIGNED, np.int8)
        if self._disk is None and at_ms < self.unaligned.floor_ms:
            outcomes[places == NO_ROW] = TOO_OLD
        moving = ~is_unaligned(places) & (outcomes == UNALIGNED)
        if moving.any():
            places, refs = places[moving], refs[moving]
            labels = self.refs.labels_of(refs)
            rows = self.unaligned.index.create_all(labels, self.refs.senders_of(refs))
            last_ms, bits = self.refs.past[refs], self.refs.past_bits[refs]
            if head is not None:
                aligned = np.flatnonzero(places >= 0)
                aligned = aligned[head.newest_ms(places[aligned]) > last_ms[aligned]]
                last_ms[aligned] = head.newest_ms(places[aligned])
                bits[aligned] = head.newest_bits(places[aligned])
            self.unaligned.add_rows(rows, last_ms, bits)
            self.refs.place_rows(self._source_of(refs), refs, unaligned_place(rows))
        return outcomes

    def _append_unaligned(self, refs: Ints, times: Ints, values: Floats) -> Outcomes:
        """Samples of unaligned series, those of one in ascending time."""
        rows = unaligned_place(self.refs.place[refs])
        outcome = self.unaligned.write(rows, times, values)
        fresh = outcome.new
        if self._disk is not None and fresh.any():
            self._disk.record(UnalignedRecord(rows[fresh], times[fresh], values[fresh]))
        return unaligned_outcomes(outcome)

    def _make_backdated_unaligned(self, refs: Ints, times: Ints, outcomes: Outcomes) -> None:
        """New series that begin before all columns in which they would find a place: a sender of
        whole series, one after the other, has thousands of times in a request."""
        fresh = np.flatnonzero((self.refs.place[refs] == NO_ROW) & (outcomes == ACCEPTED))
        if len(fresh) < 2 or all_equal(times[fresh]):
            return
        sources = self.refs.source[refs[fresh]]
        for at in distinct(sources):
            source = self.refs.sources[at]
            head = self._heads.get(source)
            open_ms = (
                END_OF_TIME if source in self.own else self.archived_ms.get(source, NEVER_MS) + 1
            )
            if head is not None and head.last_ms is not None:
                open_ms = max(open_ms, min(head.open_ms, head.last_ms))
            here = fresh[(sources == at) & (times[fresh] < open_ms)]
            if len(here):
                self._make_unaligned(head, int(times[here].min()), np.unique(refs[here]))

    def _settle_repeats(
        self, at: Ints, of: Ints, refs: Ints, times: Ints, values: Floats, outcomes: Outcomes
    ) -> None:
        """A repeated sample fares like the first one; where that was taken, or its time has a value
        already, it is a duplicate if its own value is not the one that stands there."""
        bits = values.view(np.int64)
        stands = bits[of]
        for twin in np.flatnonzero(outcomes[of] == DUPLICATE).tolist():
            ref, at_ms = int(refs[at[twin]]), int(times[at[twin]])
            stands[twin] = self._stored_bits(ref, at_ms)
        fared = outcomes[of]
        known = (fared == ACCEPTED) | (fared == DUPLICATE)
        outcomes[at] = np.where(known, np.where(bits[at] == stands, ACCEPTED, DUPLICATE), fared)

    def _stored_bits(self, ref: int, at_ms: int) -> int:
        """The bits of the newest sample of a series, which is of that time."""
        if self.refs.past[ref] == at_ms:
            return int(self.refs.past_bits[ref])
        row = unaligned_place(int(self.refs.place[ref]))
        if row >= 0 and self.unaligned.last_ms(row) == at_ms:
            return self.unaligned.last_bits(row)
        (labels,) = self.refs.labels_of(np.array([ref]))
        head = self._heads[source_of(labels)]
        return head.bits(at_ms, head.index.get(labels))

    def _source_of(self, refs: Ints) -> Source:
        return self.refs.sources[int(self.refs.source[refs[0]])]

    def _record(self, source: Source, at_ms: int, rows: Ints, values: Floats) -> None:
        if self._disk is not None and len(rows):
            self._disk.record(column_record(source, at_ms, rows, values))
