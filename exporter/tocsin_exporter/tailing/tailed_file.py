"""One open file: whole lines from where it was left, and what happened to it meanwhile."""

import errno
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tocsin_exporter.files import open_file
from tocsin_exporter.tailing.budget import LineBudget
from tocsin_exporter.tailing.position import TAIL_BYTES, Position

LONGEST_LINE = 16 << 10  # bytes; what follows is left out
MOST_SKIPPED_A_STEP = 64 << 20
_CHUNK = 128 << 10
_SKIP_CHUNK = 1 << 20
_SHARE = 4  # of the descriptors that the process may have; the others are for pages and scrapes
_TOO_MANY = "too many files are open to read one more log; raise LimitNOFILE"


class Truncated(Exception):
    """What stood before the position does not stand there any more."""


@dataclass(slots=True)
class Losses:
    """What nobody will ever match, by reason."""

    lines: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, lines: int, size: int) -> None:
        self.lines[reason] = self.lines.get(reason, 0) + lines
        self.bytes[reason] = self.bytes.get(reason, 0) + size


class TailedFile:
    """Holds the file open, so that its inode is nobody else's meanwhile. It begins at its first
    byte. Raises OSError, as `open_file`, and where descriptors up to `most` are in use."""

    def __init__(self, path: str, most: int | None = None) -> None:
        with open_file(path) as file:
            self._descriptor = os.dup(file.fileno())
        # It is the lowest number that was free: so many are in use, whoever has them.
        if self._descriptor >= (most_descriptors() if most is None else most):
            self.close()
            raise OSError(errno.EMFILE, _TOO_MANY, path)
        about = os.fstat(self._descriptor)
        self.position = Position((about.st_dev, about.st_ino))
        self.idle_since: float | None = None  # monotonic seconds
        self.finished = False  # its last line was taken, whole or not
        self._exhausted = (-1, 0)  # its size and time when it had no more whole line

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    @property
    def _stamp(self) -> tuple[int, int]:
        about = os.fstat(self._descriptor)
        return about.st_size, about.st_mtime_ns

    @property
    def deleted(self) -> bool:
        return os.fstat(self._descriptor).st_nlink == 0

    def resume(self, position: Position) -> bool:
        """Go on from there, if what stood before it stands there in this file: it is the same one,
        or a copy of it."""
        length = position.tail_bytes
        found = os.pread(self._descriptor, length, position.offset - length)
        if position.offset > self.size or not position.follows(found):
            return False
        self.position = replace(position, key=self.position.key, tail=found, digest="")
        return True

    def to_end(self) -> None:
        """Leave out what is there now, the rest of a line that is being written too."""
        begin = max(0, self.size - TAIL_BYTES)
        tail = os.pread(self._descriptor, TAIL_BYTES, begin)
        skipping = bool(tail) and not tail.endswith(b"\n")
        self.position = Position(self.position.key, begin + len(tail), tail, skipping)

    def begin_anew(self) -> None:
        """It was truncated."""
        self.position.offset, self.position.tail = 0, b""
        self.position.skipping = False
        if self._exhausted[0] != 0:
            self._exhausted = (-1, 0)

    def read(self, budget: LineBudget) -> Sequence[bytes]:
        """The next whole lines, without their line ends; () while no line is whole yet.

        Raises Truncated, OSError.
        """
        stamp = self._stamp
        if stamp == self._exhausted:
            return ()
        was_empty, self._exhausted = self._exhausted[0] == 0, stamp
        if stamp[0] < self.position.offset or (stamp[0] == 0 and was_empty):
            raise Truncated
        data = self._next(_CHUNK)
        lines, taken = _lines(data, self.position, budget.lines)
        if taken:
            budget.spend(len(lines), taken)
            self.position.advance(data[:taken])
            self._exhausted = (-1, 0)
        self.finished = False
        return lines

    @property
    def read_out(self) -> bool:
        """Whether there is no whole line left; half a one may be."""
        return self._stamp == self._exhausted

    def rest(self) -> Sequence[bytes]:
        """The end of a file that nobody writes any more, if it is not a whole line."""
        self.finished = True
        data = self._next(LONGEST_LINE)
        skipped = self.position.skipping
        self.position.advance(data)
        return () if skipped or not data else [data]

    def skip(self, losses: Losses, behind: int) -> None:
        """Pass over lines, which are counted as lost, until about `behind` bytes are left, or for
        MOST_SKIPPED_A_STEP. Raises Truncated, OSError."""
        for _ in range(MOST_SKIPPED_A_STEP // _SKIP_CHUNK):
            excess = self.size - self.position.offset - behind
            if excess < LONGEST_LINE:
                return
            data = self._next(min(_SKIP_CHUNK, excess))
            end = data.rfind(b"\n") + 1
            begun = 0 if end or self.position.skipping else 1  # it is longer than that
            lines = data.count(b"\n") - (self.position.skipping and end > 0) + begun
            self.position.skipping = not end
            taken = data[: end or len(data)]
            losses.add("behind", lines, len(taken))
            self.position.advance(taken)

    def _next(self, most: int) -> bytes:
        tail = self.position.tail
        data = os.pread(self._descriptor, most + len(tail), self.position.offset - len(tail))
        if not data.startswith(tail):
            raise Truncated
        return data[len(tail) :]


def most_descriptors() -> int:
    """Logs take no more than a share: without a descriptor nobody can be paged."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft // _SHARE


def _lines(data: bytes, position: Position, most: int) -> tuple[Sequence[bytes], int]:
    """The lines of `data`, at most so many, and how many bytes of it they are."""
    begin = 0
    if position.skipping:
        begin = data.find(b"\n") + 1
        if not begin:
            return (), len(data)
        position.skipping = False
    end = data.rfind(b"\n") + 1
    if end <= begin:
        if len(data) - begin < LONGEST_LINE:
            return (), begin
        position.skipping = True
        return [data[begin : begin + LONGEST_LINE]], len(data)
    lines = data[begin : end - 1].split(b"\n")
    if len(lines) > most:
        lines = lines[: max(1, most)]
        end = begin + sum(map(len, lines)) + len(lines)
    if end - begin > LONGEST_LINE:
        lines = [line[:LONGEST_LINE] for line in lines]
    return lines, end
