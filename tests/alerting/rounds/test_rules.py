"""Which slot of the rules comes next."""

from tocsin_alerting.rounds.rules import after_ms


def test_a_sleeper_that_wakes_early_does_not_run_its_slot_again() -> None:
    assert after_ms(now_ms=9_999, done_ms=10_000) == 10_000
    assert after_ms(now_ms=10_001, done_ms=10_000) == 10_001


def test_a_clock_that_was_set_back_does_not_hold_the_rules_up() -> None:
    assert after_ms(now_ms=10_000, done_ms=3_610_000) == 10_000
