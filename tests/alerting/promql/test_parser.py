import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.golden import golden_rows
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    Cardinality,
    DurationExpr,
    DurationOp,
    Edge,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
)
from tocsin_alerting.promql.parser.parser import parse, parse_selector
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp

NAME_A = Matcher("__name__", MatchOp.EQUAL, "a")
A = VectorSelector("a", ((NAME_A,),))
B = VectorSelector("b", ((Matcher("__name__", MatchOp.EQUAL, "b"),),))
ONE_TO_ONE = VectorMatching()
FIVE = NumberLiteral(5.0)
MINUTE = NumberLiteral(60.0, duration=True)


def both(op: BinaryOp, matching: VectorMatching = ONE_TO_ONE) -> BinaryExpr:
    return BinaryExpr(op, A, B, matching)


def selecting(*matchers: Matcher) -> VectorSelector:
    return VectorSelector("", (matchers,))


SHAPES: list[tuple[str, Expr]] = [
    ("0x1F", NumberLiteral(31.0)),
    ("1_000", NumberLiteral(1000.0)),
    ("010", NumberLiteral(8.0)),
    ("-1e3", NumberLiteral(-1000.0)),
    ("--5", FIVE),
    ("NaN", NumberLiteral(math.nan)),
    ("1m", MINUTE),
    ("-1m", NumberLiteral(-60.0, duration=True)),
    ("'a\\x41\\u00e9\\'`'", StringLiteral("aAé'`")),
    ("`a\\b`", StringLiteral("a\\b")),
    ("a", A),
    ('{"a"}', selecting(NAME_A)),
    ('{"x.y"="z"}', selecting(Matcher("x.y", MatchOp.EQUAL, "z"))),
    (
        'a{z="1",b=~"c"}',
        VectorSelector(
            "a", ((Matcher("b", MatchOp.REGEX, "c"), Matcher("z", MatchOp.EQUAL, "1"), NAME_A),)
        ),
    ),
    (
        'a{b="1" or b="2"}',
        VectorSelector(
            "a",
            (
                (Matcher("b", MatchOp.EQUAL, "1"), NAME_A),
                (Matcher("b", MatchOp.EQUAL, "2"), NAME_A),
            ),
        ),
    ),
    ('{or="1"}', selecting(Matcher("or", MatchOp.EQUAL, "1"))),
    ("a offset 1m", VectorSelector("a", A.matcher_sets, offset=60_000)),
    ("a offset -1.5", VectorSelector("a", A.matcher_sets, offset=-1500)),
    ("a @ 1.0006", VectorSelector("a", A.matcher_sets, at=1001)),
    ("a @ -1m", VectorSelector("a", A.matcher_sets, at=-60_000)),
    ("a @ start()", VectorSelector("a", A.matcher_sets, at=Edge.START)),
    ("a[1m]", MatrixSelector(A, 60_000)),
    ("a[0.5]", MatrixSelector(A, 500)),
    (
        "a[1m] smoothed offset 5",
        MatrixSelector(VectorSelector("a", A.matcher_sets, offset=5000, smoothed=True), 60_000),
    ),
    ("a[2*1m]", MatrixSelector(A, DurationExpr(DurationOp.MUL, NumberLiteral(2.0), MINUTE))),
    (
        "a[-1m^5]",
        MatrixSelector(
            A, DurationExpr(DurationOp.SUB, rhs=DurationExpr(DurationOp.POW, MINUTE, FIVE))
        ),
    ),
    (
        "a offset (5)",
        VectorSelector(
            "a", A.matcher_sets, offset=DurationExpr(DurationOp.ADD, rhs=FIVE, wrapped=True)
        ),
    ),
    (
        "a offset 5 + 5",
        BinaryExpr(BinaryOp.ADD, VectorSelector("a", A.matcher_sets, offset=5000), FIVE),
    ),
    ("a[1h:]", SubqueryExpr(A, 3_600_000)),
    (
        "a[1h:step()] @ end() offset 1m",
        SubqueryExpr(A, 3_600_000, DurationExpr(DurationOp.STEP), 60_000, Edge.END),
    ),
    ("-a", UnaryExpr(BinaryOp.SUB, A)),
    ("(a)", ParenExpr(A)),
    ("a + b", both(BinaryOp.ADD)),
    ("a ATAN2 b", both(BinaryOp.ATAN2)),
    ("a >/ b", both(BinaryOp.TRIM_LOWER)),
    ("a > bool 5", BinaryExpr(BinaryOp.GREATER, A, FIVE, return_bool=True)),
    ("a or b", both(BinaryOp.OR, VectorMatching(Cardinality.MANY_TO_MANY))),
    (
        "a / on (x, by) group_left (y,) b",
        both(BinaryOp.DIV, VectorMatching(Cardinality.MANY_TO_ONE, True, ("x", "by"), ("y",))),
    ),
    (
        "a - fill_right(5) fill_left(-5) b",
        both(BinaryOp.SUB, VectorMatching(fill_left=NumberLiteral(-5.0), fill_right=FIVE)),
    ),
    ("sum(a) by (x)", AggregateExpr(AggregateOp.SUM, A, grouping=("x",))),
    ("limitk without (x) (5, a)", AggregateExpr(AggregateOp.LIMITK, A, FIVE, ("x",), True)),
    ("time()", Call("time", ())),
    ("step()", Call("step", ())),
    ("rate(a[1m])", Call("rate", (MatrixSelector(A, 60_000),))),
    ('info(a, {b=~".*"})', Call("info", (A, selecting(Matcher("b", MatchOp.REGEX, ".*"))))),
    ("# first\na # last", A),
]


@pytest.mark.parametrize(("query", "expr"), SHAPES, ids=[query for query, _ in SHAPES])
def test_a_query_becomes_its_expression(query: str, expr: Expr) -> None:
    assert parse(query) == expr


@pytest.mark.parametrize(
    ("query", "parenthesised"),
    [
        ("a + b * c ^ d", "a + (b * (c ^ d))"),
        ("a ^ b ^ c", "a ^ (b ^ c)"),
        ("a - b - c", "(a - b) - c"),
        ("a or b and c == d + e", "a or (b and (c == (d + e)))"),
        ("a and b unless c", "(a and b) unless c"),
        ("-a ^ b", "-(a ^ b)"),
        ("a ^ -b * c", "(a ^ (-b)) * c"),
        ("-a * b", "(-a) * b"),
        ("a * -b ^ c", "a * (-(b ^ c))"),
        ("a % b atan2 c", "(a % b) atan2 c"),
        ("a > b == c", "(a > b) == c"),
        ("a + b offset 5m", "a + (b offset 5m)"),
    ],
)
def test_operators_bind_as_in_prometheus(query: str, parenthesised: str) -> None:
    assert bare(parse(query)) == bare(parse(parenthesised))


def bare(expr: Expr) -> str:
    """The tree in prefix form, without its parentheses."""
    match expr:
        case ParenExpr(expr=inner):
            return bare(inner)
        case BinaryExpr(op=op, lhs=lhs, rhs=rhs):
            return f"[{op} {bare(lhs)} {bare(rhs)}]"
        case UnaryExpr(op=op, expr=inner):
            return f"[{op} {bare(inner)}]"
        case _:
            return print_expr(expr)


@pytest.mark.parametrize(
    "word", ["sum", "by", "without", "offset", "and", "fill", "start", "step", "smoothed", "limitk"]
)
def test_keywords_are_metrics_where_nothing_else_fits(word: str) -> None:
    for query in (word, f'{word}{{a="b"}}', f"{word} + {word}", f"sum({word})"):
        assert parse(query) == parse(print_expr(parse(query)))


def test_every_part_knows_its_place() -> None:
    query = 'sum by (x) (rate(a{b="c"}[5m] offset 1m)) > bool -5'
    parsed = parse(query)
    assert isinstance(parsed, BinaryExpr)
    aggregate = parsed.lhs
    assert isinstance(aggregate, AggregateExpr)
    call = aggregate.expr
    assert isinstance(call, Call)

    def text(span: PositionRange) -> str:
        return query[span.start : span.end]

    assert text(parsed.span) == query
    assert text(parsed.op_span) == "> bool"
    assert text(parsed.rhs.span) == "-5"
    assert text(aggregate.span) == query[:41]
    assert text(call.args[0].span) == 'a{b="c"}[5m] offset 1m'
    assert parse("sum(a)  by (x)").span == PositionRange(0, 14)


@pytest.mark.parametrize(("query", "error"), golden_rows("promql_refused.jsonl"))
def test_a_query_is_refused_in_the_words_of_prometheus(query: str, error: str) -> None:
    with pytest.raises(ParseError) as refused:
        parse(query, 2)
    assert str(refused.value) == error


@pytest.mark.parametrize(("query", "error"), golden_rows("promql_refused_3.jsonl"))
def test_the_syntax_of_3_is_refused_with_its_place(query: str, error: str) -> None:
    with pytest.raises(ParseError) as refused:
        parse(query)
    assert str(refused.value) == error


@pytest.mark.parametrize(
    "query",
    ["5m", "a[5]", "a offset (5m)", '{"a"}', 'a{b="c" or d="e"}', "limitk(1, a)", "step()",
     "a smoothed", "a + fill(1) b", "1_000", "sgn(a) </ 5", 'sum by ("x") (a)'],
)  # fmt: skip
def test_2_has_no_syntax_of_3(query: str) -> None:
    with pytest.raises(ParseError):
        parse(query, 2)
    parse(query, 3)


@pytest.mark.parametrize(
    "query",
    ["(" * 10_000, "(" * 10_000 + "1" + ")" * 10_000, "-" * 10_000 + "1", "1" + "+1" * 10_000,
     "a" + "[5m:]" * 10_000, "sum(" * 10_000 + "a" + ")" * 10_000, "2" + "^2" * 10_000,
     "a[" + "(" * 10_000, "a[1" + "+1" * 10_000 + "]", "a offset " + "-" * 10_000 + "5m"],
    ids=lambda query: query[:12],
)  # fmt: skip
def test_depth_is_an_error_like_any_other(query: str) -> None:
    with pytest.raises(ParseError, match="levels deep"):
        parse(query)


def test_a_query_has_a_limit_of_words_not_of_characters() -> None:
    with pytest.raises(ParseError, match="more than 20000 words"):
        parse("{" + 'a="b",' * 6_000 + "}")
    long = f'{{a=~"{"b|" * 50_000}c"}}'
    assert print_expr(parse(long)) == long


def test_what_is_deep_enough_can_be_printed_compared_and_hashed() -> None:
    query = "(" * 90 + "1" + ")" * 90 + " + 1" * 100
    parsed = parse(query)
    assert print_expr(parsed) == query
    again = parse(query + " ")
    assert again == parsed and hash(again) == hash(parsed) and again is not parsed


WORDS = (
    "a sum rate topk by without on ignoring group_left bool offset @ start() ( ) ( ) { } [ ] [5m] "
    "[5m:1m] 5m 1 'x' {a='b'} , + - * ^ == > and unless inf step() fill(1) smoothed time() # ` \\"
).split(" ")


@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
@settings(max_examples=500, deadline=None)
def test_no_text_does_more_than_be_refused(query: str) -> None:
    versions: tuple[Semantics, ...] = (2, 3)
    for semantics in versions:
        try:
            parsed = parse(query, semantics)
        except ParseError as refused:
            assert re.match(r"[0-9]+:[0-9]+: parse error: .", str(refused))
        else:
            assert parse(print_expr(parsed), semantics) == parsed


def test_operators_without_parentheses_keep_their_shape() -> None:
    chance = random.Random(7)
    operators = [
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "atan2",
        "> bool",
        "== on (x)",
        "and",
        "or",
        "unless",
    ]
    for _ in range(300):
        words = [chance.choice(("a", "-a", "rate(a[5m:] offset 1m)"))]
        for _ in range(chance.randint(1, 6)):
            words += [chance.choice(operators), chance.choice(("a", "-b", "(c)", "sum(d)"))]
        parsed = parse(" ".join(words))
        assert parse(print_expr(parsed)) == parsed


@pytest.mark.parametrize("query", ["a", '{b="c"}', 'sum{b="c"}', "{}", '{"a"}'])
def test_a_selector_alone_is_parsed_without_the_rest(query: str) -> None:
    assert print_expr(parse_selector(query)) in (query, '{__name__="a"}')


@pytest.mark.parametrize("query", ["", "a[5m]", "a offset 5m", "sum(a)", "1", "a b", "(a)"])
def test_what_is_no_selector_alone_is_refused(query: str) -> None:
    with pytest.raises(ParseError, match="unexpected"):
        parse_selector(query)
