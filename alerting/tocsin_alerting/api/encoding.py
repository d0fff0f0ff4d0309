"""Query results as Prometheus's JSON: numbers are texts, times are seconds."""

import math
from collections.abc import Iterable
from typing import Any

from tocsin_alerting.promql.result import (
    InstantVector,
    Matrix,
    QueryValue,
    ScalarValue,
    StringValue,
)


def number(value: float) -> str:
    """The shortest text that reads back, as Go's FormatFloat(v, 'f', -1) has it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return "-0" if value == 0 and math.copysign(1, value) < 0 else str(int(value))
    text = repr(value)
    return _without_exponent(text) if "e" in text else text


def _without_exponent(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.removeprefix("-").partition(".")
    shift = int(exponent)
    if shift < 0:
        return f"{sign}0.{'0' * (-shift - len(whole))}{whole}{part}".rstrip("0").rstrip(".")
    digits = (whole + part).ljust(len(whole) + shift, "0")
    cut = len(whole) + shift
    return sign + (digits[:cut] + "." + digits[cut:] if digits[cut:] else digits)


def encoded(value: QueryValue) -> dict[str, Any]:
    """`{"resultType": …, "result": …}`."""
    match value:
        case ScalarValue():
            return {"resultType": "scalar", "result": [value.at_ms / 1000, number(value.value)]}
        case StringValue():
            return {"resultType": "string", "result": [value.at_ms / 1000, value.value]}
        case InstantVector():
            at = value.at_ms / 1000
            rows = [{"metric": dict(ls), "value": [at, number(v)]} for ls, v in value]
            return {"resultType": "vector", "result": rows}
        case Matrix():
            series = [
                {"metric": dict(one.labels), "values": _points(one.times, one.values)}
                for one in value
            ]
            return {"resultType": "matrix", "result": series}


def _points(times: Iterable[float], values: Iterable[float]) -> list[list[Any]]:
    pairs = zip(times, values, strict=True)
    return [[int(at) / 1000, number(float(value))] for at, value in pairs]
