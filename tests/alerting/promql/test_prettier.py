from textwrap import dedent

from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.prettier import pretty


def test_what_fits_a_line_stays_on_it() -> None:
    assert pretty(parse("sum(a)by(x)")) == "sum by (x) (a)"


def test_what_does_not_is_broken_at_operators_and_arguments() -> None:
    query = """
        topk(3, sum by (job) (
            rate(http_requests_total{code=~"5..",handler="/api"}[5m] offset 1d) + (another_metric)
        ))
        / on (job) group_left () -(a) > 0
    """
    assert pretty(parse(query)) == dedent(
        """\
        topk(
          3,
          sum by (job) (
            rate(http_requests_total{code=~"5..",handler="/api"}[5m] offset 1d) + (another_metric)
          )
        )
      / on (job) group_left ()
        -(a)
    >
      0"""
    )
