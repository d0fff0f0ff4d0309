import pytest
from hypothesis import HealthCheck, given, settings

from support.examples import examples
from support.expressions import expressions
from support.golden import golden_rows
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.printer import print_expr

AS_WRITTEN = [
    "1000000",
    "0.0001",
    "-Inf",
    "NaN",
    "5m",
    "-1h30m",
    '"a\\"b\\n\\\\"',
    'up{job="a",zone!~"b.*"}',
    'up{a="1" or b="2"}',
    '{__name__="metric.name",l="x"}',
    'up{"label.name"="x"}',
    "up @ 1.500 offset -5m",
    "up @ start() smoothed offset 5m",
    "up[5m] anchored @ end() offset 5m",
    "up[5m + step()]",
    "up[min_of(5m, range() * 2):max_of(step(), 1s)]",
    "up offset (5m - 30s)",
    "up offset -step()",
    "rate(up[5m])[1h:] @ 10.000 offset 1d",
    "sum by (a, b) (up)",
    'sum by ("label.name") (up)',
    "sum without () (up)",
    'count_values without (x) ("v", up)',
    "limit_ratio(-0.5, up)",
    "a == bool on (x) b",
    "a * on (x) group_left (y) b",
    "a / ignoring () group_right (y) b",
    "a + fill (0) b",
    "a + on (x) fill_left (-1) fill_right (+Inf) b",
    "a + fill_right (2) b",
    "a and on () b",
    "-a ^ -b",
    "a </ 5",
    "step() + max_of(1, 2)",
    'sum by ("NaN", x) (a * on ("inf") group_left ("NAN") b{nan="1"})',
]


@pytest.mark.parametrize("query", AS_WRITTEN)
def test_canonical_text_stays_as_it_is(query: str) -> None:
    assert print_expr(parse(query)) == query


@pytest.mark.parametrize(("query", "printed"), golden_rows("promql_printed.jsonl"))
def test_text_is_what_prometheus_prints(query: str, printed: str) -> None:
    assert print_expr(parse(query, 2)) == printed


@given(expressions())
@settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_printed_parses_to_the_same_expression(expr: Expr) -> None:
    assert parse(print_expr(expr)) == expr
