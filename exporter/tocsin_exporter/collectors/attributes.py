"""Attribute files of /sys: one value a file, which a driver answers for and may wait with.

They are read on a HangGuard. A file that cannot be read costs what stands in it and nothing else.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.inline import LineParser, number, taken
from tocsin_exporter.snapshot import Family, Labels, Sample

_BROKEN = re.compile("\ufffd+")
_NOT_AVAILABLE = "N/A"
_MOST_BYTES = 4096  # of an attribute: the kernel gives a page at most


class AttributeCollector:
    """Calls `read` on a thread; nothing is asked of anybody where `root` is not there."""

    def __init__(
        self, name: str, root: Path, read: Callable[[LineParser], Iterable[Sample]]
    ) -> None:
        self.name = name
        self.lines = LineParser(name)
        self._root, self._read = root, read
        self._guard = HangGuard(name)

    async def collect(self) -> Sequence[Sample]:
        """Raises Unavailable without `root`, and what `taken` raises."""
        if not self._root.exists():
            raise Unavailable(f"{self._root} does not exist on this machine")
        return await self._guard.run(lambda: taken(lambda: self._read(self.lines)))

    def close(self) -> None:
        self._guard.close()


def word(path: str | Path) -> str | None:
    """What the file says, without the space around it; None where it cannot be read."""
    said = line(path)
    return None if said is None else said.strip()


def line(path: str | Path) -> str | None:
    """The same with the space that is not the line's end. Bytes that are not UTF-8 become one
    U+FFFD together.

    One system call that never waits for more: a broken driver says EAGAIN for ever.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            said = os.read(file, _MOST_BYTES)
        finally:
            os.close(file)
    except OSError:
        return None
    return _BROKEN.sub("\ufffd", said.decode("utf-8", "replace")).strip("\n")


def words(directory: Path, files: Iterable[str]) -> dict[str, str]:
    """What those files say that can be read, by their names."""
    said = {file: word(directory / file) for file in files}
    return {file: content for file, content in said.items() if content is not None}


def numbers(path: str | Path, lines: LineParser) -> Sequence[float]:
    """The number in a file: one or none, and none where it says that there is none."""
    content = word(path)
    if content is None or content.startswith(_NOT_AVAILABLE):
        return ()
    return lines.take(content, lambda said: [number(said)]) if content else ()


def entries(directory: Path, pattern: str = "*") -> list[Path]:
    """The directories below that match, in the order of their names."""
    return sorted(path for path in directory.glob(pattern) if path.is_dir())


def sampled(
    directory: Path,
    files: Mapping[str, tuple[Family, float]],
    of: Labels,
    lines: LineParser,
) -> Iterator[Sample]:
    """A sample for each file that says a number; the number is divided as the file's row says."""
    for file, (family, divisor) in files.items():
        for value in numbers(directory / file, lines):
            yield Sample(family, value / divisor, of)
