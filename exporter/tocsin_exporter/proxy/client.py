"""A client's connection to the proxy: that of all our servers, with its bounds, whose answers are
written as they come from the engine.
"""

from collections.abc import Callable
from typing import Any

from tocsin_exporter.http_server import HttpProtocol
from tocsin_exporter.proxy.exchange import Exchange

SCOPE_KEY = "tocsin.client"


class ClientConnection(HttpProtocol):
    """What uvicorn's server lacks for a proxy: headers as they were written, trailers, an answer
    without a change, and to know at once that a client has gone."""

    def __init__(self, monotonic: Callable[[], float], **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.monotonic = monotonic  # finer than that of the loop, which counts milliseconds
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.begun_at = 0.0
        self.exchange: Exchange | None = None

    # of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.raw_headers, self.trailers = [], []
        self.begun_at = self.monotonic()
        self.scope.update({SCOPE_KEY: self})  # type: ignore[misc]

    def on_header(self, name: bytes, value: bytes) -> None:
        in_head = bool(self._head_since)
        super().on_header(name, value)
        (self.raw_headers if in_head else self.trailers).append((name, value))

    # of asyncio

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.exchange is not None:
            self.exchange.gone()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Who ends its side has gone: no engine works for one that may not be there any more."""
        if self.exchange is not None:
            self.cycle.disconnected = True  # no answer is no fault of ours, and none for the log
            self.exchange.gone()
        return False

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.exchange is not None:
            self.exchange.resume()

    def _refuse(self, status: int) -> None:
        """What follows its beginning is no request: nothing more is written but the refusal."""
        super()._refuse(status)
        if self.exchange is not None:
            self.exchange.gone()

    # of an exchange

    @property
    def keeps(self) -> bool:
        """Whether the connection stays open after this answer; not before its request is whole."""
        return bool(self.cycle.keep_alive and not self.cycle.more_body)

    @property
    def old(self) -> bool:
        """Whether it speaks HTTP/1.0, which has no chunks."""
        return str(self.scope["http_version"]) == "1.0"

    def write(self, data: bytes) -> None:
        self.cycle.response_started, self.cycle.waiting_for_100_continue = True, False
        if not self.transport.is_closing():
            self.transport.write(data)

    def answered(self, keep: bool) -> None:
        """The answer is whole; `keep`: its end shows without that of the connection."""
        self.exchange = None
        cycle = self.cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if cycle.more_body and not self.transport.is_closing():
            self.linger()
        elif not (keep and cycle.keep_alive):
            self.transport.close()
        cycle.on_response()

    def drop_answer(self) -> None:
        """It cannot be ended as it began: the client must see that it is cut off."""
        self.exchange = None
        self.cycle.disconnected = True
        self.transport.abort()
