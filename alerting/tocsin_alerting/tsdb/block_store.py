"""The blocks on disk: which there are, how long they stay, and what a query finds in them."""

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

from tocsin_alerting.tsdb.block.codec import EncodedChunk
from tocsin_alerting.tsdb.block.extent import CorruptBlock
from tocsin_alerting.tsdb.block.format import (
    AlignedSection,
    BlockSection,
    block_bytes,
    read_sections,
)
from tocsin_alerting.tsdb.block.unaligned import UnalignedReader, UnalignedSection
from tocsin_alerting.tsdb.files import (
    ASIDE,
    UNFINISHED,
    next_path,
    numbered_files,
    rename_new,
    set_aside,
    sync_directory,
)
from tocsin_alerting.tsdb.head.columns import AlignedPart
from tocsin_alerting.tsdb.head.snapshot import HeadSnapshot
from tocsin_alerting.tsdb.head.sorted_run import NO_RUNS, SortedRuns
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.query.aligned_parts import BlockPart, HeadPart, MergedPart, PartSource
from tocsin_alerting.tsdb.query.block_selectors import BlockMatch, BlockSelectorCache
from tocsin_alerting.tsdb.query.page_cache import PageCache
from tocsin_alerting.tsdb.query.pages import PageReader, RowPositions, positions_in, row_positions
from tocsin_alerting.tsdb.query.selection import HeadSlice, Selection, UnalignedSlice
from tocsin_alerting.tsdb.query.unaligned_parts import AlignedTail, MergedUnaligned
from tocsin_alerting.tsdb.series_index import NO_LIMIT, MatcherSets, SeriesIndex
from tocsin_alerting.tsdb.target_labels import source_of
from tocsin_alerting.tsdb.values import END_OF_TIME, NEVER_MS, Ints
from tocsin_exporter.clock import Stamps
from tocsin_exporter.snapshot import Labels, Renaming, Source

T = TypeVar("T")

log = logging.getLogger(__name__)

BLOCK_SUFFIX = ".seg"
CACHE_BYTES = 24 * 2**20
LARGE_CACHE_BYTES = 6 * 2**20
TIMES_CACHE_BYTES = 2 * 2**20


@dataclass(slots=True)
class _SourceBlocks:
    """The sections of one source, in the order in which they were written, with the row of each of
    their series in `index`. The unaligned samples of all sources are one more, of unaligned
    sections."""

    index: SeriesIndex = field(default_factory=lambda: SeriesIndex(NO_LIMIT, lambda: None))
    sections: list[tuple[BlockSection, Ints]] = field(default_factory=list)
    newest_ms: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _MatchedSeries:
    """Series of one source, those of `head` first, with their `rows` in its index, or -1."""

    head: HeadSlice | None
    labels: tuple[Labels, ...]
    rows: Ints
    sections: list[tuple[BlockSection, Ints]]
    width: int

    def split(self, labels: Collection[Labels]) -> Iterator[tuple[bool, "_MatchedSeries"]]:
        """Those that are unaligned apart (True) from the others, if there are any."""
        apart = np.array([series in labels for series in self.labels] if labels else [], np.bool_)
        if not apart.any():
            yield from [(False, self)] if self.labels else []
            return
        for flag in (False, True):
            chosen = np.flatnonzero(apart == flag)
            if len(chosen):
                yield flag, self._subset(chosen)

    def _subset(self, chosen: Ints) -> "_MatchedSeries":
        labels, head = tuple(self.labels[at] for at in chosen.tolist()), self.head
        if head is not None:
            here = chosen[chosen < len(head.labels)]
            head = replace(head, labels=labels[: len(here)], part=head.part.subset(here))
        return _MatchedSeries(head, labels, self.rows[chosen], self.sections, self.width)


@dataclass(slots=True)
class _Block:
    path: Path
    size: int
    sections: list[BlockSection]

    @property
    def last_ms(self) -> int:
        return max((section.last_ms for section in self.sections), default=0)


class BlockStore:
    """Blocks in `directory`; one thread adds and prunes, any may read.

    A block goes when all of it is older than `retention_ms`, or, the one first that was written
    first, while all together are larger than `max_bytes`.
    """

    def __init__(
        self, directory: Path, retention_ms: int, max_bytes: int, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.retention_ms = retention_ms
        self.broken = 0
        self.set_aside = Stamps()  # when files were
        self.renaming = Renaming()  # what is read is renamed by it
        self._directory = directory
        self._max_bytes = max_bytes
        self._page_cache = PageCache(cache_bytes, LARGE_CACHE_BYTES)
        self._times_cache = PageCache(TIMES_CACHE_BYTES)  # which long queries must not drive out
        self._selectors = BlockSelectorCache()
        self._blocks: list[_Block] = []
        self._by_source: dict[Source | None, _SourceBlocks] = {}  # None: the pairs
        self._rows_by_key: dict[tuple[Source | None, bytes], Ints] = {}
        self._number = 0
        self._reported: set[Path] = set()
        self._damaged: set[Path] = set()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return sum(block.size for block in self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def open(self, wall: Callable[[], float] = lambda: 0.0) -> None:
        """Reads what each block holds. A broken one is set aside, one that cannot be read is left
        for the next start, and the rest is served.

        `wall` gives Unix seconds. Files whose names are not ours are left alone.
        """
        self.set_aside.wall = wall
        aside = self._directory.glob(f"*{ASIDE}")
        self.set_aside.remember(file.lstat().st_mtime for file in aside)
        for path in numbered_files(self._directory, UNFINISHED):
            with suppress(OSError):
                path.unlink()
        for path in numbered_files(self._directory, BLOCK_SUFFIX):
            self._number = max(self._number, int(path.stem))
            try:
                self._add_block(path, self._renamed(read_sections(path)))
            except OSError as error:
                self.broken += 1
                log.error("%s: %s; it is left out until the next start", path, error.strerror)
            except CorruptBlock as error:
                self.broken += 1
                self.put_aside(path, error, "the rest is served")

    def put_aside(self, path: Path, error: Exception, rest: str) -> bool:
        """As files.put_aside; when it was done is told. A file that cannot be moved is tried again
        with every new WAL, and is told of once: what pages for it ends by itself."""
        if path not in self._damaged:
            self._damaged.add(path)
            self.set_aside.add()
        return set_aside(path, error, rest, self.set_aside.wall())

    def add(
        self, snapshot: HeadSnapshot, between_pieces: Callable[[], None] = lambda: None
    ) -> bool:
        """A new block of what is closed; False when there was nothing. Raises OSError.

        `between_pieces` is called after each piece of it.
        """
        path = next_path(self._directory, BLOCK_SUFFIX, self._number)
        unfinished = path.with_suffix(UNFINISHED)
        try:
            with unfinished.open("wb") as file:
                for data in block_bytes(snapshot):
                    file.write(data)
                    between_pieces()
                file.flush()
                os.fsync(file.fileno())
            if not read_sections(unfinished):
                return False
            rename_new(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        try:
            sync_directory(self._directory)
            sections = read_sections(path)
        except BaseException:  # why: whatever it is, it is written again, under another number
            path.unlink(missing_ok=True)
            raise
        self._number = int(path.stem)
        self._add_block(path, sections)
        return True

    def prune(self, now_ms: int) -> None:
        """Deletes what is too old or too much. What the disk does not let go is said, and is looked
        at again at the next start."""
        while self._blocks and self._is_over(now_ms):
            first = self._blocks[0]
            try:
                first.path.unlink(missing_ok=True)
            except OSError as error:  # it is no reason to write nothing
                log.error("%s: it cannot be removed: %s", first.path, error.strerror)
            with self._lock:
                del self._blocks[0]
                for section in first.sections:
                    self._remove_section(section.source, first.path)

    def newest_sealed(self) -> dict[Source, int]:
        """The time of the newest column of each source."""
        with self._lock:
            return {
                source: blocks.newest_ms for source, blocks in self._by_source.items() if source
            }

    def newest_unaligned_ms(self) -> int | None:
        """The time of the newest sample in an unaligned section."""
        with self._lock:
            return self._by_source[None].newest_ms if None in self._by_source else None

    def newest_samples(
        self, series: Sequence[Labels], unaligned_only: bool = False
    ) -> tuple[Ints, Ints]:
        """As in Persistence."""
        times, bits = np.full(len(series), NEVER_MS), np.zeros(len(series), np.int64)
        places: dict[Source | None, list[int]] = {None: list(range(len(series)))}
        for at in () if unaligned_only else range(len(series)):
            places.setdefault(source_of(series[at]), []).append(at)
        for source, some in places.items():
            here = np.array(some, np.int64)
            newest = self._newest_in(source, [series[at] for at in some])
            later = newest[0] > times[here]
            times[here[later]], bits[here[later]] = newest[0][later], newest[1][later]
        return times, bits

    def _newest_in(self, source: Source | None, series: Sequence[Labels]) -> tuple[Ints, Ints]:
        """Of what was written last: a series's samples ascend from block to block."""
        with self._lock:
            blocks = self._by_source.get(source) or _SourceBlocks()
            rows = np.array([blocks.index.get(labels) for labels in series], np.int64)
            sections, width = list(blocks.sections), blocks.index.width
        times, bits = np.full(len(rows), NEVER_MS), np.zeros(len(rows), np.int64)
        left = np.flatnonzero(rows >= 0)
        for section, owners in reversed(sections):
            positions = positions_in(owners, rows[left], width)
            here = np.flatnonzero(positions >= 0)
            if len(here):
                times[left[here]], bits[left[here]] = self._newest(section, positions[here])
                left = left[positions < 0]
            if not len(left):
                break
        return times, bits

    def _newest(self, section: BlockSection, positions: Ints) -> tuple[Ints, Ints]:
        if isinstance(section, UnalignedSection):
            unused = np.empty(0, np.int64)
            return UnalignedReader(section, positions, unused, self._read_unaligned_chunk).newest()
        axis = self._times(section)
        columns, bits = PageReader(
            section, row_positions(positions), self._read_chunk, self._page_cache
        ).newest()
        return np.full(len(positions), section.last_ms) if axis is None else axis[columns], bits

    def join(
        self,
        matcher_sets: MatcherSets,
        aligned: Sequence[HeadSlice],
        unaligned: UnalignedSlice | None,
        t0_ms: int,
        t1_ms: int,
        memo: MatchMemo,
    ) -> Selection:
        """The chosen series of memory and of the blocks: one part a source, and one of those
        that have, or had, pairs."""
        block_matches = self._match_blocks(matcher_sets, memo)
        unaligned_labels, rows, runs = self._unaligned_series(unaligned, block_matches.get(None))
        position = {series: at for at, series in enumerate(unaligned_labels)}
        in_memory = {head_slice.source: head_slice for head_slice in aligned}
        labels: list[Labels] = []
        parts: list[AlignedPart | MergedPart] = []
        tails: list[AlignedTail] = []
        for source in dict.fromkeys([*in_memory, *self._known_sources()]):
            matched = self._matched(source, in_memory.get(source), matcher_sets, block_matches)
            for apart, chosen in matched.split(position):
                part = self._merged_part(chosen, (t0_ms, t1_ms))
                if apart:
                    who = [position[series] for series in chosen.labels]
                    tails.append(AlignedTail(part, np.array(who, np.int64)))
                else:
                    labels += chosen.labels
                    parts.append(part)
        if not unaligned_labels:
            return Selection(self._series_set(matcher_sets, labels), tuple(parts))
        layers = self._unaligned_layers(unaligned_labels, (t0_ms, t1_ms))
        merged = MergedUnaligned(len(unaligned_labels), runs, rows, layers, tuple(tails))
        series = self._series_set(matcher_sets, [*labels, *unaligned_labels])
        return Selection(series, tuple(parts), (merged,))

    def _match_blocks(
        self, matcher_sets: MatcherSets, memo: MatchMemo
    ) -> Mapping[Source | None, BlockMatch]:
        """What the selector finds here, while others may use the block store."""
        with self._lock:
            volumes = list(self._by_source.items())
        match = self._selectors.match
        return {
            source: match(source, blocks.index, matcher_sets, memo) for source, blocks in volumes
        }

    def _series_set(self, matcher_sets: MatcherSets, labels: Iterable[Labels]) -> LabelSets:
        with self._lock:
            return self._selectors.label_sets(matcher_sets, tuple(labels))

    def _unaligned_series(
        self, unaligned: UnalignedSlice | None, match: BlockMatch | None
    ) -> tuple[tuple[Labels, ...], Ints, SortedRuns]:
        """The series that have pairs, those in memory first, with their rows there."""
        in_memory = unaligned.labels if unaligned else ()
        known = set(in_memory)
        in_blocks = match.labels if match else ()
        others = tuple(series for series in in_blocks if series not in known)
        if unaligned is None:
            return others, np.empty(0, np.int64), NO_RUNS
        return in_memory + others, unaligned.rows, unaligned.runs

    def _unaligned_layers(
        self, series: Sequence[Labels], interval: tuple[int, int]
    ) -> list[UnalignedReader]:
        """The unaligned sections with something of the interval, and those that were written after
        them."""
        with self._lock:
            blocks = self._by_source.get(None) or _SourceBlocks()
            sections = list(blocks.sections)
            rows = np.array([blocks.index.get(labels) for labels in series], np.int64)
            width = blocks.index.width
        layers: list[UnalignedReader] = []
        for section, owners in sections:
            overlaps = section.first_ms <= interval[1] and section.last_ms >= interval[0]
            if not isinstance(section, UnalignedSection) or not (overlaps or layers):
                continue
            positions = positions_in(owners, rows, width)
            first_times = (
                self._read_cached(section, "firsts", section.read_first_times)
                if (positions >= 0).any()
                else None
            )
            if first_times is not None:
                layers.append(
                    UnalignedReader(section, positions, first_times, self._read_unaligned_chunk)
                )
        return layers

    def _read_unaligned_chunk(self, section: UnalignedSection, number: int) -> Ints | None:
        return self._read_cached(section, number, partial(section.read_chunk, number))

    def _known_sources(self) -> list[Source]:
        with self._lock:
            return [source for source in self._by_source if source]

    def _matched(
        self,
        source: Source,
        head: HeadSlice | None,
        matcher_sets: MatcherSets,
        block_matches: Mapping[Source | None, BlockMatch],
    ) -> _MatchedSeries:
        head_series = head.labels if head else ()
        with self._lock:
            blocks = self._by_source.get(source)
            if blocks is None:
                return _MatchedSeries(head, head_series, np.full(len(head_series), -1), [], 0)
            in_blocks = block_matches.get(source)
            match = self._selectors.match_with_head(
                source, blocks.index, matcher_sets, head_series, in_blocks
            )
            sections, width = list(blocks.sections), blocks.index.width
        return _MatchedSeries(head, match.labels, match.rows, sections, width)

    def _merged_part(
        self, matched: _MatchedSeries, interval: tuple[int, int]
    ) -> AlignedPart | MergedPart:
        head = matched.head
        before_ms = head.begins_ms if head else END_OF_TIME
        block_parts = self._block_parts(
            matched.sections, matched.rows, matched.width, before_ms, interval
        )
        if head is not None and not block_parts and len(head.labels) == len(matched.labels):
            return head.part
        head_parts: list[PartSource] = [HeadPart(head.part, len(matched.labels))] if head else []
        return MergedPart([*block_parts, *head_parts], len(matched.labels))

    def _block_parts(
        self,
        sections: list[tuple[BlockSection, Ints]],
        rows: Ints,
        width: int,
        before_ms: int,
        interval: tuple[int, int],
    ) -> list[PartSource]:
        """The sections from the last written to the first, each up to where the next begins."""
        parts: list[PartSource] = []
        # Most sections have the same owners. None: no series.
        positions_of: dict[int, RowPositions | None] = {}
        for section, owners in reversed(sections):
            if isinstance(section, AlignedSection) and section.first_ms < before_ms:
                if section.first_ms <= interval[1] and section.last_ms >= interval[0]:
                    if id(owners) not in positions_of:
                        at = positions_in(owners, rows, width)
                        positions_of[id(owners)] = row_positions(at) if (at >= 0).any() else None
                    if (positions := positions_of[id(owners)]) is not None:
                        pages = PageReader(section, positions, self._read_chunk, self._page_cache)
                        parts.append(BlockPart(section, before_ms, positions, pages, self._times))
                before_ms = section.first_ms
        return parts[::-1]

    def _times(self, section: AlignedSection) -> Ints | None:
        axis = self._times_cache.get(section)
        if axis is None:
            return self._read_or_none(
                section, lambda: self._times_cache.get_or_read(section, section.read_times)
            )
        return axis

    def _read_chunk(self, section: AlignedSection, number: int) -> EncodedChunk | None:
        return self._read_or_none(section, partial(section.read_chunk, number))

    def _read_cached(
        self, section: UnalignedSection, what: Hashable, read: Callable[[], Ints]
    ) -> Ints | None:
        return self._read_or_none(
            section, lambda: self._page_cache.get_or_read((section, what), read)
        )

    def _read_or_none(self, section: BlockSection, read: Callable[[], T]) -> T | None:
        """A piece of a block; None, and said once a block, when it cannot be read."""
        try:
            return read()
        except (CorruptBlock, OSError) as error:
            self._report(section.path, error)
            return None

    def _report(self, path: Path, error: Exception) -> None:
        # A file that is gone was taken by the retention while a query read it.
        if path not in self._reported and not isinstance(error, FileNotFoundError):
            self._reported.add(path)
            self.broken += 1
            log.error("%s; what else it holds is served", error)

    def _add_block(self, path: Path, sections: list[BlockSection]) -> None:
        with self._lock:
            for section in sections:
                blocks = self._by_source.setdefault(section.source, _SourceBlocks())
                key = (section.source, section.key)
                if key not in self._rows_by_key:
                    labels = list(map(self.renaming.labels, section.labels()))
                    self._rows_by_key[key] = blocks.index.get_or_create_all(labels)[0]
                blocks.sections.append((section, self._rows_by_key[key]))
                blocks.newest_ms = max(blocks.newest_ms, section.last_ms)
            self._blocks.append(_Block(path, path.stat().st_size, sections))

    def _renamed(self, sections: list[BlockSection]) -> list[BlockSection]:
        return [
            replace(section, source=self.renaming.source(section.source))
            if isinstance(section, AlignedSection)
            else section
            for section in sections
        ]

    def _is_over(self, now_ms: int) -> bool:
        too_old = self._blocks[0].last_ms < now_ms - self.retention_ms
        return too_old or self.bytes > self._max_bytes

    def _remove_section(self, source: Source | None, path: Path) -> None:
        """Takes a section off, and the series that no other has."""
        blocks = self._by_source[source]
        blocks.sections = [kept for kept in blocks.sections if kept[0].path != path]
        blocks.newest_ms = max((section.last_ms for section, _ in blocks.sections), default=0)
        used = {id(rows): rows for _, rows in blocks.sections}
        every = np.concatenate([np.empty(0, np.int64), *used.values()])
        blocks.index.release(np.setdiff1d(blocks.index.items()[0], every).tolist())
        keys = {section.key for section, _ in blocks.sections}
        for key in [key for key in self._rows_by_key if key[0] == source and key[1] not in keys]:
            del self._rows_by_key[key]
        if not blocks.sections:
            del self._by_source[source]
            self._selectors.forget(source)
