"""Binary operators between numbers, and between vectors and scalars."""

from collections.abc import Callable, Mapping

import numpy as np

from tocsin_alerting.promql.eval.context import Context
from tocsin_alerting.promql.eval.vector import Scalar, Vector
from tocsin_alerting.promql.parser.ast import COMPARISONS, BinaryExpr, BinaryOp
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.values import Floats, Mask

_Compute = Callable[[Floats, Floats], Floats]
_Compare = Callable[[Floats, Floats], Mask]


def _power(base: Floats, exponent: Floats) -> Floats:
    """numpy takes the square root for an exponent of a half, which differs at -0 and -Inf."""
    root = np.where(np.isneginf(base), np.inf, np.sqrt(base) + 0.0)
    return np.where(exponent == 0.5, root, np.power(base, exponent))


ARITHMETIC: Mapping[BinaryOp, _Compute] = {
    BinaryOp.ADD: np.add,
    BinaryOp.SUB: np.subtract,
    BinaryOp.MUL: np.multiply,
    BinaryOp.DIV: np.divide,
    BinaryOp.MOD: np.fmod,
    BinaryOp.POW: _power,
    BinaryOp.ATAN2: np.arctan2,
}
COMPARISON: Mapping[BinaryOp, _Compare] = {
    BinaryOp.EQUAL: np.equal,
    BinaryOp.NOT_EQUAL: np.not_equal,
    BinaryOp.GREATER: np.greater,
    BinaryOp.LESS: np.less,
    BinaryOp.GREATER_EQUAL: np.greater_equal,
    BinaryOp.LESS_EQUAL: np.less_equal,
}
TRIMS = (BinaryOp.TRIM_LOWER, BinaryOp.TRIM_UPPER)


def keeps_name(op: BinaryOp, semantics: Semantics) -> bool:
    """Whether a result still is what the left side was; 2.42 forgot atan2."""
    return op in COMPARISONS or semantics == 2 and op is BinaryOp.ATAN2


def scalars(op: BinaryOp, lhs: Scalar, rhs: Scalar) -> Scalar:
    """Of two scalars; a comparison gives 0 or 1."""
    if op in COMPARISON:
        return COMPARISON[op](lhs, rhs).astype(np.float64)
    return ARITHMETIC[op](lhs, rhs)


def with_scalar(
    node: BinaryExpr, vector: Vector, scalar: Scalar, scalar_left: bool, context: Context
) -> Vector:
    """Of a vector and a scalar on either side; a filter keeps the vector's numbers."""
    other = scalar[:, None]
    lhs, rhs = (other, vector.values) if scalar_left else (vector.values, other)
    if node.op in TRIMS:
        incompatible(node, context)
        return vector.kept(np.zeros(vector.values.shape, np.bool_))
    if node.op not in COMPARISONS:
        computed = vector.with_values(ARITHMETIC[node.op](lhs, rhs))
        return computed if keeps_name(node.op, context.semantics) else context.unnamed(computed)
    holds = COMPARISON[node.op](lhs, rhs)
    if node.return_bool:
        return context.unnamed(vector.with_values(holds.astype(np.float64)))
    return vector.kept(holds)


def incompatible(node: BinaryExpr, context: Context) -> None:
    """Trimming is for native histograms: floats give nothing, and a note."""
    text = f'incompatible sample types encountered for binary operator "{node.op.value}"'
    context.notes.inform(f"{text}: float {node.op.value} float", node.span)
