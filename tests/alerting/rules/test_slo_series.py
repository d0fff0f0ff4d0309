"""A good series and a failed one for each pair of selectors that people write."""

import pytest

from tocsin_alerting.promql.parser.parser import parse_selector
from tocsin_alerting.rules.series_notation import parse_metric
from tocsin_alerting.rules.slo_series import slo_series
from tocsin_exporter.snapshot import Labels

PAIRS = [
    ('m{status="success"}', 'm{status=~"success|error|timeout"}'),
    ('m{code=~"2..|3..|429"}', "m"),
    ('m{code!~"5.."}', "m"),
    ('m{code!~"(5..|429)", path=~"/v1/.*"}', 'm{path=~"/v1/.*"}'),
    ('m{status!="error",path="/a"}', 'm{path="/a"}'),
    ('m{code=~"[23]\\\\d\\\\d"}', 'm{code!=""}'),
    ('m{handler=~".+/(completions|responses)", status="2xx"}',
     'm{handler=~".+/(completions|responses)"}'),
]  # fmt: skip


def taken(selector: str, labels: Labels) -> bool:
    parsed = parse_selector(selector)
    (matchers,) = parsed.matcher_sets
    have = dict(labels)
    return all(matcher.matches(have.get(matcher.name, "")) for matcher in matchers)


@pytest.mark.parametrize(("good", "total"), PAIRS)
def test_total_counts_both_and_good_one(good: str, total: str) -> None:
    found = slo_series(parse_selector(good), parse_selector(total))
    assert not found.apart
    one, other = (parse_metric(text) for text in (found.good, found.other))
    assert taken(good, one) and taken(total, one)
    assert taken(total, other) and not taken(good, other)


def test_two_metrics_are_counted_apart() -> None:
    found = slo_series(
        parse_selector('d_bucket{le="0.5",job="a"}'), parse_selector('d_count{job="a"}')
    )
    assert found.apart
    assert found.good == 'd_bucket{job="a", le="0.5"}'
    assert found.other == 'd_count{job="a"}'
