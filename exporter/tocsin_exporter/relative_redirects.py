"""Redirects of a server that sends nobody to a host of a stranger's choice.

Nothing but the standard library is imported here.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_GONE = "the handler is closed"  # uvloop's words until the protocol hears of the connection's end


class RelativeRedirects:
    """An app that sends nobody to the Host that a request was made to: anybody can name one.

    What it sends to a client that has just gone is nothing, as it is a moment later."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def relative(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                message["headers"] = [
                    (name, _relative(value) if name.lower() == b"location" else value)
                    for name, value in message.get("headers", ())
                ]
            try:
                await send(message)
            except RuntimeError as error:
                if _GONE not in str(error):
                    raise

        await self._app(scope, receive, relative)


def _relative(location: bytes) -> bytes:
    parts = urlsplit(location.decode("latin-1"))
    # Two "/" would begin a host; a query alone is of the same page, below the path of a proxy.
    path = "/" + parts.path.lstrip("/") if any(parts[:3]) else ""
    return (f"{path}?{parts.query}" if parts.query else path).encode("latin-1")
