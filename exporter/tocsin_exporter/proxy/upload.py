"""What a client uploads, read before its request takes a place: who sends slowly holds none."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tocsin_exporter.relative_redirects import Receive

MOST_AHEAD = 128 << 20  # bytes, of all requests together


@dataclass(slots=True)
class Upload:
    """The body of one request as far as it was read; `more` follows it. `ahead` bytes of it are
    counted as read before their time."""

    read: bytes = b""
    more: bool = False
    ahead: int = 0

    def take(self) -> bytes:
        """What was read, which is nobody's to keep from now on."""
        read, self.read = self.read, b""
        return read


class ReadAhead:
    """Bodies that are in memory while their requests wait for a place. When all of them together
    are `most` bytes, the rest of a body is read once its request has a place."""

    def __init__(self, most: int = MOST_AHEAD) -> None:
        self.held = 0
        self._most = most

    async def whole(
        self, upload: Upload, receive: Receive, check_size: Callable[[int], None]
    ) -> None:
        """Read the rest of it, as far as there is room. Raises what `check_size` raises."""
        pieces = [upload.take()]
        self._hold(upload, len(pieces[0]))
        while upload.more and self.held < self._most:
            piece, upload.more = await next_piece(receive)
            pieces.append(piece)
            self._hold(upload, len(piece))
            check_size(upload.ahead)
        upload.read = b"".join(pieces)

    def _hold(self, upload: Upload, size: int) -> None:
        upload.ahead += size
        self.held += size

    def release(self, upload: Upload) -> None:
        """It is on its way to the engine, or given up."""
        self.held -= upload.ahead
        upload.ahead = 0


async def next_piece(receive: Receive) -> tuple[bytes, bool]:
    """A piece of a request's body, and whether more follows; waits for the client."""
    message = await receive()
    if message["type"] == "http.disconnect":
        await asyncio.get_running_loop().create_future()  # `gone` ends it
    return message.get("body", b""), bool(message.get("more_body", False))
