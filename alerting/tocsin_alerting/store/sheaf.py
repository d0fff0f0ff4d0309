"""The sealed pairs of a segment: loose series, bundled by how many samples they have.

Series of equally many samples make a matrix of times and one of values, so that a bundle is
written and read without a loop over series. docs/store-format.md draws it byte by byte.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tocsin_alerting.store.cell import END_OF_TIME, Ints
from tocsin_alerting.store.codec import decode, decode_times, encode, encode_times
from tocsin_alerting.store.held import HeldPairs
from tocsin_alerting.store.piece import Piece, packed_series, read, read_as, unpacked_series
from tocsin_alerting.store.planes import pack, unpack, unzigzag, zigzag
from tocsin_alerting.store.runs import NONE, Found, State, joined_up
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

BUNDLE_CELLS = 16_384
LEVEL = 6
_TIMES = struct.Struct("<I")
T = TypeVar("T")
ReadBundle = Callable[["Sheaf", int], Ints | None]


@dataclass(frozen=True, slots=True, eq=False)
class Sheaf:
    """The pairs in a segment. `begins` (bundles + 1,) is the first series of each bundle, and
    `lengths` (bundles,) how many samples its series have; `series` and `key` as in a Section."""

    path: Path
    first_ms: int
    last_ms: int
    count: int
    series: Piece
    firsts: Piece
    key: bytes
    begins: Ints
    lengths: Ints
    bundles: Ints  # (bundles, 3): offset, length, CRC-32
    source: None = None

    def labels(self) -> list[Labels]:
        """Its series, in their order. Raises BrokenSegment, and FileNotFoundError when the
        retention took the file."""
        return self._read(self.series, "series", unpacked_series)

    def read_firsts(self) -> Ints:
        """The time (count,) of the first sample of each series; raises as `labels`."""
        return self._read(self.firsts, "first times", lambda data: decode_times(data, self.count))

    def read_bundle(self, number: int) -> Ints:
        """Times and the values' bits (2, samples, series of the bundle); raises as `labels`."""
        piece = Piece(*self.bundles[number].tolist())
        shape = int(self.lengths[number]), int(np.diff(self.begins)[number])
        return self._read(piece, f"bundle {number}", lambda data: _bundle(data, *shape))

    def _read(self, piece: Piece, what: str, decoded: Callable[[bytes], T]) -> T:
        return read_as(self.path, piece, f"{what} of the pairs", decoded)


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """The layer of a selection that a sheaf holds; `places` (count,) are its series there or -1.

    What cannot be read is absent: `read` has said so.
    """

    sheaf: Sheaf
    places: Ints
    first_of: Ints  # (sheaf.count,)
    read: ReadBundle
    _bundles: list[tuple[int, Ints, Ints]] = field(default_factory=list)

    def find(self, t0_ms: int, t1_ms: int) -> Found:
        if self.sheaf.first_ms > t1_ms or self.sheaf.last_ms < t0_ms:
            return NONE
        found = []
        for number, who, within in self._wanted():
            bundle = self.read(self.sheaf, number)
            if bundle is not None:
                times, bits = bundle[:, :, within]
                here = (times >= t0_ms) & (times <= t1_ms)
                series, samples = np.nonzero(here.T)
                values = bits[samples, series].view(np.float64)
                found.append(Found(who[series], times[samples, series], values))
        return joined_up(found)

    def newest(self) -> tuple[Ints, Ints]:
        """The time (count,) and bits of the newest sample of each series, which are all here; of
        those that cannot be read the time of the newest of all, and 0."""
        newest = np.full(len(self.places), self.sheaf.last_ms)
        bits = np.zeros(len(self.places), np.int64)
        for number, who, within in self._wanted():
            bundle = self.read(self.sheaf, number)
            if bundle is not None:
                newest[who], bits[who] = bundle[:, -1, within]
        return newest, bits

    def firsts(self) -> Ints:
        return np.where(self.places >= 0, self.first_of[self.places], END_OF_TIME)

    def _wanted(self) -> list[tuple[int, Ints, Ints]]:
        """Of each bundle that is needed: its number, the series here, and their places in it."""
        if not self._bundles:
            here = np.flatnonzero(self.places >= 0)
            places = self.places[here]
            numbers = np.searchsorted(self.sheaf.begins, places, side="right") - 1
            for number in np.unique(numbers).tolist():
                chosen = numbers == number
                within = places[chosen] - self.sheaf.begins[number]
                self._bundles.append((number, here[chosen], within))
        return self._bundles


def sheaf(path: Path, one: dict[str, Any]) -> Sheaf:
    """What an index says of it; raises KeyError, ValueError and BrokenSegment."""
    bundles = np.array(one["bundles"], np.int64).reshape(-1, 3)
    counts = np.array(one["counts"], np.int64)
    lengths = np.array(one["samples"], np.int64)
    if not len(bundles) == len(counts) == len(lengths):
        raise ValueError("bundles of unknown sizes")
    series = Piece(*one["series"])
    return Sheaf(
        path=path,
        first_ms=one["first_ms"],
        last_ms=one["last_ms"],
        count=int(counts.sum()),
        series=series,
        firsts=Piece(*one["firsts"]),
        key=blake2b(read(path, series), digest_size=16).digest(),
        begins=np.concatenate([[0], np.cumsum(counts)]),
        lengths=lengths,
        bundles=bundles,
    )


def sheaf_pieces(held: HeldPairs, entry: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The pieces of the closed pairs by name; what describes them goes into `entry`."""
    closed = [one for one in held.runs if one.state is State.CLOSED]
    if not closed:
        return
    rows = np.concatenate([one.rows for one in closed])
    times = np.concatenate([one.times for one in closed])
    values = np.concatenate([one.values for one in closed])
    order = np.argsort(rows, kind="stable")
    rows, times, values = rows[order], times[order], values[order]
    begins = np.flatnonzero(np.diff(rows, prepend=-1))
    counts = np.diff(np.append(begins, len(rows)))
    labels = dict(zip(held.rows.tolist(), held.labels, strict=True))
    owners = [labels[row] for row in rows[begins].tolist()]
    bundles = list(_bundles(owners, counts))
    entry |= {
        "first_ms": int(times.min()),
        "last_ms": int(times.max()),
        "counts": [len(bundle) for bundle in bundles],
        "samples": [int(counts[bundle[0]]) for bundle in bundles],
    }
    series = np.concatenate(bundles)
    yield "series", packed_series(owners[at] for at in series.tolist())
    yield "firsts", encode_times(times[begins[series]])
    for bundle in bundles:
        at = begins[bundle] + np.arange(counts[bundle[0]])[:, None]
        steps = np.diff(times[at], n=2, axis=0, prepend=np.zeros((2, len(bundle)), np.int64))
        axes = pack(zigzag(steps).reshape(-1), LEVEL)
        yield "bundles", _TIMES.pack(len(axes)) + axes + encode(values[at])


def _bundles(owners: list[Labels], counts: Ints) -> Iterator[Ints]:
    """Positions of series with equally many samples, those of one name side by side."""
    for count in np.unique(counts).tolist():
        chosen = np.flatnonzero(counts == count).tolist()
        chosen.sort(key=lambda at: (dict(owners[at]).get(NAME, ""), owners[at]))
        size = max(BUNDLE_CELLS // count, 1)
        for start in range(0, len(chosen), size):
            yield np.array(chosen[start : start + size], np.int64)


def _bundle(data: bytes, samples: int, series: int) -> Ints:
    (length,) = _TIMES.unpack_from(data)
    end = _TIMES.size + length
    words = unpack(data[_TIMES.size : end], samples * series).reshape(samples, series)
    times = np.cumsum(np.cumsum(unzigzag(words), axis=0), axis=0)
    return np.stack([times, decode(data[end:], samples, series).view(np.int64)])
