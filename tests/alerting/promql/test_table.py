"""What is not evaluated is refused with its place, before it is needed."""

import pytest

from tocsin_alerting.promql.functions.histogram_functions import finds_no_native_histograms
from tocsin_alerting.promql.functions.table import FUNCTIONS
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.types import OF_NATIVE_HISTOGRAMS, refuse_unsupported


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


def test_refused_are_the_functions_that_find_nothing_here() -> None:
    nothing = {name for name, made in FUNCTIONS.items() if made is finds_no_native_histograms}
    assert nothing == OF_NATIVE_HISTOGRAMS
