"""The tree of an expression: the fields and kinds of nodes that Prometheus 3 has."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from support.expressions import expressions
from tocsin_alerting.api.prometheus.syntax_tree import syntax_tree
from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
    walk,
)
from tocsin_alerting.promql.parser.parser import parse

NAMED = {"name": "__name__", "value": "m", "type": "="}
SELECTOR: dict[str, Any] = {
    "type": "vectorSelector",
    "name": "m",
    "matchers": [NAMED],
    "offset": 0,
    "timestamp": None,
    "startOrEnd": None,
    "anchored": False,
    "smoothed": False,
}
ONE = {"type": "numberLiteral", "val": "1"}
RANGE = {**SELECTOR, "type": "matrixSelector", "range": 300_000}
RATE = {
    "type": "call",
    "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"},
    "args": [RANGE],
}
MATCHING = {
    "card": "one-to-one",
    "labels": [],
    "on": False,
    "include": [],
    "fillValues": {"lhs": None, "rhs": None},
}
MANY = {**MATCHING, "card": "many-to-one", "labels": ["a"], "on": True, "include": ["b"]}
SUM = {
    "type": "aggregation",
    "op": "sum",
    "expr": SELECTOR,
    "param": None,
    "grouping": ["a"],
    "without": True,
}


def binary(op: str, rhs: Any, matching: Any, is_bool: bool = False) -> dict[str, Any]:
    sides = {"lhs": SELECTOR, "rhs": rhs, "matching": matching}
    return {"type": "binaryExpr", "op": op, **sides, "bool": is_bool}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("m", SELECTOR),
        ("m offset 1m", {**SELECTOR, "offset": 60_000}),
        ("m @ 1.5", {**SELECTOR, "timestamp": 1500}),
        ("m @ end()", {**SELECTOR, "startOrEnd": "end"}),
        (
            'm{a!~"b"}',
            {**SELECTOR, "matchers": [{"name": "a", "value": "b", "type": "!~"}, NAMED]},
        ),
        ("1", ONE),
        ("-Inf", {"type": "numberLiteral", "val": "-Inf"}),
        ('"é"', {"type": "stringLiteral", "val": "é"}),
        ("(1)", {"type": "parenExpr", "expr": ONE}),
        ("-m", {"type": "unaryExpr", "op": "-", "expr": SELECTOR}),
        ("rate(m[5m])", RATE),
        ("m > bool 1", binary(">", ONE, None, True)),
        ("m + m", binary("+", SELECTOR, MATCHING)),
        ("m and m", binary("and", SELECTOR, {**MATCHING, "card": "many-to-many"})),
        ("m * on (a) group_left (b) m", binary("*", SELECTOR, MANY)),
        ("sum without (a) (m)", SUM),
        ("topk(1, m)", {**SUM, "op": "topk", "param": ONE, "grouping": [], "without": False}),
        (
            "m[5m:1m] @ start()",
            {
                "type": "subquery",
                "expr": SELECTOR,
                "range": 300_000,
                "offset": 0,
                "step": 60_000,
                "timestamp": None,
                "startOrEnd": "start",
            },
        ),
    ],
)
def test_a_query_is_a_tree(query: str, wanted: dict[str, Any]) -> None:
    assert syntax_tree(parse(query)) == wanted


KINDS = {
    AggregateExpr: "aggregation",
    BinaryExpr: "binaryExpr",
    Call: "call",
    MatrixSelector: "matrixSelector",
    NumberLiteral: "numberLiteral",
    ParenExpr: "parenExpr",
    StringLiteral: "stringLiteral",
    SubqueryExpr: "subquery",
    UnaryExpr: "unaryExpr",
    VectorSelector: "vectorSelector",
}


def kinds(node: Any) -> list[str]:
    """Of the nodes in a tree, a range's own selector left out, as it has no node of its own."""
    if isinstance(node, list):
        return [kind for one in node for kind in kinds(one)]
    if not isinstance(node, dict):
        return []
    own = [node["type"]] if node.get("type") in KINDS.values() else []
    return own + [kind for one in node.values() for kind in kinds(one)]


@settings(max_examples=40)
@given(expressions())
def test_every_expression_has_a_tree_with_all_its_nodes(expr: Expr) -> None:
    ranges = {id(one.vector) for one in walk(expr) if isinstance(one, MatrixSelector)}
    wanted = [KINDS[type(one)] for one in walk(expr) if id(one) not in ranges]
    found = json.loads(orjson.dumps(syntax_tree(expr)))
    assert sorted(kinds(found)) == sorted(wanted)


def test_filled_sides_and_alternatives_are_told() -> None:
    matching = syntax_tree(parse("m + fill_left (1) m"))["matching"]
    assert matching["fillValues"] == {"lhs": 1.0, "rhs": None}
    sets = syntax_tree(parse('m{a="1" or a="2"}'))["matcherSets"]
    assert [one[0]["value"] for one in sets] == ["1", "2"]
