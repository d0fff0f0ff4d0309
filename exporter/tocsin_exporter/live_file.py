"""A file that is read again when it has changed, while what it said last holds."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Generic, TypeVar

from tocsin_exporter.threads import in_thread

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
T = TypeVar("T")


class LiveFile(Generic[T]):
    """`current` is what the file said last. `load` reads it, and raises ValueError or OSError;
    `what` is what the log calls it. What it says is in no log."""

    def __init__(
        self, path: Path, load: Callable[[], T], what: str, thread: Executor | None = None
    ) -> None:
        self._stamps = stamps((path,))
        self.current = load()
        self._path, self._load, self._what, self._thread = path, load, what, thread
        self._failed = False
        self._again = False

    def __call__(self) -> T:
        return self.current

    def read_again(self) -> None:
        """At the next look, changed or not."""
        self._again = True

    async def follow(self) -> None:
        """Look each second, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await in_thread(self.look, self._thread)

    def look(self) -> None:
        """Read it again if it has changed, or could not be read. May wait for the disk; raises
        nothing."""
        found, again = stamps((self._path,)), self._again
        if found == self._stamps and not (self._failed or again):
            return
        changed = found != self._stamps or again
        self._stamps, self._again = found, False
        try:
            self.current = self._load()
        except (OSError, ValueError) as error:
            if changed or not self._failed:
                log.error("failed to read %s; the old one holds: %s", self._what, error)
            self._failed = True
            return
        self._failed = False
        log.info("%s read again", self._what, extra={"file": str(self._path)})


def stamps(files: Sequence[Path]) -> list[tuple[int, ...]]:
    """What changes when one of the files does."""
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            stat = file.stat()
            found.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(())
    return found
