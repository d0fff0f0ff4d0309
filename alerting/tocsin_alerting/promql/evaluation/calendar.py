"""Parts of a date: of the evaluation's time, or of numbers that are Unix times in seconds (UTC)."""

import calendar
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import numpy as np

from tocsin_alerting.promql.ast import Call
from tocsin_alerting.promql.evaluation.context import Context
from tocsin_alerting.promql.evaluation.elementwise import Function
from tocsin_alerting.promql.evaluation.vector import Value, Vector, unlabelled
from tocsin_alerting.store.cell import Floats

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 253402300799  # the end of the year 9999, where Python's calendar ends
_EARLIEST = -62135596800


def part(of: Callable[[datetime], int]) -> Function:
    def function(_: Call, args: Sequence[Value], context: Context) -> Vector:
        if not args:
            return unlabelled(_parts(of, np.floor(context.steps.times / 1000.0)))
        vector = cast(Vector, args[0])
        return context.unnamed(vector.with_values(_parts(of, vector.filled(0.0))))

    return function


def _parts(of: Callable[[datetime], int], seconds: Floats) -> Floats:
    """`of` every moment; NaN where there is no such date."""
    flat = [_part(of, float(one)) for one in np.asarray(seconds).ravel().tolist()]
    return np.array(flat, np.float64).reshape(np.shape(seconds))


def _part(of: Callable[[datetime], int], seconds: float) -> float:
    if not _EARLIEST <= seconds <= _LATEST:
        return float("nan")
    return float(of(_EPOCH + timedelta(seconds=int(seconds))))


DAY_OF_MONTH = part(lambda date: date.day)
DAY_OF_WEEK = part(lambda date: date.isoweekday() % 7)
DAY_OF_YEAR = part(lambda date: date.timetuple().tm_yday)
DAYS_IN_MONTH = part(lambda date: calendar.monthrange(date.year, date.month)[1])
HOUR = part(lambda date: date.hour)
MINUTE = part(lambda date: date.minute)
MONTH = part(lambda date: date.month)
YEAR = part(lambda date: date.year)
