"""The most bytes that a request may bring: a body is held in memory while it is read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 << 20


class BodyLimit:
    """Ends the reading with 413 as soon as it is known that a body is over `most` bytes: at once
    where the client says its length, else at the chunk that goes over."""

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES) -> None:
        self._app = app
        self._most = most

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
            read += len(message.get("body", b""))
            if read > self._most:
                raise self._refusal()
            return message

        await self._app(scope, limited, send)

    def _refusal(self) -> HTTPException:
        # the server throws the rest away as it comes; a close would take the answer from a client
        # that is still sending
        return HTTPException(413, f"the body has more than {self._most} bytes")
