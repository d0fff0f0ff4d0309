"""Cells of some series over some columns as bytes, and back bit by bit.

Each series is written in the encoding that suits it, all exact:

    0               its bits, XORed with those of the cell before
    1 + 2k          the cells times 10**SCALES[k], which are whole, as differences
    2 + 2k          the same, as differences of differences: a counter that grows evenly

Whole numbers, hundredths of a second and percentages take the latter, which is why this is
smaller than XOR alone; what has gaps or a full mantissa takes the first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.tsdb.byteshuffle import (
    BytePlanes,
    Words,
    pack,
    unpack,
    unpack_planes,
    unzigzag,
    zigzag,
)
from tocsin_alerting.tsdb.values import Floats, Ints, Mask

SCALES = (0, 1, 2, 3, 4, 6, 9)
LEVEL = 6
_XOR = 0
_EXACT = 2.0**53


def encode(cells: Floats) -> bytes:
    """`cells` (columns, series): one byte a series that says its encoding, then the packed
    words."""
    series = np.ascontiguousarray(cells.T)
    encodings, whole = _encodings(series)
    words = np.empty(series.shape, np.uint64)
    for encoding in np.unique(encodings).tolist():
        rows = encodings == encoding
        words[rows] = (
            _xored(series[rows]) if encoding == _XOR else _differences(whole[rows], encoding)
        )
    flat = np.concatenate([words[:, :1].reshape(-1), words[:, 1:].reshape(-1)])
    return encodings.tobytes() + pack(flat, LEVEL)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedChunk:
    """Cells (columns, series) of which any series can be decoded without the others: the encoding
    of each (series,), and the packed words as byte planes (8, columns * series)."""

    encodings: NDArray[np.uint8]
    planes: BytePlanes
    columns: int

    def words(self, rows: Ints, stop: int) -> Words:
        """What was written of these series in the first `stop` columns, (rows, stop), stop > 0."""
        count = len(self.encodings)
        words = np.zeros((len(rows), stop), np.uint64)
        places = words.view(np.uint8).reshape(len(rows), stop, 8)
        places[:, 0] = self.planes[:, rows].T
        for number in np.flatnonzero(self.planes[:, count:].max(axis=1, initial=0)).tolist():
            plane = self.planes[number, count:].reshape(count, self.columns - 1)
            places[:, 1:, number] = plane[rows, : stop - 1]
        return words


def open_chunk(data: bytes, columns: int, count: int) -> EncodedChunk:
    """What `encode` made of cells (columns, count); raises ValueError for anything else."""
    encodings = np.frombuffer(data[:count], np.uint8)
    if len(encodings) != count or encodings.max(initial=0) > 2 * len(SCALES):
        raise ValueError("unknown encodings")
    return EncodedChunk(
        encodings, unpack_planes(memoryview(data)[count:], columns * count), columns
    )


def decode(data: bytes, columns: int, count: int) -> Floats:
    """The cells (columns, count); raises ValueError for what `encode` did not write."""
    coded = open_chunk(data, columns, count)
    if not columns:
        return np.empty((0, count))
    return np.ascontiguousarray(
        decode_series(coded.encodings, coded.words(np.arange(count), columns)).T
    )


def decode_series(encodings: NDArray[np.uint8], words: Words) -> Floats:
    """The cells (series, columns) of which these are the encodings (series,) and `words` (series,
    columns)."""
    series = np.empty(words.shape)
    for encoding in np.flatnonzero(np.bincount(encodings)).tolist():
        rows = encodings == encoding
        chosen = slice(None) if rows.all() else rows
        series[chosen] = (
            _undo_xor(words[chosen])
            if encoding == _XOR
            else _undo_differences(words[chosen], encoding)
        )
    return series


def encode_times(times: Ints) -> bytes:
    """Unix ms (n,), as differences of differences."""
    return pack(zigzag(np.diff(times, n=2, prepend=[0, 0])), LEVEL)


def decode_times(data: bytes, count: int) -> Ints:
    return np.cumsum(np.cumsum(unzigzag(unpack(data, count))))


def _encodings(series: Floats) -> tuple[NDArray[np.uint8], Ints]:
    """How each series (count, columns) is written, and the whole numbers where that is not XOR."""
    encodings = np.zeros(len(series), np.uint8)
    whole = np.zeros(series.shape, np.int64)
    left = np.flatnonzero(np.isfinite(series).all(axis=1))
    for number, scale in enumerate(SCALES):
        if not len(left):
            break
        with np.errstate(over="ignore"):  # what overflows does not fit
            scaled = series[left] * 10.0**scale
        fits: Mask = np.all(np.abs(scaled) < _EXACT, axis=1)
        numbers = np.rint(np.where(fits[:, None], scaled, 0.0)).astype(np.int64)
        same: Mask = (numbers / 10.0**scale).view(np.int64) == series[left].view(np.int64)
        exact: Mask = fits & np.all(same, axis=1)
        rows = left[exact]
        whole[rows] = numbers[exact]
        encodings[rows] = 1 + 2 * number + _grows_evenly(numbers[exact])
        left = left[~exact]
    return encodings, whole


def _grows_evenly(numbers: Ints) -> NDArray[np.uint8]:
    """1 for the rows whose differences differ less than they are large."""
    once = np.abs(np.diff(numbers)).sum(axis=1)
    twice = np.abs(np.diff(numbers, n=2)).sum(axis=1) if numbers.shape[1] > 2 else once
    evenly: NDArray[np.uint8] = (twice < once).astype(np.uint8)
    return evenly


def _differences(numbers: Ints, encoding: int) -> Words:
    for _ in range(2 - encoding % 2):
        numbers = np.diff(numbers, axis=1, prepend=0)
    return zigzag(numbers)


def _undo_differences(words: Words, encoding: int) -> Floats:
    numbers = unzigzag(words)
    for _ in range(2 - encoding % 2):
        numbers = np.cumsum(numbers, axis=1)
    cells: Floats = numbers / 10.0 ** SCALES[(encoding - 1) // 2]
    return cells


def _xored(series: Floats) -> Words:
    bits = series.view(np.uint64)
    words = bits.copy()
    words[:, 1:] ^= bits[:, :-1]
    return words


def _undo_xor(words: Words) -> Floats:
    return np.bitwise_xor.accumulate(words, axis=1).view(np.float64)
