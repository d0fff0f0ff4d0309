"""What parses and never finds anything here; said when a rule is loaded, not when it is needed."""

from tocsin_alerting.promql.functions.histogram_functions import (
    NEEDS,
    finds_no_native_histograms,
)
from tocsin_alerting.promql.functions.table import FUNCTIONS
from tocsin_alerting.promql.parser.ast import Call, Expr, PositionRange, walk


def refuse_unsupported(expr: Expr) -> list[tuple[PositionRange, str]]:
    """(where, what) of every such part of `expr`, in the order of the text."""
    return [
        (node.span, f"{node.function}() {NEEDS}")
        for node in walk(expr)
        if isinstance(node, Call) and FUNCTIONS[node.function] is finds_no_native_histograms
    ]
