"""The front end beside two others: the real Prometheus 2.42 and the library promql-parser."""

import random
from collections.abc import Callable, Iterator

import promql_parser
import pytest

from support.golden import golden_rows
from support.prometheus import Prometheus, running_prometheus
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.prettier import pretty
from tocsin_alerting.promql.parser.printer import print_expr

TOKENS = (
    "a b sum rate topk by without on ignoring group_left group_right bool offset start end ( ) "
    '( ) { } [ ] [5m] [5m:1m] 5m 1 2.5 "x" {a="b"} {a=~"b.*",c!="d"} , + - * ^ % == > and or '
    "unless atan2 inf vector time (a) (a,b) by(x) on(y) count_values foo:bar start() = !="
).split()
OPERANDS = (
    'sum(a)|rate(a[5m])|a{b="c"}|a[5m]|1|"x"|time()|topk(2,a)|(a)|-a|a offset 5m|a @ 5|'
    'sum by (x) (a)|a[5m:1m]|abs(a)|scalar(a)|count_values("v",a)'
).split("|")
OPERATORS = (
    "+|-|*|^|==|> bool|and|or|atan2|+ on(x)|/ on(x) group_left|- on(x) group_right(z)|"
    "and on(x)|offset 5m|@ 3|[5m]|[5m:]|)|(|,|>= bool"
).split("|")

LIBRARY_DIFFERS = {
    "1e999": "it takes what no float can hold",
    "a </ b": "it does not know this operator of 3.x",
    "a offset 0s": "it refuses what 3.x allows",
    "a[5m+1m]": "it has no arithmetic on durations",
    'a{b=~"a)(b"}': "its regular expressions are not RE2's",
    'a{b=~"a**"}': "its regular expressions are not RE2's",
    'a{b=~"a{1001}"}': "its regular expressions are not RE2's",
    "sum by (a:b) (c)": "3.x allows any text as a label",
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


def canonical(query: str) -> str:
    try:
        return print_expr(parse(query, 2))
    except ParseError as refused:
        return str(refused)


def random_query(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return " ".join(chance.choices(TOKENS, k=chance.randint(1, 7)))
    query = chance.choice(OPERANDS)
    for _ in range(chance.randint(1, 3)):
        query = f"{query} {chance.choice(OPERATORS)} {chance.choice(OPERANDS)}"
    return f"sum({query})" if chance.random() < 0.2 else query


@pytest.mark.parametrize("name", ["promql_refused.jsonl", "promql_printed.jsonl"])
def test_the_golden_answers_are_those_of_prometheus(prometheus: Prometheus, name: str) -> None:
    rows = golden_rows(name)
    assert [[query, prometheus.canonical(query)] for query, _ in rows] == rows


def test_random_queries_get_the_answer_of_prometheus(prometheus: Prometheus) -> None:
    chance = random.Random(42)
    queries = [random_query(chance) for _ in range(1500)]
    # Longer ones are broken into lines by format_query.
    differing = [
        (query, ours, theirs)
        for query in queries
        if len(ours := canonical(query)) < 90 or "parse error" in ours
        if ours != (theirs := prometheus.canonical(query))
    ]
    assert differing == []


LONG = (
    'a_very_long_metric_name{job="something",instance="127.0.0.1:9090"}',
    'rate(http_requests_total{code=~"5.."}[5m])',
    "short",
)
AROUND = (
    "sum by (job, instance) (%s)|(%s)|-%s|topk(3, %s)|max_over_time((%s)[1h:5m] offset 5m)|"
    "%s / on (job) group_left (x) %s|%s > bool 5|rate((%s)[5m:])|abs(%s)|%s and %s|"
    'label_replace(%s, "a", "b", "c", "d")'
).split("|")


def long_query(chance: random.Random, depth: int) -> str:
    text = chance.choice(AROUND if depth else LONG)
    while "%s" in text:
        text = text.replace("%s", long_query(chance, depth - 1), 1)
    return text


def test_long_queries_are_laid_out_as_prometheus_does(prometheus: Prometheus) -> None:
    chance = random.Random(5)
    for _ in range(300):
        query = long_query(chance, chance.randint(1, 5))
        try:
            ours = pretty(parse(query, 2))
        except ParseError as refused:
            ours = str(refused)
        assert ours == prometheus.canonical(query)


def accepts(parser: Callable[[str], object], query: str) -> bool:
    try:
        parser(query)
    except (ValueError, OverflowError):
        return False
    return True


def test_promql_parser_accepts_and_refuses_the_same() -> None:
    files = ("promql_refused.jsonl", "promql_printed.jsonl")
    queries = [query for name in files for query, _ in golden_rows(name)]
    differing = {
        query for query in queries if accepts(parse, query) != accepts(promql_parser.parse, query)
    }
    assert differing == set(LIBRARY_DIFFERS)
