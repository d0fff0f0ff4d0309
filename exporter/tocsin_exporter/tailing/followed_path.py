"""One path through its rotations: whatever file stands there, and those that stood there before.

By rename, the old file stays open and is read on, because its writer notices late; while it is open
its inode is nobody else's. Files that came and went between two looks are found beside it, where a
rotation leaves them. By copy and truncation, what was not read yet is looked for in the copy.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tocsin_exporter.tailing.budget import LineBudget
from tocsin_exporter.tailing.position import FileKey, Ledger, Position
from tocsin_exporter.tailing.siblings import siblings
from tocsin_exporter.tailing.tailed_file import Losses, TailedFile, Truncated

DRAIN_SECONDS = 5.0
_MOST_HELD = 4  # old files that are read out already
_COPIES_LOOKED_AT = 16


@dataclass(slots=True)
class FileCounts:
    """Of all files of a source, since its first start."""

    rotations: int = 0
    truncations: int = 0
    losses: Losses = field(default_factory=Losses)


class FollowedPath:
    """`from_end`: what is there when it is opened for the first time is not read. `monotonic` gives
    seconds."""

    def __init__(
        self,
        path: str,
        ledger: Ledger,
        counts: FileCounts,
        monotonic: Callable[[], float],
        from_end: bool = False,
    ) -> None:
        self.path = path
        self._ledger, self._counts, self._monotonic = ledger, counts, monotonic
        self._from_end = from_end
        self._current: TailedFile | None = None
        self._old: list[TailedFile] = []
        self.missing_since: float | None = None

    def close(self) -> None:
        for file in self._open:
            file.close()
        self._current, self._old = None, []

    def keys(self) -> Iterator[FileKey]:
        """Of its files that are open, and of those beside it."""
        yield from (file.position.key for file in self._open)
        try:
            yield from ((about.st_dev, about.st_ino) for _, about in siblings(self.path))
        except OSError:
            return

    @property
    def read_out(self) -> bool:
        return all(file.finished or file.idle_since is not None for file in self._open)

    def look(self) -> None:
        """See which file stands at the path now. Raises OSError if it cannot be read."""
        try:
            about = os.stat(self.path)
        except FileNotFoundError:
            about = None
        if self._current is not None:
            if about is not None and (about.st_dev, about.st_ino) == self._current.position.key:
                return
            self._old.append(self._current)
            self._current = None
            self._counts.rotations += 1
        if about is not None:
            self._begin()
        elif self.missing_since is None:
            self.missing_since = self._monotonic()

    def read(self, budget: LineBudget) -> Sequence[bytes]:
        """The next lines of the oldest file that has some; none if none has. Raises OSError."""
        for file in self._open:
            try:
                lines = file.read(budget)
            except Truncated:
                self._truncated(file)
                return self.read(budget)
            if lines:
                file.idle_since = None
                return lines
            if file.read_out and file.idle_since is None:
                file.idle_since = self._monotonic()
        return self._finish()

    def settle(self, most_behind: int) -> int:
        """The bytes that are left after a round. Of more than `most_behind` the oldest are
        lost. Raises OSError."""
        left = sum(map(_behind, self._open))
        for file in self._open if left > most_behind else ():
            before = _behind(file)
            try:
                file.skip(self._counts.losses, max(0, before - left + most_behind // 2))
            except Truncated:  # the next reading meets it too
                continue
            left -= before - _behind(file)
            if left <= most_behind // 2:
                break
        return left

    @property
    def _open(self) -> list[TailedFile]:
        return [*self._old, *filter(None, [self._current])]

    def _holds(self, key: FileKey) -> bool:
        return any(file.position.key == key for file in self._open)

    def _begin(self) -> None:
        """Open the file at the path, then those that were there since the last look: what comes
        meanwhile is seen at the next one."""
        try:
            file = TailedFile(self.path)
        except FileNotFoundError:
            return
        self._current, self.missing_since = file, None
        self._resume(file)
        try:
            self._find_between()
        finally:
            self._from_end = False

    def _resume(self, file: TailedFile) -> None:
        known = self._ledger.get(file.position.key)
        if known is not None and not file.resume(known):
            self._find_copy(known)
        elif known is None and self._from_end:
            file.to_end()
        self._ledger.keep(file.position)

    def _find_between(self) -> None:
        for path, about in siblings(self.path):
            if self._holds((about.st_dev, about.st_ino)):
                continue
            try:
                file = TailedFile(path)
            except OSError:  # rotated away meanwhile
                continue
            if self._holds(file.position.key):
                file.close()
                continue
            self._resume(file)
            if file.position.offset == file.size:
                file.close()
            else:
                self._old.append(file)

    def _truncated(self, file: TailedFile) -> None:
        found = self._find_copy(file.position)
        if found or file.position.offset:  # else somebody has touched an empty file
            self._counts.truncations += 1
        if not found and file.position.offset:
            # How much was written since the last reading is known to nobody.
            self._counts.losses.add("truncated", 1, 0)
        file.begin_anew()

    def _find_copy(self, position: Position) -> bool:
        """What was copied away before a truncation is read on in the copy, and in those that were
        made since."""
        copies: list[TailedFile] = []
        for path, about in siblings(self.path)[-_COPIES_LOOKED_AT:]:
            key = (about.st_dev, about.st_ino)
            if self._holds(key) or self._ledger.get(key) is not None:
                continue
            try:
                file = TailedFile(path)
            except OSError:  # rotated away meanwhile
                continue
            if copies or file.resume(position):
                self._ledger.keep(file.position)
                copies.append(file)
            else:
                file.close()
        self._old += copies
        return bool(copies)

    def _finish(self) -> Sequence[bytes]:
        """Of old files that are read out: take half a line that stays one, and let go of those
        that are deleted, or too many."""
        now = self._monotonic()
        for file in list(self._old):
            if file.idle_since is None or now - file.idle_since < DRAIN_SECONDS:
                continue
            if not file.finished and (rest := self._rest(file)):
                return rest
            deleted = file.deleted
            if deleted or len(self._old) > _MOST_HELD:
                file.close()
                self._old.remove(file)
                if deleted:  # its inode may be another file's from now on
                    self._ledger.forget(file.position.key)
        return ()

    def _rest(self, file: TailedFile) -> Sequence[bytes]:
        try:
            return file.rest()
        except Truncated:
            self._truncated(file)
            return ()


def _behind(file: TailedFile) -> int:
    return max(0, file.size - file.position.offset)
