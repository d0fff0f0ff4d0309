"""What a query reads of what others record and say, and how far back."""

import pytest

from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.inputs import (
    RangeWindow,
    alerts_read,
    inputs,
    keeps_instance,
    measured,
    presence,
    reach_ms,
    windows,
)


@pytest.mark.parametrize(
    ("expr", "asked", "said"),
    [
        ("up == 0", "", "up"),
        ('{__name__="up"} == 0', "", "up"),
        ("absent(m)", "", ""),
        ("n or absent(m)", "n", ""),
        ("sum(rate(m[5m])) > 1 or absent_over_time(m[5m])", "m", ""),
        ("rate(m[5m]) > 1 and on (instance) up == 1", "m", "up"),
        ("m unless up == 0", "m", "up"),
        ("sum(m) / sum(up)", "m", "up"),
        ("llm_engine_up == 0", "", "llm_engine_up"),  # said of a silent engine, too
        (
            "llm_engine_up == 0 unless on (instance) tocsin_build_info",
            "",
            "llm_engine_up tocsin_build_info",
        ),
        ("llm_engine_up == 0 and on (target) m > 1", "m", "llm_engine_up"),
        ('ALERTS{alertname="A"} and on () m', "m", ""),
        ("sum(m) > 1", "m", ""),
    ],
)
def test_what_a_rule_measures_and_what_is_said_of_the_dead_too(
    expr: str, asked: str, said: str
) -> None:
    names = [
        " ".join(selector.name or selector.matcher_sets[0][0].value for selector in chosen)
        for chosen in (measured(parse(expr)), presence(parse(expr)))
    ]
    assert names == [asked, said]


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        ("m > 1", True),
        ("rate(m[5m]) / rate(n[5m]) > 1", True),
        ("sum by (instance, le) (m) > 1", True),
        ("sum without (cpu) (m) > 1", True),
        ("m * on (instance) group_left (x) n", True),
        ("sum by (job) (m) > 1", False),
        ("sum without (instance) (m) > 1", False),
        ("m * on (job) group_left (x) n", False),
        ("m / ignoring (instance) n", False),
        ("m > scalar(sum(n))", False),
        ('label_replace(m, "instance", "$1", "x", "(.*)")', False),
        ("vector(1)", False),
    ],
)
def test_it_knows_when_a_result_is_of_its_own_instance_alone(expr: str, wanted: bool) -> None:
    assert keeps_instance(parse(expr)) is wanted


@pytest.mark.parametrize(
    ("expr", "minutes"),
    [
        ("m", 5),
        ("m offset 1h", 65),
        ("rate(m[10m])", 10),
        ("rate(m[10m] offset 5m) + n", 15),
        ("max_over_time(rate(m[10m])[1h:1m])", 70),
        ("vector(1)", 0),
    ],
)
def test_it_knows_how_far_back_a_sample_counts(expr: str, minutes: int) -> None:
    assert reach_ms(parse(expr)) == minutes * 60_000


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        ("m > 1", {(0, 0)}),
        ("rate(m[5m]) / max_over_time(n[1m]) > 1", {(5, 0, True), (1, 0, False, True)}),
        ("sum by (job) (increase(m[10m] offset 5m))", {(10, 5, True)}),
        ("max_over_time(rate(m[10m])[60m:1m])", {(10, 0, True), (70, 0, False, True)}),
        ("rate(m[5m:1m])", {(5, 0, True)}),
        ("sum by (a) (changes(m[5m])) > 3", {(5, 0, False, True)}),
        ("last_over_time(m[5m]) > 3", {(5, 0, False)}),
        ("changes(up[5m]) > 3", set()),
        ("m offset 5m > 1", {(0, 5)}),
        ("max_over_time((m > 1)[5m:1m] offset 3m)", {(5, 3, False, True)}),
        ("max_over_time(rate(m[2m] offset 1m)[5m:1m])", {(2, 1, True), (7, 1, False, True)}),
        ("rate(m[2m]) > 1 unless absent_over_time(n[5m])", {(2, 0, True)}),
    ],
)
def test_it_knows_the_windows_of_a_rule(
    expr: str, wanted: set[tuple[int, int, *tuple[bool, ...]]]
) -> None:
    expected = {RangeWindow(one[0] * 60_000, one[1] * 60_000, *one[2:]) for one in wanted}
    assert windows(parse(expr)) == expected


def test_it_finds_the_queries_behind_a_query() -> None:
    recorded = {
        "a": [parse("sum(m)")],
        "b": [parse("a / a"), parse("b or n")],  # reads itself, too
        "c": [parse("nothing")],
    }
    queries = inputs(parse('{__name__="b"} > 1'), recorded)
    assert set(queries) == {
        parse(text) for text in ('{__name__="b"} > 1', "a / a", "b or n", "sum(m)")
    }
    assert inputs(parse("m"), recorded) == (parse("m"),)


@pytest.mark.parametrize(
    ("expr", "alerts", "measures"),
    [
        ('ALERTS{alertname="A"}', True, False),
        ('{__name__="ALERTS_FOR_STATE"}', True, False),
        ('count({__name__=~"ALERTS.*"})', True, True),
        ('{alertname="A"}', True, True),
        ('{__name__!="ALERTS", a="b"}', True, True),  # ALERTS_FOR_STATE
        ('{__name__!~"ALERTS.*", a="b"}', False, True),
        ("m", False, True),
    ],
)
def test_it_knows_who_reads_alerts_by_whatever_name(
    expr: str, alerts: bool, measures: bool
) -> None:
    assert (bool(alerts_read(parse(expr))), bool(measured(parse(expr)))) == (alerts, measures)


def test_it_finds_recorded_series_by_a_pattern() -> None:
    recorded = {"r:a": [parse("m")], "r:b": [parse("n")], "s": [parse("o")]}
    queries = inputs(parse('{__name__=~"r:.*"} > 1'), recorded)
    assert set(queries[1:]) == {parse("m"), parse("n")}
