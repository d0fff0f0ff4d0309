"""Slots: aligned to wall time, the same after a restart, spread over the groups."""

from hypothesis import given
from hypothesis import strategies as st

from support.rule_texts import group
from tocsin_alerting.rules.schedule import missed, phase_ms, slot_ms

NOW = 1_700_000_000_000


@given(now=st.integers(0, 4 * NOW), interval=st.integers(1, 10**8), name=st.text(max_size=5))
def test_a_slot_is_the_last_one_at_the_groups_phase(now: int, interval: int, name: str) -> None:
    one = group(name=name)
    slot = slot_ms(one, interval, now)
    assert now - interval < slot <= now
    assert (slot - phase_ms(one, interval)) % interval == 0
    assert slot_ms(one, interval, now + interval) == slot + interval
    assert slot_ms(one, interval, slot) == slot


def test_groups_are_spread_and_keep_their_phase() -> None:
    phases = [phase_ms(group(name=f"g{number}"), 60_000) for number in range(60)]
    assert phases == [phase_ms(group(name=f"g{number}"), 60_000) for number in range(60)]
    assert len({phase // 10_000 for phase in phases}) == 6
    assert phase_ms(group(file="a"), 60_000) != phase_ms(group(file="b"), 60_000)


def test_what_was_skipped_is_counted() -> None:
    assert missed(None, NOW, 1000) == 0
    assert missed(NOW - 1000, NOW, 1000) == 0
    assert missed(NOW - 5000, NOW, 1000) == 4
    assert missed(NOW + 3_600_000, NOW, 1000) == 0
