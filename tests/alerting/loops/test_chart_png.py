"""The chart of a mail, read again by the PNG specification."""

import math
import struct
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin_alerting.api.tocsin.answer_chart import STEP_MS, HourOfValues
from tocsin_alerting.loops.chart_png import HEIGHT, PALETTE, WIDTH, chart_png

END = 3_600_000


def decoded(png: bytes) -> list[bytes]:
    """The rows of colour numbers; each part of the file has its length and its checksum."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts = 8, dict[bytes, bytes]()
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", png, at + 8 + size)[0] == zlib.crc32(kind + data)
        parts[kind] = data
        at += 12 + size
    assert list(parts) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", parts[b"IHDR"]) == (WIDTH, HEIGHT, 8, 3, 0, 0, 0)
    raw = zlib.decompress(parts[b"IDAT"])
    assert len(raw) == (WIDTH + 1) * HEIGHT
    rows = [raw[start : start + WIDTH + 1] for start in range(0, len(raw), WIDTH + 1)]
    assert {row[0] for row in rows} == {0}
    return [row[1:] for row in rows]


def drawn(*lines: list[float], limit: float | None = None, mark_ms: int = -1) -> bytes:
    points = tuple(tuple((n * STEP_MS, v) for n, v in enumerate(line)) for line in lines)
    level = () if limit is None else ((0, limit), (END, limit))
    return chart_png(HourOfValues(0, END, points, level), mark_ms)


def columns(rows: list[bytes], colour: int) -> list[int]:
    return [x for x in range(WIDTH) if any(row[x] == colour for row in rows)]


def heights(rows: list[bytes], colour: int) -> list[int]:
    return [y for y, row in enumerate(rows) if colour in row]


def test_a_line_its_threshold_and_when_it_fired() -> None:
    rows = decoded(drawn([n / 120 for n in range(121)], limit=0.5, mark_ms=END // 2))
    assert rows[HEIGHT // 2].count(0) > WIDTH / 2  # no background
    line, limit, mark = columns(rows, 4), columns(rows, 3), columns(rows, 2)
    assert line[0] <= 4 and line[-1] >= WIDTH - 5  # the whole hour
    first, last = (next(y for y, row in enumerate(rows) if row[x] == 4) for x in (10, WIDTH - 10))
    assert last < 20 < HEIGHT - 20 < first  # it rises
    assert abs(sum(heights(rows, 3)) / len(heights(rows, 3)) - HEIGHT / 2) < 8
    assert 0.3 < len(limit) / WIDTH < 0.7  # dashed
    assert mark and abs(mark[0] - WIDTH // 2) < 4 and len(mark) <= 3


def test_a_gap_is_a_gap_and_one_value_a_dot() -> None:
    rows = decoded(drawn([1.0, math.nan, math.nan, *[2.0] * 30]))
    line = columns(rows, 4)
    assert line[0] < 5 and 8 not in line and 4 * WIDTH // 120 in line


def test_it_is_small_and_nothing_is_drawn_of_nothing() -> None:
    busy = [[math.sin(n * k) for n in range(121)] for k in (1, 2, 3, 4)]
    assert 200 < len(drawn(*busy, limit=0.5, mark_ms=5)) < 10_000
    assert drawn() == drawn([]) == drawn([math.nan, math.inf], limit=3.0) == b""


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(), max_size=60), max_size=5), st.none() | st.floats())
def test_whatever_the_numbers_are_it_is_a_picture(
    lines: list[list[float]], limit: float | None
) -> None:
    png = drawn(*lines, limit=limit, mark_ms=7)
    if png:
        assert {colour for row in decoded(png) for colour in row} <= set(range(len(PALETTE)))
