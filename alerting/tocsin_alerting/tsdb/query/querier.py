"""What a query finds in the blocks, joined with what memory gave it.

Files are read outside of every lock. What cannot be read is absent, and is reported once.
"""

import logging
import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from tocsin_alerting.tsdb.block.codec import EncodedChunk
from tocsin_alerting.tsdb.block.extent import CorruptBlock
from tocsin_alerting.tsdb.block.format import AlignedSection, BlockSection
from tocsin_alerting.tsdb.block.unaligned import UnalignedReader, UnalignedSection
from tocsin_alerting.tsdb.block_store import BlockStore, SourceSections
from tocsin_alerting.tsdb.head.columns import AlignedPart
from tocsin_alerting.tsdb.head.sorted_run import NO_RUNS, SortedRuns
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.query.aligned_parts import BlockPart, HeadPart, MergedPart, PartSource
from tocsin_alerting.tsdb.query.pages import (
    PageCache,
    PageReader,
    RowPositions,
    positions_in,
    row_positions,
)
from tocsin_alerting.tsdb.query.selection import HeadSlice, Selection, UnalignedSlice
from tocsin_alerting.tsdb.query.selector_cache import BlockMatch
from tocsin_alerting.tsdb.query.unaligned_parts import AlignedTail, MergedUnaligned
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.target_labels import source_of
from tocsin_alerting.tsdb.values import END_OF_TIME, NEVER_MS, Ints
from tocsin_exporter.snapshot import Labels, Source

T = TypeVar("T")

log = logging.getLogger(__name__)

CACHE_BYTES = 24 * 2**20
LARGE_CACHE_BYTES = 6 * 2**20
TIMES_CACHE_BYTES = 2 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class _MatchedSeries:
    """Series of one source, those of `head` first, and the sections that may have them."""

    head: HeadSlice | None
    labels: tuple[Labels, ...]
    blocks: SourceSections

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
            in_head = chosen[chosen < len(head.labels)]
            head = replace(head, labels=labels[: len(in_head)], part=head.part.subset(in_head))
        return _MatchedSeries(head, labels, self.blocks.subset(chosen))


class Querier:
    """For any number of threads. `broken` counts the blocks of which a part could not be read."""

    def __init__(self, blocks: BlockStore) -> None:
        self.broken = 0
        self._blocks = blocks
        self._page_cache = PageCache(CACHE_BYTES, LARGE_CACHE_BYTES)
        self._times_cache = PageCache(TIMES_CACHE_BYTES)  # which long queries must not drive out
        self._reported: set[Path] = set()
        self._lock = threading.Lock()  # of what was reported

    def newest_samples(
        self, series: Sequence[Labels], unaligned_only: bool = False
    ) -> tuple[Ints, Ints]:
        """As in Persistence."""
        times, bits = np.full(len(series), NEVER_MS), np.zeros(len(series), np.int64)
        places: dict[Source | None, list[int]] = {None: list(range(len(series)))}
        for number in () if unaligned_only else range(len(series)):
            places.setdefault(source_of(series[number]), []).append(number)
        for source, positions in places.items():
            at = np.array(positions, np.int64)
            newest_ms, newest_bits = self._newest_in(source, [series[i] for i in positions])
            later = newest_ms > times[at]
            times[at[later]], bits[at[later]] = newest_ms[later], newest_bits[later]
        return times, bits

    def _newest_in(self, source: Source | None, series: Sequence[Labels]) -> tuple[Ints, Ints]:
        """Of what was written last: a series's samples ascend from block to block."""
        blocks = self._blocks.sections_of(source, series)
        times, bits = np.full(len(series), NEVER_MS), np.zeros(len(series), np.int64)
        left = np.flatnonzero(blocks.rows >= 0)
        for section, owners in reversed(blocks.sections):
            positions = positions_in(owners, blocks.rows[left], blocks.width)
            present = np.flatnonzero(positions >= 0)
            if len(present):
                newest = self._newest(section, positions[present])
                times[left[present]], bits[left[present]] = newest
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
        that are, or were, unaligned."""
        matches = self._blocks.match(matcher_sets, memo)
        unaligned_labels, rows, runs = self._unaligned_series(unaligned, matches.get(None))
        position = {series: at for at, series in enumerate(unaligned_labels)}
        in_memory = {head_slice.source: head_slice for head_slice in aligned}
        labels: list[Labels] = []
        parts: list[AlignedPart | MergedPart] = []
        tails: list[AlignedTail] = []
        for source in dict.fromkeys([*in_memory, *self._blocks.sources()]):
            head = in_memory.get(source)
            head_series = head.labels if head else ()
            match = matches.get(source)
            series_of = self._blocks.find(source, matcher_sets, head_series, match)
            matched = _MatchedSeries(head, *series_of)
            for apart, chosen in matched.split(position):
                part = self._merged_part(chosen, (t0_ms, t1_ms))
                if apart:
                    positions = [position[series] for series in chosen.labels]
                    tails.append(AlignedTail(part, np.array(positions, np.int64)))
                else:
                    labels += chosen.labels
                    parts.append(part)
        if not unaligned_labels:
            return Selection(self._blocks.label_sets(matcher_sets, labels), tuple(parts))
        layers = self._unaligned_layers(unaligned_labels, (t0_ms, t1_ms))
        merged = MergedUnaligned(len(unaligned_labels), runs, rows, layers, tuple(tails))
        series = self._blocks.label_sets(matcher_sets, [*labels, *unaligned_labels])
        return Selection(series, tuple(parts), (merged,))

    def _unaligned_series(
        self, unaligned: UnalignedSlice | None, match: BlockMatch | None
    ) -> tuple[tuple[Labels, ...], Ints, SortedRuns]:
        """The unaligned series, those in memory first, with their rows there."""
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
        blocks = self._blocks.sections_of(None, series)
        layers: list[UnalignedReader] = []
        for section, owners in blocks.sections:
            overlaps = section.first_ms <= interval[1] and section.last_ms >= interval[0]
            if not isinstance(section, UnalignedSection) or not (overlaps or layers):
                continue
            positions = positions_in(owners, blocks.rows, blocks.width)
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

    def _merged_part(
        self, matched: _MatchedSeries, interval: tuple[int, int]
    ) -> AlignedPart | MergedPart:
        head = matched.head
        before_ms = head.begins_ms if head else END_OF_TIME
        block_parts = self._block_parts(matched.blocks, before_ms, interval)
        if head is not None and not block_parts and len(head.labels) == len(matched.labels):
            return head.part
        head_parts: list[PartSource] = [HeadPart(head.part, len(matched.labels))] if head else []
        return MergedPart([*block_parts, *head_parts], len(matched.labels))

    def _block_parts(
        self, blocks: SourceSections, before_ms: int, interval: tuple[int, int]
    ) -> list[PartSource]:
        """The sections from the last written to the first, each up to where the next begins."""
        parts: list[PartSource] = []
        # Most sections have the same owners. None: no series.
        positions_of: dict[int, RowPositions | None] = {}
        for section, owners in reversed(blocks.sections):
            if isinstance(section, AlignedSection) and section.first_ms < before_ms:
                if section.first_ms <= interval[1] and section.last_ms >= interval[0]:
                    if id(owners) not in positions_of:
                        at = positions_in(owners, blocks.rows, blocks.width)
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
        """An extent of a block; None, and logged once a block, when it cannot be read."""
        try:
            return read()
        except (CorruptBlock, OSError) as error:
            self._report(section.path, error)
            return None

    def _report(self, path: Path, error: Exception) -> None:
        with self._lock:  # a file that is gone was taken by the retention while a query read it
            if path in self._reported or isinstance(error, FileNotFoundError):
                return
            self._reported.add(path)
            self.broken += 1
        log.error("block damaged, serving the rest of it: %s", error)
