"""Appends to a store, seals and prunes, fifty times as fast as life, until it is killed. A script.

    mortal_store.py DIRECTORY

Beside its own columns it writes, as a remote writer, loose series: each with times of its own.

Goes on where the store that it finds ends, and writes a line for each column: its time, and when
it was appended on the monotonic clock, both in milliseconds.
"""

import sys
import time
from pathlib import Path

import numpy as np

from support.archives import newest_ms
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence, WriterIntervals
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Family, Labels, Layout, Series, Snapshot, Source, labels

FIRST_MS = 1_700_000_000_000
STEP_MS = 15_000
SERIES = 40
OWN = Source("j", "i")
FAMILY = Family("m", "counter", "")
LOOSE = [
    (("__name__", "loose"), ("instance", "far"), ("job", "remote"), ("s", str(i)))
    for i in range(20)
]
FORM = Layout(tuple(Series(FAMILY, "m", labels(s=str(i))) for i in range(SERIES)))


def values_at(at_ms: int) -> list[float]:
    turn = (at_ms - FIRST_MS) // STEP_MS
    return [float(turn * (i + 1)) if i % 2 else (turn % 97) / 7 for i in range(SERIES)]


def loose_at(at_ms: int) -> list[tuple[Labels, int, float]]:
    """The samples of a turn; those of a series ascend from turn to turn."""
    turn = (at_ms - FIRST_MS) // STEP_MS
    order = [(i * 7 + turn) % len(LOOSE) for i in range(len(LOOSE))]
    return [(LOOSE[i], at_ms + i * 600, float(turn * 100 + i)) for i in order]


def main() -> None:
    directory = Path(sys.argv[1])
    disk = DiskPersistence(
        directory,
        BlockStore(directory, 10**12, 2**30),
        WriterIntervals(tick_seconds=0.01, ticks_per_sync=50),
    )
    store = Store(persistence=disk)
    disk.start(store)
    disk.run(time.monotonic)
    at_ms = newest_ms(store, OWN) or FIRST_MS - STEP_MS
    while True:
        at_ms += STEP_MS
        loose = loose_at(at_ms)
        store.write(loose[::2])
        store.write(loose[1::2])
        store.append(Snapshot(OWN, at_ms, True, FORM, np.array(values_at(at_ms))))
        sys.stdout.write(f"{at_ms} {time.monotonic_ns() // 1_000_000}\n")
        sys.stdout.flush()
        if at_ms // STEP_MS % 8 == 0:
            store.expire(at_ms)
            time.sleep(0.004)


if __name__ == "__main__":
    main()
