"""The nodes of a PromQL expression, each with its place in the query; all are values.

Two expressions are equal when they mean the same text; spans take no part in it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from tocsin_alerting.tsdb.matchers import Matcher


class PositionRange(NamedTuple):
    """Character offsets into the query, end exclusive."""

    start: int
    end: int


NOWHERE = PositionRange(0, 0)


class BinaryOp(StrEnum):
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    MOD = "%"
    POW = "^"
    ATAN2 = "atan2"
    EQUAL = "=="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"
    GREATER_EQUAL = ">="
    LESS_EQUAL = "<="
    TRIM_UPPER = "</"
    TRIM_LOWER = ">/"
    AND = "and"
    OR = "or"
    UNLESS = "unless"


COMPARISONS = frozenset(
    (
        BinaryOp.EQUAL,
        BinaryOp.NOT_EQUAL,
        BinaryOp.GREATER,
        BinaryOp.LESS,
        BinaryOp.GREATER_EQUAL,
        BinaryOp.LESS_EQUAL,
    )
)
SET_OPS = frozenset((BinaryOp.AND, BinaryOp.OR, BinaryOp.UNLESS))


class AggregateOp(StrEnum):
    SUM = "sum"
    AVG = "avg"
    COUNT = "count"
    MIN = "min"
    MAX = "max"
    GROUP = "group"
    STDDEV = "stddev"
    STDVAR = "stdvar"
    TOPK = "topk"
    BOTTOMK = "bottomk"
    COUNT_VALUES = "count_values"
    QUANTILE = "quantile"
    LIMITK = "limitk"
    LIMIT_RATIO = "limit_ratio"


class Edge(StrEnum):
    """What `@` may name instead of a time: an end of the evaluated range."""

    START = "start"
    END = "end"


class DurationOp(StrEnum):
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    MOD = "%"
    POW = "^"
    STEP = "step"
    RANGE = "range"
    MIN_OF = "min_of"
    MAX_OF = "max_of"


class Cardinality(StrEnum):
    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"  # group_left
    ONE_TO_MANY = "one-to-many"  # group_right
    MANY_TO_MANY = "many-to-many"  # set operators


@dataclass(frozen=True, slots=True, eq=False)
class NumberLiteral:
    """`<number>` | `<duration>`; a duration counts in seconds and is printed as one."""

    value: float
    duration: bool = False
    span: PositionRange = NOWHERE

    # NaN equals NaN here and -0 differs from 0: it is the text that is compared.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NumberLiteral):
            return NotImplemented
        return (self.value.hex(), self.duration) == (other.value.hex(), other.duration)

    def __hash__(self) -> int:
        return hash((self.value.hex(), self.duration))


@dataclass(frozen=True, slots=True)
class StringLiteral:
    """`"<text>"` | `'<text>'` | `` `<text>` ``"""

    value: str
    span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class DurationExpr:
    """`[<d>] <op> <d>` | `step()` | `range()` | `min_of(<d>, <d>)` | `max_of(<d>, <d>)`

    Operands count in seconds. A unary operator has no `lhs`; `step()` and `range()` have neither.
    `wrapped` means that the text has parentheses around it.
    """

    op: DurationOp
    lhs: "NumberLiteral | DurationExpr | None" = None
    rhs: "NumberLiteral | DurationExpr | None" = None
    wrapped: bool = False
    span: PositionRange = field(default=NOWHERE, compare=False)


Duration: TypeAlias = int | DurationExpr
"""Milliseconds, or what only the evaluation's step and range can decide (`durations.resolve`)."""


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """`<name>{<label> <op> <value>, … [or …]} [@ <time>] [anchored|smoothed] [offset <duration>]`

    A series is selected when it satisfies every matcher of any of `matcher_sets`. A `name` outside
    the braces is also a `__name__` matcher, the last of each set. `at` is a Unix time in ms.
    """

    name: str
    matcher_sets: tuple[tuple[Matcher, ...], ...]
    offset: Duration = 0
    at: int | Edge | None = None
    anchored: bool = False
    smoothed: bool = False
    span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class MatrixSelector:
    """`<vector selector>[<range>]`; `offset`, `@` and the like stand on the vector selector."""

    vector: VectorSelector
    range: Duration
    span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class SubqueryExpr:
    """`<expr>[<range>:[<step>]] [@ <time>] [offset <duration>]`; no step: the default one."""

    expr: "Expr"
    range: Duration
    step: Duration | None = None
    offset: Duration = 0
    at: int | Edge | None = None
    span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class ParenExpr:
    """`(<expr>)`"""

    expr: "Expr"
    span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class UnaryExpr:
    """`+<expr>` | `-<expr>`; before a number literal the sign is part of the literal."""

    op: BinaryOp
    expr: "Expr"
    span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class VectorMatching:
    """`[on|ignoring (<labels>)] [group_left|group_right (<include>)] [fill… (<number>)]`"""

    cardinality: Cardinality = Cardinality.ONE_TO_ONE
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: NumberLiteral | None = None
    fill_right: NumberLiteral | None = None


@dataclass(frozen=True, slots=True)
class BinaryExpr:
    """`<expr> <op> [bool] [<vector matching>] <expr>`

    `matching` is None unless both sides are instant vectors. `op_span` starts at the operator and
    ends with its modifiers.
    """

    op: BinaryOp
    lhs: "Expr"
    rhs: "Expr"
    matching: VectorMatching | None = None
    return_bool: bool = False
    span: PositionRange = field(default=NOWHERE, compare=False)
    op_span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class AggregateExpr:
    """`<op> [by|without (<labels>)] ([<param>,] <expr>)`"""

    op: AggregateOp
    expr: "Expr"
    param: "Expr | None" = None
    grouping: tuple[str, ...] = ()
    without: bool = False
    span: PositionRange = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`<function>(<expr>, …)`; `function` is a key of `signatures.FUNCTIONS`."""

    function: str
    args: "tuple[Expr, ...]"
    span: PositionRange = field(default=NOWHERE, compare=False)


Expr: TypeAlias = (
    AggregateExpr
    | BinaryExpr
    | Call
    | MatrixSelector
    | NumberLiteral
    | ParenExpr
    | StringLiteral
    | SubqueryExpr
    | UnaryExpr
    | VectorSelector
)


_CHILDREN: Mapping[type, Callable[[Any], tuple[Expr, ...]]] = {
    AggregateExpr: lambda node: (node.expr,) if node.param is None else (node.param, node.expr),
    BinaryExpr: lambda node: (node.lhs, node.rhs),
    Call: lambda node: node.args,
    MatrixSelector: lambda node: (node.vector,),
    **dict.fromkeys((ParenExpr, SubqueryExpr, UnaryExpr), lambda node: (node.expr,)),
}


def children(node: Expr) -> tuple[Expr, ...]:
    """The expressions directly below `node`, in the order of the text."""
    below = _CHILDREN.get(type(node))
    return () if below is None else below(node)


def walk(node: Expr) -> Iterator[Expr]:
    """`node` and everything below it, parents first, in the order of the text."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        if (below := _CHILDREN.get(type(current))) is not None:
            waiting.extend(below(current)[::-1])


def selectors(node: Expr) -> tuple[VectorSelector, ...]:
    """Every vector selector in `node`, those inside range vectors and subqueries too."""
    return tuple(inner for inner in walk(node) if isinstance(inner, VectorSelector))
