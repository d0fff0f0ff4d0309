"""The access log of the proxy: a line of JSON a request, never a body and never a key.

It is written on a thread: a disk that hangs costs lines, which are counted, and no request.
"""

import logging.handlers
import queue
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from tocsin_exporter.threads import Threads

_MOST_WAITING = 10_000  # lines
Fields = Mapping[str, str | int | float | None]


class _LogFile(logging.handlers.RotatingFileHandler):
    def doRollover(self) -> None:
        """With no old files to keep the standard library's would grow without end."""
        if self.backupCount:
            super().doRollover()
        elif self.stream is not None:
            self.stream.truncate(0)


class AccessLog:
    """Lines go into `path`; at `most_bytes` it becomes `path.1`, and so on up to `keep`."""

    def __init__(self, path: Path, most_bytes: int, keep: int, lost: Callable[[], None]) -> None:
        self._file = _LogFile(path, maxBytes=most_bytes, backupCount=keep, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(message)s"))
        self._file.handleError = self._failed  # type: ignore[method-assign]
        self._lost = lost
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = Threads(1, "access log").begin()
        self._writing = self._thread.submit(self._write)

    def add(self, line: Fields) -> None:
        if self._lines.qsize() >= _MOST_WAITING:
            self._lost()
        else:
            self._lines.put(orjson.dumps(line))

    def close(self, seconds: float) -> None:
        """Write what waits, for so long at most."""
        self._lines.put(None)
        try:
            self._writing.result(seconds)
        except TimeoutError:
            return
        self._file.close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            text = line.decode()
            self._file.emit(logging.LogRecord("access", logging.INFO, "", 0, text, None, None))

    def _failed(self, record: logging.LogRecord) -> None:
        """A full disk: the line is lost, and nothing is written of it elsewhere."""
        self._lost()
