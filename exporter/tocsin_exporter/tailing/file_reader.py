"""The lines of all files that a source means, those that come later too."""

import glob
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from tocsin_exporter.tailing.budget import LineBudget
from tocsin_exporter.tailing.container_lines import ContainerFiles, ContainerLines
from tocsin_exporter.tailing.followed_path import FileCounts, FollowedPath
from tocsin_exporter.tailing.position import FileKey, Ledger, Position, position_of
from tocsin_exporter.tailing.reader import Batch
from tocsin_exporter.tailing.settings import LogSource
from tocsin_exporter.tailing.siblings import without_rotated

log = logging.getLogger(__name__)

MOST_FILES = 256
_FIND_SECONDS = 1.0
_GONE_SECONDS = 60.0
_FORGET_SECONDS = 60.0
_SPLIT = "make several sources of them"


class FileReader:
    """`saved` is what `position` gave before a restart, None for the first start: then what is in
    the files already is left out. `monotonic` gives seconds."""

    def __init__(
        self,
        source: LogSource,
        saved: Any,
        counts: FileCounts,
        monotonic: Callable[[], float],
    ) -> None:
        self.counts = counts
        self.behind, self.trouble = 0, ""
        self._source, self._monotonic = source, monotonic
        self._ledger = Ledger(_positions(saved, source.name))
        self._from_end = saved is None and not source.from_start
        self._find = ContainerFiles(source.containers) if source.containers else self._paths
        self._followed: dict[str, FollowedPath] = {}
        self._containers: dict[str, ContainerLines] = {}
        self._found_at: float | None = None
        self._left_out = 0
        self._forgot_at = monotonic()
        self._were_there: set[FileKey] = set()
        self._due: list[FollowedPath] = []

    @property
    def files(self) -> int:
        return len(self._followed)

    def read(self, budget: LineBudget) -> Batch:
        """Files take turns, a piece of each."""
        if not self._due:
            self._look()
        while self._due:
            followed = self._due[-1]
            try:
                lines = followed.read(budget)
            except OSError as error:
                self._failed(followed, error)
                lines = ()
            if not lines:
                self._due.pop()
                continue
            self._due.insert(0, self._due.pop())
            lines = self._unwrapped(followed.path, lines)
            if lines or budget.spent:
                return Batch(lines)
        return Batch(())

    def settle(self) -> None:
        self._due = []
        self.behind = 0
        for followed in self._followed.values():
            try:
                self.behind += followed.settle(self._source.limits.behind_bytes)
            except OSError as error:
                self._failed(followed, error)

    def position(self) -> Any:
        return self._ledger.as_json()

    def close(self) -> None:
        for followed in self._followed.values():
            followed.close()
        self._followed = {}

    def _look(self) -> None:
        """Begin a round: which files there are, and what stands at each path."""
        now = self._monotonic()
        if self._found_at is None or now - self._found_at >= _FIND_SECONDS:
            self._follow(now)
            self._found_at = now
        self.trouble = "" if self._followed else "no file is found"
        if self._left_out:
            self.trouble = f"{self._left_out} files above {MOST_FILES} are not read; {_SPLIT}"
        for followed in self._followed.values():
            try:
                followed.look()
            except OSError as error:
                self._failed(followed, error)
        self._due = list(self._followed.values())

    def _follow(self, now: float) -> None:
        gone = [path for path, one in self._followed.items()
                if one.missing_since is not None and now - one.missing_since > _GONE_SECONDS
                and one.read_out]  # fmt: skip
        for path in gone:
            self._followed.pop(path).close()
            self._containers.pop(path, None)
        self._forget(now)
        new = [path for path in without_rotated(self._find()) if path not in self._followed]
        room = MOST_FILES - len(self._followed)
        self._left_out = max(0, len(new) - room)
        for path in sorted(new, key=_written_at)[-room:] if self._left_out and room else new[:room]:
            about = (path, self._ledger, self.counts, self._monotonic, self._from_end)
            self._followed[path] = FollowedPath(*about)
        self._from_end = False

    def _forget(self, now: float) -> None:
        """What is gone from the disk, if it was gone the last time too: one look may miss a file
        that is renamed meanwhile."""
        if now - self._forgot_at < _FORGET_SECONDS:
            return
        self._forgot_at = now
        there = {key for followed in self._followed.values() for key in followed.keys()}
        self._ledger.keep_only(there | self._were_there)
        self._were_there = there

    def _paths(self) -> list[str]:
        return [path for pattern in self._source.paths for path in glob.glob(pattern)]

    def _unwrapped(self, path: str, lines: Sequence[bytes]) -> Sequence[bytes]:
        if self._source.containers is None:
            return lines
        return self._containers.setdefault(path, ContainerLines()).unwrap(lines)

    def _failed(self, followed: FollowedPath, error: OSError) -> None:
        self.trouble = f"{followed.path}: {error.strerror or error}"


def _written_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:  # gone meanwhile
        return 0


def _positions(saved: Any, name: str) -> list[Position]:
    try:
        return [position_of(one) for one in saved or ()]
    except (ValueError, LookupError, TypeError):
        log.warning("positions of log source %s refused: not readable", name)
        return []
