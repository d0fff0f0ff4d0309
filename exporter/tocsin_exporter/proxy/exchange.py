"""One request through the proxy: a client on one side, a connection to the engine on the other."""

import asyncio
import http
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import orjson

from tocsin_exporter.proxy.upstream import (
    Headers,
    ResponseHead,
    UpstreamConnection,
    UpstreamFault,
)

# RFC 9110, 7.6.1: what is about one connection and none of the message
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"proxy-authenticate")
)
_OURS = frozenset((b"expect", b"proxy-authorization"))  # answered by us


class Client(Protocol):
    """What an exchange needs of a client's connection."""

    @property
    def monotonic(self) -> Callable[[], float]: ...

    @property
    def keeps(self) -> bool: ...

    @property
    def old(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def answered(self, keep: bool) -> None: ...

    def drop_answer(self) -> None: ...


class Refusal(Exception):
    """The proxy answers itself: HTTP status, OpenAI's type of error, and words."""

    def __init__(self, status: int, kind: str, words: str, headers: Headers = ()) -> None:
        super().__init__(words)
        self.status, self.kind, self.words, self.headers = status, kind, words, tuple(headers)


class Watcher(Protocol):
    """Who measures an answer as it passes."""

    def answers(self, status: int, media: bytes, coded: bool) -> None: ...

    def passed(self, pieces: Sequence[bytes], now: float) -> None: ...


class Exchange:
    """The answer is written as it comes, and looked at by `watcher` after that. `done` ends with
    it, or raises UpstreamFault; when the client goes, `task` is cancelled, once."""

    def __init__(
        self, client: Client, watcher: Watcher | None, task: "asyncio.Task[object]"
    ) -> None:
        self.left = False  # the client has gone
        self.status = 0  # of what the client was told
        self.bytes_out = 0
        self.ended_at: float | None = None
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.connection: UpstreamConnection | None = None
        self._client, self._watcher, self._task = client, watcher, task
        self._head: ResponseHead | None = None
        self._raw = True
        self._keep = False
        self._paused = False

    # of the client

    def gone(self) -> None:
        """The engine hears of it at once."""
        if not self.left and not self.done.done():
            self.left = True
            self.abort()
            self._task.cancel()

    def abort(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def pause(self) -> None:
        self._paused = True
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        self._paused = False
        if self.connection is not None:
            self.connection.resume()

    # of the engine

    def begin(self, head: ResponseHead) -> None:
        self._head, self.status = head, head.status
        self._raw = not (head.chunked and self._client.old)
        named = {name.lower(): value for name, value in head.headers}
        self._keep = self._client.keeps and head.delimited and self._raw
        self._client.write(_response_head(head, self._raw, self._keep))
        if self._watcher is not None:
            coded = named.get(b"content-encoding", b"identity").lower() != b"identity"
            self._watcher.answers(head.status, named.get(b"content-type", b""), coded)

    def passed(self, raw: bytes, contents: Sequence[bytes]) -> None:
        now = self._client.monotonic()
        self._client.write(raw if self._raw else b"".join(contents))
        self.bytes_out += sum(map(len, contents))
        if self._watcher is not None and contents:
            self._watcher.passed(contents, now)
        if self._paused and self.connection is not None:
            self.connection.pause()

    def ended(self) -> None:
        self.connection, self.ended_at = None, self._client.monotonic()
        self._client.answered(self._keep)
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, fault: UpstreamFault) -> None:
        self.connection = None
        if not self.done.done():
            self.done.set_exception(fault)

    # of the proxy

    @property
    def begun(self) -> bool:
        return self._head is not None

    def refuse(self, refusal: Refusal) -> None:
        """Answer in OpenAI's words; an answer that has begun is cut off."""
        self.abort()
        if self.begun:
            self._client.drop_answer()
            return
        self.status = refusal.status
        keep = self._client.keeps
        self._client.write(_refusal(refusal, keep))
        self._client.answered(keep)


def request_head(
    method: str, target: bytes, headers: Headers, without: frozenset[bytes], more: Headers
) -> bytes:
    """The head for the engine: all headers as they were written but those of one connection, and
    those `without`."""
    named = frozenset(_connection_options(headers))
    lines = [b"%s %s HTTP/1.1\r\n" % (method.encode("ascii"), target)]
    for name, value in headers:
        key = name.lower()
        if not (key in _HOP_BY_HOP or key in _OURS or key in named or key in without):
            lines.append(b"%s: %s\r\n" % (name, value))
    lines += (b"%s: %s\r\n" % header for header in more)
    lines.append(b"\r\n")
    return b"".join(lines)


def trailer(headers: Headers) -> bytes:
    """The end of a body in chunks."""
    return b"".join((b"0\r\n", *(b"%s: %s\r\n" % header for header in headers), b"\r\n"))


_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"host"))


def _connection_options(headers: Headers) -> Iterator[bytes]:
    """The headers that Connection names as its own; never those that frame the message."""
    for name, value in headers:
        if name.lower() == b"connection":
            yield from {word.strip().lower() for word in value.split(b",")} - _FRAMING


def _response_head(head: ResponseHead, raw: bool, keep: bool) -> bytes:
    named = frozenset(_connection_options(head.headers))
    lines = [b"HTTP/1.1 %d %s\r\n" % (head.status, head.reason or _phrase(head.status))]
    for name, value in head.headers:
        key = name.lower()
        if key in _HOP_BY_HOP - {b"proxy-authenticate"} or key in named:
            continue
        if raw or key != b"transfer-encoding":
            lines.append(b"%s: %s\r\n" % (name, value))
    lines.append(b"\r\n" if keep else b"Connection: close\r\n\r\n")
    return b"".join(lines)


def _phrase(status: int) -> bytes:
    """Gateways have numbers of their own (nginx's 499, Cloudflare's 520): those have none."""
    known = status in http.HTTPStatus._value2member_map_
    return http.HTTPStatus(status).phrase.encode("ascii") if known else b""


def _refusal(refusal: Refusal, keep: bool) -> bytes:
    error = {
        "message": refusal.words,
        "type": refusal.kind,
        "param": None,
        "code": refusal.status,
    }
    body = orjson.dumps({"error": error})
    head = [b"HTTP/1.1 %d %s\r\n" % (refusal.status, _phrase(refusal.status))]
    head.append(b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body))
    head += (b"%s: %s\r\n" % header for header in refusal.headers)
    head.append(b"\r\n" if keep else b"Connection: close\r\n\r\n")
    return b"".join((*head, body))
