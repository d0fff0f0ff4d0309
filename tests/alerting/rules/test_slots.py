"""Slots: at the multiples of the interval, whatever the group is called."""

from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.rules.slots import missed, slot_ms

NOW = 1_700_000_000_000


@given(now=st.integers(0, 4 * NOW), interval=st.integers(1, 10**8))
def test_a_slot_is_the_last_multiple_of_the_interval(now: int, interval: int) -> None:
    slot = slot_ms(interval, now)
    assert now - interval < slot <= now
    assert slot % interval == 0
    assert slot_ms(interval, now + interval) == slot + interval
    assert slot_ms(interval, slot) == slot


def test_what_was_skipped_is_counted() -> None:
    assert missed(None, NOW, 1000) == 0
    assert missed(NOW - 1000, NOW, 1000) == 0
    assert missed(NOW - 5000, NOW, 1000) == 4
    assert missed(NOW + 3_600_000, NOW, 1000) == 0
