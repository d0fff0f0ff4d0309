"""A collector made of one function that never waits: kernel files, counters of our own."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.snapshot import Sample

_MOST = 65536


class Reading:
    """Calls `read` on the loop: for what takes microseconds and cannot hang."""

    def __init__(self, name: str, read: Callable[[], Iterable[Sample]]) -> None:
        self.name = name
        self._read = read

    async def collect(self) -> Sequence[Sample]:
        try:
            return list(self._read())
        except FileNotFoundError as error:
            raise Unavailable(f"{error.filename} does not exist on this machine") from error
        except OSError as error:
            raise CollectorError(f"cannot read {error.filename}: {error.strerror}") from error
        except (ValueError, LookupError) as error:
            raise CollectorError(f"cannot parse what the kernel says: {error}") from error

    def close(self) -> None:
        return


def text(path: str | Path) -> str:
    """What a kernel file says; bytes that are not UTF-8 become U+FFFD, as in node_exporter.

    The kernel gives such a file a page or so at a time, whatever the buffer. Plain system calls,
    because a file object makes three more of them.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(file, _MOST)]
        while parts[-1]:
            parts.append(os.read(file, _MOST))
    finally:
        os.close(file)
    return b"".join(parts).decode("utf-8", "replace")
