from tocsin_alerting.backtest.rule_order import (
    RuleKey,
    in_order_of_reading,
    reach_ms,
    reads_its_own_time,
    warm_up_ms,
    without_recorded,
)
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.rule_file import read

RULES = """
groups:
- name: readers
  rules:
  - {alert: A, expr: c > 1, for: 2m}
  - {record: c, expr: "b + 1"}
- name: written
  rules:
  - {record: b, expr: "avg_over_time(a[10m])"}
  - {record: x, expr: "y + 1"}
  - {record: y, expr: "x offset 1m"}
  - {alert: B, expr: 'ALERTS{alertname="A"} and on () {__name__=~"own.*"}'}
  - {record: owned, expr: "sum(other)"}
"""


def test_those_first_that_others_read_and_circles_together() -> None:
    order = in_order_of_reading(read(RULES, "r.yml").groups)
    sets = [found.rules for found in order]
    place = {key: number for number, found in enumerate(sets) for key in found}
    assert place[RuleKey(1, 0)] < place[RuleKey(0, 1)] < place[RuleKey(0, 0)]
    assert place[RuleKey(0, 0)] < place[RuleKey(1, 3)] > place[RuleKey(1, 4)]
    assert (RuleKey(1, 1), RuleKey(1, 2)) in sets
    assert [found.rules for found in order if found.reads_itself] == [
        (RuleKey(1, 1), RuleKey(1, 2))
    ]
    assert sorted(place) == [RuleKey(0, n) for n in (0, 1)] + [RuleKey(1, n) for n in range(5)]


def test_how_far_back_is_read() -> None:
    assert reach_ms(parse("rate(x[5m] offset 1h)")) == 300_000 + 3_900_000
    assert reach_ms(parse("max_over_time(rate(x[1m])[10m:])")) == 300_000 + 660_000
    # c looks back five minutes at b, and A as far at c; A waits two minutes
    assert warm_up_ms(read(RULES, "r.yml").groups[:1]) == 300_000 + 120_000
    assert reads_its_own_time(parse("x @ end()")) and not reads_its_own_time(parse("x @ 5"))


def test_what_rules_give_is_not_taken_from_the_past() -> None:
    def named(name: str, alert: str) -> tuple[tuple[str, str], ...]:
        return (("__name__", name), ("alertname", alert))

    past = {named("b", ""): 1, named("d", ""): 2, named("ALERTS", "A"): 3, named("ALERTS", "Z"): 4}
    kept = without_recorded(past, read(RULES, "r.yml").groups)
    assert sorted(kept.values()) == [2, 4]
