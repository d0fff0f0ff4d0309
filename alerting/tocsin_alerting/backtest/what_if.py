"""A rule with another threshold or another `for`, over the same time."""

from collections.abc import Iterator
from dataclasses import replace

from tocsin_alerting.backtest.replay import Replay, RuleReplay
from tocsin_alerting.backtest.report import WhatIf, what_if
from tocsin_alerting.promql.parser.ast import (
    BinaryExpr,
    BinaryOp,
    Expr,
    NumberLiteral,
    ParenExpr,
    UnaryExpr,
)
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.threshold import COMPARISONS
from tocsin_alerting.time_format import format_duration

FOR_CHOICES_MS = (0, 60_000, 120_000, 300_000, 600_000)
FACTORS = (0.8, 0.9, 1.1, 1.2)


async def what_ifs(
    replay: RuleReplay, again: Replay, within: tuple[int, int]
) -> tuple[WhatIf, ...]:
    """The rule with each `for`, then with each threshold; the first is the rule as it is."""
    rule = replay.rule
    assert isinstance(rule, AlertingRule)
    keep_ms = rule.keep_firing_for_ms
    rows = [what_if("as it is", replay.cells, rule.for_ms, keep_ms, within)]
    rows += [
        what_if(f"for: {format_duration(for_ms)}", replay.cells, for_ms, keep_ms, within)
        for for_ms in FOR_CHOICES_MS
        if for_ms != rule.for_ms
    ]
    for limit, query in _other_thresholds(rule.query):
        changed = replace(replay.group, rules=(replace(rule, query=query),))
        (other,) = await again.run([changed])
        rows.append(what_if(f"threshold {limit:.4g}", other.cells, rule.for_ms, keep_ms, within))
    return tuple(rows)


def _other_thresholds(query: Expr) -> Iterator[tuple[float, Expr]]:
    for factor in FACTORS:
        scaled = _scaled(query, factor)
        if scaled is not None:
            yield scaled


def _scaled(node: Expr, factor: float) -> tuple[float, Expr] | None:
    """The expression with the number that it is compared with changed, and that number; None where
    it is compared with none. The comparison is the one of `threshold.comparison`."""
    if isinstance(node, ParenExpr):
        inner = _scaled(node.expr, factor)
        return inner and (inner[0], replace(node, expr=inner[1]))
    if not isinstance(node, BinaryExpr):
        return None
    if node.op in (BinaryOp.AND, BinaryOp.UNLESS):
        left = _scaled(node.lhs, factor)
        return left and (left[0], replace(node, lhs=left[1]))
    if node.op not in COMPARISONS:
        return None
    left, right = _scaled_number(node.lhs, factor), _scaled_number(node.rhs, factor)
    if left is not None and right is None:
        return left[0], replace(node, lhs=left[1])
    return right and (right[0], replace(node, rhs=right[1]))


def _scaled_number(node: Expr, factor: float) -> tuple[float, Expr] | None:
    if isinstance(node, NumberLiteral):
        value = node.value * factor
        return value, replace(node, value=value)
    if isinstance(node, ParenExpr | UnaryExpr):
        inner = _scaled_number(node.expr, factor)
        if inner is None:
            return None
        negative = isinstance(node, UnaryExpr) and node.op is BinaryOp.SUB
        return -inner[0] if negative else inner[0], replace(node, expr=inner[1])
    return None
