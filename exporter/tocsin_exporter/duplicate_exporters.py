"""Other exporters of the same metrics on this machine: with both scraped, every sum counts twice.

They are looked for on the ports that their packages use, and named in the log once each.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
_FIRST_SECONDS = 10.0  # after a boot they may come up later than we do
_WAIT_SECONDS = 2.0
_MOST_BYTES = 4 << 20
_REQUEST = b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"
_OURS = b"\ntocsin_build_info"  # an agent of ours may have the usual port of another


@dataclass(frozen=True, slots=True)
class OtherExporter:
    """`mark` is a name on its page that ours shares; `area` is what of ours says the same."""

    name: str
    port: int
    mark: bytes
    area: str


OTHERS = (
    OtherExporter("node_exporter", 9100, b"\nnode_exporter_build_info", "host"),
    OtherExporter("dcgm-exporter", 9400, b"\nDCGM_FI_", "gpu"),
    OtherExporter("process-exporter", 9256, b"\nnamedprocess_namegroup_", "process"),
)


async def metrics_page(port: int) -> bytes:
    """What answers on this machine's `port`, up to some megabytes. Raises OSError, TimeoutError."""
    async with asyncio.timeout(_WAIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_REQUEST)
            return await _whole(reader)
        finally:
            writer.transport.abort()


async def _whole(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < _MOST_BYTES and (piece := await reader.read(1 << 16)):
        pieces.append(piece)
    return b"".join(pieces)


class DuplicateExporters:
    """Looks for `others` and warns of each that answers, again when it has been away."""

    def __init__(
        self,
        areas: Iterable[str],
        page: Callable[[int], Awaitable[bytes]] = metrics_page,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        others: Iterable[OtherExporter] = OTHERS,
    ) -> None:
        self._others = [other for other in others if other.area in set(areas)]
        self._page, self._sleep = page, sleep
        self._answers: Mapping[str, bool] = {}

    async def follow(self) -> None:
        """Look for ever."""
        await self._sleep(_FIRST_SECONDS)
        while True:
            await self.look()
            await self._sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask each port once; raises nothing."""
        answers = {other.name: await self._is_there(other) for other in self._others}
        for other in self._others:
            if answers[other.name] and not self._answers.get(other.name):
                log.warning(
                    "%s answers on this machine too: scrape one of the two, or sums count twice;"
                    " stop it, or scrape us without the area %s (exclude[]=%s)",
                    other.name,
                    other.area,
                    other.area,
                    extra={"address": f"127.0.0.1:{other.port}"},
                )
        self._answers = answers

    async def _is_there(self, other: OtherExporter) -> bool:
        try:
            page = await self._page(other.port)
        except (OSError, TimeoutError):
            return False
        return other.mark in page and _OURS not in page
