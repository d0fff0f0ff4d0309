"""A store that seals two hours, and then 100 turns in which nothing is sealed. A script.

synced_store.py DIRECTORY
"""

import sys
from pathlib import Path

import numpy as np

from support.archives import Kept
from tocsin_alerting.tsdb.store import HOUR_MS
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
STEP_MS = 15_000
TURNS = 100
FORM = Layout((Series(Family("m", "counter", ""), "m", labels(s="0")),))


def append(kept: Kept, at_ms: int) -> None:
    kept.store.append(Snapshot(Source("j", "i"), at_ms, True, FORM, np.ones(1)))
    kept.store.expire(at_ms)
    kept.disk.tick()


def main() -> None:
    kept = Kept(Path(sys.argv[1]))
    for at_ms in range(START_MS, START_MS + 2 * HOUR_MS + 120_000, STEP_MS):
        append(kept, at_ms)
    (kept.directory / "sealed").touch()
    (kept.directory / "sealed").unlink()
    for turn in range(TURNS):
        append(kept, START_MS + 2 * HOUR_MS + 120_000 + turn)
    kept.disk.abandon_wal()


if __name__ == "__main__":
    main()
