"""Log lines as Prometheus writes them: logfmt or JSON, to stderr."""

import json
import logging
import re
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from tocsin_exporter.log_limit import LogLimit

LogFormat = Literal["logfmt", "json"]
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}

_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "color_message")
}
MOST_CHARACTERS = {"msg": 8_192, "stack": 32_768}  # of a field; of all others:
_MOST_OTHERS = 1_024
_BARE = re.compile(r"[^\s=\"\\]+")


def configure(level: str, form: LogFormat, stream: TextIO | None = None) -> None:
    """Send everything that is logged to the stream, `sys.stderr` as it is now if none is given.

    Raises KeyError for an unknown level.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Logfmt() if form == "logfmt" else JsonLines())
    handler.addFilter(LogLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "apscheduler", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))


class Logfmt(logging.Formatter):
    """time=2026-11-21T08:27:57.623Z level=INFO source=agent.py:51 msg="..." key=value"""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in fields(record).items())


class JsonLines(logging.Formatter):
    """{"time": ..., "level": ..., "source": ..., "msg": ..., "key": ...}"""

    def format(self, record: logging.LogRecord) -> str:
        return visible(json.dumps(fields(record), default=str, ensure_ascii=False))


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says, in its order; `extra=` of the call comes after the message."""
    at = datetime.fromtimestamp(record.created, UTC)
    line: dict[str, Any] = {
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _NAMES.get(record.levelno, record.levelname),
        "source": f"{record.filename}:{record.lineno}",
        "msg": record.getMessage(),
    }
    for key, value in vars(record).items():
        if key not in _OWN_FIELDS:
            line.setdefault(key, value)  # none takes the place of the time or the level
    if record.exc_info:
        line["stack"] = logging.Formatter().formatException(record.exc_info)
    bounds = {key: MOST_CHARACTERS.get(key, _MOST_OTHERS) for key in line}
    return {key: _bounded(value, bounds[key]) for key, value in line.items()}


def _bounded(value: Any, most: int) -> Any:
    """Others choose how long their labels are: a line of half a megabyte is one that collectors
    break or drop."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    if len(text) <= most:
        return value
    return f"{text[:most]}… ({len(text) - most} characters more)"


def _quoted(value: Any) -> str:
    """A value with blanks, quotation marks or line ends is quoted, so that a line stays a line."""
    text = str(value)
    bare = _BARE.fullmatch(text) and text.isprintable()
    return text if bare else visible(json.dumps(text, ensure_ascii=False))


def visible(text: str) -> str:
    r"""What would steer a terminal or turn the direction of writing, as JSON escapes: `\u001b`.

    In a JSON document it is the same document after as before.
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    code = ord(char)
    if char.isprintable() or unicodedata.category(char) == "Zs":  # blanks, as Chinese has them
        return char
    return f"\\u{code:04x}" if code <= 0xFFFF else json.dumps(char)[1:-1]  # a surrogate pair
