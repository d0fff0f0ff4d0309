"""What waits for the writer: bounded in entries and samples, and without a gap."""

import numpy as np

from tocsin_alerting.store.archive import Checkpoint, Column, Shift
from tocsin_alerting.store.entry_queue import MOST_ENTRIES, MOST_SAMPLES, EntryQueue
from tocsin_exporter.snapshot import Source

SHIFT = Shift(1, 2)


def column(samples: int) -> Column:
    return Column(Source("j", "i"), 1, np.arange(samples), np.ones(samples), True)


def test_after_a_gap_it_takes_nothing_until_the_writer_says_so() -> None:
    queue = EntryQueue()
    assert all(queue.add(SHIFT) for _ in range(MOST_ENTRIES))
    assert not queue.overrun and not queue.add(SHIFT) and queue.overrun
    queue.clear()
    assert not queue.add(SHIFT) and len(queue) == 0
    assert queue.lost == 2
    queue.overrun = False
    assert queue.add(SHIFT) and len(queue) == 1


def test_a_checkpoint_gets_in_always_and_is_counted_while_it_is_in() -> None:
    queue = EntryQueue()
    while queue.add(SHIFT):
        pass
    assert queue.add(Checkpoint()) and queue.checkpoints == 1
    queue.clear()
    assert queue.checkpoints == 0


def test_samples_count_while_they_wait() -> None:
    queue = EntryQueue()
    half = column(MOST_SAMPLES // 2)
    assert queue.add(half) and queue.add(half) and not queue.add(column(1))
    queue.overrun = False
    assert queue.pop() is half
    assert queue.add(column(1))
