"""The segments on disk: which there are, how long they stay, and what a query finds in them."""

import logging
import os
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from tocsin_alerting.store.archive import Live, LivePairs
from tocsin_alerting.store.cache import Cache
from tocsin_alerting.store.cell import END_OF_TIME, NEVER_MS, Ints
from tocsin_alerting.store.codec import Coded
from tocsin_alerting.store.columns import Part
from tocsin_alerting.store.files import (
    ASIDE,
    UNFINISHED,
    next_path,
    numbered,
    put_aside,
    rename_new,
    sync_directory,
)
from tocsin_alerting.store.held import Stock
from tocsin_alerting.store.history import History, Recent, Sealed, Stretch
from tocsin_alerting.store.matchers import Verdicts
from tocsin_alerting.store.page import Pages, Places, places_of
from tocsin_alerting.store.piece import BrokenSegment
from tocsin_alerting.store.rows import NO_LIMIT, MatcherSets, Rows
from tocsin_alerting.store.runs import NO_RUNS, Runs
from tocsin_alerting.store.scattered import Cells, Mixed
from tocsin_alerting.store.searches import Search, Searches
from tocsin_alerting.store.segment import Section, sections, written
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.sheaf import Sealed as SealedPairs
from tocsin_alerting.store.sheaf import Sheaf
from tocsin_alerting.store.target import source_of
from tocsin_exporter.clock import Stamps
from tocsin_exporter.snapshot import Labels, Renaming, Source

T = TypeVar("T")

log = logging.getLogger(__name__)

SUFFIX = ".seg"
CACHE_BYTES = 24 * 2**20
LARGE_BYTES = 6 * 2**20
AXES_BYTES = 2 * 2**20


@dataclass(slots=True)
class _Volume:
    """The sections of one source, in the order in which they were written, with the row of each
    of their series in `rows`. The pairs of all sources are a volume too, of sheaves."""

    rows: Rows = field(default_factory=lambda: Rows(NO_LIMIT, lambda: None))
    sections: list[tuple[Section | Sheaf, Ints]] = field(default_factory=list)
    newest_ms: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Series of one source, those of `live` first, with their `rows` in a volume, or -1."""

    live: Live | None
    labels: tuple[Labels, ...]
    rows: Ints
    kept: list[tuple[Section | Sheaf, Ints]]
    width: int

    def divided(self, loose: Collection[Labels]) -> Iterator[tuple[bool, "_Found"]]:
        """Those that are loose apart (True) from the others, if there are any."""
        apart = np.array([one in loose for one in self.labels] if loose else [], np.bool_)
        if not apart.any():
            yield from [(False, self)] if self.labels else []
            return
        for flag in (False, True):
            chosen = np.flatnonzero(apart == flag)
            if len(chosen):
                yield flag, self._only(chosen)

    def _only(self, chosen: Ints) -> "_Found":
        labels, live = tuple(self.labels[at] for at in chosen.tolist()), self.live
        if live is not None:
            here = chosen[chosen < len(live.labels)]
            live = replace(live, labels=labels[: len(here)], part=live.part.some(here))
        return _Found(live, labels, self.rows[chosen], self.kept, self.width)


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int
    sections: list[Section | Sheaf]

    @property
    def last_ms(self) -> int:
        return max((one.last_ms for one in self.sections), default=0)


class Shelf:
    """Segments in `directory`; one thread adds and prunes, any may read.

    A segment goes when all of it is older than `retention_ms`, or, the one first that was written
    first, while all together are larger than `max_bytes`.
    """

    def __init__(
        self,
        directory: Path,
        retention_ms: int,
        max_bytes: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.retention_ms = retention_ms
        self.broken = 0
        self.set_aside = Stamps()  # when files were
        self.renaming = Renaming()  # what is read is renamed by it
        self._directory = directory
        self._max_bytes = max_bytes
        self._cache = Cache(cache_bytes, LARGE_BYTES)
        self._axes = Cache(AXES_BYTES)  # which long queries must not drive out
        self._searches = Searches()
        self._segments: list[_Segment] = []
        self._volumes: dict[Source | None, _Volume] = {}  # None: the pairs
        self._series: dict[tuple[Source | None, bytes], Ints] = {}
        self._number = 0
        self._said: set[Path] = set()
        self._damaged: set[Path] = set()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    def open(self, wall: Callable[[], float] = lambda: 0.0) -> None:
        """Reads what each segment holds. A broken one is set aside, one that cannot be read is left
        for the next start, and the rest is served.

        `wall` gives Unix seconds. Files whose names are not ours are left alone.
        """
        self.set_aside.wall = wall
        aside = self._directory.glob(f"*{ASIDE}")
        self.set_aside.remember(one.lstat().st_mtime for one in aside)
        for path in numbered(self._directory, UNFINISHED):
            with suppress(OSError):
                path.unlink()
        for path in numbered(self._directory, SUFFIX):
            self._number = max(self._number, int(path.stem))
            try:
                self._take(path, self._renamed(sections(path)))
            except OSError as error:
                self.broken += 1
                log.error("%s: %s; it is left out until the next start", path, error.strerror)
            except BrokenSegment as error:
                self.broken += 1
                self.put_aside(path, error, "the rest is served")

    def put_aside(self, path: Path, error: Exception, rest: str) -> bool:
        """As files.put_aside; when it was done is told. A file that cannot be moved is tried again
        with every new log, and is told of once: what pages for it ends by itself."""
        if path not in self._damaged:
            self._damaged.add(path)
            self.set_aside.add()
        return put_aside(path, error, rest, self.set_aside.wall())

    def add(self, stock: Stock, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """A new segment of what is closed; False when there was nothing. Raises OSError.

        `meanwhile` is called after each piece of it.
        """
        path = next_path(self._directory, SUFFIX, self._number)
        unfinished = path.with_suffix(UNFINISHED)
        try:
            with unfinished.open("wb") as file:
                for data in written(stock):
                    file.write(data)
                    meanwhile()
                file.flush()
                os.fsync(file.fileno())
            if not sections(unfinished):
                return False
            rename_new(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        try:
            sync_directory(self._directory)
            found = sections(path)
        except BaseException:  # why: whatever it is, it is written again, under another number
            path.unlink(missing_ok=True)
            raise
        self._number = int(path.stem)
        self._take(path, found)
        return True

    def prune(self, now_ms: int) -> None:
        """Deletes what is too old or too much. What the disk does not let go is said, and is looked
        at again at the next start."""
        while self._segments and self._is_over(now_ms):
            first = self._segments[0]
            try:
                first.path.unlink(missing_ok=True)
            except OSError as error:  # it is no reason to write nothing
                log.error("%s: it cannot be removed: %s", first.path, error.strerror)
            with self._lock:
                del self._segments[0]
                for one in first.sections:
                    self._forget(one.source, first.path)

    def newest(self) -> dict[Source, int]:
        """The time of the newest column of each source."""
        with self._lock:
            return {one: volume.newest_ms for one, volume in self._volumes.items() if one}

    def newest_pairs(self) -> int | None:
        """The time of the newest sample in a sheaf."""
        with self._lock:
            return self._volumes[None].newest_ms if None in self._volumes else None

    def newest_of(self, series: Sequence[Labels], pairs_alone: bool = False) -> tuple[Ints, Ints]:
        """As in Archive."""
        times, bits = np.full(len(series), NEVER_MS), np.zeros(len(series), np.int64)
        places: dict[Source | None, list[int]] = {None: list(range(len(series)))}
        for at in () if pairs_alone else range(len(series)):
            places.setdefault(source_of(series[at]), []).append(at)
        for source, some in places.items():
            here = np.array(some, np.int64)
            found = self._newest_in(source, [series[at] for at in some])
            later = found[0] > times[here]
            times[here[later]], bits[here[later]] = found[0][later], found[1][later]
        return times, bits

    def _newest_in(self, source: Source | None, series: Sequence[Labels]) -> tuple[Ints, Ints]:
        """Of what was written last: a series's samples ascend from segment to segment."""
        with self._lock:
            volume = self._volumes.get(source) or _Volume()
            rows = np.array([volume.rows.known(one) for one in series], np.int64)
            kept, width = list(volume.sections), volume.rows.width
        times, bits = np.full(len(rows), NEVER_MS), np.zeros(len(rows), np.int64)
        left = np.flatnonzero(rows >= 0)
        for section, owners in reversed(kept):
            places = _places(owners, rows[left], width)
            here = np.flatnonzero(places >= 0)
            if len(here):
                times[left[here]], bits[left[here]] = self._newest(section, places[here])
                left = left[places < 0]
            if not len(left):
                break
        return times, bits

    def _newest(self, one: Section | Sheaf, places: Ints) -> tuple[Ints, Ints]:
        if isinstance(one, Sheaf):
            unused = np.empty(0, np.int64)
            return SealedPairs(one, places, unused, self._sheaf_bundle).newest()
        axis = self._times(one)
        columns, bits = Pages(one, places_of(places), self._bundle, self._cache).newest()
        return np.full(len(places), one.last_ms) if axis is None else axis[columns], bits

    def join(
        self,
        matcher_sets: MatcherSets,
        live: Sequence[Live],
        pairs: LivePairs | None,
        t0_ms: int,
        t1_ms: int,
        verdicts: Verdicts,
    ) -> Selection:
        """The chosen series of memory and of the segments: one part a source, and one of those
        that have, or had, pairs."""
        looked = self._look(matcher_sets, verdicts)
        loose, rows, runs = self._loose(pairs, looked.get(None))
        position = {series: at for at, series in enumerate(loose)}
        in_memory = {one.source: one for one in live}
        labels: list[Labels] = []
        parts: list[Part | History] = []
        cells: list[Cells] = []
        for source in dict.fromkeys([*in_memory, *self._sources()]):
            found = self._found(source, in_memory.get(source), matcher_sets, looked)
            for apart, one in found.divided(position):
                part = self._joined(one, (t0_ms, t1_ms))
                if apart:
                    who = [position[series] for series in one.labels]
                    cells.append(Cells(part, np.array(who, np.int64)))
                else:
                    labels += one.labels
                    parts.append(part)
        if not loose:
            return Selection(self._series_set(matcher_sets, labels), tuple(parts))
        layers = self._layers(loose, (t0_ms, t1_ms))
        mixed = Mixed(len(loose), runs, rows, layers, tuple(cells))
        series = self._series_set(matcher_sets, [*labels, *loose])
        return Selection(series, tuple(parts), (mixed,))

    def _look(
        self, matcher_sets: MatcherSets, verdicts: Verdicts
    ) -> Mapping[Source | None, Search]:
        """What the selector finds here, while others may use the shelf."""
        with self._lock:
            volumes = list(self._volumes.items())
        look = self._searches.look
        return {one: look(one, volume.rows, matcher_sets, verdicts) for one, volume in volumes}

    def _series_set(self, matcher_sets: MatcherSets, labels: Iterable[Labels]) -> SeriesSet:
        with self._lock:
            return self._searches.series(matcher_sets, tuple(labels))

    def _loose(
        self, pairs: LivePairs | None, looked: Search | None
    ) -> tuple[tuple[Labels, ...], Ints, Runs]:
        """The series that have pairs, those in memory first, with their rows there."""
        mine = pairs.labels if pairs else ()
        known = set(mine)
        there = looked.labels if looked else ()
        others = tuple(series for series in there if series not in known)
        if pairs is None:
            return others, np.empty(0, np.int64), NO_RUNS
        return mine + others, pairs.rows, pairs.runs

    def _layers(self, loose: Sequence[Labels], asked: tuple[int, int]) -> list[SealedPairs]:
        """The sheaves with something of the interval, and those that were written after them."""
        with self._lock:
            volume = self._volumes.get(None) or _Volume()
            kept = list(volume.sections)
            rows = np.array([volume.rows.known(one) for one in loose], np.int64)
            width = volume.rows.width
        layers: list[SealedPairs] = []
        for one, owners in kept:
            overlaps = one.first_ms <= asked[1] and one.last_ms >= asked[0]
            if not isinstance(one, Sheaf) or not (overlaps or layers):
                continue
            places = _places(owners, rows, width)
            firsts = self._read(one, "firsts", one.read_firsts) if (places >= 0).any() else None
            if firsts is not None:
                layers.append(SealedPairs(one, places, firsts, self._sheaf_bundle))
        return layers

    def _sheaf_bundle(self, one: Sheaf, number: int) -> Ints | None:
        return self._read(one, number, partial(one.read_bundle, number))

    def _sources(self) -> list[Source]:
        with self._lock:
            return [source for source in self._volumes if source]

    def _found(
        self,
        source: Source,
        live: Live | None,
        matcher_sets: MatcherSets,
        looked: Mapping[Source | None, Search],
    ) -> _Found:
        mine = live.labels if live else ()
        with self._lock:
            volume = self._volumes.get(source)
            if volume is None:
                return _Found(live, mine, np.full(len(mine), -1), [], 0)
            there = looked.get(source)
            found = self._searches.find(source, volume.rows, matcher_sets, mine, there)
            kept, width = list(volume.sections), volume.rows.width
        return _Found(live, found.labels, found.rows, kept, width)

    def _joined(self, found: _Found, asked: tuple[int, int]) -> Part | History:
        live = found.live
        before_ms = live.begins_ms if live else END_OF_TIME
        stretches = self._sealed(found.kept, found.rows, found.width, before_ms, asked)
        if live is not None and not stretches and len(live.labels) == len(found.labels):
            return live.part
        recent: list[Stretch] = [Recent(live.part, len(found.labels))] if live else []
        return History([*stretches, *recent], len(found.labels))

    def _sealed(
        self,
        kept: list[tuple[Section | Sheaf, Ints]],
        rows: Ints,
        width: int,
        before_ms: int,
        asked: tuple[int, int],
    ) -> list[Stretch]:
        """The sections from the last written to the first, each up to where the next begins."""
        stretches: list[Stretch] = []
        known: dict[int, Places | None] = {}  # most sections have the same owners; None: no series
        for section, owners in reversed(kept):
            if isinstance(section, Section) and section.first_ms < before_ms:
                if section.first_ms <= asked[1] and section.last_ms >= asked[0]:
                    if id(owners) not in known:
                        at = _places(owners, rows, width)
                        known[id(owners)] = places_of(at) if (at >= 0).any() else None
                    if (places := known[id(owners)]) is not None:
                        pages = Pages(section, places, self._bundle, self._cache)
                        stretches.append(Sealed(section, before_ms, places, pages, self._times))
                before_ms = section.first_ms
        return stretches[::-1]

    def _times(self, section: Section) -> Ints | None:
        axis = self._axes.known(section)
        if axis is None:
            return self._attempt(section, lambda: self._axes.get(section, section.read_times))
        return axis

    def _bundle(self, section: Section, number: int) -> Coded | None:
        return self._attempt(section, partial(section.read_bundle, number))

    def _read(self, one: Sheaf, what: Hashable, read: Callable[[], Ints]) -> Ints | None:
        return self._attempt(one, lambda: self._cache.get((one, what), read))

    def _attempt(self, one: Section | Sheaf, read: Callable[[], T]) -> T | None:
        """A piece of a segment; None, and said once a segment, when it cannot be read."""
        try:
            return read()
        except (BrokenSegment, OSError) as error:
            self._say(one.path, error)
            return None

    def _say(self, path: Path, error: Exception) -> None:
        # A file that is gone was taken by the retention while a query read it.
        if path not in self._said and not isinstance(error, FileNotFoundError):
            self._said.add(path)
            self.broken += 1
            log.error("%s; what else it holds is served", error)

    def _take(self, path: Path, found: list[Section | Sheaf]) -> None:
        with self._lock:
            for one in found:
                volume = self._volumes.setdefault(one.source, _Volume())
                key = (one.source, one.key)
                if key not in self._series:
                    labels = list(map(self.renaming.labels, one.labels()))
                    self._series[key] = volume.rows.all_of(labels)[0]
                volume.sections.append((one, self._series[key]))
                volume.newest_ms = max(volume.newest_ms, one.last_ms)
            self._segments.append(_Segment(path, path.stat().st_size, found))

    def _renamed(self, found: list[Section | Sheaf]) -> list[Section | Sheaf]:
        return [
            replace(one, source=self.renaming.source(one.source))
            if isinstance(one, Section)
            else one
            for one in found
        ]

    def _is_over(self, now_ms: int) -> bool:
        too_old = self._segments[0].last_ms < now_ms - self.retention_ms
        return too_old or self.bytes > self._max_bytes

    def _forget(self, source: Source | None, path: Path) -> None:
        """Takes a section off, and the series that no other has."""
        volume = self._volumes[source]
        volume.sections = [kept for kept in volume.sections if kept[0].path != path]
        volume.newest_ms = max((one.last_ms for one, _ in volume.sections), default=0)
        used = {id(rows): rows for _, rows in volume.sections}
        every = np.concatenate([np.empty(0, np.int64), *used.values()])
        volume.rows.release(np.setdiff1d(volume.rows.owned()[0], every).tolist())
        keys = {one.key for one, _ in volume.sections}
        for key in [one for one in self._series if one[0] == source and one[1] not in keys]:
            del self._series[key]
        if not volume.sections:
            del self._volumes[source]
            self._searches.forget(source)


def _places(owners: Ints, rows: Ints, width: int) -> Ints:
    """For each of `rows`, which may be -1, its place among `owners`, or -1."""
    places = np.full(width + 1, -1, np.int64)
    places[owners] = np.arange(len(owners))
    found: Ints = places[rows]  # -1 is the last place, which is nobody's
    return found
