"""When a source was heard as often as usual, whoever sends of it and however many they are."""

from collections.abc import Iterable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tocsin_alerting.tsdb.source_health import SourceHealth
from tocsin_exporter.snapshot import Source

FAR = Source("j", "i")
START_MS = 1_700_000_000_000
SECOND_MS = 1000
WINDOW_MS = 300_000


def heard(seconds: Iterable[float]) -> SourceHealth:
    lasts = SourceHealth()
    for one in sorted(seconds):
        lasts.observe(FAR, START_MS + int(one * SECOND_MS))
    return lasts


def rounds(offsets: Iterable[float], begin: int, end: int, every: int = 15) -> list[float]:
    """When a source is heard of which several send every so many seconds."""
    return [at + offset for at in range(begin, end, every) for offset in offsets]


def covered(
    lasts: SourceHealth,
    second: float,
    window_ms: int = WINDOW_MS,
    two: bool = False,
    whole: bool = False,
) -> bool:
    """Whether a window that ends then, which is now, is filled."""
    now_ms = START_MS + int(second * SECOND_MS)
    return lasts.covers(FAR, now_ms - window_ms, now_ms, now_ms, two, whole)


@pytest.mark.parametrize(
    "offsets",
    [
        (0,),
        (0, 1),
        (0, 1, 2),
        (0, 2, 3, 7),
        (0, 7),
        (0, 0.2, 14),
        (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    ],
)
@pytest.mark.parametrize("two", [False, True])
def test_a_source_of_which_several_send_is_filled_all_the_time(
    offsets: tuple[float, ...], two: bool
) -> None:
    for second in range(900, 915):
        for part in (0.0, 0.5):
            now = second + part
            lasts = heard(at for at in rounds(offsets, 0, 915) if at <= now)
            assert covered(lasts, now, two=two)
            assert covered(lasts, now, 60_000, two)


@pytest.mark.parametrize("offsets", [(0,), (0, 1), (0, 1, 2), (0, 2, 3, 7)])
@pytest.mark.parametrize("outages", [1, 2])
def test_outages_stay_gaps_however_many_send(offsets: tuple[float, ...], outages: int) -> None:
    times = rounds(offsets, 0, 900)
    begins = [900 + 1200 * number for number in range(outages)]
    for begin in begins:  # silent for 300 s, there for 900
        times += rounds(offsets, begin + 300, begin + 1200)
    lasts = heard(times)
    for begin in begins:
        t1_ms = START_MS + (begin + 150) * SECOND_MS
        now_ms = START_MS + int(max(times)) * SECOND_MS
        assert not lasts.covers(FAR, t1_ms - 60_000, t1_ms, now_ms, False, False)
    assert covered(lasts, max(times) + 20, 30_000)
    assert not covered(lasts, max(times) + 60)


def test_who_sends_more_often_than_before_is_missed_sooner() -> None:
    lasts = heard([*range(0, 600, 60), *range(600, 900, 5)])
    assert covered(lasts, 895 + 10)
    assert not covered(lasts, 895 + 30)


def test_who_sends_less_often_than_before_is_not_missed_for_good() -> None:
    lasts = heard([*range(0, 600, 15), *range(600, 1500, 60)])
    assert covered(lasts, 1440 + 60)
    assert not covered(lasts, 1440 + 160)


@settings(deadline=None)
@given(
    st.integers(5, 60),
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    st.integers(20, 60),
)
def test_the_tolerance_is_that_of_the_longest_silence(
    every: int, shares: list[float], count: int
) -> None:
    """At least 2.5 times the half of it, and at most five times all of it, whatever comes."""
    offsets = sorted({round(share * every, 3) for share in shares if share * every < every})
    assume(offsets)
    times = rounds(offsets, 0, count * every, every)
    longest = max(b - a for a, b in zip(times, times[1:], strict=False))
    lasts = heard(times)
    assert covered(lasts, times[-1] + 1.2 * longest)
    assert not covered(lasts, times[-1] + 5.1 * longest, int(every * 20 * SECOND_MS))


def test_the_clock_that_is_set_is_no_gap_and_no_round() -> None:
    lasts = heard(rounds((0, 1), 0, 900))
    lasts.shift_clock(3_600_000, START_MS + 900_000)
    for at in rounds((3600, 3601), 900, 1200):
        lasts.observe(FAR, START_MS + int(at) * SECOND_MS)
    assert covered(lasts, 3600 + 1186 + 14)
