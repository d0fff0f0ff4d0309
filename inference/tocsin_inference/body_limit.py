"""The most bytes that requests may bring: a body is held in memory until it is answered."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 << 20
MOST_HELD = 64 << 20  # bytes of large bodies, all requests together
LARGE = 64 << 10  # bytes: what every request may bring, whatever the others have brought


class BodyLimit:
    """Ends the reading with 413 as soon as it is known that a body is over `most` bytes: at once
    where the client says its length, else at the chunk that goes over. Ends it with 429 while all
    open requests together hold more than `most_held`."""

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES, most_held: int = MOST_HELD) -> None:
        self._app = app
        self._most = most
        self._most_held = most_held
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = int(Headers(scope=scope).get("content-length", 0))
        read = 0

        async def limited() -> Message:
            nonlocal read
            if announced > self._most:
                raise self._refusal()
            message = await receive()
            before, read = read, read + len(message.get("body", b""))
            self._held += _over(read) - _over(before)
            if read > self._most:
                raise self._refusal()
            if self._held > self._most_held:
                raise HTTPException(429, "too many large requests are open: try again later")
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._held -= _over(read)

    def _refusal(self) -> HTTPException:
        # the server throws the rest away as it comes; a close would take the answer from a client
        # that is still sending
        return HTTPException(413, f"the body has more than {self._most} bytes")


def _over(read: int) -> int:
    return max(0, read - LARGE)
