import math

from tocsin_alerting.promql.parser.ast import (
    Call,
    MatrixSelector,
    NumberLiteral,
    PositionRange,
    VectorSelector,
    children,
    selectors,
    walk,
)
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.printer import print_expr


def test_numbers_are_equal_when_their_text_is() -> None:
    assert NumberLiteral(math.nan) == NumberLiteral(math.nan, span=PositionRange(1, 4))
    assert hash(NumberLiteral(math.nan)) == hash(NumberLiteral(float("nan")))
    assert NumberLiteral(0.0) != NumberLiteral(-0.0)
    assert NumberLiteral(60.0) != NumberLiteral(60.0, duration=True)
    assert NumberLiteral(1.0) != 1.0


def test_a_walk_goes_from_parents_to_children_in_the_order_of_the_text() -> None:
    query = "topk(3, sum(rate(a[5m])) + (b)) or -c[1h:]"
    visited = [type(node).__name__ for node in walk(parse(query.replace("-c[1h:]", "-c")))]
    assert visited == [
        "BinaryExpr", "AggregateExpr", "NumberLiteral", "BinaryExpr", "AggregateExpr", "Call",
        "MatrixSelector", "VectorSelector", "ParenExpr", "VectorSelector", "UnaryExpr",
        "VectorSelector",
    ]  # fmt: skip


def test_selectors_are_found_wherever_they_stand() -> None:
    query = 'rate(a[5m]) / on (x) group_left max_over_time((sum(b{c="d"}))[1h:]) > scalar(e)'
    names = selectors(parse(query))
    assert [print_expr(selector) for selector in names] == ["a", 'b{c="d"}', "e"]


def test_leaves_have_no_children() -> None:
    selector = parse("a")
    assert isinstance(selector, VectorSelector)
    assert children(selector) == ()
    assert children(MatrixSelector(selector, 1)) == (selector,)
    assert children(Call("time", ())) == ()
