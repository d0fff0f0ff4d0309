"""Parts of a date: of the evaluation's time, or of numbers that are Unix times in seconds (UTC)."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.promql.eval.context import Context, Function
from tocsin_alerting.promql.eval.vector import Value, Vector, unlabelled
from tocsin_alerting.promql.parser.ast import Call
from tocsin_alerting.tsdb.values import Floats, Ints

Dates: TypeAlias = NDArray[np.datetime64]
"""Whole seconds, in any year that 64 bits can count to."""

_LAST = np.int64(2**63 - 1)
_DAY_S = 86_400


def part(of: Callable[[Dates], Ints]) -> Function:
    def function(_: Call, args: Sequence[Value], context: Context) -> Vector:
        if not args:
            return unlabelled(of(_dates(context.steps.times / 1000.0)).astype(np.float64))
        vector = cast(Vector, args[0])
        numbers = of(_dates(vector.filled(0.0))).astype(np.float64)
        return context.unnamed(vector.with_values(numbers))

    return function


def _dates(seconds: Floats) -> Dates:
    """What is no moment, NaN or too far away, is the last one, where Go's conversion ends up."""
    inside = np.abs(seconds) < 2.0**63
    whole = np.where(inside, np.where(inside, seconds, 0).astype(np.int64), _LAST)
    dates: Dates = whole.view("datetime64[s]")
    return dates


def _whole(dates: Dates, unit: str) -> Ints:
    """How many years, months or days since 1970 have begun."""
    return dates.astype(f"datetime64[{unit}]").astype(np.int64)


def _days_since(dates: Dates, unit: str) -> Ints:
    """How many days have passed since the month or the year began."""
    begin = dates.astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(np.int64)
    return _whole(dates, "D") - begin


def _days_in_month(dates: Dates) -> Ints:
    months = dates.astype("datetime64[M]")
    days = [(months + ahead).astype("datetime64[D]").astype(np.int64) for ahead in (0, 1)]
    return days[1] - days[0]


def _within_day(dates: Dates) -> Ints:
    return dates.astype(np.int64) % _DAY_S


DAY_OF_MONTH = part(lambda dates: _days_since(dates, "M") + 1)
DAY_OF_WEEK = part(lambda dates: (_whole(dates, "D") + 4) % 7)
DAY_OF_YEAR = part(lambda dates: _days_since(dates, "Y") + 1)
DAYS_IN_MONTH = part(_days_in_month)
HOUR = part(lambda dates: _within_day(dates) // 3600)
MINUTE = part(lambda dates: _within_day(dates) // 60 % 60)
MONTH = part(lambda dates: _whole(dates, "M") % 12 + 1)
YEAR = part(lambda dates: _whole(dates, "Y") + 1970)
