"""What a sample costs in memory, whatever a remote writer sends: under 32 bytes."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest

from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels

BOUND = 32
SERIES = 5000
STEP_MS = 15_000
START_MS = 1_700_000_000_000
Request = tuple[list[Labels], Ints, Floats]
CHANCE = np.random.default_rng(11)


def series(name: str, instance: str = "i") -> Labels:
    return (("__name__", "m"), ("instance", instance), ("job", "j"), ("s", name))


NAMES = [series(str(i)) for i in range(SERIES)]
INSTANCES = [series("", str(i)) for i in range(SERIES)]


def each_at_its_own_time(names: list[Labels], rounds: int) -> Iterator[Request]:
    """The order of the times is another one in each round."""
    for turn in range(rounds):
        times = START_MS + STEP_MS * turn + CHANCE.permutation(len(names)) * 3
        yield names, times, CHANCE.random(len(names))


def one_beside_many() -> Iterator[Request]:
    yield NAMES, np.full(SERIES, START_MS), CHANCE.random(SERIES)
    for turn in range(1, 200):
        times = START_MS + STEP_MS * turn + np.arange(500)
        yield NAMES[:1] * 500, times, CHANCE.random(500)


def a_source_each(rounds: int) -> Iterator[Request]:
    for turn in range(rounds):
        yield INSTANCES, np.full(SERIES, START_MS + STEP_MS * turn), CHANCE.random(SERIES)


def a_third_each(rounds: int) -> Iterator[Request]:
    """Three writers share a source, each with a third of its series at times of its own."""
    for turn in range(rounds):
        for writer in range(3):
            names = NAMES[writer::3]
            times = np.full(len(names), START_MS + STEP_MS * turn + 1000 * writer)
            yield names, times, CHANCE.random(len(names))


def churn(rounds: int) -> Iterator[Request]:
    """A twentieth of the series is replaced in each round, half of the rounds off the axis."""
    for turn in range(rounds):
        first = turn * SERIES // 20
        names = [series(str(i)) for i in range(first, first + SERIES)]
        spread = CHANCE.integers(0, 4000, SERIES) if turn % 2 else np.zeros(SERIES, np.int64)
        yield names, START_MS + STEP_MS * turn + spread, CHANCE.random(SERIES)


SCENES: dict[str, Callable[[], Iterator[Request]]] = {
    "5,000 series with 5,000 timestamps": lambda: each_at_its_own_time(NAMES, 50),
    "one series with 100,000 samples beside 4,999 with one": one_beside_many,
    "5,000 sources of one series": lambda: a_source_each(30),
    "5,000 sources of one series, each at its own time": lambda: each_at_its_own_time(
        INSTANCES, 30
    ),
    "three writers to one source": lambda: a_third_each(50),
    "churn": lambda: churn(50),
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_sample_costs_less_than_32_bytes(scene: str) -> None:
    requests = list(SCENES[scene]())
    store = Store(retention_ms=10**12)
    for number, (names, times, values) in enumerate(requests, 1):
        epoch, numbers = store.register(names)
        written = store.write_refs(epoch, numbers, times, values, int(times.max()))
        assert written is not None and not written.refused
        if number in (len(requests) // 10, len(requests) // 2, len(requests)):
            size = store.stats()
            assert size.bytes < BOUND * size.samples, (number, size)
    assert store.stats().samples == sum(len(times) for _, times, _ in requests)


@pytest.mark.parametrize("scene", list(SCENES)[:3])
def test_so_says_the_allocator(scene: str) -> None:
    """All that the store allocates for samples that come once their series are known."""
    requests = SCENES[scene]()
    store = Store(retention_ms=10**12)
    _send(store, islice(requests, 2))
    gc.collect()
    tracemalloc.start()
    try:
        before, held = store.stats().samples, tracemalloc.get_traced_memory()[0]
        _send(store, requests)
        gc.collect()
        spent = tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    assert spent < BOUND * (store.stats().samples - before)


def _send(store: Store, requests: Iterator[Request]) -> None:
    for names, times, values in requests:
        epoch, numbers = store.register(names)
        assert store.write_refs(epoch, numbers, times, values, int(times.max()))
