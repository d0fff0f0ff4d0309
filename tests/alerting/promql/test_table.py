"""What is not evaluated is refused with its place, before it is needed."""

import pytest

from tocsin_alerting.promql.functions.table import refuse_unsupported
from tocsin_alerting.promql.parser.parser import parse


@pytest.mark.parametrize(
    ("query", "place", "message"),
    [
        ("1 + histogram_count(x)", 4, "histogram_count() needs native histograms"),
        ("sum(histogram_stdvar(x))", 4, "histogram_stdvar() needs native histograms"),
    ],
)
def test_it_names_what_it_refuses(query: str, place: int, message: str) -> None:
    ((span, text),) = refuse_unsupported(parse(query))
    assert span.start == place
    assert message in text


def test_it_accepts_what_rules_are_made_of() -> None:
    query = 'sum by (a) (rate(x_total{b=~"c"}[5m])) / on (a) group_left y > 1 unless absent(z)'
    assert refuse_unsupported(parse(query)) == []
