"""Rules that are asked for all evaluations of a test at once say what promtool says."""

import asyncio
import random
from pathlib import Path

import pytest

from alerting.rules.test_rule_test import agree, values, written
from support.promtool import needs_promtool
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.result import InstantVector, Matrix, Result
from tocsin_alerting.rules.rule import AlertingRule, RecordingRule, Rule, RuleGroup
from tocsin_alerting.rules.rule_test_ahead import (
    STEPS_AT_ONCE,
    Evaluations,
    RulesAhead,
    asks_for_alerts,
    reads_ahead,
)
from tocsin_alerting.rules.rule_test_store import make_test_store
from tocsin_exporter.snapshot import labels

CHAINS = """
groups:
  - name: a
    rules:
      - {alert: Early, expr: late_record > 1}
      - {record: sums, expr: sum by (job) (m), labels: {of: m}}
      - {record: doubled, expr: "2 * sums"}
      - {alert: OnDoubled, expr: doubled > 2, for: 90s, annotations: {v: "{{ $value }}"}}
      - {record: self, expr: "(self + 1) or vector(0)"}
      - {alert: OnSelf, expr: self % 5 == 4, keep_firing_for: 1m}
      - {record: two, expr: 'm{i="0"} > 1'}
      - {record: two, expr: 'm{i="1"} <= 1'}
      - {record: input, expr: m * 3}
      - {alert: OnInput, expr: 'input{i="1"} > 2'}
      - {alert: Increased, expr: 'increase(sums[3m]) > 0'}
      - {alert: Earlier, expr: 'm offset 1m > max_over_time(sums[2m]) - 3'}
      - {record: late_record, expr: count by (job) (m > 0)}
      - {alert: Gone, expr: absent(sums)}
      - {alert: Ends, expr: sums unless doubled > 2}
      - {alert: Firing, expr: 'count(ALERTS{alertname="OnDoubled"}) > 1'}
  - {name: b, limit: 9, rules: [{record: few, expr: m}, {alert: OnFew, expr: sum(few) > 4}]}
"""
LOOKS = """  - name: c
    rules: [{alert: Before, expr: m offset -1m > 1}, {alert: At, expr: m @ 120 > 1}]
"""
ASKS = (
    "  - name: d\n    rules:\n      - alert: Asks\n        expr: m > 1\n        annotations:\n"
    "          s: '{{ with query \"sum(sums)\" }}{{ . | first | value }}{{ end }}'\n"
)
ALERTS = "Early OnDoubled OnSelf OnInput Increased Earlier Gone Ends Firing OnFew Before At Asks"
EXPRS = (
    "sums",
    "doubled",
    "self",
    "two",
    "input",
    "late_record",
    "few",
    "count_over_time(two[9m])",
)


@needs_promtool
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("more", ["", ASKS, LOOKS], ids=["plain", "asks", "looks ahead"])
def test_chains_of_rules_give_what_promtool_gives(tmp_path: Path, seed: int, more: str) -> None:
    chance = random.Random(seed)
    series = "".join(
        f"      - {{series: '{name}', values: '{values(chance)}'}}\n"
        for name in ('m{i="0", job="a"}', 'm{i="1", job="b"}', 'm{i="2", job="a"}', 'input{i="1"}')
    )
    alerts = "".join(
        f"      - {{eval_time: {minute}m, alertname: {name}, exp_alerts: []}}\n"
        for minute in range(0, 14, 2)
        for name in ALERTS.split()
    )
    exprs = "".join(
        f"      - {{eval_time: {minute}m, expr: '{expr}'}}\n"
        for minute in range(0, 14, 3)
        for expr in EXPRS
    )
    interval = chance.choice(("30s", "1m", "50s"))
    report = agree(
        written(
            tmp_path,
            f"evaluation_interval: {interval}\ngroup_eval_order: [a, b, c, d]\ntests:\n"
            f"  - interval: 1m\n    input_series:\n{series}    alert_rule_test:\n{alerts}"
            f"    promql_expr_test:\n{exprs}",
            CHAINS + more,
        )
    )
    assert len(report.failures) > 20


def rule(expr: str, record: str = "", **annotations: str) -> Rule:
    if record:
        return RecordingRule(f"g/{record}/1", record, expr, parse(expr, 3))
    return AlertingRule("g/A/1", "A", expr, parse(expr, 3), annotations=labels(**annotations))


def ahead(
    rules: list[Rule], minutes: int, limit: int = 0, **inputs: list[float]
) -> tuple[RulesAhead, list[str]]:
    """What was asked at once, and the rules for which the engine was asked."""
    bench, asked = make_test_store(60_000), list[str]()
    for number in range(minutes):
        bench.append(
            number * 60_000,
            [(labels(__name__=name), cells[number % len(cells)]) for name, cells in inputs.items()],
        )

    def ask(query: object, start_ms: int, end_ms: int, step_ms: int) -> Matrix:
        asked.append(str(start_ms))
        return bench.ask(query, start_ms, end_ms, step_ms)  # type: ignore[arg-type]

    group = RuleGroup("f", "g", tuple(rules), limit=limit)
    moments = Evaluations(0, (minutes - 1) * 60_000, 60_000)
    found = RulesAhead(
        bench.engine, ask, moments, [(group, one) for one in rules], frozenset(inputs)
    )
    found.work(bench.write_series)
    return found, asked


def answer(found: RulesAhead, one: Rule, at_ms: int) -> list[float]:
    result: Result = asyncio.run(found.instant(one.query, at_ms))
    assert isinstance(result.value, InstantVector)
    return [value for _, value in result.value]


def test_a_thousand_evaluations_are_one_query() -> None:
    rules = [rule("m", record="r"), rule("r > 1")]
    found, asked = ahead(rules, 2 * STEPS_AT_ONCE + 5, m=[0.0, 2.0])
    assert asked == 2 * ["0", "60000000", "120000000"]
    assert answer(found, rules[1], (STEPS_AT_ONCE + 1) * 60_000) == [2.0]
    assert [found.is_quiet(rules[1], number) for number in (2, 3)] == [True, False]
    assert found.is_quiet(rules[0], 3)  # what it records is written


def test_who_reads_what_is_recorded_later_or_by_itself_goes_step_by_step() -> None:
    rules = [rule("r > 0"), rule("m", record="r"), rule("s + m or m", record="s"), rule("ALERTS")]
    found, asked = ahead(rules, 9, m=[1.0])
    assert asked == ["0"]
    assert [found.is_quiet(one, 1) for one in rules] == [False, False, False, False]


@pytest.mark.parametrize("limit", [0, 1])
def test_what_is_recorded_step_by_step_ends_step_by_step(limit: int) -> None:
    """Where the input has the name as well, or the group has a limit."""
    one = rule("m > 0", record="r" if limit else "n")
    found, _ = ahead([one], 8, limit, m=[0.0, 0.0, 1.0, 0.0], n=[0.0])
    assert [found.is_quiet(one, number) for number in range(8)] == [True, True, False, False] * 2


@pytest.mark.parametrize(
    ("one", "may"),
    [
        (rule("m offset 5m > rate(n[5m:1m] offset 1m)"), False),
        (rule("m offset -5m"), True),
        (rule("rate(m[5m] @ end())"), True),
        (rule("max_over_time(m[5m:1m] offset -1s)"), True),
        (rule("m", s='{{ query "n offset -5m" }}'), True),
        (rule("m", s='{{ range query "n" }}{{ end }}'), False),
        (rule("m", s="the query @ 5"), False),
    ],
)
def test_what_may_look_at_the_time_after_it(one: Rule, may: bool) -> None:
    assert reads_ahead([one]) is may


def test_who_asks_for_alerts() -> None:
    assert asks_for_alerts([parse('{job="a"}', 3)])
    assert asks_for_alerts([], [rule("m", s='{{ query "count(ALERTS)" }}')])
    assert not asks_for_alerts([parse("m", 3)], [rule("m", s="ALERTS")])
