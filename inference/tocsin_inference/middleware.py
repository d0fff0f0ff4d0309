"""What every request passes before its endpoint: the bearer key, HEAD, and the limit of bytes."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin_inference.errors import Outcome, Unauthorized
from tocsin_inference.responses import JsonResponse

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


_GUARDED = ("/v1/", "/generate", "/batch_generate", "/thinking")


class Guard:
    """The bearer key, where API_KEYS asks for one. Health, metrics and documentation stay open.

    Answers 401 in place of `app` unless the request carries one of `keys`."""

    def __init__(
        self, app: ASGIApp, keys: Sequence[str], refuse: Callable[[Outcome], None]
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
            await self._app(scope, receive, send)
        elif self._knows(Headers(scope=scope).get("authorization", "")):
            await self._app(scope, receive, send)
        else:
            error = Unauthorized("this worker needs a key: Authorization: Bearer <key>")
            if scope["method"] == "POST":
                self._refuse(error.outcome)
            headers = {"www-authenticate": "Bearer"}
            answer = JsonResponse(error.body(), status_code=error.status, headers=headers)
            await answer(scope, receive, send)

    def _knows(self, header: str) -> bool:
        scheme, _, key = header.partition(" ")
        given = key.strip().encode("utf-8", "surrogateescape")
        # every key is compared, in constant time, so that time says nothing about them
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        return scheme.lower() == "bearer" and any(matches)


class Head:
    """HEAD, which health checks like to send: what GET would answer, without the body.

    Gives `app` a GET in place of a HEAD; the server knows the difference and sends no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: the server goes by its own
        await self._app(scope, receive, send)
