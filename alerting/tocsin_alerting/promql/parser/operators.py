"""How close operators bind, and which aggregations take a parameter."""

from tocsin_alerting.promql.parser.ast import AggregateOp, BinaryOp

_LEVELS = (
    (BinaryOp.OR,),
    (BinaryOp.AND, BinaryOp.UNLESS),
    (
        BinaryOp.EQUAL,
        BinaryOp.NOT_EQUAL,
        BinaryOp.GREATER,
        BinaryOp.LESS,
        BinaryOp.GREATER_EQUAL,
        BinaryOp.LESS_EQUAL,
        BinaryOp.TRIM_UPPER,
        BinaryOp.TRIM_LOWER,
    ),
    (BinaryOp.ADD, BinaryOp.SUB),
    (BinaryOp.MUL, BinaryOp.DIV, BinaryOp.MOD, BinaryOp.ATAN2),
    (BinaryOp.POW,),
)
PRECEDENCE = {op.value: level for level, ops in enumerate(_LEVELS) for op in ops}
RIGHT_TO_LEFT = PRECEDENCE[BinaryOp.POW]
"""The level whose operators bind from the right: `2^3^2` is `2^(3^2)`."""
WITH_PARAM = frozenset(
    (
        AggregateOp.BOTTOMK,
        AggregateOp.COUNT_VALUES,
        AggregateOp.LIMITK,
        AggregateOp.LIMIT_RATIO,
        AggregateOp.QUANTILE,
        AggregateOp.TOPK,
    )
)
