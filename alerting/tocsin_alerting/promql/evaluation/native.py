"""Functions of native histograms, which are not stored here: they find none, and say so."""

from collections.abc import Sequence

from tocsin_alerting.promql.ast import Call
from tocsin_alerting.promql.evaluation.context import Context
from tocsin_alerting.promql.evaluation.vector import Value, Vector, empty

NEEDS = "needs native histograms, which are not stored here"


def of_native_histograms(call: Call, _: Sequence[Value], context: Context) -> Vector:
    """Nothing: Prometheus leaves out float samples here too, though without a word."""
    context.notes.warn(f"{call.function}() {NEEDS}", call.span)
    return empty(context.steps.count)
