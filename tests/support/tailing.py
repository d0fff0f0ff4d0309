"""Logs that are written, rotated and read in one thread, under a clock that tests move."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tocsin_exporter.tailing.budget import Limits, LineBudget
from tocsin_exporter.tailing.counts import LogCounts
from tocsin_exporter.tailing.file_reader import FileReader
from tocsin_exporter.tailing.settings import LogSource


class Hand:
    """A clock."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += seconds


class Followed:
    """A source of files that is read when a test says so."""

    def __init__(self, source: LogSource, saved: Any = None) -> None:
        self.clock, self.counts = Hand(), LogCounts().files
        self.reader = FileReader(source, saved, self.counts, self.clock)
        self.budget = LineBudget(source.limits, self.clock)

    def lines(self, seconds: float = 1.0) -> list[str]:
        """What a round reads, that long after the last one."""
        self.clock.wait(seconds)
        self.budget.refill()
        found: list[bytes] = []
        while not self.budget.spent and (batch := self.reader.read(self.budget)).lines:
            found += batch.lines
        self.reader.settle()
        return [line.decode("utf-8", "replace") for line in found]

    def again(self, source: LogSource) -> "Followed":
        """The next process, which has what was saved."""
        saved = self.reader.position()
        self.reader.close()
        return Followed(source, saved)


def source(*paths: Path, limits: Limits | None = None, from_start: bool = False) -> LogSource:
    return LogSource(
        "app", tuple(map(str, paths)), limits=limits or Limits(), from_start=from_start
    )


def append(path: Path, *lines: str, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("".join(line + end for line in lines))


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number} of a log" for number in range(first, last)]


def rotated(path: Path, keep: int = 5) -> None:
    """By rename, as logrotate does without `create`."""
    older: Sequence[Path] = [path.with_name(f"{path.name}.{n}") for n in range(1, keep + 1)]
    for before, after in zip(older[-2::-1], older[:0:-1], strict=True):
        if before.exists():
            before.replace(after)
    path.replace(older[0])
