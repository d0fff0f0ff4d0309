"""Which row of a source's columns holds which series."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tocsin_alerting.tsdb.matchers import Matcher, MatchMemo, MatchOp
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender, SenderUsage
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.snapshot import Labels

MatcherSets = tuple[tuple[Matcher, ...], ...]
RowOwners = tuple[Labels, ...]
NO_LIMIT = 2**31
BYTES_PER_SERIES = 1024  # on average; one of vLLM has 400 to 700
_BYTES_PER_LABEL = 64
RowListener = Callable[[int, Labels], None]


def _ignore(row: int, labels: Labels) -> None:
    """Nobody wants to know whose row it is, or was."""


def _memory_bytes(labels: Labels) -> int:
    """What a series costs in memory, nearly."""
    return sum(_BYTES_PER_LABEL + len(name) + len(value) for name, value in labels)


def series_cost(labels: Labels) -> int:
    """As how many series one counts: a long one costs as much memory as several."""
    return 1 + _memory_bytes(labels) // BYTES_PER_SERIES


class SeriesIndex:
    """Rows are given out in order and used again once no column holds a sample of theirs.

    `generation` grows, and `on_change` is called, whenever a row changes its owner; `on_added` gets
    the new one and `on_removed` the old one. `limit` is the most rows that there may be, and
    with `BYTES_PER_SERIES` the most that all of them may cost; `refused` counts the series that
    found no place, `released` the rows that became free. `usage` says what each sender has of
    rows that remote writers brought.
    """

    def __init__(
        self,
        limit: int,
        on_change: Callable[[], None],
        on_added: RowListener = _ignore,
        on_removed: RowListener = _ignore,
        usage: SenderUsage | None = None,
    ) -> None:
        self.generation = 0
        self.refused = 0
        self.released = 0
        self._on_change = on_change
        self._on_added = on_added
        self._on_removed = on_removed
        self.limit = limit
        self._usage = usage or SenderUsage()
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
        return max(len(self._row), self._bytes // BYTES_PER_SERIES)

    @property
    def width(self) -> int:
        """One more than the highest row that was ever given out."""
        return len(self._labels)

    def width_with(self, more: int) -> int:
        """The width when so many series more have rows."""
        return len(self._labels) + max(0, more - len(self._free))

    def get_or_create(self, labels: Labels) -> int | None:
        """The row of a series, a new one if it has none; None when the limit is reached."""
        row = self._row.get(labels)
        if row is None and self._full:
            self.refused += 1
            return None
        return self.ensure(labels) if row is None else row

    @property
    def _full(self) -> bool:
        return len(self._row) >= self.limit or self._bytes >= self.limit * BYTES_PER_SERIES

    def ensure(self, labels: Labels) -> int:
        """The row of a series, a new one if it has none, whatever the limit."""
        row = self._row.get(labels)
        return self._create(labels) if row is None else row

    def get(self, labels: Labels) -> int:
        """The row of a series; -1 if it has none."""
        return self._row.get(labels, -1)

    def items(self) -> tuple[Ints, tuple[Labels, ...]]:
        """All rows that have an owner, ascending, and the owners."""
        rows = [row for row, labels in enumerate(self._labels) if labels is not None]
        return np.array(rows, np.int64), self.labels_of(rows)

    def get_or_create_all(self, series: Iterable[Labels]) -> tuple[Ints, Ints]:
        """(rows, positions): the rows of those series that have a place, and which these are."""
        placed = [(self.get_or_create(labels), at) for at, labels in enumerate(series)]
        found = [(row, at) for row, at in placed if row is not None]
        table = np.array(found, np.int64).reshape(-1, 2)
        return table[:, 0].copy(), table[:, 1].copy()

    def release(self, rows: Iterable[int]) -> None:
        for row in rows:
            labels = self._labels[row]
            if labels is None:
                continue
            del self._row[labels]
            size = _memory_bytes(labels)
            self._bytes -= size
            self._labels[row] = None
            if self._senders[row] is not UNKNOWN:
                self._set_sender(row, UNKNOWN, 1 + size // BYTES_PER_SERIES)
            self._forget_name(row, dict(labels).get(METRIC_NAME, ""))
            self._free.append(row)
            self.released += 1
            self._on_removed(row, labels)
            self._owner_changed()

    def _forget_name(self, row: int, name: str) -> None:
        rows = self._by_name[name]
        rows.discard(row)
        if not rows:  # names can be invented without end, and each costs a search
            del self._by_name[name]

    def create_all(self, series: Sequence[Labels], senders: Iterable[Sender]) -> Ints:
        """New rows (n,) of series for which these senders are held already."""
        rows = [self.ensure(labels) for labels in series]
        for row, sender in zip(rows, senders, strict=True):
            self._senders[row] = sender
        return np.array(rows, np.int64)

    def assign_sender(self, sender: Sender, rows: Iterable[int] | None = None) -> None:
        """Those rows, or all, are this sender's as far as they are nobody's."""
        for row in range(len(self._labels)) if rows is None else rows:
            labels = self._labels[row]
            if labels is not None and self._senders[row] is UNKNOWN:
                self._set_sender(row, sender, series_cost(labels))

    def clear_senders(self) -> None:
        """All rows are nobody's from now on."""
        for row, sender in enumerate(self._senders):
            labels = self._labels[row]
            if labels is not None and sender is not UNKNOWN:
                self._set_sender(row, UNKNOWN, series_cost(labels))

    def _set_sender(self, row: int, sender: Sender, cost: int) -> None:
        before, self._senders[row] = self._senders[row], sender
        if before is not UNKNOWN:
            self._usage.add(before, -cost)
        if sender is not UNKNOWN:
            self._usage.add(sender, cost)

    def labels_of(self, rows: Sequence[int]) -> tuple[Labels, ...]:
        return tuple(labels for row in rows if (labels := self._labels[row]) is not None)

    def select_rows(self, matcher_sets: MatcherSets, memo: MatchMemo | None = None) -> Ints:
        """The rows that satisfy all matchers of any of the sets, ascending.

        It may be asked while others take and release rows. The answer then holds if `generation`
        was the same before and after.
        """
        match_memo = memo or MatchMemo()
        rows: set[int] = set()
        for matchers in matcher_sets:
            rows.update(self._matching_rows(matchers, match_memo))
        return np.sort(np.fromiter(rows, np.int64, len(rows)))

    def select(self, matcher_sets: MatcherSets, memo: MatchMemo) -> tuple[Ints, RowOwners]:
        """The rows that `select_rows` finds, and the series that own them, also while others take
        and release rows."""
        released = self.released
        rows = self.select_rows(matcher_sets, memo).tolist()
        owned = [(row, labels) for row in rows if (labels := self._labels[row]) is not None]
        if self.released != released:  # a row may have another owner since it was looked at
            owned = [pair for pair in owned if _matches(pair[1], matcher_sets, memo)]
        matched = np.fromiter((row for row, _ in owned), np.int64, len(owned))
        return matched, tuple(labels for _, labels in owned)

    def still_owned(self, rows: Ints, owners: Sequence[Labels]) -> Ints:
        """The positions of those owners that still own their row."""
        now = self._labels
        pairs = zip(rows.tolist(), owners, strict=True)
        return np.flatnonzero(np.array([now[row] == labels for row, labels in pairs], np.bool_))

    def _create(self, labels: Labels) -> int:
        if self._free:
            row = self._free.pop()
            self._labels[row] = labels
        else:
            row = len(self._labels)
            self._labels.append(labels)
            self._senders.append(UNKNOWN)
        self._row[labels] = row
        self._bytes += _memory_bytes(labels)
        self._by_name.setdefault(dict(labels).get(METRIC_NAME, ""), set()).add(row)
        self._on_added(row, labels)
        self._owner_changed()
        return row

    def _owner_changed(self) -> None:
        self.generation += 1
        self._on_change()

    def _matching_rows(self, matchers: Sequence[Matcher], memo: MatchMemo) -> Iterable[int]:
        rows: Iterable[int] = self._rows_by_name(
            [m for m in matchers if m.name == METRIC_NAME], memo
        )
        labels = self._labels
        for matcher in matchers:
            if matcher.name != METRIC_NAME:
                memo.check_deadline()
                name, matches = matcher.name, memo.predicate(matcher)
                rows = [row for row in rows if matches(dict(labels[row] or ()).get(name, ""))]
        return rows

    def _rows_by_name(self, matchers: Sequence[Matcher], memo: MatchMemo) -> Iterator[int]:
        predicates = [memo.predicate(matcher) for matcher in matchers]
        exact = {m.value for m in matchers if m.op is MatchOp.EQUAL}
        for name in exact if exact else tuple(self._by_name):
            memo.check_deadline()
            if all(matches(name) for matches in predicates):
                yield from tuple(self._by_name.get(name, ()))


def _matches(series: Labels, matcher_sets: MatcherSets, memo: MatchMemo) -> bool:
    memo.check_deadline()
    values = dict(series)
    return any(
        all(memo.predicate(matcher)(values.get(matcher.name, "")) for matcher in matchers)
        for matchers in matcher_sets
    )
