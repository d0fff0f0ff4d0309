"""A bound on how often the log says the same thing, where strangers can make it say it.

Lines of one kind have the logger and the message template in common, whatever they are filled
with. After the first MOST of a minute (MOST_OF for some loggers) the others are counted, and one
line says how many they were. What can page, and what became of it, is never left out: only the
loggers in LIMITED are looked at.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

MOST = 20
MOST_OF = {"tocsin_exporter.loop_watchdog": 1}  # each has a stack; a starved machine blocks often
LIMITED = (
    *("asyncio", "uvicorn", "tocsin_exporter", "tocsin_inference", "tocsin.worker"),
    *("tocsin_alerting.api", "tocsin_alerting.remote_write", "tocsin_alerting.local"),
    "tocsin_alerting.tsdb.head.remote_limits",
)
_WINDOW_SECONDS = 60.0
_MOST_KINDS = 1000  # templates are written in programs: nobody reaches it but by a fault

Later = Callable[[float, Callable[[], None]], None]


@dataclass(slots=True)
class _Kind:
    began: float
    most: int
    lines: int = 0
    record: logging.LogRecord | None = None  # the last that was left out


class LogLimit(logging.Filter):
    """Of a handler. `later` calls a function after so many seconds. Where it cannot (no room for a
    thread), what was left out is said with the first line after the minute. It never raises."""

    def __init__(self, most: int = MOST, later: Later | None = None) -> None:
        super().__init__()
        self._most, self._later = most, later or _in_a_thread
        self._kinds: dict[tuple[str, int, str], _Kind] = {}
        self._lock = threading.Lock()
        self._overdue: list[_Kind] = []  # nobody calls for these

    def filter(self, record: logging.LogRecord) -> bool:
        asked_for = record.levelno < logging.INFO or hasattr(record, "lines_left_out")
        if asked_for or not _is_limited(record.name):
            return True
        if self._overdue:
            self._catch_up(record.created)
        key = record.name, record.levelno, str(record.msg)
        with self._lock:
            kind = self._kinds.get(key)
            if kind is None or not 0 <= record.created - kind.began < _WINDOW_SECONDS:
                if len(self._kinds) >= _MOST_KINDS:
                    self._kinds = {k: kind for k, kind in self._kinds.items() if kind.record}
                most = min(self._most, MOST_OF.get(record.name, self._most))
                kind = self._kinds[key] = _Kind(record.created, most)
            kind.lines += 1
            if kind.lines <= kind.most:
                return True
            if kind.record is None:
                self._plan(kind, record.created)
            kind.record = record
            return False

    def _plan(self, kind: _Kind, now: float) -> None:
        rest = max(0.0, kind.began + _WINDOW_SECONDS - now)
        try:
            self._later(rest, lambda: self._sum_up(kind))
        except (RuntimeError, MemoryError):
            self._overdue.append(kind)

    def _catch_up(self, now: float) -> None:
        with self._lock:
            kinds, self._overdue = self._overdue, []
            due = [kind for kind in kinds if not 0 <= now - kind.began < _WINDOW_SECONDS]
            self._overdue = [kind for kind in kinds if kind not in due]
        for kind in due:
            self._sum_up(kind)

    def _sum_up(self, kind: _Kind) -> None:
        with self._lock:
            record, more = kind.record, kind.lines - kind.most
            kind.record, kind.lines = None, kind.most
        if record is not None:
            extra = {"lines_left_out": more, "last": _message(record)[:200]}
            logging.getLogger(record.name).log(
                record.levelno, "%d more like this in the last minute", more, extra=extra
            )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # why: values that do not fit a template must not end whoever logs next
        return str(record.msg)


def _is_limited(name: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in LIMITED)


def _in_a_thread(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
