"""The series of remote writers by number, so that a request is arrays and no labels."""

from collections import Counter
from collections.abc import Collection
from typing import TypeVar

import numpy as np

from tocsin_alerting.store.cell import NEVER_MS, Ints, Mask
from tocsin_alerting.store.rows import cost_of
from tocsin_alerting.store.senders import UNKNOWN, Sender, Tally
from tocsin_alerting.store.target import NAME, UP, source_of
from tocsin_exporter.snapshot import Labels, Source

UNPLACED, DEAD = -1, -2
UNASKED = NEVER_MS - 1
_LOOSE = -3


Some = TypeVar("Some", int, Ints)


def loose_place(row: Some) -> Some:
    """The place that says that a series is loose, in this row; and the row of such a place."""
    return _LOOSE - row


def is_loose(places: Ints) -> Mask:
    loose: Mask = places <= _LOOSE
    return loose


class Numbers:
    """`place` (numbers,) says where the samples of a series go: to a row of its source's columns
    (0 and up), to a loose row (`loose_place`), nowhere yet (UNPLACED) or nowhere any more (DEAD);
    `source` (numbers,) is a position in `sources`, `up` whether it is the `up` of that source, and
    `ours` whether the agent itself appends to the series.

    `past` (numbers,) is the time of the newest sample that only the archive has, UNASKED until
    that was asked, and `past_bits` its value. `held` is what each sender has: the rows that it
    brought, and its numbers without a place.

    Numbers hold for an epoch. A new one begins when somebody writes to a dead one, or when too
    many are of no use; rows are held beyond it.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.held = Tally()
        self._begin()

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def idle(self) -> int:
        """How many are dead, or were never written to."""
        return len(self._labels) - len(self._number) + self.waiting.total()

    def renew(self) -> None:
        """A new epoch, in which nobody has a number."""
        self.epoch += 1
        given = self.place[: len(self._labels)]
        for number in np.flatnonzero(given == UNPLACED).tolist():
            self._hold(number, -1)
        self._begin()

    def known(self, labels: Labels) -> int | None:
        return self._number.get(labels)

    def knows(self, source: Source) -> bool:
        return source in self._source_at

    def labels(self, numbers: Ints) -> list[Labels]:
        found = (self._labels[number] for number in numbers.tolist())
        return [labels for labels in found if labels is not None]

    def add(self, labels: Labels, place: int, ours: bool = False, sender: Sender = UNKNOWN) -> int:
        """The number of a series that has none."""
        number = len(self._labels)
        if number == len(self.place):
            self._grow(max(64, number // 4))
        source = source_of(labels)
        at = self._source_at.get(source)
        if at is None:
            at = self._source_at[source] = len(self.sources)
            self.sources.append(source)
        self._number[labels] = number
        self._labels.append(labels)
        self._sender.append(sender)
        self._cost.append(cost_of(labels))
        if place == UNPLACED:
            self._hold(number, 1)
        self.place[number] = place
        self.source[number] = at
        self.up[number] = dict(labels).get(NAME) == UP
        self.ours[number] = ours
        self.waiting[source] += place == UNPLACED
        return number

    def claim(self, labels: Labels, ours: bool) -> None:
        """The agent itself appends to this series from now on, or does so no longer."""
        number = self._number.get(labels)
        if number is not None:
            self.ours[number] = ours

    def remember(self, labels: Labels, at_ms: int, bits: int) -> None:
        """The newest sample of a series that leaves memory."""
        number = self._number.get(labels)
        if number is not None:
            self.past[number], self.past_bits[number] = at_ms, bits

    def put(self, source: Source, numbers: Ints, places: Ints) -> None:
        """The series of these numbers, all of `source`, are kept there from now on."""
        kept = numbers[self.place[numbers] != UNPLACED]  # in another row, too
        for number in kept.tolist():
            self._hold(number, 1)
        if len(kept) < len(numbers):
            self.waiting[source] -= len(numbers) - len(kept)
        self.place[numbers] = places

    def move(self, labels: Labels, before: int, after: int) -> None:
        """A series left the place `before`; with `after` DEAD its number is of no use any more."""
        number = self._number.get(labels)
        if number is None or self.place[number] != before:
            return
        self.place[number] = after
        if after == DEAD:
            self._end(number, labels)

    def drop(self, sources: Collection[Source]) -> None:
        """The numbers of their series are of no use any more."""
        at = [self._source_at[one] for one in sources if one in self._source_at]
        of_them = np.isin(self.source[: len(self._labels)], at)
        for number in np.flatnonzero(of_them).tolist():
            labels = self._labels[number]
            if labels is not None:
                self._end(number, labels)
                self.place[number] = DEAD
        for source in sources:
            self.waiting.pop(source, None)

    def senders(self, numbers: Ints) -> list[Sender]:
        """Who asked for each of these numbers."""
        return [self._sender[number] for number in numbers.tolist()]

    def _hold(self, number: int, times: int) -> None:
        """Its sender has so many rows more of this series, or waits for one more."""
        sender = self._sender[number]
        if sender is not UNKNOWN:
            self.held.add(sender, times * self._cost[number])

    def _end(self, number: int, labels: Labels) -> None:
        del self._number[labels]
        self._labels[number] = None
        if self.place[number] == UNPLACED:
            self._hold(number, -1)

    def _begin(self) -> None:
        self.sources: list[Source] = []
        self.waiting: Counter[Source] = Counter()
        self.place = np.empty(0, np.int64)
        self.source = np.empty(0, np.int64)
        self.up = np.empty(0, np.bool_)
        self.ours = np.empty(0, np.bool_)
        self.past = np.empty(0, np.int64)
        self.past_bits = np.empty(0, np.int64)
        self._source_at: dict[Source, int] = {}
        self._number: dict[Labels, int] = {}
        self._labels: list[Labels | None] = []
        self._sender: list[Sender] = []
        self._cost: list[int] = []

    def _grow(self, more: int) -> None:
        self.place = np.concatenate([self.place, np.full(more, UNPLACED)])
        self.source = np.concatenate([self.source, np.zeros(more, np.int64)])
        self.up = np.concatenate([self.up, np.zeros(more, np.bool_)])
        self.ours = np.concatenate([self.ours, np.zeros(more, np.bool_)])
        self.past = np.concatenate([self.past, np.full(more, UNASKED)])
        self.past_bits = np.concatenate([self.past_bits, np.zeros(more, np.int64)])
