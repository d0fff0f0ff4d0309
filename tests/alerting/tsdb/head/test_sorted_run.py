"""Runs of loose samples against a list: found by row and interval, joined, divided, moved."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.tsdb.head.sorted_run import RunState, concatenated, sorted_run
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.series_index import NO_LIMIT, SeriesIndex
from tocsin_alerting.tsdb.values import END_OF_TIME, Floats, Ints
from tocsin_exporter.snapshot import labels

ROWS = 6
Samples = list[tuple[int, int, float]]

# Rows with how much time passes before their next sample.
steps = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, 30)), max_size=60)


def as_it_came(script: list[tuple[int, int]]) -> Samples:
    now, samples = [0] * ROWS, []
    for at, (row, pause) in enumerate(script):
        now[row] += pause
        samples.append((row, now[row], float(at)))
    return samples


def columns_of(samples: Samples) -> tuple[Ints, Ints, Floats]:
    rows = np.array([row for row, _, _ in samples], np.int64)
    times = np.array([at for _, at, _ in samples], np.int64)
    return rows, times, np.array([value for _, _, value in samples], np.float64)


def loose_with(samples: Samples) -> UnalignedHead:
    loose = UnalignedHead(SeriesIndex(NO_LIMIT, lambda: None))
    for row in range(ROWS):
        assert loose.index.ensure(labels(s=str(row))) == row
    half = len(samples) // 2
    for some in (samples[:half], samples[half:]):
        if some:
            loose.append(*columns_of(some))
        loose.snapshot()  # puts the run in order
    return loose


def found_in(loose: UnalignedHead, rows: Ints, t0: int, t1: int) -> Samples:
    who, times, values = concatenated(loose.runs.find(rows, t0, t1))
    return sorted(zip(rows[who].tolist(), times.tolist(), values.tolist(), strict=True))


@given(steps, st.sets(st.integers(0, ROWS - 1)), st.integers(0, 200), st.integers(0, 200))
def test_rows_and_intervals_are_found(
    script: list[tuple[int, int]], wanted: set[int], t0: int, t1: int
) -> None:
    samples = as_it_came(script)
    rows = np.array(sorted(wanted), np.int64)
    expected = sorted(one for one in samples if one[0] in wanted and t0 <= one[1] <= t1)
    loose = loose_with(samples)
    assert found_in(loose, rows, t0, t1) == expected
    if samples:
        loose.append(np.array([3]), np.array([10_000]), np.array([-1.0]))  # and one not in order
        more = [(3, 10_000, -1.0)] if 3 in wanted else []
        assert found_in(loose, rows, t0, 10_000) == sorted(
            [one for one in samples if one[0] in wanted and t0 <= one[1]] + more
        )
    firsts = loose.runs.first_times(rows, ROWS)
    for at, row in enumerate(rows.tolist()):
        times = [when for one, when, _ in samples if one == row] or [
            10_000 if row == 3 and samples else END_OF_TIME
        ]
        assert firsts[at] == times[0]


@given(steps, st.integers(0, 200))
def test_what_is_sealed_and_old_goes_and_the_rest_stays(
    script: list[tuple[int, int]], before_ms: int
) -> None:
    samples = as_it_came(script)
    loose = loose_with(samples)
    loose.close(before_ms)
    closed = [one for one in loose.runs.sorted if one.state is RunState.CLOSED]
    assert sum(map(len, closed)) == sum(at < before_ms for _, at, _ in samples)
    loose.mark_sealed(loose.runs.sorted)
    loose.expire(END_OF_TIME, -END_OF_TIME)
    kept = sorted(one for one in samples if one[1] >= before_ms)
    assert found_in(loose, np.arange(ROWS), 0, END_OF_TIME) == kept
    dropped = [at for _, at, _ in samples if at < before_ms]
    if dropped:
        assert len(loose.index) == len({row for row, _, _ in kept})
        assert loose.begins_ms == max(dropped) + 1


@given(steps, st.integers(-300, 300), st.integers(0, 200))
def test_after_a_step_of_the_clock_times_ascend_within_each_row(
    script: list[tuple[int, int]], delta_ms: int, until_ms: int
) -> None:
    samples = as_it_came(script)
    loose = loose_with(samples)
    loose.shift_clock(delta_ms, until_ms)
    expected = {(row, at + delta_ms * (at <= until_ms)) for row, at, _ in samples}
    found = found_in(loose, np.arange(ROWS), -1000, END_OF_TIME)
    assert {(row, at) for row, at, _ in found} == expected
    assert len(found) == len(expected)
    for row in {row for row, _, _ in samples}:
        newest = max(at for one, at in expected if one == row)
        told = loose.write(np.array([row]), np.array([newest - 1]), np.array([5.0]))
        assert told.out_of_order.all()


def test_long_runs_are_not_joined_for_ever() -> None:
    loose = UnalignedHead(SeriesIndex(NO_LIMIT, lambda: None))
    loose.index.ensure(labels(s="a"))
    for start in range(0, 400_000, 1000):
        loose.append(np.zeros(1000, np.int64), np.arange(start, start + 1000), np.ones(1000))
    lengths = [len(one) for one in loose.runs.sorted]
    assert sum(lengths) + len(loose.runs.rows) == 400_000
    assert len(lengths) < 20 and max(lengths) <= 65_536
    assert loose.bytes < 21 * 400_000


def test_a_run_keeps_the_order_of_arrival_within_a_row() -> None:
    one = sorted_run(np.array([2, 0, 2], np.int32), np.array([5, 9, 4]), np.array([1.0, 2.0, 3.0]))
    assert (one.rows.tolist(), one.times.tolist()) == ([0, 2, 2], [9, 5, 4])
    assert (one.first_ms, one.last_ms, one.samples) == (4, 9, 3)
