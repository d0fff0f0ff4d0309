"""A chart as a PNG of a few kilobytes, drawn with nothing but zlib: mail programs show no SVG.

It has no background, and colours that are seen on white as on black. What its lines mean
stands beside it, in letters that every reader can enlarge.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Sequence

from tocsin_alerting.api.tocsin.answer_chart import STEP_MS, HourOfValues, Points, padded

WIDTH, HEIGHT = 640, 200  # shown at half of it, or less: a phone has two or three dots a pixel
_NOTHING, _AXIS, _MARK, _LIMIT = 0, 1, 2, 3
_LINES = (4, 5, 6, 7)
PALETTE = ("000000", "868e96", "868e96", "d9480f", "2b7fd4", "1f9254", "a05cc5", "a8740f")
_LEFT, _RIGHT, _TOP, _BOTTOM = 2, WIDTH - 3, 4, HEIGHT - 5
_DASH = 12


class _Canvas:
    def __init__(self) -> None:
        self._rows = [bytearray(WIDTH) for _ in range(HEIGHT)]

    def dot(self, x: int, y: int, colour: int, size: int = 2) -> None:
        for row in self._rows[max(y - size // 2, 0) : max(y - size // 2, 0) + size]:
            row[x : min(x + size, WIDTH)] = bytes([colour]) * (min(x + size, WIDTH) - x)

    def line(self, x0: int, y0: int, x1: int, y1: int, colour: int, dash: int = 0) -> None:
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            if not dash or step // dash % 2 == 0:
                x, y = x0 + (x1 - x0) * step // steps, y0 + (y1 - y0) * step // steps
                self.dot(x, y, colour, 3 if colour in _LINES else 2)

    def png(self) -> bytes:
        raw = b"".join(b"\0" + row for row in self._rows)
        head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
        colours = bytes.fromhex("".join(PALETTE))
        parts = (
            (b"IHDR", head),
            (b"PLTE", colours),
            (b"tRNS", b"\0"),
            (b"IDAT", zlib.compress(raw)),
            (b"IEND", b""),
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def chart_png(hour: HourOfValues, mark_ms: int) -> bytes:
    """The drawing, with an upright line at `mark_ms`; nothing where there is no number to draw."""
    numbers = list(_finite((*hour.lines, hour.limit)))
    if not any(True for _ in _finite(hour.lines)):
        return b""
    low, high = padded(min(numbers), max(numbers))
    canvas = _Canvas()

    def place(at_ms: float, value: float) -> tuple[int, int]:
        share = (at_ms - hour.start_ms) / (hour.end_ms - hour.start_ms)
        span = high / 2 - low / 2  # halves: a whole one may be more than a number can be
        height = (value / 2 - low / 2) / span if span else 0.5
        x = _LEFT + round(min(max(share, 0.0), 1.0) * (_RIGHT - _LEFT))
        return x, _BOTTOM - round(min(max(height, 0.0), 1.0) * (_BOTTOM - _TOP))

    canvas.line(_LEFT, _BOTTOM + 2, _RIGHT, _BOTTOM + 2, _AXIS)
    if hour.start_ms <= mark_ms <= hour.end_ms:
        x, _ = place(mark_ms, low)
        canvas.line(x, _TOP, x, _BOTTOM, _MARK, dash=4)
    for (at, value), (next_at, next_value) in _pairs(hour.limit, math.inf):
        canvas.line(*place(at, value), *place(next_at, next_value), _LIMIT, dash=_DASH)
    for colour, points in zip(_LINES, hour.lines, strict=False):
        for (at, value), (next_at, next_value) in _pairs(points, STEP_MS * 1.5):
            canvas.line(*place(at, value), *place(next_at, next_value), colour)
    return canvas.png()


def _finite(lines: Iterable[Points]) -> Iterable[float]:
    return (value for points in lines for _, value in points if math.isfinite(value))


def _pairs(
    points: Sequence[tuple[int, float]], longest_ms: float
) -> Iterable[tuple[tuple[int, float], tuple[int, float]]]:
    """Neighbours to join: none across a gap; what has none is joined with itself, a dot."""
    known = [point for point in points if math.isfinite(point[1])]
    for before, after in zip(known, known[1:] or known, strict=False):
        yield (before, after) if after[0] - before[0] <= longest_ms else (before, before)
    if known:
        yield known[-1], known[-1]
