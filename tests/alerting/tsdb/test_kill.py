"""kill -9 while it writes, seals and begins new logs: each start is clean, nothing old is lost."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from support import mortal_store
from support.archives import Kept, cells_of, newest_ms
from support.examples import examples
from support.mortal_store import FIRST_MS, LOOSE, OWN, SERIES, STEP_MS, loose_at, values_at
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.values import ABSENT_BITS

ROUNDS = max(15, examples(30))
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
SCATTERED = ((Matcher("__name__", MatchOp.EQUAL, "loose"),),)
LATE_MS = 1000  # a busy machine; the writer's turns are 10 ms here


def test_a_kill_at_any_moment_loses_only_the_newest(tmp_path: Path) -> None:
    chance = random.Random(7)
    sealed = 0
    for _ in range(ROUNDS):
        written = run(tmp_path, chance.uniform(0.05, 0.5))
        kept = Kept(tmp_path, retention_ms=10**12)
        found = newest_ms(kept.store, OWN) or 0
        old = [at_ms for at_ms, when in written if when <= written[-1][1] - LATE_MS]
        assert found >= max(old, default=0)
        if found:
            check(kept, found)
            check_loose(kept, found)
        sealed = len(kept.blocks)
        kept.disk.abandon_wal()
    assert sealed > ROUNDS // 10


def run(directory: Path, seconds: float) -> list[tuple[int, int]]:
    """(time of a column, when it was appended), of a process that was killed after `seconds`."""
    script = Path(mortal_store.__file__)
    with subprocess.Popen(
        [sys.executable, str(script), str(directory)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join([str(script.parents[1]), *sys.path])},
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
    pairs = [line.split() for line in lines]
    return [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2 and len(pair[1]) > 3]


def check(kept: Kept, until_ms: int) -> None:
    """Every column from the first to the last, and every cell as it was written."""
    assert kept.disk.status.broken == 0
    found = cells_of(kept.store.select(EVERY, 0, 10**15))
    expected = list(range(FIRST_MS, until_ms + 1, STEP_MS))
    assert len(found) == SERIES
    cells = np.array([values_at(at_ms) for at_ms in expected]).view(np.int64)
    for name, (times, bits) in found.items():
        assert times == expected
        assert bits == cells[:, int(name)].tolist()


def check_loose(kept: Kept, until_ms: int) -> None:
    """Every sample of the turns before the last one, which the kill may have cut anywhere.

    Those of the turn after it may be there too: the new process writes them again, and what it
    writes is the same.
    """
    selection = kept.store.select(SCATTERED, 0, 10**15)
    assert len(selection.series) == len(LOOSE) and selection.unaligned
    expected: dict[str, tuple[list[int], list[float]]] = {
        dict(labels)["s"]: ([], []) for labels in LOOSE
    }
    for at_ms in range(FIRST_MS, until_ms + 1, STEP_MS):
        for labels, own_ms, value in loose_at(at_ms):
            times, values = expected[dict(labels)["s"]]
            times.append(own_ms)
            values.append(value)
    for name, cells in cells_of(selection).items():
        held = [one for one in zip(*cells, strict=True) if one[1] != ABSENT_BITS]
        times, bits = [at for at, _ in held], [bit for _, bit in held]
        count = len(expected[name][0])
        assert times[:count] == expected[name][0] and len(times) <= count + 1
        assert np.array(bits[:count]).view(np.float64).tolist() == expected[name][1]
