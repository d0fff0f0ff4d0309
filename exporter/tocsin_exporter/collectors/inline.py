"""A collector made of one function that never waits: kernel files, counters of our own."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol, TypeVar, runtime_checkable

from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.snapshot import Sample

log = logging.getLogger(__name__)

T = TypeVar("T")

BLANK, MALFORMED = "blank", "malformed"
_MOST = 65536
_MOST_REMEMBERED = 65536  # characters of a file whose lines are kept
_MOST_FUNCTIONS = 32  # whose lines are kept
_MOST_BYTES = 64 * 2**20  # of one file: a table of a million mounts has less
_SHOWN = 120  # characters of a skipped line that the log shows
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LARGEST = 2.0**64


class LineParser:
    """Takes kernel files apart line by line: a line that does not parse costs itself alone.
    A newer kernel may add fields at the end of any line: a parser ignores those.

    `skipped` counts what was left out, by reason; the first line of a reason is logged.
    """

    def __init__(self, collector: str) -> None:
        self.skipped: Counter[str] = Counter({BLANK: 0, MALFORMED: 0})
        self._collector = collector
        self._last: dict[object, dict[str, Sequence[Any]]] = {}  # by function, then by line
        self._whole: dict[object, tuple[str, Sequence[Any]]] = {}  # by function: what all made

    def parse(self, content: str, parse: Callable[[str], Iterable[T]]) -> Iterable[T]:
        """What `parse` makes of each line; all of a line or nothing.

        Most lines of a kernel's file say what they said last time: a function is asked for those
        that are new, so it must look at nothing but its line, and be one for each file, made once
        (`line_parser`). Anything but a function (a partial) is asked for each.
        """
        if not isinstance(parse, FunctionType) or len(content) > _MOST_REMEMBERED:
            return (item for line in self.split(content) for item in self.take(line, parse))
        known, made = self._whole.get(parse, ("", ()))
        if known == content:
            return made
        before = self.skipped.total()
        made = tuple(self.parse_each(_lines(content), parse))
        all_said = self.skipped.total() == before  # what is left out is counted each time
        self._whole[parse] = (content if all_said else "", made if all_said else ())
        return made

    def parse_each(self, lines: Iterable[str], parse: Callable[[str], Iterable[T]]) -> list[T]:
        """The same for lines, or what else stands in their place."""
        last, parsed = self._last.get(parse, {}), {}
        found: list[T] = []
        for line in lines:
            made = last.get(line)
            if made is None:
                made = self._first(line, parse)
            if made is not None:
                parsed[line] = made
                found += made
        if parse not in self._last and len(self._last) >= _MOST_FUNCTIONS:
            self._last.clear()  # they are made for each reading: none comes again
            self._whole.clear()
        self._last[parse] = parsed
        return found

    def _first(self, line: str, parse: Callable[[str], Iterable[T]]) -> Sequence[T] | None:
        """None for what was left out: that is said, and counted, each time."""
        if not line.strip():
            self.skip(line, BLANK)
            return None
        before = self.skipped[MALFORMED]
        made = self.take(line, parse)
        return made if self.skipped[MALFORMED] == before else None

    def split(self, content: str) -> Iterator[str]:
        """The lines that are not blank. Only LF ends one: a name may hold every other character."""
        for line in _lines(content):
            if line.strip():
                yield line
            else:
                self.skip(line, BLANK)

    def take(self, line: str, parse: Callable[[str], Iterable[T]]) -> Sequence[T]:
        try:
            return list(parse(line))
        except (ValueError, LookupError):
            self.skip(line)
            return ()

    def skip(self, line: str, reason: str = MALFORMED) -> None:
        if not self.skipped[reason]:
            shown = {"collector": self._collector, "line": ascii(line[:_SHOWN])}
            log.warning("%s line skipped; further ones are only counted", reason, extra=shown)
        self.skipped[reason] += 1


def line_parser(parse: Callable[..., Iterable[T]], *before: object) -> Callable[[str], Iterable[T]]:
    """`parse` with `before` ahead of the line, as a function whose lines are remembered."""

    def parse_line(line: str) -> Iterable[T]:
        return parse(*before, line)

    return parse_line


def _lines(content: str) -> list[str]:
    lines = content.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


@runtime_checkable
class CountsSkippedLines(Protocol):
    """A collector that counts the lines that it left out."""

    lines: LineParser


@runtime_checkable
class ReportsHealth(Protocol):
    """A collector whose health is more than whether the last reading succeeded."""

    def health(self) -> Iterable[Sample]:
        """Samples for the agent's own metrics."""
        ...


def taken(read: Callable[[], Iterable[Sample]]) -> Sequence[Sample]:
    """What `read` says. Raises Unavailable for a file that is not there, CollectorError for one
    that cannot be read."""
    try:
        return list(read())
    except FileNotFoundError as error:
        raise Unavailable(f"{error.filename} does not exist on this machine") from error
    except OSError as error:
        raise CollectorError(f"cannot read {error.filename}: {error.strerror}") from error
    except (ValueError, LookupError) as error:
        raise CollectorError(f"cannot parse the kernel's file: {error}") from error


class InlineCollector:
    """Calls `read` on the loop: for what takes microseconds and cannot hang."""

    def __init__(self, name: str, read: Callable[[], Iterable[Sample]]) -> None:
        self.name = name
        self._read = read

    async def collect(self) -> Sequence[Sample]:
        return taken(self._read)

    def close(self) -> None:
        return


class FileCollector(InlineCollector):
    """A reading of kernel files by lines. `if_nothing` is raised when they say nothing: None for
    what a machine may have none of, Unavailable for what a kernel may not count."""

    def __init__(
        self,
        name: str,
        read: Callable[[LineParser], Iterable[Sample]],
        if_nothing: type[CollectorError] | None = CollectorError,
    ) -> None:
        self.lines = LineParser(name)
        self._if_nothing = if_nothing
        super().__init__(name, lambda: read(self.lines))

    async def collect(self) -> Sequence[Sample]:
        """Raises CollectorError where not one line can be read: that is no success."""
        before = self.lines.skipped.total()
        samples = await super().collect()
        if samples:
            return samples
        if self.lines.skipped.total() > before:
            raise CollectorError("no line of the kernel's file can be read")
        if self._if_nothing is not None:
            raise self._if_nothing("the kernel's file is empty")
        return samples


def number(word: str) -> float:
    """A decimal number of at most 64 bits. Raises ValueError for what Python takes besides."""
    value = float(word) if _NUMBER.fullmatch(word) else _LARGEST * 2
    if abs(value) > _LARGEST:
        raise ValueError(f"{word[:_SHOWN]!r} is not a number of 64 bits")
    return value


def count(word: str) -> float:
    """A number that is not negative."""
    value = number(word)
    if value < 0:
        raise ValueError(f"{word!r} is negative")
    return value


def text(path: str | Path, errors: str = "replace") -> str:
    """What a kernel file says; bytes that are not UTF-8 become U+FFFD, as in node_exporter.

    The kernel gives such a file a page or so at a time, whatever the buffer. Plain system calls,
    because a file object makes three more of them. Never waits: the view of the machine that
    --path.procfs names is not always the kernel's, and a pipe in it would hold the loop for ever.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        parts = [os.read(file, _MOST)]
        size = len(parts[0])
        while parts[-1] and size < _MOST_BYTES:
            parts.append(os.read(file, _MOST))
            size += len(parts[-1])
    finally:
        os.close(file)
    return b"".join(parts).decode("utf-8", errors)
