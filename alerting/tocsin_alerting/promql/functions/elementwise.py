"""Functions of each number alone: rounding, clamping, logarithms, trigonometry."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from tocsin_alerting.promql.eval.context import Context, Function
from tocsin_alerting.promql.eval.vector import ONE, Scalar, Value, Vector
from tocsin_alerting.promql.parser.ast import Call
from tocsin_alerting.tsdb.values import Floats


def each(compute: Callable[[Floats], Floats]) -> Function:
    """The function that replaces every number."""

    def function(_: Call, args: Sequence[Value], context: Context) -> Vector:
        vector = cast(Vector, args[0])
        return context.unnamed(vector.with_values(compute(vector.values)))

    return function


def constant(value: float) -> Function:
    def function(_: Call, __: Sequence[Value], context: Context) -> Scalar:
        return np.full(context.steps.count, value)

    return function


def clamp(_: Call, args: Sequence[Value], context: Context) -> Vector:
    vector, low, high = cast(tuple[Vector, Scalar, Scalar], args)
    return _clamped(vector, low, high, context)


def clamp_max(_: Call, args: Sequence[Value], context: Context) -> Vector:
    vector, high = cast(tuple[Vector, Scalar], args)
    return _clamped(vector, np.full_like(high, -np.inf), high, context)


def clamp_min(_: Call, args: Sequence[Value], context: Context) -> Vector:
    vector, low = cast(tuple[Vector, Scalar], args)
    return _clamped(vector, low, np.full_like(low, np.inf), context)


def _clamped(vector: Vector, low: Scalar, high: Scalar, context: Context) -> Vector:
    """Nothing at all where the bounds cross."""
    low, high = low[:, None], high[:, None]
    clamped = vector.with_values(_higher(low, _lower(high, vector.values)))
    if (high < low).any():
        clamped = clamped.kept(np.broadcast_to(~(high < low), vector.values.shape))
    return context.unnamed(clamped)


def _lower(first: Floats, second: Floats) -> Floats:
    """Go's math.Min: -Inf is lower than NaN, NaN than all others, and -0 than 0."""
    zero = np.where(np.signbit(first), first, second)
    lower = np.where(first == second, zero, np.minimum(first, second))
    return np.where(np.isneginf(first) | np.isneginf(second), -np.inf, lower)


def _higher(first: Floats, second: Floats) -> Floats:
    """Go's math.Max: +Inf is higher than NaN, NaN than all others, and 0 than -0."""
    return -_lower(-first, -second)


def sign(numbers: Floats) -> Floats:
    """-1 or 1; zeros and NaN stay what they are."""
    return np.where(numbers < 0, -1.0, np.where(numbers > 0, 1.0, numbers))


def rounded(_: Call, args: Sequence[Value], context: Context) -> Vector:
    """To the nearest multiple of the second argument, 1 by default; ties go up."""
    vector = cast(Vector, args[0])
    nearest = cast(Scalar, args[1])[:, None] if len(args) > 1 else np.ones((1, 1))
    inverse = 1.0 / nearest  # loses fewer digits than dividing by what is asked for
    return context.unnamed(vector.with_values(np.floor(vector.values * inverse + 0.5) / inverse))


def to_vector(_: Call, args: Sequence[Value], __: Context) -> Vector:
    from_scalar = cast(Scalar, args[0])
    return Vector(ONE, from_scalar.reshape(-1, 1))


def to_scalar(_: Call, args: Sequence[Value], __: Context) -> Scalar:
    """The number of the only element, NaN where there is none or more than one."""
    vector = cast(Vector, args[0])
    alone = vector.present_mask.sum(axis=1) == 1
    return np.where(alone, vector.filled(0.0).sum(axis=1), np.nan)


def lower_of(_: Call, args: Sequence[Value], __: Context) -> Scalar:
    return np.minimum(cast(Scalar, args[0]), cast(Scalar, args[1]))


def higher_of(_: Call, args: Sequence[Value], __: Context) -> Scalar:
    return np.maximum(cast(Scalar, args[0]), cast(Scalar, args[1]))


def sinh(numbers: Floats) -> Floats:
    """As Go computes it: beyond 709.78, where e^x ends, it is infinite."""
    beyond = np.copysign(np.exp(np.abs(numbers)) * 0.5, numbers)
    return np.where(np.abs(numbers) > 21, beyond, np.sinh(numbers))


def cosh(numbers: Floats) -> Floats:
    """As Go computes it, like `sinh`."""
    return np.where(np.abs(numbers) > 21, np.exp(np.abs(numbers)) * 0.5, np.cosh(numbers))


def log2(numbers: Floats) -> Floats:
    """As Go computes it, to the last digit: powers of two are exact."""
    fraction, exponent = np.frexp(numbers)
    exact = fraction == 0.5
    logarithm: Floats = np.log(fraction) * (1 / math.log(2.0)) + exponent
    return np.where(exact, exponent - 1.0, logarithm)


def log10(numbers: Floats) -> Floats:
    """As Go computes it."""
    return log2(numbers) * (math.log(2.0) / math.log(10.0))


def now(_: Call, __: Sequence[Value], context: Context) -> Scalar:
    return context.steps.times / 1000.0


def query_start(_: Call, __: Sequence[Value], context: Context) -> Scalar:
    return np.full(context.steps.count, context.query.start_ms / 1000.0)


def query_end(_: Call, __: Sequence[Value], context: Context) -> Scalar:
    return np.full(context.steps.count, context.query.end_ms / 1000.0)


def query_range(_: Call, __: Sequence[Value], context: Context) -> Scalar:
    return np.full(context.steps.count, (context.query.end_ms - context.query.start_ms) / 1000.0)


def query_step(_: Call, __: Sequence[Value], context: Context) -> Scalar:
    step_ms = context.query.step_ms if context.is_range else 0
    return np.full(context.steps.count, step_ms / 1000.0)
