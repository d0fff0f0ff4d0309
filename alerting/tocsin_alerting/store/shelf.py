"""The segments on disk: which there are, how long they stay, and what a query finds in them."""

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from tocsin_alerting.store.archive import Live
from tocsin_alerting.store.cache import Cache
from tocsin_alerting.store.cell import END_OF_TIME, Floats, Ints
from tocsin_alerting.store.columns import Part
from tocsin_alerting.store.held import Held
from tocsin_alerting.store.history import History, Recent, Sealed, Stretch
from tocsin_alerting.store.rows import NO_LIMIT, MatcherSets, Rows
from tocsin_alerting.store.segment import BrokenSegment, Section, sections, written
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.series import SeriesSet
from tocsin_exporter.snapshot import Labels, Source

log = logging.getLogger(__name__)

SUFFIX, ASIDE, UNFINISHED = ".seg", ".broken", ".tmp"
CACHE_BYTES = 24 * 2**20


@dataclass(slots=True)
class _Volume:
    """The sections of one source, in the order in which they were written, with the row of each
    of their series in `rows`."""

    rows: Rows = field(default_factory=lambda: Rows(NO_LIMIT, lambda: None))
    sections: list[tuple[Section, Ints]] = field(default_factory=list)
    newest_ms: int = 0


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int
    sections: list[Section]

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
        self._directory = directory
        self._max_bytes = max_bytes
        self._cache = Cache(cache_bytes)
        self._segments: list[_Segment] = []
        self._volumes: dict[Source, _Volume] = {}
        self._series: dict[tuple[Source, bytes], Ints] = {}
        self._number = 0
        self._said: set[Path] = set()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    def open(self) -> None:
        """Reads what each segment holds. A broken one is set aside, and the rest is served."""
        for path in sorted(self._directory.glob(f"*{UNFINISHED}")):
            path.unlink()
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            self._number = max(self._number, int(path.stem))
            try:
                self._take(path, sections(path))
            except (BrokenSegment, OSError) as error:
                self.broken += 1
                path.rename(path.with_suffix(ASIDE))
                log.error("%s; it is set aside as %s", error, path.with_suffix(ASIDE).name)

    def add(self, stock: Iterable[Held]) -> bool:
        """A new segment of what is closed; False when there was nothing. Raises OSError."""
        number = self._number + 1
        path = self._directory / f"{number:010d}{SUFFIX}"
        unfinished = path.with_suffix(UNFINISHED)
        try:
            with unfinished.open("wb") as file:
                for data in written(stock):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            found = sections(unfinished)
            if not found:
                return False
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_directory(self._directory)
        self._number = number
        self._take(path, sections(path))
        return True

    def prune(self, now_ms: int) -> None:
        """Deletes what is too old or too much; raises OSError."""
        while self._segments and self._is_over(now_ms):
            first = self._segments[0]
            first.path.unlink(missing_ok=True)
            with self._lock:
                del self._segments[0]
                for one in first.sections:
                    self._forget(one.source, first.path)

    def newest(self) -> dict[Source, int]:
        """The time of the newest column of each source."""
        with self._lock:
            return {source: volume.newest_ms for source, volume in self._volumes.items()}

    def join(
        self, matcher_sets: MatcherSets, live: Sequence[Live], t0_ms: int, t1_ms: int
    ) -> Selection:
        """The chosen series of memory and of the segments, one part a source."""
        in_memory = {one.source: one for one in live}
        labels: list[Labels] = []
        parts: list[Part | History] = []
        for source in dict.fromkeys([*in_memory, *self._volumes]):
            found, part = self._joined(source, in_memory.get(source), matcher_sets, t0_ms, t1_ms)
            if found:
                labels += found
                parts.append(part)
        return Selection(SeriesSet(tuple(labels)), tuple(parts))

    def _joined(
        self, source: Source, live: Live | None, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int
    ) -> tuple[tuple[Labels, ...], Part | History]:
        mine = live.labels if live else ()
        with self._lock:
            volume = self._volumes.get(source) or _Volume()
            kept = list(volume.sections)
            own = np.array([volume.rows.known(one) for one in mine], np.int64)
            others = np.setdiff1d(volume.rows.find(matcher_sets), own)
            labels = mine + volume.rows.labels(others.tolist())
            width = volume.rows.width
        if not labels:
            return labels, History((), 0)
        rows = np.concatenate([own, others])
        stretches = self._sealed(
            kept, rows, width, live.begins_ms if live else END_OF_TIME, (t0_ms, t1_ms)
        )
        if live is not None and not stretches and not len(others):
            return labels, live.part
        recent: list[Stretch] = [Recent(live.part, len(labels))] if live else []
        return labels, History([*stretches, *recent], len(labels))

    def _sealed(
        self,
        kept: list[tuple[Section, Ints]],
        rows: Ints,
        width: int,
        before_ms: int,
        asked: tuple[int, int],
    ) -> list[Stretch]:
        """The sections from the last written to the first, each up to where the next begins."""
        stretches: list[Stretch] = []
        places_in: dict[int, Ints] = {}
        for section, owners in reversed(kept):
            if section.first_ms < before_ms:
                if section.first_ms <= asked[1] and section.last_ms >= asked[0]:
                    places = places_in.get(id(owners))
                    if places is None:
                        places = places_in[id(owners)] = _places(owners, rows, width)
                    stretches += self._stretch(section, places, before_ms)
                before_ms = section.first_ms
        return stretches[::-1]

    def _stretch(self, section: Section, places: Ints, before_ms: int) -> list[Stretch]:
        if not (places >= 0).any():
            return []
        try:
            key = (section.path, section.source, -1)
            times = self._cache.get(key, section.read_times)
        except (BrokenSegment, OSError) as error:
            self._say(section.path, error)
            return []
        times = times[: int(np.searchsorted(times, before_ms))]
        return [Sealed(section, times, places, self._bundle)]

    def _bundle(self, section: Section, number: int) -> Floats | None:
        """The cells of a bundle; None, and said once a segment, when they cannot be read."""
        try:
            key = (section.path, section.source, number)
            return self._cache.get(key, partial(section.read_bundle, number))
        except (BrokenSegment, OSError) as error:
            self._say(section.path, error)
            return None

    def _say(self, path: Path, error: Exception) -> None:
        # A file that is gone was taken by the retention while a query read it.
        if path not in self._said and not isinstance(error, FileNotFoundError):
            self._said.add(path)
            self.broken += 1
            log.error("%s; what else it holds is served", error)

    def _take(self, path: Path, found: list[Section]) -> None:
        with self._lock:
            for one in found:
                volume = self._volumes.setdefault(one.source, _Volume())
                key = (one.source, one.key)
                if key not in self._series:
                    self._series[key] = volume.rows.all_of(one.labels())[0]
                volume.sections.append((one, self._series[key]))
                volume.newest_ms = max(volume.newest_ms, one.last_ms)
            self._segments.append(_Segment(path, path.stat().st_size, found))

    def _is_over(self, now_ms: int) -> bool:
        too_old = self._segments[0].last_ms < now_ms - self.retention_ms
        return too_old or self.bytes > self._max_bytes

    def _forget(self, source: Source, path: Path) -> None:
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


def sync_directory(directory: Path) -> None:
    """A new name in a directory is there after a power failure only when this was done."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _places(owners: Ints, rows: Ints, width: int) -> Ints:
    """For each of `rows`, which may be -1, its place among `owners`, or -1."""
    places = np.full(width + 1, -1, np.int64)
    places[owners] = np.arange(len(owners))
    found: Ints = places[rows]  # -1 is the last place, which is nobody's
    return found
