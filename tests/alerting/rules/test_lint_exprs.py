"""Expressions that cannot be true, and functions on metrics that they are not for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.lint_exprs import bounds, expr_findings

TYPES = {
    "node_load1": "gauge",
    "renamed_total": "gauge",
    "requests": "histogram",
    "ticks": "counter",
}


def found(expr: str, alerting: bool = True) -> list[tuple[int, str]]:
    return [(at, name) for at, name, _ in expr_findings(parse(expr), TYPES, alerting)]


@pytest.mark.parametrize(
    ("expr", "at"),
    [
        ("count(up == 0) == 0", 15),
        ("count by (a) (m) < 1", 17),
        ("sum(rate(m_total[5m])) < 0", 23),
        ("m > 5 and m < 3", 6),
        ("(m > 5) < 3", 8),
        ("x > 1 and count(up) == 0", 20),
        ("vector(0) > 0", 10),
        ("absent(m) > 1", 10),
        ("hour() > 23", 7),
        ("up > 1", 3),
        ("2 <= up", 2),
        ("100 * avg(up) > 100", 14),
        ("m > m", 2),
        ("count(m) == 0 or count(n) < 1", 9),
        ('m{a="1",a="2"}', 0),
        ('m{a="1",a=~"2|3"} > 0', 0),
        ("min_over_time(up[5m]) == 2", 22),
    ],
)
def test_what_is_never_true(expr: str, at: int) -> None:
    assert found(expr) == [(at, "never-fires")]


@pytest.mark.parametrize(
    "expr",
    [
        "(count(m) or vector(0)) == 0",
        "count(m) == 0 or absent(m)",
        "count(m) <= 1",
        "rate(m_total[5m]) <= 0",
        "m > 3 and m < 5",
        "m > 5 and on (a) m < 3",  # another series of the same a
        "m > 5 or m < 3",
        "m > m offset 5m",
        "m unless count(m) == 0",
        "up < 1",
        "count(m) / count(n) < 0.5",
        "count(m) == bool 0",
        "sum(up) > 5",
        'm{a="2",a=~"2|3"} > 0',
        "1 - up > 0",
        "-rate(m_total[5m]) < 0",
        "deriv(node_load1[5m]) < 0",
    ],
)
def test_what_may_be_true(expr: str) -> None:
    assert found(expr) == []


@pytest.mark.parametrize(
    ("expr", "findings"),
    [
        ("rate(node_load1[5m]) > 1", [(0, "rate-of-gauge")]),
        ("sum(increase(node_load1[5m])) > 1", [(4, "rate-of-gauge")]),
        ("deriv(node_load1[5m]) > 1", []),
        ("rate(node_load15[5m]) > 1", []),  # of no known type
        ("errors_total > 5", [(0, "counter-without-rate")]),
        ("5 < sum by (a) (errors_total)", [(16, "counter-without-rate")]),
        ("errors_total / requests_count > 0.1", [(0, "counter-without-rate")]),
        ("errors_total / hosts > 0.1", []),
        ("errors_total / count(up) > 5", []),
        ("requests_sum / requests_count > 0.1", [(0, "counter-without-rate")]),
        ("errors_total / renamed_total > 5", []),
        ("requests_pending_total > 50", []),
        ("nvme_power_on_hours_total > 43800", []),  # of a life that has an end
        ("errors_total > 0", []),  # it may be meant: that it ever happened
        ("ticks > 0", []),
        ("ticks >= 2", [(0, "counter-without-rate")]),
        ("m > 2 and ticks > 5", []),  # only if so much happened
        ("m > 2 or ticks > 5 unless n", [(9, "counter-without-rate")]),
        ("renamed_total > 5", []),
        ("started_total - ended_total > 5", []),
        ("increase(errors_total[5m]) > 5", []),
        ("count(errors_total) > 5", []),
        ("job:errors_total > 5", []),
        ("errors_total == 5", []),
        ("errors_total offset 5m > 5", []),
        ("histogram_quantile(0.9, sum by (le) (m_bucket)) > 1", [(37, "counter-without-rate")]),
        ("histogram_quantile(0.9, rate(m_bucket[5m])) > 1", []),
        ('absent(up{job=~"a|b"})', [(7, "absent-regex")]),
        ('absent_over_time(up{job=~"a|b"}[5m])', [(17, "absent-regex")]),
        ('absent(up{job=~"a.*"})', []),
        (r'absent(up{job=~"a\\|b"})', []),
        ('up{job=~"a|b"} == 0', []),
    ],
)
def test_functions_and_what_they_are_for(expr: str, findings: list[tuple[int, str]]) -> None:
    assert found(expr) == findings


def test_of_a_recording_rule_only_what_is_wrong_anywhere() -> None:
    assert found("rate(node_load1[5m])", alerting=False) == [(0, "rate-of-gauge")]
    assert found("count(m) == 0", alerting=False) == found("errors_total > 5", alerting=False) == []


@given(st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), st.integers(-2, 3), st.integers(-2, 3))
def test_bounds_hold_whatever_is_compared(op: str, value: int, limit: int) -> None:
    """Against Python: `vector(value) op limit` has a result just when the comparison is true."""
    truth = eval(f"{value} {op} {limit}")
    assert bounds(parse(f"vector({value}) {op} {limit}")).empty is not truth
    assert bounds(parse(f"{limit} {op} vector({value})")).empty is not eval(f"{limit} {op} {value}")


def test_a_ratio_of_counters_is_called_what_it_is() -> None:
    of = {"errors_total": "counter", "requests_total": "counter"}

    def said(expr: str) -> str:
        ((_, _, message),) = expr_findings(parse(expr, 3), of, True)
        return message

    assert "ratio since their processes started" in said("errors_total / requests_total > 0.1")
    assert "fires once and until a restart" in said("errors_total / 2 > 5")
    assert "fires once and until a restart" in said("errors_total + requests_total > 5")
