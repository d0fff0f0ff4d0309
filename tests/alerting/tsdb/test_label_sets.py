"""A series set is shared by all who evaluate: query threads and the rules."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tocsin_alerting.tsdb.label_sets import MAX_MEMOS, LabelSets

THREADS, CALLS = 4, 60_000


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_threads_share_what_is_remembered() -> None:
    one, start = LabelSets(()), threading.Barrier(THREADS)

    def ask(thread: int) -> None:
        start.wait()
        for call in range(CALLS):
            key = (call * 7 + thread) % (3 * MAX_MEMOS)
            assert one.memo(key, partial(tuple, [key])) == (key,)

    with ThreadPoolExecutor(THREADS) as pool:
        for asked in [pool.submit(ask, thread) for thread in range(THREADS)]:
            asked.result()
    assert len(one._memos) <= MAX_MEMOS


def test_what_was_remembered_first_goes_first_and_all_get_one_object() -> None:
    one = LabelSets(())
    first = one.memo(0, lambda: [0])
    assert one.memo(0, lambda: [1]) is first
    for key in range(1, MAX_MEMOS + 1):
        one.memo(key, partial(list, [key]))
    assert one.memo(MAX_MEMOS, lambda: [-1]) == [MAX_MEMOS]
    assert one.memo(0, lambda: [2]) == [2]
