"""A second's worth at once, and no more."""

from support.tailing import Hand
from tocsin_exporter.tailing.budget import Limits, LineBudget


def test_a_second_of_it_comes_back_in_a_second() -> None:
    clock = Hand()
    budget = LineBudget(Limits(lines=100, bytes=1_000), clock)
    budget.spend(100, 10)
    assert budget.spent
    clock.wait(0.5)
    budget.refill()
    assert (budget.lines, budget.bytes, budget.spent) == (50, 1_000, False)
    budget.spend(1, 5_000)
    clock.wait(100)
    budget.refill()
    assert (budget.lines, budget.bytes) == (100, 1_000)
    clock.wait(-50)  # a clock that goes back
    budget.refill()
    assert (budget.lines, budget.bytes) == (100, 1_000)
