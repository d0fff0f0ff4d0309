"""A webhook's receiver on loopback that takes everything at once and keeps when what came."""

import asyncio
import json
import re
import threading
import time
from contextlib import suppress

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class WebhookCounter:
    """On a thread of its own."""

    def __init__(self) -> None:
        self.port = 0
        self._received: list[tuple[float, str, str]] = []
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True).start()
        self._ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def times(self, alertname: str, status: str) -> list[float]:
        """When the messages came that say this of the alert, by the wall clock."""
        found = list(self._received)
        return [at for at, *about in found if about == [alertname, status]]

    async def _run(self) -> None:
        server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 20, backlog=4096
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                at = time.time()
                writer.write(_ANSWER)
                await writer.drain()
                said = json.loads(body)
                self._received.append((at, said["commonLabels"]["alertname"], said["status"]))
        writer.close()
