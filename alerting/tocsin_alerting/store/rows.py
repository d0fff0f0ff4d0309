"""Which row of a source's columns holds which series."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.matchers import Matcher, MatchOp, Verdicts
from tocsin_alerting.store.senders import UNKNOWN, Sender, Tally
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

MatcherSets = tuple[tuple[Matcher, ...], ...]
Owners = tuple[Labels, ...]
NO_LIMIT = 2**31
BYTES_A_SERIES = 1024  # on average; one of vLLM has 400 to 700
_BYTES_A_LABEL = 64
Told = Callable[[int, Labels], None]


def _nobody(row: int, labels: Labels) -> None:
    """Nobody wants to know whose row it is, or was."""


def _bytes(labels: Labels) -> int:
    """What a series costs in memory, nearly."""
    return sum(_BYTES_A_LABEL + len(name) + len(value) for name, value in labels)


def cost_of(labels: Labels) -> int:
    """As how many series one counts: a long one costs as much memory as several."""
    return 1 + _bytes(labels) // BYTES_A_SERIES


class Rows:
    """Rows are given out in order and used again once no column holds a sample of theirs.

    `generation` grows, and `changed` is called, whenever a row changes its owner; `taken` is told
    the new one and `left` the old one. `limit` is the most rows that there may be, and with
    `BYTES_A_SERIES` the most that all of them may cost; `refused`
    counts the series that found no place, `released` the rows that became free. `held` says what
    each sender has of rows that remote writers brought.
    """

    def __init__(
        self,
        limit: int,
        changed: Callable[[], None],
        taken: Told = _nobody,
        left: Told = _nobody,
        held: Tally | None = None,
    ) -> None:
        self.generation = 0
        self.refused = 0
        self.released = 0
        self._changed = changed
        self._taken = taken
        self._left = left
        self.limit = limit
        self._held = held or Tally()
        self._labels: list[Labels | None] = []
        self._senders: list[Sender] = []  # of each row; UNKNOWN: it counts for nobody
        self._row: dict[Labels, int] = {}
        self._bytes = 0
        self._free: list[int] = []
        self._by_name: dict[str, set[int]] = {}

    def __len__(self) -> int:
        """How many series have a row."""
        return len(self._row)

    @property
    def cost(self) -> int:
        """As how many series of usual length they count."""
        return max(len(self._row), self._bytes // BYTES_A_SERIES)

    @property
    def width(self) -> int:
        """One more than the highest row that was ever given out."""
        return len(self._labels)

    def width_with(self, more: int) -> int:
        """The width when so many series more have rows."""
        return len(self._labels) + max(0, more - len(self._free))

    def of(self, labels: Labels) -> int | None:
        """The row of a series, a new one if it has none; None when the limit is reached."""
        row = self._row.get(labels)
        if row is None and self._full:
            self.refused += 1
            return None
        return self.take(labels) if row is None else row

    @property
    def _full(self) -> bool:
        return len(self._row) >= self.limit or self._bytes >= self.limit * BYTES_A_SERIES

    def take(self, labels: Labels) -> int:
        """The row of a series, a new one if it has none, whatever the limit."""
        row = self._row.get(labels)
        return self._take(labels) if row is None else row

    def known(self, labels: Labels) -> int:
        """The row of a series; -1 if it has none."""
        return self._row.get(labels, -1)

    def owned(self) -> tuple[Ints, tuple[Labels, ...]]:
        """All rows that have an owner, ascending, and the owners."""
        rows = [row for row, labels in enumerate(self._labels) if labels is not None]
        return np.array(rows, np.int64), self.labels(rows)

    def all_of(self, series: Iterable[Labels]) -> tuple[Ints, Ints]:
        """(rows, positions): the rows of those series that have a place, and which these are."""
        placed = [(self.of(labels), at) for at, labels in enumerate(series)]
        kept = [(row, at) for row, at in placed if row is not None]
        pairs = np.array(kept, np.int64).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()

    def release(self, rows: Iterable[int]) -> None:
        for row in rows:
            labels = self._labels[row]
            if labels is None:
                continue
            del self._row[labels]
            size = _bytes(labels)
            self._bytes -= size
            self._labels[row] = None
            if self._senders[row] is not UNKNOWN:
                self._credit(row, UNKNOWN, 1 + size // BYTES_A_SERIES)
            self._forget_name(row, dict(labels).get(NAME, ""))
            self._free.append(row)
            self.released += 1
            self._left(row, labels)
            self._owner_changed()

    def _forget_name(self, row: int, name: str) -> None:
        rows = self._by_name[name]
        rows.discard(row)
        if not rows:  # names can be invented without end, and each costs a search
            del self._by_name[name]

    def take_all(self, series: Sequence[Labels], senders: Iterable[Sender]) -> Ints:
        """New rows (n,) of series for which these senders are held already."""
        rows = [self.take(one) for one in series]
        for row, sender in zip(rows, senders, strict=True):
            self._senders[row] = sender
        return np.array(rows, np.int64)

    def give(self, sender: Sender, rows: Iterable[int] | None = None) -> None:
        """Those rows, or all, are this sender's as far as they are nobody's."""
        for row in range(len(self._labels)) if rows is None else rows:
            labels = self._labels[row]
            if labels is not None and self._senders[row] is UNKNOWN:
                self._credit(row, sender, cost_of(labels))

    def disown(self) -> None:
        """All rows are nobody's from now on."""
        for row, sender in enumerate(self._senders):
            labels = self._labels[row]
            if labels is not None and sender is not UNKNOWN:
                self._credit(row, UNKNOWN, cost_of(labels))

    def _credit(self, row: int, sender: Sender, cost: int) -> None:
        before, self._senders[row] = self._senders[row], sender
        if before is not UNKNOWN:
            self._held.add(before, -cost)
        if sender is not UNKNOWN:
            self._held.add(sender, cost)

    def labels(self, rows: Sequence[int]) -> tuple[Labels, ...]:
        return tuple(labels for row in rows if (labels := self._labels[row]) is not None)

    def find(self, matcher_sets: MatcherSets, verdicts: Verdicts | None = None) -> Ints:
        """The rows that satisfy all matchers of any of the sets, ascending.

        It may be asked while others take and release rows. The answer then holds if `generation`
        was the same before and after.
        """
        known = verdicts or Verdicts()
        found: set[int] = set()
        for matchers in matcher_sets:
            found.update(self._satisfying(matchers, known))
        return np.sort(np.fromiter(found, np.int64, len(found)))

    def search(self, matcher_sets: MatcherSets, verdicts: Verdicts) -> tuple[Ints, Owners]:
        """The rows that `find` finds, and the series that own them, also while others take and
        release rows."""
        released = self.released
        rows = self.find(matcher_sets, verdicts).tolist()
        owned = [(row, one) for row in rows if (one := self._labels[row]) is not None]
        if self.released != released:  # a row may have another owner since it was looked at
            owned = [one for one in owned if _satisfies(one[1], matcher_sets, verdicts)]
        found = np.fromiter((row for row, _ in owned), np.int64, len(owned))
        return found, tuple(labels for _, labels in owned)

    def kept(self, rows: Ints, owners: Sequence[Labels]) -> Ints:
        """The positions of those owners that still own their row."""
        now = self._labels
        pairs = zip(rows.tolist(), owners, strict=True)
        return np.flatnonzero(np.array([now[row] == one for row, one in pairs], np.bool_))

    def _take(self, labels: Labels) -> int:
        if self._free:
            row = self._free.pop()
            self._labels[row] = labels
        else:
            row = len(self._labels)
            self._labels.append(labels)
            self._senders.append(UNKNOWN)
        self._row[labels] = row
        self._bytes += _bytes(labels)
        self._by_name.setdefault(dict(labels).get(NAME, ""), set()).add(row)
        self._taken(row, labels)
        self._owner_changed()
        return row

    def _owner_changed(self) -> None:
        self.generation += 1
        self._changed()

    def _satisfying(self, matchers: Sequence[Matcher], verdicts: Verdicts) -> Iterable[int]:
        rows: Iterable[int] = self._named([m for m in matchers if m.name == NAME], verdicts)
        labels = self._labels
        for one in matchers:
            if one.name != NAME:
                verdicts.check()
                name, verdict = one.name, verdicts.of(one)
                rows = [row for row in rows if verdict(dict(labels[row] or ()).get(name, ""))]
        return rows

    def _named(self, matchers: Sequence[Matcher], verdicts: Verdicts) -> Iterator[int]:
        wanted = [verdicts.of(one) for one in matchers]
        exact = {m.value for m in matchers if m.op is MatchOp.EQUAL}
        for name in exact if exact else tuple(self._by_name):
            verdicts.check()
            if all(verdict(name) for verdict in wanted):
                yield from tuple(self._by_name.get(name, ()))


def _satisfies(series: Labels, matcher_sets: MatcherSets, verdicts: Verdicts) -> bool:
    verdicts.check()
    values = dict(series)
    return any(
        all(verdicts.of(one)(values.get(one.name, "")) for one in matchers)
        for matchers in matcher_sets
    )
