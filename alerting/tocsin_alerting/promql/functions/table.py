"""Every function that is evaluated: its name, and where its meaning stands. One entry, one test.

The types of the arguments are in `parser/signatures.py`.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np

from tocsin_alerting.promql.eval.context import Context, Function, in_order
from tocsin_alerting.promql.eval.ranges import RangeFunction
from tocsin_alerting.promql.eval.selectors import select_instant
from tocsin_alerting.promql.eval.unaligned_windows import SampleField
from tocsin_alerting.promql.eval.vector import Value, Vector, empty
from tocsin_alerting.promql.functions import (
    absent,
    calendar,
    elementwise,
    histogram_functions,
    info,
    label_functions,
    over_time,
    rates,
    regression,
    sorting,
)
from tocsin_alerting.promql.functions.elementwise import constant, each
from tocsin_alerting.promql.functions.histogram_functions import finds_no_native_histograms
from tocsin_alerting.promql.parser.ast import (
    Call,
    Expr,
    ParenExpr,
    VectorSelector,
)

Implementation: TypeAlias = Function | RangeFunction


def timestamp(call: Call, args: Sequence[Value], context: Context) -> Vector:
    """The time of each sample where a selector stands directly inside, else that of the step."""
    inside = _bare(call.args[0])
    if isinstance(inside, VectorSelector):
        return context.unnamed(in_order(select_instant(inside, context, SampleField.TIME)))
    vector = cast(Vector, args[0])
    times = np.broadcast_to(context.steps.times[:, None] / 1000.0, vector.values.shape)
    return context.unnamed(vector.with_values(times))


def start_timestamp(call: Call, _: Sequence[Value], context: Context) -> Vector:
    """When the counter of each sample began, 0 where that is unknown; nothing of anything but a
    selector, and nothing of series whose writers never say it."""
    inside = _bare(call.args[0])
    if not isinstance(inside, VectorSelector):
        return empty(context.steps.count)
    return context.unnamed(in_order(select_instant(inside, context, SampleField.START)))


def _bare(expr: Expr) -> Expr:
    """The expression without parentheses around it."""
    while isinstance(expr, ParenExpr):
        expr = expr.expr
    return expr


FUNCTIONS: Mapping[str, Implementation] = {
    "abs": each(np.abs),
    "absent": absent.absent,
    "absent_over_time": absent.ABSENT_OVER_TIME,
    "acos": each(np.arccos),
    "acosh": each(np.arccosh),
    "asin": each(np.arcsin),
    "asinh": each(np.arcsinh),
    "atan": each(np.arctan),
    "atanh": each(np.arctanh),
    "avg_over_time": over_time.MEAN,
    "ceil": each(np.ceil),
    "changes": over_time.CHANGES,
    "clamp": elementwise.clamp,
    "clamp_max": elementwise.clamp_max,
    "clamp_min": elementwise.clamp_min,
    "cos": each(np.cos),
    "cosh": each(elementwise.cosh),
    "count_over_time": over_time.COUNT,
    "day_of_month": calendar.DAY_OF_MONTH,
    "day_of_week": calendar.DAY_OF_WEEK,
    "day_of_year": calendar.DAY_OF_YEAR,
    "days_in_month": calendar.DAYS_IN_MONTH,
    "deg": each(lambda numbers: numbers * 180 / np.pi),
    "delta": rates.DELTA,
    "deriv": regression.SLOPE,
    "double_exponential_smoothing": regression.SMOOTHED,
    "end": elementwise.query_end,
    "exp": each(np.exp),
    "first_over_time": over_time.FIRST,
    "floor": each(np.floor),
    "histogram_avg": finds_no_native_histograms,
    "histogram_count": finds_no_native_histograms,
    "histogram_fraction": histogram_functions.fraction,
    "histogram_quantile": histogram_functions.quantile,
    "histogram_quantiles": histogram_functions.quantiles,
    "histogram_stddev": finds_no_native_histograms,
    "histogram_stdvar": finds_no_native_histograms,
    "histogram_sum": finds_no_native_histograms,
    "holt_winters": regression.SMOOTHED,
    "hour": calendar.HOUR,
    "idelta": rates.IDELTA,
    "increase": rates.INCREASE,
    "info": info.info,
    "irate": rates.IRATE,
    "label_join": label_functions.label_join,
    "label_replace": label_functions.label_replace,
    "last_over_time": over_time.LAST,
    "ln": each(np.log),
    "log10": each(elementwise.log10),
    "log2": each(elementwise.log2),
    "mad_over_time": over_time.MEDIAN_DEVIATION,
    "max_of": elementwise.higher_of,
    "max_over_time": over_time.MAX,
    "min_of": elementwise.lower_of,
    "min_over_time": over_time.MIN,
    "minute": calendar.MINUTE,
    "month": calendar.MONTH,
    "pi": constant(np.pi),
    "predict_linear": regression.PREDICTION,
    "present_over_time": over_time.PRESENT,
    "quantile_over_time": over_time.QUANTILE,
    "rad": each(lambda numbers: numbers * np.pi / 180),
    "range": elementwise.query_range,
    "rate": rates.RATE,
    "resets": over_time.RESETS,
    "round": elementwise.rounded,
    "scalar": elementwise.to_scalar,
    "sgn": each(elementwise.sign),
    "sin": each(np.sin),
    "sinh": each(elementwise.sinh),
    "sort": sorting.ascending,
    "sort_by_label": sorting.by_label,
    "sort_by_label_desc": sorting.by_label_desc,
    "sort_desc": sorting.descending,
    "sqrt": each(np.sqrt),
    "start": elementwise.query_start,
    "start_timestamp": start_timestamp,
    "stddev_over_time": over_time.DEVIATION,
    "stdvar_over_time": over_time.VARIANCE,
    "step": elementwise.query_step,
    "sum_over_time": over_time.SUM,
    "tan": each(np.tan),
    "tanh": each(np.tanh),
    "time": elementwise.now,
    "timestamp": timestamp,
    "ts_of_first_over_time": over_time.FIRST_TIME,
    "ts_of_last_over_time": over_time.LAST_TIME,
    "ts_of_max_over_time": over_time.MAX_TIME,
    "ts_of_min_over_time": over_time.MIN_TIME,
    "vector": elementwise.to_vector,
    "year": calendar.YEAR,
}
