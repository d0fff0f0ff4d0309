"""History for both sides: the same samples in a data directory of ours and in Prometheus's head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from measuring.remote_write import RemoteWriter
from measuring.rule_load import RuleLoad, Values
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.target_labels import stored_labels, synthetic_labels
from tocsin_exporter.snapshot import Snapshot, Source

DAY_MS = 86_400_000
SPAN_MS = 1_800_000  # one request to Prometheus, one turn of our writer
Times = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """One target: its pages from 0 on, the last one at `end_ms`."""

    source: Source
    load: RuleLoad
    pages: int
    end_ms: int

    @property
    def times(self) -> Times:
        every_ms = round(self.load.every_seconds * 1000)
        return self.end_ms - every_ms * np.arange(self.pages - 1, -1, -1)

    @property
    def samples(self) -> int:
        return self.pages * (self.load.series + 3)


Piece = tuple[Stream, Times, list[Values]]


def spans(streams: Sequence[Stream]) -> Iterator[tuple[int, list[Piece]]]:
    """All streams side by side, from the oldest sample on: the end of a span, and what is in it."""
    begin = min(int(one.times[0]) for one in streams)
    end = max(one.end_ms for one in streams)
    for start in range(begin, end + 1, SPAN_MS):
        pieces = []
        for stream in streams:
            first, last = np.searchsorted(stream.times, (start, start + SPAN_MS)).tolist()
            if first < last:
                values = [stream.load.values(page) for page in range(first, last)]
                pieces.append((stream, stream.times[first:last], values))
        yield start + SPAN_MS, pieces


def to_directory(streams: Sequence[Stream], storage: Path) -> None:
    """Under `storage`/samples, as an agent that has watched these targets leaves it."""
    samples = storage / "samples"
    disk = DiskPersistence(samples, BlockStore(samples, 16 * DAY_MS, 2**34))
    store = Store(persistence=disk)
    disk.start(store)
    for now_ms, pieces in spans(streams):
        for stream, times, values in pieces:
            for at_ms, row in zip(times.tolist(), values, strict=True):
                store.append(Snapshot(stream.source, at_ms, True, stream.load.layout, row))
        store.expire(min(now_ms, max(one.end_ms for one in streams)))
        disk.tick()
    disk.close()


def to_prometheus(streams: Sequence[Stream], port: int) -> None:
    """By remote write, to that or to another server, in the order of time; the series that a scrape
    adds are among them."""
    writers = {}
    for stream in streams:
        labels = [stored_labels(stream.source, one) for one in stream.load.layout.series]
        labels += synthetic_labels(stream.source)
        writers[stream.source] = RemoteWriter(port, labels)
    for _, pieces in spans(streams):
        for stream, times, values in pieces:
            counts = np.tile([[1.0], [0.0], [float(stream.load.series)]], len(times))
            writers[stream.source].write(times, np.vstack([np.stack(values, axis=1), counts]))
