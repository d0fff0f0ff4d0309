"""What a source of lines is."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from tocsin_exporter.tailing.budget import LineBudget
from tocsin_exporter.tailing.followed_path import FileCounts


class Batch(NamedTuple):
    """Lines without their ends; `levels` are what their source says of each, "" for nothing."""

    lines: Sequence[bytes]
    levels: Sequence[str] = ()


class LogReader(Protocol):
    """Used by one thread."""

    counts: FileCounts
    behind: int  # bytes that are there and were not read
    trouble: str  # why lines cannot be read, "" for nothing

    @property
    def files(self) -> int: ...

    def read(self, budget: LineBudget) -> Batch:
        """The next lines; none if there is none now."""
        ...

    def settle(self) -> None:
        """A round is over."""
        ...

    def position(self) -> Any:
        """JSON, from which a later one goes on."""
        ...

    def close(self) -> None: ...
