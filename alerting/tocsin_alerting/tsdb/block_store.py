"""The blocks on disk: which there are, which series they have, and how long they stay."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tocsin_alerting.tsdb.block.extent import CorruptBlock
from tocsin_alerting.tsdb.block.format import (
    AlignedSection,
    BlockSection,
    block_bytes,
    read_sections,
)
from tocsin_alerting.tsdb.files import (
    ASIDE,
    UNFINISHED,
    next_path,
    numbered_files,
    rename_new,
    set_aside,
    sync_directory,
)
from tocsin_alerting.tsdb.head.snapshot import HeadSnapshot
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.query.selector_cache import BlockMatch, BlockSelectorCache
from tocsin_alerting.tsdb.series_index import NO_LIMIT, MatcherSets, SeriesIndex
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.clock import Stamps
from tocsin_exporter.snapshot import Labels, Renaming, Source

log = logging.getLogger(__name__)

BLOCK_SUFFIX = ".seg"


@dataclass(slots=True)
class _SourceBlocks:
    """The sections of one source, in the order in which they were written, with the row of each of
    their series in `index`. The unaligned samples of all sources are one more, of unaligned
    sections."""

    index: SeriesIndex = field(default_factory=lambda: SeriesIndex(NO_LIMIT, lambda: None))
    sections: list[tuple[BlockSection, Ints]] = field(default_factory=list)
    newest_ms: int = 0


class SourceSections(NamedTuple):
    """The sections of one source at one moment, with the row of each of their series; `rows` are
    those of the series that were asked for, or -1, of `width` that there are."""

    sections: list[tuple[BlockSection, Ints]]
    rows: Ints
    width: int

    def subset(self, chosen: Ints) -> "SourceSections":
        return self._replace(rows=self.rows[chosen])


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

    def __init__(self, directory: Path, retention_ms: int, max_bytes: int) -> None:
        self.retention_ms = retention_ms
        self.broken = 0
        self.set_aside = Stamps()  # when files were
        self.renaming = Renaming()  # what is read is renamed by it
        self._directory = directory
        self._max_bytes = max_bytes
        self._selectors = BlockSelectorCache()
        self._blocks: list[_Block] = []
        self._by_source: dict[Source | None, _SourceBlocks] = {}  # None: unaligned
        self._rows_by_key: dict[tuple[Source | None, bytes], Ints] = {}
        self._number = 0
        self._damaged: set[Path] = set()
        self._lock = threading.Lock()

    def limit(self, retention_ms: int, max_bytes: int) -> None:
        """Other limits hold from the next time that blocks are removed."""
        self.retention_ms, self._max_bytes = retention_ms, max_bytes

    @property
    def bytes(self) -> int:
        with self._lock:
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
                log.error(
                    "block unreadable, ignored until the next start: %s: %s", path, error.strerror
                )
            except CorruptBlock as error:
                self.broken += 1
                self.put_aside(path, error, "the rest is served")

    def put_aside(self, path: Path, error: Exception, rest: str) -> bool:
        """As files.set_aside, and notes when. A file that cannot be moved is tried again with every
        new WAL, and noted once: what pages for it ends by itself."""
        if path not in self._damaged:
            self._damaged.add(path)
            self.set_aside.add()
        return set_aside(path, error, rest, self.set_aside.wall())

    def add(
        self, snapshot: HeadSnapshot, between_pieces: Callable[[], None] = lambda: None
    ) -> bool:
        """A new block of what is closed; False when there was nothing. Raises OSError.

        `between_pieces` is called after each extent of it.
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
        """Deletes what is too old or too much. What the disk does not let go is logged, and tried
        again at the next start."""
        while self._blocks and self._is_over(now_ms):
            first = self._blocks[0]
            try:
                first.path.unlink(missing_ok=True)
            except OSError as error:  # it is no reason to write nothing
                log.error("failed to remove block: %s: %s", first.path, error.strerror)
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

    def sources(self) -> list[Source]:
        with self._lock:
            return [source for source in self._by_source if source]

    def sections_of(self, source: Source | None, series: Sequence[Labels]) -> SourceSections:
        with self._lock:
            blocks = self._by_source.get(source) or _SourceBlocks()
            rows = np.array([blocks.index.get(labels) for labels in series], np.int64)
            return SourceSections(list(blocks.sections), rows, blocks.index.width)

    def match(
        self, matcher_sets: MatcherSets, memo: MatchMemo
    ) -> Mapping[Source | None, BlockMatch]:
        """What the selector finds here, while others may use the block store."""
        with self._lock:
            by_source = list(self._by_source.items())
        match = self._selectors.match
        return {
            source: match(source, blocks.index, matcher_sets, memo) for source, blocks in by_source
        }

    def find(
        self,
        source: Source,
        matcher_sets: MatcherSets,
        head_series: tuple[Labels, ...],
        match: BlockMatch | None,
    ) -> tuple[tuple[Labels, ...], SourceSections]:
        """The series that memory chose, and those that only blocks have of what `match` gave."""
        with self._lock:
            blocks = self._by_source.get(source)
            if blocks is None:
                return head_series, SourceSections([], np.full(len(head_series), -1), 0)
            joined = self._selectors.match_with_head(
                source, blocks.index, matcher_sets, head_series, match
            )
            sections = SourceSections(list(blocks.sections), joined.rows, blocks.index.width)
            return joined.labels, sections

    def label_sets(self, matcher_sets: MatcherSets, labels: Iterable[Labels]) -> LabelSets:
        """The set that the same selector had before, if it has the same series."""
        with self._lock:
            return self._selectors.label_sets(matcher_sets, tuple(labels))

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
        blocks.sections = [item for item in blocks.sections if item[0].path != path]
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
