"""Every function of PromQL with the types that it takes and gives; the engine has the meanings."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Semantics: TypeAlias = Literal[2, 3]
"""Whose PromQL: that of Prometheus 3.x or of 2.42."""


class ValueType(StrEnum):
    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "vector"
    MATRIX = "matrix"

    @property
    def documented(self) -> str:
        """The name that users know: `instant vector`, not `vector`."""
        return _DOCUMENTED.get(self, self.value)


_DOCUMENTED = {ValueType.VECTOR: "instant vector", ValueType.MATRIX: "range vector"}

_MATRIX, _SCALAR, _STRING, _VECTOR = (
    ValueType.MATRIX,
    ValueType.SCALAR,
    ValueType.STRING,
    ValueType.VECTOR,
)


@dataclass(frozen=True, slots=True)
class Signature:
    """`variadic` n lets the last of `args` occur 0 to n times, -1 any number of times, 0 once.

    `only` names the one semantics that has the function. What Prometheus hides behind a flag is
    always on here.
    """

    args: tuple[ValueType, ...]
    returns: ValueType = _VECTOR
    variadic: int = 0
    only: Semantics | None = None


def signature(name: str, semantics: Semantics) -> Signature | None:
    known = FUNCTIONS.get(name)
    return known if known and known.only in (None, semantics) else None


FUNCTIONS: Mapping[str, Signature] = {
    "abs": Signature((_VECTOR,)),
    "absent": Signature((_VECTOR,)),
    "absent_over_time": Signature((_MATRIX,)),
    "acos": Signature((_VECTOR,)),
    "acosh": Signature((_VECTOR,)),
    "asin": Signature((_VECTOR,)),
    "asinh": Signature((_VECTOR,)),
    "atan": Signature((_VECTOR,)),
    "atanh": Signature((_VECTOR,)),
    "avg_over_time": Signature((_MATRIX,)),
    "ceil": Signature((_VECTOR,)),
    "changes": Signature((_MATRIX,)),
    "clamp": Signature((_VECTOR, _SCALAR, _SCALAR)),
    "clamp_max": Signature((_VECTOR, _SCALAR)),
    "clamp_min": Signature((_VECTOR, _SCALAR)),
    "cos": Signature((_VECTOR,)),
    "cosh": Signature((_VECTOR,)),
    "count_over_time": Signature((_MATRIX,)),
    "day_of_month": Signature((_VECTOR,), variadic=1),
    "day_of_week": Signature((_VECTOR,), variadic=1),
    "day_of_year": Signature((_VECTOR,), variadic=1),
    "days_in_month": Signature((_VECTOR,), variadic=1),
    "deg": Signature((_VECTOR,)),
    "delta": Signature((_MATRIX,)),
    "deriv": Signature((_MATRIX,)),
    "double_exponential_smoothing": Signature((_MATRIX, _SCALAR, _SCALAR), only=3),
    "end": Signature((), _SCALAR, only=3),
    "exp": Signature((_VECTOR,)),
    "first_over_time": Signature((_MATRIX,), only=3),
    "floor": Signature((_VECTOR,)),
    "histogram_avg": Signature((_VECTOR,), only=3),
    "histogram_count": Signature((_VECTOR,)),
    "histogram_fraction": Signature((_SCALAR, _SCALAR, _VECTOR)),
    "histogram_quantile": Signature((_SCALAR, _VECTOR)),
    "histogram_quantiles": Signature((_VECTOR, _STRING, _SCALAR, _SCALAR), variadic=9, only=3),
    "histogram_stddev": Signature((_VECTOR,), only=3),
    "histogram_stdvar": Signature((_VECTOR,), only=3),
    "histogram_sum": Signature((_VECTOR,)),
    "holt_winters": Signature((_MATRIX, _SCALAR, _SCALAR), only=2),
    "hour": Signature((_VECTOR,), variadic=1),
    "idelta": Signature((_MATRIX,)),
    "increase": Signature((_MATRIX,)),
    "info": Signature((_VECTOR, _VECTOR), variadic=1, only=3),
    "irate": Signature((_MATRIX,)),
    "label_join": Signature((_VECTOR, _STRING, _STRING, _STRING), variadic=-1),
    "label_replace": Signature((_VECTOR, _STRING, _STRING, _STRING, _STRING)),
    "last_over_time": Signature((_MATRIX,)),
    "ln": Signature((_VECTOR,)),
    "log10": Signature((_VECTOR,)),
    "log2": Signature((_VECTOR,)),
    "mad_over_time": Signature((_MATRIX,), only=3),
    "max_of": Signature((_SCALAR, _SCALAR), _SCALAR, only=3),
    "max_over_time": Signature((_MATRIX,)),
    "min_of": Signature((_SCALAR, _SCALAR), _SCALAR, only=3),
    "min_over_time": Signature((_MATRIX,)),
    "minute": Signature((_VECTOR,), variadic=1),
    "month": Signature((_VECTOR,), variadic=1),
    "pi": Signature((), _SCALAR),
    "predict_linear": Signature((_MATRIX, _SCALAR)),
    "present_over_time": Signature((_MATRIX,)),
    "quantile_over_time": Signature((_SCALAR, _MATRIX)),
    "rad": Signature((_VECTOR,)),
    "range": Signature((), _SCALAR, only=3),
    "rate": Signature((_MATRIX,)),
    "resets": Signature((_MATRIX,)),
    "round": Signature((_VECTOR, _SCALAR), variadic=1),
    "scalar": Signature((_VECTOR,), _SCALAR),
    "sgn": Signature((_VECTOR,)),
    "sin": Signature((_VECTOR,)),
    "sinh": Signature((_VECTOR,)),
    "sort": Signature((_VECTOR,)),
    "sort_by_label": Signature((_VECTOR, _STRING), variadic=-1, only=3),
    "sort_by_label_desc": Signature((_VECTOR, _STRING), variadic=-1, only=3),
    "sort_desc": Signature((_VECTOR,)),
    "sqrt": Signature((_VECTOR,)),
    "start": Signature((), _SCALAR, only=3),
    "start_timestamp": Signature((_VECTOR,), only=3),
    "stddev_over_time": Signature((_MATRIX,)),
    "stdvar_over_time": Signature((_MATRIX,)),
    "step": Signature((), _SCALAR, only=3),
    "sum_over_time": Signature((_MATRIX,)),
    "tan": Signature((_VECTOR,)),
    "tanh": Signature((_VECTOR,)),
    "time": Signature((), _SCALAR),
    "timestamp": Signature((_VECTOR,)),
    "ts_of_first_over_time": Signature((_MATRIX,), only=3),
    "ts_of_last_over_time": Signature((_MATRIX,), only=3),
    "ts_of_max_over_time": Signature((_MATRIX,), only=3),
    "ts_of_min_over_time": Signature((_MATRIX,), only=3),
    "vector": Signature((_SCALAR,)),
    "year": Signature((_VECTOR,), variadic=1),
}
