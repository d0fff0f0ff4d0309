"""What parses and is not evaluated here; said when a rule is loaded, not when it is needed."""

from collections.abc import Iterator

from tocsin_alerting.promql.ast import (
    Call,
    Expr,
    Span,
    walk,
)
from tocsin_alerting.promql.evaluation.functions import FUNCTIONS

_NATIVE = (
    "histogram_avg",
    "histogram_count",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
)


def check(expr: Expr) -> list[tuple[Span, str]]:
    """(where, what) of every part of `expr` that `evaluate` refuses, in the order of the text."""
    return [fault for node in walk(expr) for fault in _faults(node)]


def _faults(node: Expr) -> Iterator[tuple[Span, str]]:
    match node:
        case Call(function=name, span=span) if name in _NATIVE:
            yield span, f"{name}() needs native histograms, which are not stored here"
        case Call(function=name, span=span) if name not in FUNCTIONS:
            yield span, f"function {name}() is not evaluated here"
        case _:
            pass
