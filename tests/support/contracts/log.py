"""The log: there is no other side."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support.channel_contract import ChannelContract


@dataclass
class _Lines(logging.Handler):
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@asynccontextmanager
async def _log() -> AsyncIterator[_Lines]:
    lines, logger = _Lines(), logging.getLogger("tocsin.page")
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)


CONTRACT = ChannelContract(
    kind="log",
    section=lambda _: {},
    double=_log,
    heard=lambda log: log.lines[-1],
    # a second line would be another message to who reads the log
    mentioned=lambda log: [line for line in log.lines if not line.isprintable()],
    http=False,
    has_link=False,
    answers={},
)
