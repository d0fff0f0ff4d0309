"""The body of a probed answer: counted, unpacked and matched, and never more of it than a bound."""

import asyncio
import zlib
from collections.abc import AsyncIterable, Callable, Iterator

import cramjam

from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import HeaderMatch, HttpProbe

MOST_KEPT = 16 << 20  # of a body that is matched, or packed by brotli
_BLOCK = 64 << 10
_BLOCKS_A_TURN = 16  # bombs, and thousands of chunks of a byte in one piece: others go on
_READ_AHEAD = 4096  # what Go's gzip reader has taken before it finds that it is none
_REGEX = "probe_failed_due_to_regex"
_WINDOWS = {"gzip": 31, "deflate": -15}


class CountedBody:
    """The unpacked bytes of an answer: `count` of them have come, `kept` holds them if wanted.

    Raises ProbeFailed from `read` for what cannot be unpacked or is larger than its limit.
    """

    def __init__(self, probe: HttpProbe, keep: bool) -> None:
        self.count, self.kept = 0, bytearray()
        self._blocks = 0
        self._coding = probe.compression.lower()
        self._limit, self._keep = probe.body_size_limit, keep
        self._stream: zlib._Decompress | None = None
        if self._coding in _WINDOWS:
            self._stream = zlib.decompressobj(_WINDOWS[self._coding])

    async def read(self, pieces: AsyncIterable[bytes]) -> None:
        packed = bytearray()
        async for piece in pieces:
            if self._coding == "br":
                packed += piece
                self._bounded(len(packed))
                await self._turn()
            else:
                for block in self._unpacked(piece):
                    self._take(block)
                    await self._turn()
        if self._coding == "br":
            self._take(_brotli(bytes(packed)))
        elif self._stream is not None and not self._stream.eof:
            raise ProbeFailed(f"the body is not whole {self._coding}")

    async def _turn(self) -> None:
        self._blocks += 1
        if self._blocks % _BLOCKS_A_TURN == 0:
            await asyncio.sleep(0)

    def _unpacked(self, piece: bytes) -> Iterator[bytes]:
        if self._stream is None:
            yield piece
            return
        try:
            while piece and not self._stream.eof:
                yield self._stream.decompress(piece, _BLOCK)
                piece = self._stream.unconsumed_tail
        except zlib.error:
            raise ProbeFailed(f"the body is not {self._coding}") from None

    def _take(self, block: bytes) -> None:
        room = self._limit - self.count if self._limit else len(block)
        part = block[:room]
        self.count += len(part)
        if self._keep:
            self._bounded(len(self.kept) + len(part))
            self.kept += part
        if len(block) > room:
            raise ProbeFailed(f"the body is larger than body_size_limit, {self._limit} bytes")

    def _bounded(self, size: int) -> None:
        if size > MOST_KEPT:
            raise ProbeFailed(f"the body is larger than {MOST_KEPT >> 20} MiB, set body_size_limit")


def _brotli(packed: bytes) -> bytes:
    room = cramjam.Buffer(bytearray(MOST_KEPT))
    try:
        size = cramjam.brotli.decompress_into(packed, room)
    except cramjam.DecompressionError:
        raise ProbeFailed("the body is not br, or too large") from None
    room.seek(0)
    return bytes(room.read(size))


def match_body(body: CountedBody, probe: HttpProbe, found: Findings) -> None:
    """Raises ProbeFailed for a body that must not be, and says which expression it was."""
    text = bytes(body.kept).decode("utf-8", "replace")
    _checked(found, lambda: _match_body(text, probe))


def _match_body(text: str, probe: HttpProbe) -> str:
    for pattern in probe.fail_if_body_matches:
        if pattern.search(text):
            return f"the body matches {pattern.pattern}"
    for pattern in probe.fail_if_body_not_matches:
        if not pattern.search(text):
            return f"the body does not match {pattern.pattern}"
    return ""


def match_headers(values: Callable[[str], list[str]], probe: HttpProbe, found: Findings) -> None:
    """`values` gives those of a header. Raises ProbeFailed."""
    _checked(found, lambda: _match_headers(values, probe))


def _match_headers(values: Callable[[str], list[str]], probe: HttpProbe) -> str:
    for wanted, checks in ((False, probe.fail_if_header_matches),
                           (True, probe.fail_if_header_not_matches)):  # fmt: skip
        for check in checks:
            if why := _match_header(values(check.header), check, wanted):
                return why
    return ""


def _match_header(held: list[str], check: HeaderMatch, wanted: bool) -> str:
    if not held:
        return "" if check.allow_missing else f"there is no header {check.header}"
    if any(check.regexp.search(value) for value in held) == wanted:
        return ""
    does = "does not match" if wanted else "matches"
    return f"header {check.header} {does} {check.regexp.pattern}"


def _checked(found: Findings, why: Callable[[], str]) -> None:
    words = why()
    found.set(_REGEX, bool(words))
    if words:
        raise ProbeFailed(words)
