"""The worker's log on standard error: lines in the shape of the agent's."""

from __future__ import annotations

import logging
from typing import TextIO

from tocsin_exporter.log_limit import LogLimit
from tocsin_exporter.logs import JsonLines, Logfmt

FORMATS = {"logfmt": Logfmt, "json": JsonLines}
# at info these repeat what our own lines say: the process, the address, each batch
_TALKATIVE = ("uvicorn.error", "uvicorn.access", "ContinuousBatchingLogger")


def configure(level: str, form: str, stream: TextIO) -> None:
    """Sends everything that is logged to `stream`; `level` is of LOG_LEVELS, `form` of FORMATS."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FORMATS[form]())
    handler.addFilter(LogLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    quiet = root.level if root.level <= logging.DEBUG else max(root.level, logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(quiet)
