"""The series of remote writers by number, so that a request is arrays and no labels."""

from collections import Counter
from collections.abc import Collection
from typing import TypeVar

import numpy as np

from tocsin_alerting.tsdb.senders import UNKNOWN, Sender, SenderUsage
from tocsin_alerting.tsdb.series_index import series_cost
from tocsin_alerting.tsdb.target_labels import METRIC_NAME, UP, source_of
from tocsin_alerting.tsdb.values import NEVER_MS, Ints, Mask
from tocsin_exporter.snapshot import Labels, Source

NO_ROW, GONE = -1, -2
UNKNOWN_PAST = NEVER_MS - 1
_UNALIGNED = -3


PlaceOrPlaces = TypeVar("PlaceOrPlaces", int, Ints)


def unaligned_place(row: PlaceOrPlaces) -> PlaceOrPlaces:
    """The place that says that a series is unaligned, in this row; and the row of such a place."""
    return _UNALIGNED - row


def is_unaligned(places: Ints) -> Mask:
    unaligned: Mask = places <= _UNALIGNED
    return unaligned


class SeriesRefs:
    """`place` (numbers,) says where the samples of a series go: to a row of its source's columns (0
    and up), to an unaligned row (`unaligned_place`), nowhere yet (NO_ROW) or nowhere any more
    (GONE); `source` (numbers,) is a position in `sources`, `up` whether it is the `up` of that
    source, and `own` whether the agent itself appends to the series.

    `past` (numbers,) is the time of the newest sample that only the persistence has, UNKNOWN_PAST
    until that was asked, and `past_bits` its value. `usage` is what each sender has: the rows
    that it brought, and its numbers without a place.

    Numbers hold for an epoch. A new one begins when somebody writes to a dead one, or when too
    many are of no use; rows are held beyond it.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.usage = SenderUsage()
        self._reset()

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def idle(self) -> int:
        """How many are dead, or were never written to."""
        return len(self._labels) - len(self._ref) + self.waiting.total()

    def begin_epoch(self) -> None:
        """A new epoch, in which nobody has a number."""
        self.epoch += 1
        given = self.place[: len(self._labels)]
        for ref in np.flatnonzero(given == NO_ROW).tolist():
            self._add_usage(ref, -1)
        self._reset()

    def get(self, labels: Labels) -> int | None:
        return self._ref.get(labels)

    def has_source(self, source: Source) -> bool:
        return source in self._source_at

    def labels_of(self, refs: Ints) -> list[Labels]:
        owners = (self._labels[ref] for ref in refs.tolist())
        return [labels for labels in owners if labels is not None]

    def add(self, labels: Labels, place: int, ours: bool = False, sender: Sender = UNKNOWN) -> int:
        """The number of a series that has none."""
        ref = len(self._labels)
        if ref == len(self.place):
            self._grow(max(64, ref // 4))
        source = source_of(labels)
        at = self._source_at.get(source)
        if at is None:
            at = self._source_at[source] = len(self.sources)
            self.sources.append(source)
        self._ref[labels] = ref
        self._labels.append(labels)
        self._sender.append(sender)
        self._cost.append(series_cost(labels))
        if place == NO_ROW:
            self._add_usage(ref, 1)
        self.place[ref] = place
        self.source[ref] = at
        self.up[ref] = dict(labels).get(METRIC_NAME) == UP
        self.own[ref] = ours
        self.waiting[source] += place == NO_ROW
        return ref

    def set_own(self, labels: Labels, ours: bool) -> None:
        """The agent itself appends to this series from now on, or does so no longer."""
        ref = self._ref.get(labels)
        if ref is not None:
            self.own[ref] = ours

    def set_past(self, labels: Labels, at_ms: int, bits: int) -> None:
        """The newest sample of a series that leaves memory."""
        ref = self._ref.get(labels)
        if ref is not None:
            self.past[ref], self.past_bits[ref] = at_ms, bits

    def place_rows(self, source: Source, refs: Ints, places: Ints) -> None:
        """The series of these numbers, all of `source`, are kept there from now on."""
        placed = refs[self.place[refs] != NO_ROW]  # in another row, too
        for ref in placed.tolist():
            self._add_usage(ref, 1)
        if len(placed) < len(refs):
            self.waiting[source] -= len(refs) - len(placed)
        self.place[refs] = places

    def move(self, labels: Labels, before: int, after: int) -> None:
        """A series left the place `before`; with `after` GONE its number is of no use any more."""
        ref = self._ref.get(labels)
        if ref is None or self.place[ref] != before:
            return
        self.place[ref] = after
        if after == GONE:
            self._forget(ref, labels)

    def drop_sources(self, sources: Collection[Source]) -> None:
        """The numbers of their series are of no use any more."""
        at = [self._source_at[source] for source in sources if source in self._source_at]
        of_them = np.isin(self.source[: len(self._labels)], at)
        for ref in np.flatnonzero(of_them).tolist():
            labels = self._labels[ref]
            if labels is not None:
                self._forget(ref, labels)
                self.place[ref] = GONE
        for source in sources:
            self.waiting.pop(source, None)

    def senders_of(self, refs: Ints) -> list[Sender]:
        """Who asked for each of these numbers."""
        return [self._sender[ref] for ref in refs.tolist()]

    def _add_usage(self, ref: int, times: int) -> None:
        """Its sender has so many rows more of this series, or waits for one more."""
        sender = self._sender[ref]
        if sender is not UNKNOWN:
            self.usage.add(sender, times * self._cost[ref])

    def _forget(self, ref: int, labels: Labels) -> None:
        del self._ref[labels]
        self._labels[ref] = None
        if self.place[ref] == NO_ROW:
            self._add_usage(ref, -1)

    def _reset(self) -> None:
        self.sources: list[Source] = []
        self.waiting: Counter[Source] = Counter()
        self.place = np.empty(0, np.int64)
        self.source = np.empty(0, np.int64)
        self.up = np.empty(0, np.bool_)
        self.own = np.empty(0, np.bool_)
        self.past = np.empty(0, np.int64)
        self.past_bits = np.empty(0, np.int64)
        self._source_at: dict[Source, int] = {}
        self._ref: dict[Labels, int] = {}
        self._labels: list[Labels | None] = []
        self._sender: list[Sender] = []
        self._cost: list[int] = []

    def _grow(self, more: int) -> None:
        self.place = np.concatenate([self.place, np.full(more, NO_ROW)])
        self.source = np.concatenate([self.source, np.zeros(more, np.int64)])
        self.up = np.concatenate([self.up, np.zeros(more, np.bool_)])
        self.own = np.concatenate([self.own, np.zeros(more, np.bool_)])
        self.past = np.concatenate([self.past, np.full(more, UNKNOWN_PAST)])
        self.past_bits = np.concatenate([self.past_bits, np.zeros(more, np.int64)])
