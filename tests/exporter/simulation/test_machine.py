"""What simulated GPUs do at a moment: loads, faults, and totals that never fall."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_exporter.simulation.machine import (
    DAY_SECONDS,
    THROTTLES,
    ConstantLoad,
    DailyLoad,
    Fault,
    GpuModel,
    Load,
    Machine,
    SimulatedGpu,
    StepLoad,
    running,
)

NOON = 20_000 * DAY_SECONDS + 12 * 3600
HALF = ConstantLoad(0.5)


def gpu(*faults: Fault, load: Load = HALF) -> SimulatedGpu:
    model = GpuModel("NVIDIA H100", 80 << 30, load, nvlinks=2, power=(100, 700))
    return running(Machine((model,), faults), NOON)[0]


def test_a_day_is_a_sine_with_its_peak() -> None:
    load = DailyLoad(0.2, 0.8, peak=12 * 3600)
    assert load.at(NOON, 0) == pytest.approx(0.8)
    assert load.at(NOON + DAY_SECONDS / 2, 0) == pytest.approx(0.2)
    assert load.at(NOON + DAY_SECONDS / 4, 0) == pytest.approx(0.5)
    assert load.at(NOON + DAY_SECONDS / 6, 0) == pytest.approx(0.65)


def test_steps_follow_each_other_again_and_again() -> None:
    load = StepLoad(((60, 0.9), (30, 0.1)))
    assert [load.at(0, at) for at in (0, 59.9, 60, 89.9, 90, 150)] == [0.9, 0.9, 0.1, 0.1, 0.9, 0.1]


def test_a_fault_holds_from_its_offset_for_its_time() -> None:
    hot = gpu(Fault("temperature", 0, after=60, lasts=30, value=93))
    at = [hot.temperature(NOON + seconds) for seconds in (59, 60, 89, 90)]
    assert at == [51, 93, 93, 51]
    assert not gpu(Fault("lost", 1, after=0)).has("lost", NOON)  # another GPU's


def test_throttling_is_a_mask_and_its_seconds() -> None:
    one = Fault("throttle", 0, after=10, lasts=20, value=THROTTLES["hw_thermal"])
    other = Fault("throttle", 0, after=20, lasts=20, value=THROTTLES["power_cap"])
    throttled = gpu(one, other, one)  # twice the same is once
    masks = [throttled.throttling(NOON + at) for at in (0, 15, 25, 35, 45)]
    assert masks == [0, 64, 68, 4, 0]
    for second in range(61):
        totals = throttled.totals(NOON + second)
    assert totals.throttled == {64: 20.0, 4: 20.0}
    assert (totals.seconds, totals.busy) == (60, 30)


def test_errors_of_the_memory_are_counted_by_their_kind() -> None:
    faults = (Fault("ecc", 0, 10, value=3, corrected=True), Fault("ecc", 0, 20, value=1))
    wrong = gpu(*faults, Fault("ecc", 0, 30, lasts=1, value=4))
    told = [[wrong.memory_errors(NOON + at, kind) for kind in (True, False)] for at in (0, 20, 99)]
    assert told == [[0, 0], [3, 1], [3, 5]]


def test_a_link_goes_down_and_comes_back() -> None:
    broken = gpu(Fault("nvlink_down", 0, 5, lasts=5, value=1))
    assert broken.links(NOON) == {0: True, 1: True}
    assert broken.links(NOON + 5) == {0: True, 1: False}
    assert broken.links(NOON + 10) == {0: True, 1: True}


@given(st.lists(st.floats(-100, 100), max_size=40))
def test_totals_never_fall_whatever_the_clock_does(steps: list[float]) -> None:
    one, now, before = gpu(load=StepLoad(((7, 1), (3, 0)))), NOON, (0.0, 0.0)
    for step in steps:
        now += step
        totals = one.totals(now)
        assert totals.seconds >= before[0] and totals.busy >= before[1]
        assert 0 <= totals.busy <= totals.seconds
        assert math.isfinite(totals.busy)
        before = (totals.seconds, totals.busy)
