"""The HTTP client of the agent, and the one place that reads the body of an answer.

Whoever answers may be hostile: a body without end, one that unpacks to gigabytes, one in a million
pieces. It is read up to a limit, before and after it is unpacked, and in slices that leave the
loop to others. The time is limited by whoever asks, with `asyncio.timeout` around the whole.
"""

import asyncio
import codecs
import errno
import logging
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator

import httpx2 as httpx

from tocsin_exporter.http_network import Network
from tocsin_exporter.lookup import LACKS, Lookup

__all__ = [
    "CUT_OFF",
    "BadAnswer",
    "BrokenOff",
    "TooLarge",
    "error_text",
    "has_proxy",
    "httpx",
    "looking_up",
    "read_bytes_now",
    "read_text",
    "read_text_now",
    "own_shortage",
]

for _name in ("httpx2", "httpcore2"):  # a line a request, every second, says nothing
    logging.getLogger(_name).setLevel(logging.WARNING)

CUT_OFF = "its answer ends too early"
MOST_PIECES = 20_000  # and one for each 512 bytes that may come: a packet holds more
_BLOCK = 64 << 10
_NO_THREAD = "can't start new thread"
_PIECES_A_TURN = 64
_ONLY_IN_WORDS = (errno.EBUSY, socket.EAI_MEMORY)  # what the resolver says, not the system
_NUMBERED = re.compile(r"\[Errno (-?\d+)\] (.+)", re.DOTALL)
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_GZIP = b"\x1f\x8b"  # a stream of gzip may be several, one after the other


class BadAnswer(Exception):
    """A body that cannot be read as what it says it is; the message ends "its answer ...".
    `beginning` is what could be read of it, where somebody kept it."""

    beginning = ""


class TooLarge(BadAnswer):
    """A body longer than we take, packed or unpacked."""


class BrokenOff(BadAnswer):
    """The connection ended, or nothing of HTTP came any more, before the answer was whole."""


def error_text(error: BaseException) -> str:
    """Why a request failed, as an operator would say it: "connection refused", without numbers of
    the system, and without the address, which whoever asked knows."""
    text = str(error) or type(error).__name__
    if (numbered := _NUMBERED.fullmatch(text)) is None:
        return text
    number, words = numbered.groups()
    if words.startswith("Connect call failed"):  # asyncio's for every failure of connect
        words = os.strerror(int(number))
    return words[0].lower() + words[1:]


def own_shortage(error: BaseException) -> str:
    """What we ourselves lacked for a request that failed: a thread, a descriptor, memory; "" for
    every other failure. It tells nothing of whoever was asked."""
    if isinstance(error, BaseExceptionGroup):  # the addresses of one name
        lacks = [own_shortage(inner) for inner in error.exceptions]
        return lacks[0] if all(lacks) else ""
    if isinstance(error, MemoryError):
        return str(error) or type(error).__name__
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return str(error)
    if isinstance(error, OSError) and error.errno in LACKS:
        in_words = error.errno in _ONLY_IN_WORDS and error.strerror
        return in_words or os.strerror(error.errno)
    cause = error.__cause__ or error.__context__  # the HTTP library hides some as "from None"
    return own_shortage(cause) if cause is not None else ""


def looking_up(client: httpx.AsyncClient, lookup: Lookup) -> httpx.AsyncClient:
    """`client`, which connects by `lookup` alone, also to a proxy. The library gives no other way
    to its connections that keeps proxies."""
    network = Network(lookup)
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.AsyncHTTPTransport):
            transport._pool._network_backend = network
    return client


def has_proxy(client: httpx.AsyncClient) -> bool:
    """Whether any request goes through a proxy of the environment; NO_PROXY alone names none."""
    return any(client._mounts.values())


async def read_text(
    response: httpx.Response, most_bytes: int, cut: bool = False, into: list[str] | None = None
) -> str:
    """The body of a streamed answer as text; what is no UTF-8 is replaced.

    With `cut` a longer one ends after `most_bytes`; `into` gets what has come, also when the rest
    does not. Raises TooLarge, BadAnswer and httpx's errors.
    """
    texts = [] if into is None else into
    body, since = _Body(response.headers, most_bytes, cut, texts), 0
    async for piece in response.aiter_raw():
        for _ in body.take(piece):
            await asyncio.sleep(0)
        since += 1
        if body.full:
            break
        if since == _PIECES_A_TURN:
            since = 0
            await asyncio.sleep(0)
    return body.text()


def read_text_now(
    response: httpx.Response, most_bytes: int, seconds: float, clock: Callable[[], float]
) -> str:
    """The same for a program that waits for nothing else. Raises TimeoutError as well: the whole
    has to come in `seconds` of `clock`."""
    body, until = _Body(response.headers, most_bytes, False, []), clock() + seconds
    for piece in response.iter_raw():
        for _ in body.take(piece):
            pass
        if clock() > until:
            raise TimeoutError(f"its answer has not ended after {seconds:g} s")
    return body.text()


def read_bytes_now(response: httpx.Response, most_bytes: int) -> bytes:
    """The body as it comes, packed or not, for the same. Raises TooLarge."""
    pieces: list[bytes] = []
    left = most_bytes
    for piece in response.iter_raw():
        left -= len(piece)
        if left < 0:
            raise TooLarge(f"its answer is larger than {most_bytes / (1 << 20):g} MiB")
        pieces.append(piece)
    return b"".join(pieces)


class _Body:
    """What has come of a body so far; `full` when no more is wanted."""

    def __init__(
        self, headers: httpx.Headers, most_bytes: int, cut: bool, texts: list[str]
    ) -> None:
        self.full = False
        self._most = self._left = self._left_packed = most_bytes
        self._cut = cut
        self._pieces = MOST_PIECES + most_bytes // 512
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._texts = texts
        self._unpack = _unpacker(headers)
        length = headers.get("content-length", "")
        if not cut and length.isascii() and length.isdigit() and int(length[:18]) > most_bytes:
            raise self._too_large()

    def take(self, piece: bytes) -> Iterator[None]:
        """Yields after each block."""
        self._pieces -= 1
        self._left_packed -= len(piece)
        if self._pieces < 0 or (self._left_packed < 0 and not self._cut):
            raise self._too_large()
        for block in self._blocks(piece):
            if self._pieces < 0 or (len(block) > self._left and not self._cut):
                raise self._too_large()
            self._texts.append(self._decode(block[: self._left]))
            self._left -= len(block)
            if self._left <= 0 and self._cut:
                self.full = True
                return
            yield

    def text(self) -> str:
        if self._unpack is not None and not (self.full or self._unpack.whole):
            raise BadAnswer(CUT_OFF)  # its last number may be half of one
        self._texts.append(self._decode(b"", True))
        return "".join(self._texts)

    def _blocks(self, piece: bytes) -> Iterator[bytes]:
        unpack = self._unpack
        if unpack is None:
            yield from (piece[at : at + _BLOCK] for at in range(0, len(piece), _BLOCK))
            return
        for block in unpack.blocks(piece):
            yield block
            self._pieces -= unpack.whole  # each stream within it costs as much as a piece

    def _too_large(self) -> TooLarge:
        if self._pieces < 0:
            return TooLarge("its answer comes in too many pieces")
        return TooLarge(f"its answer is larger than {self._most / (1 << 20):g} MiB")


class _Unpacker:
    """`whole` while what has come ends where it says, as does a body of nothing."""

    def __init__(self, window: int) -> None:
        self.whole = True
        self._window = window
        self._stream = zlib.decompressobj(window)
        self._held = b""  # it may be the first byte of another stream

    def blocks(self, piece: bytes) -> Iterator[bytes]:
        """What `piece` adds. Raises BadAnswer."""
        piece = self._held + piece
        try:
            while piece := self._next(piece):
                yield self._stream.decompress(piece, _BLOCK)
                self.whole = self._stream.eof
                piece = self._stream.unconsumed_tail or self._stream.unused_data
        except zlib.error:
            raise BadAnswer("its answer is not packed as it says") from None

    def _next(self, piece: bytes) -> bytes:
        """`piece`, or nothing when it follows the end and begins no other stream."""
        self._held = b""
        if not self._stream.eof:
            return piece
        if self._window == _WINDOWS["gzip"] and piece.startswith(_GZIP):
            self._stream = zlib.decompressobj(self._window)
            return piece
        self._held = piece if piece == _GZIP[:1] else b""
        return b""


def _unpacker(headers: httpx.Headers) -> _Unpacker | None:
    """None for a body that is not packed. One packed twice is a bomb, not an answer."""
    named = [coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")]
    packed = [encoding for encoding in named if encoding not in ("", "identity")]
    if not packed:
        return None
    if len(packed) > 1 or packed[0] not in _WINDOWS:
        raise BadAnswer(
            f"its answer is packed in a way that we did not ask for: {str(packed)[:100]}"
        )
    return _Unpacker(_WINDOWS[packed[0]])
