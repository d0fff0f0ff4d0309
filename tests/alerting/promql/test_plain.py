"""What is parsed a whole operand at a time is what the parser makes of it token by token."""

from dataclasses import fields, is_dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.query_generator import QueryGenerator
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.parser import parse, parse_any
from tocsin_alerting.promql.parser.plain import plain_expression
from tocsin_alerting.promql.parser.signatures import Semantics

SEMANTICS: tuple[Semantics, ...] = (2, 3)
_PIECES = (
    *("sum", "by", "by (a, b)", "rate", "foo:bar", "fill", "inf", "offset", "and", "start", "a"),
    *("(", ")", "{", "}", "[5m]", "[5m:]", "[1h:5m]", "[5]", "[", "]", ",", ":", "#c\n", "\n", "~"),
    *("==", "=", "=~", "!=", "<", "</", ">/", ">=", "+", "@", '{a="b"}', "{a=~'b',c!=`d`,}", "{}"),
    *("5", "5.5", ".5", "1e3", "0x1f", "5m", "1h30m", '"x"', "'\\n'", '"\\q"', "\ufffd", "-", "^"),
    *("topk(", "count(", "on (a)", "ignoring()", "group_left", "group_right (b)", "bool", "rate("),
    *(
        "offset 5m",
        "offset -1h",
        "without ()",
        "or",
        "time()",
        "{__name__='a'}",
        "{a=~'('}",
        "info(",
    ),
)


def everything(value: object) -> object:
    """Of an expression, its spans too, which take no part in its equality."""
    if is_dataclass(value) and not isinstance(value, type):
        shown = [(one.name, everything(getattr(value, one.name))) for one in fields(value)]
        return type(value).__name__, [pair for pair in shown if pair[0] != "_regex"]
    if isinstance(value, tuple):
        return [everything(one) for one in value]
    return repr(value) if isinstance(value, float) else value


def agrees(query: str) -> bool:
    """Whether it is usual; and then the parser says the same."""
    usual = False
    for semantics in SEMANTICS:
        plain = plain_expression(query, semantics)
        if plain is None:
            continue
        usual = True
        try:
            expected = parse_any(query, semantics)
        except ParseError as error:
            raise AssertionError(f"{query!r} is refused: {error}") from None
        assert everything(plain) == everything(expected), query
    return usual


@given(st.lists(st.sampled_from(_PIECES), max_size=12), st.sampled_from(("", " ")))
def test_any_pieces_are_read_as_the_parser_reads_them_or_left_to_it(
    pieces: list[str], blank: str
) -> None:
    query = blank.join(pieces)
    assert agrees(query) is any(plain_expression(query, one) is not None for one in SEMANTICS)


def test_random_queries_and_slips_of_the_pen_in_them_are_read_as_the_parser_reads_them() -> None:
    random, made = Random(5), QueryGenerator(5, ("g", "a:b"), ("c_total", "d_total"))
    queries = [made.query() for _ in range(200)]
    assert sum(map(agrees, queries)) > 50
    for query in queries:
        for piece in random.sample(_PIECES, 4):
            at = random.randrange(len(query))
            agrees(f"{query[:at]} {piece} {query[at + random.randrange(3) :]}")


@pytest.mark.parametrize(
    "query",
    [
        "up == 0",
        'sum by (le) (rate(m_bucket{a="b",c=~"d"}[5m])) / on (a) group_left() n > 0.5 and up',
        "sum(rate(a[5m] offset 1h)) without (x, y) > bool -1.5e3",
        "topk(5, a) or count_values('v', b) unless on () c",
        "label_replace(up{job!~`x.*`}, 'a', \"$1\", 'b', '(.*)') ^ 2 ^ 3",
        "predict_linear(\n  disk_free [6h] , 4 * 3600) < 0",
        "time() - (a + b) * -1",
        "quantile by (x) (0.9, a{b='', c=\"\\n\",} offset 5m)",
        "group(a) by (b)",
        'a{z="1", b!="2", b="3"}',
        "1",
    ],
)
def test_what_rules_are_made_of_is_usual(query: str) -> None:
    assert agrees(query)
    assert parse(query) == parse_any(query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "a @ end()",
        "max_over_time((a)[1h:5m])",
        "-a",
        "-2 ^ 2",
        "{job='a'}",
        "a{__name__='b'}",
        "a[0s]",
        "a # why",
        "a + 1m",
        "a > (1 > 2)",
        "on",
        "sum by (inf) (a)",
        "a * on (b) group_left (b) c",
        "a * on (b) group_left (b + c)",
        "a and on (b) group_left c",
        "1 and a",
        "info(a, b)",
        "rate(a)",
        "rate(a[5m], b)",
        "topk(a)",
        "a{b=~'('}",
        "(" * 60 + "a" + ")" * 60,
        "+".join(["a"] * 200),
        "a" * 10_001,
        f"sum by ({'a' * 1_001}) (a)",
        f"a > 1{'0' * 30}",
    ],
)
def test_the_rest_and_what_is_wrong_is_left_to_the_parser(query: str) -> None:
    assert [plain_expression(query, semantics) for semantics in SEMANTICS] == [None, None]


def test_each_semantics_has_its_own_words_and_functions() -> None:
    for query in ("fill", "step > 0", "limitk(2, a)", "mad_over_time(a[5m])", "a{b=~'.'}"):
        assert agrees(query), query
