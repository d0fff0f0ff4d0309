"""Log lines in the shape of the agent's, so that one reader suits both: logfmt or JSON."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, TextIO

from tocsin_exporter.log_limit import LogLimit

FORMATS = ("logfmt", "json")
_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "color_message")  # the last is uvicorn's
}
_BARE = re.compile(r"[^\s=\"\\\x00-\x1f\x7f]+")
# at info these repeat what our own lines say: the process, the address, each batch
_TALKATIVE = ("uvicorn.error", "uvicorn.access", "ContinuousBatchingLogger")


class LineFormatter(logging.Formatter):
    """time=2026-11-21T08:27:57.623Z level=INFO source=server.py:51 msg="...", or that in JSON."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        line = fields(record)
        if self._json:
            return json.dumps(line, default=str, ensure_ascii=False)
        return " ".join(f"{key}={_quoted(value)}" for key, value in line.items())


def configure(level: str, form: str, stream: TextIO) -> None:
    """Sends everything that is logged to `stream`; `level` is one of LOG_LEVELS."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(form))
    handler.addFilter(LogLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    quiet = root.level if root.level <= logging.DEBUG else max(root.level, logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(quiet)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says, in its order; `extra=` of the call comes after the message."""
    at = datetime.fromtimestamp(record.created, UTC)
    line: dict[str, Any] = {
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _NAMES.get(record.levelno, record.levelname),
        "source": f"{record.filename}:{record.lineno}",
        "msg": record.getMessage(),
    }
    line |= {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}
    if record.exc_info:
        line["stack"] = logging.Formatter().formatException(record.exc_info)
    return line


def _quoted(value: Any) -> str:
    """A value with blanks, quotation marks or line ends is quoted, so that a line stays a line."""
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
