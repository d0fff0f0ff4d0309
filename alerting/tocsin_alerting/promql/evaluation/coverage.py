"""What parses and never finds anything here; said when a rule is loaded, not when it is needed."""

from tocsin_alerting.promql.ast import Call, Expr, Span, walk
from tocsin_alerting.promql.evaluation.functions import FUNCTIONS
from tocsin_alerting.promql.evaluation.native import NEEDS, of_native_histograms


def check(expr: Expr) -> list[tuple[Span, str]]:
    """(where, what) of every such part of `expr`, in the order of the text."""
    return [
        (node.span, f"{node.function}() {NEEDS}")
        for node in walk(expr)
        if isinstance(node, Call) and FUNCTIONS[node.function] is of_native_histograms
    ]
