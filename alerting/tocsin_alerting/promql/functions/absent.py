"""absent and absent_over_time: one element where a selector finds nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from tocsin_alerting.promql.eval.context import Context
from tocsin_alerting.promql.eval.vector import Value, Vector
from tocsin_alerting.promql.functions.over_time import PRESENT
from tocsin_alerting.promql.parser.ast import Call, Expr, MatrixSelector, ParenExpr, VectorSelector
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import MatchOp
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Mask
from tocsin_exporter.snapshot import Labels, sorted_labels


def absent(call: Call, args: Sequence[Value], _: Context) -> Vector:
    """1, with the labels that the selector asks for, at the steps at which nothing is found.

    Of absent_over_time it gets the vector of what was present over time.
    """
    present: Mask = np.any(cast(Vector, args[0]).present_mask, axis=1, keepdims=True)
    missing = ~present
    labels = LabelSets((_asked_for(call.args[0]),))
    return Vector(labels, np.ones(missing.shape), missing)


def _asked_for(expr: Expr) -> Labels:
    """The labels that `=` matchers name; one that is matched twice is in doubt and left out."""
    while isinstance(expr, ParenExpr):
        expr = expr.expr
    selector = expr.vector if isinstance(expr, MatrixSelector) else expr
    if not isinstance(selector, VectorSelector) or len(selector.matcher_sets) != 1:
        return ()
    labels: dict[str, str] = {}
    named: set[str] = set()
    for matcher in selector.matcher_sets[0]:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in named:
            labels[matcher.name] = matcher.value
            named.add(matcher.name)
        else:
            labels.pop(matcher.name, None)
    return sorted_labels(labels)


ABSENT_OVER_TIME = replace(PRESENT, after=absent)
