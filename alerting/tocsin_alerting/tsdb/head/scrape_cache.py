"""Where the series of a source that the agent itself appends to are kept."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.target_labels import stored_labels, synthetic_labels
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.slices import Work, parts
from tocsin_exporter.snapshot import Labels, Layout, Snapshot, Source

_SLICE_SERIES = 500  # series
_MAX_PREPARED = 64


@dataclass(slots=True)
class ScrapeCache:
    """Where the series of a source's present layout go."""

    layout: Layout | None
    rows: Ints  # the synthetic series come last
    positions: Ints | None  # positions in the layout; None: all
    series: tuple[Labels, ...] | None = None  # instead of a layout, where rules wrote
    report: bool = True  # whether `up` and its like are among the rows
    own: Labels = ()  # of these the labels that only they get from here


EMPTY_CACHE = ScrapeCache(None, np.empty(0, np.int64), None)


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """The rows of a layout's series that have a place, and which these are; good while no row of
    the head changes hands."""

    layout: Layout
    head: AlignedHead
    released: int
    rows: Ints
    positions: Ints


class ScrapePreparation:
    """Finds rows for the series of a layout before it is appended: in slices, between which the
    store is free, because a source may bring tens of thousands of new ones.

    `lock` is the store's, and `head` gives the columns of a source to whoever has it; `cache`
    is where each source's series go at present.
    """

    def __init__(
        self,
        lock: threading.Lock,
        head: Callable[[Source], AlignedHead],
        cache: Mapping[Source, ScrapeCache],
    ) -> None:
        self._lock = lock
        self._head = head
        self._caches = cache
        self._prepared: dict[Source, PreparedRows] = {}

    def __call__(self, snapshot: Snapshot) -> Work[None]:
        source, layout = snapshot.source, snapshot.layout
        cache = self._caches.get(source)
        if len(layout.series) <= _SLICE_SERIES or (cache is not None and cache.layout is layout):
            return
        with self._lock:
            head = self._head(source)
            # First: a source of too many series must not lose the word on itself.
            head.index.get_or_create_all(_synthetic(snapshot))
            released = head.index.released
        slices: list[tuple[Ints, Ints]] = []
        for at, part in enumerate(parts(layout.series, _SLICE_SERIES)):
            with self._lock:
                rows, taken = head.index.get_or_create_all(
                    stored_labels(source, series) for series in part
                )
            slices.append((rows, taken + at * _SLICE_SERIES))
            yield
        rows, taken = map(np.concatenate, zip(*slices, strict=True))
        self._prepared[source] = PreparedRows(layout, head, released, rows, taken)
        if len(self._prepared) > _MAX_PREPARED:  # of sources that were removed before they appended
            del self._prepared[next(iter(self._prepared))]

    def rule_series(self, source: Source, samples: Sequence[tuple[Labels, float]]) -> Work[None]:
        """Rows for what a rule will write, which may be thousands of new series too."""
        for part in parts(samples, _SLICE_SERIES):
            with self._lock:
                index = self._head(source).index
                refused = index.refused  # whoever writes them counts these
                index.get_or_create_all(labels for labels, _ in part)
                index.refused = refused
            yield

    def take(self, source: Source, layout: Layout, head: AlignedHead) -> PreparedRows | None:
        """What was found for this layout, once; None when it holds no longer."""
        prepared = self._prepared.pop(source, None)
        if prepared is None or prepared.layout is not layout or prepared.head is not head:
            return None
        return prepared if prepared.released == head.index.released else None


def _synthetic(snapshot: Snapshot) -> Sequence[Labels]:
    own = snapshot.target_labels
    return synthetic_labels(snapshot.source, own) if snapshot.report else ()


def cache_layout(
    snapshot: Snapshot,
    head: AlignedHead,
    before: ScrapeCache,
    prepared: PreparedRows | None = None,
) -> tuple[ScrapeCache, Ints]:
    """Where the series of a layout go, and the rows of those that have ended with it."""
    layout, report, own = snapshot.layout, snapshot.report, snapshot.target_labels
    if before.layout is layout and before.report is report and before.own == own:
        return before, EMPTY_CACHE.rows
    synthetic, _ = head.index.get_or_create_all(_synthetic(snapshot))
    if prepared is not None:
        rows, taken = prepared.rows, prepared.positions
    else:
        rows, taken = head.index.get_or_create_all(
            stored_labels(snapshot.source, series) for series in layout.series
        )
    # The source's own word on `up` does not count.
    free = ~np.isin(rows, synthetic)
    rows, taken = np.concatenate([rows[free], synthetic]), taken[free]
    ended = np.setdiff1d(before.rows, rows)
    head.mark_stale(ended)
    everything = len(taken) == len(layout.series)
    positions = None if everything else taken
    return ScrapeCache(layout, rows, positions, report=report, own=own), ended


def cache_rule_series(
    series: tuple[Labels, ...], head: AlignedHead, before: ScrapeCache
) -> tuple[ScrapeCache, Ints]:
    """As `cache_layout`; the same series as the last time, as mostly, stay where they are."""
    if before.series == series:
        return before, EMPTY_CACHE.rows
    rows, taken = head.index.get_or_create_all(series)
    ended = np.setdiff1d(before.rows, rows)
    head.mark_stale(ended)
    everything = len(taken) == len(series)
    return ScrapeCache(None, rows, None if everything else taken, series), ended
