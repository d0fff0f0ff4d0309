"""What waits for the writer: bounded in entries and samples, and without a gap."""

import numpy as np

from tocsin_alerting.tsdb.persistence import AlignedRecord, Checkpoint, ClockShift, column_record
from tocsin_alerting.tsdb.wal.writer import MAX_ENTRIES, MAX_SAMPLES, WalQueue
from tocsin_exporter.snapshot import Source

SHIFT = ClockShift(1, 2)


def column(samples: int) -> AlignedRecord:
    return column_record(Source("j", "i"), 1, np.arange(samples), np.ones(samples))


def test_after_a_gap_it_takes_nothing_until_the_writer_says_so() -> None:
    queue = WalQueue()
    assert all(queue.add(SHIFT) for _ in range(MAX_ENTRIES))
    assert not queue.overrun and not queue.add(SHIFT) and queue.overrun
    queue.clear()
    assert not queue.add(SHIFT) and len(queue) == 0
    assert queue.lost == 2
    queue.reopen()
    assert queue.add(SHIFT) and len(queue) == 1


def test_a_checkpoint_gets_in_always_and_is_counted_while_it_is_in() -> None:
    queue = WalQueue()
    while queue.add(SHIFT):
        pass
    assert queue.add(Checkpoint()) and queue.checkpoints == 1
    queue.clear()
    assert queue.checkpoints == 0


def test_samples_count_while_they_wait() -> None:
    queue = WalQueue()
    half = column(MAX_SAMPLES // 2)
    assert queue.add(half) and queue.add(half) and not queue.add(column(1))
    queue.reopen()
    assert queue.pop() is half
    assert queue.add(column(1))
