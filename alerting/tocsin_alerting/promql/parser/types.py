"""The type of every expression, and the refusal of those that do not fit together."""

from typing import NoReturn

from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.ast import (
    COMPARISONS,
    SET_OPS,
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    Call,
    Cardinality,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
    walk,
)
from tocsin_alerting.promql.parser.signatures import FUNCTIONS, Signature, ValueType
from tocsin_alerting.strconv import quote
from tocsin_alerting.tsdb.matchers import MatchOp

NEEDS = "needs native histograms, which are not stored here"
OF_NATIVE_HISTOGRAMS = frozenset(
    "histogram_avg histogram_count histogram_stddev histogram_stdvar histogram_sum".split()
)
_PLAIN = (ValueType.SCALAR, ValueType.VECTOR)


def refuse_unsupported(expr: Expr) -> list[tuple[PositionRange, str]]:
    """(where, what) of every call that parses and never finds anything here, in the text's order.

    It is said when a rule is loaded, not when the rule is needed.
    """
    return [
        (node.span, f"{node.function}() {NEEDS}")
        for node in walk(expr)
        if isinstance(node, Call) and node.function in OF_NATIVE_HISTOGRAMS
    ]


def type_of(expr: Expr) -> ValueType:
    match expr:
        case AggregateExpr() | VectorSelector():
            return ValueType.VECTOR
        case BinaryExpr(lhs=lhs, rhs=rhs):
            if type_of(lhs) is type_of(rhs) is ValueType.SCALAR:
                return ValueType.SCALAR
            return ValueType.VECTOR
        case NumberLiteral():
            return ValueType.SCALAR
        case StringLiteral():
            return ValueType.STRING
        case MatrixSelector() | SubqueryExpr():
            return ValueType.MATRIX
        case Call(function=name):
            return FUNCTIONS[name].returns
        case ParenExpr(expr=inner) | UnaryExpr(expr=inner):
            return type_of(inner)


def check(expr: Expr, query: str) -> None:
    """Raises ParseError at the first part, in Prometheus's order, that does not fit."""
    _Check(query).visit(expr)


class _Check:
    def __init__(self, query: str) -> None:
        self.query = query

    def visit(self, expr: Expr) -> ValueType:
        match expr:
            case Call():
                self._call(expr)
            case BinaryExpr():
                self._binary(expr)
            case AggregateExpr():
                self._aggregate(expr)
            case UnaryExpr():
                self._unary(expr)
            case SubqueryExpr():
                self._subquery(expr)
            case VectorSelector():
                self._selector(expr)
            case MatrixSelector(vector=vector):
                self._selector(vector)
            case ParenExpr(expr=inner):
                self.visit(inner)
        return type_of(expr)

    def fail(self, message: str, span: PositionRange) -> NoReturn:
        raise ParseError(message, span, self.query)

    def _expect(self, expr: Expr, want: ValueType, where: str) -> None:
        actual = self.visit(expr)
        if actual is not want:
            message = f"expected type {want.documented} in {where}, got {actual.documented}"
            self.fail(message, expr.span)

    def _aggregate(self, expr: AggregateExpr) -> None:
        self._expect(expr.expr, ValueType.VECTOR, "aggregation expression")
        if expr.param is not None:
            text = expr.op is AggregateOp.COUNT_VALUES
            want = ValueType.STRING if text else ValueType.SCALAR
            self._expect(expr.param, want, "aggregation parameter")

    def _unary(self, expr: UnaryExpr) -> None:
        if (actual := self.visit(expr.expr)) not in _PLAIN:
            allowed = (
                "unary expression only allowed on expressions of type scalar or instant vector"
            )
            self.fail(f"{allowed}, got {quote(actual.documented)}", expr.span)

    def _subquery(self, expr: SubqueryExpr) -> None:
        if (actual := self.visit(expr.expr)) is not ValueType.VECTOR:
            self.fail(
                f"subquery is only allowed on instant vector, got {actual} instead", expr.span
            )

    def _selector(self, selector: VectorSelector, empty_allowed: bool = False) -> None:
        for matchers in selector.matcher_sets:
            inside = matchers[:-1] if selector.name else matchers
            names = [matcher.value for matcher in inside if matcher.name == "__name__"]
            if selector.name and names:
                twice = f"{quote(selector.name)} or {quote(names[0])}"
                self.fail(f"metric name must not be set twice: {twice}", selector.span)
            # Without this a slip of the pen would select everything.
            if empty_allowed or any(one.op is MatchOp.EQUAL and one.value for one in matchers):
                continue
            if all(matcher.matches("") for matcher in matchers):
                message = "vector selector must contain at least one non-empty matcher"
                self.fail(message, selector.span)

    def _call(self, call: Call) -> None:
        signature = FUNCTIONS[call.function]
        self._count_arguments(call, signature)
        if call.function == "info" and len(call.args) > 1:
            self._info_labels(call.args[1])
        for index, arg in enumerate(call.args):
            want = signature.args[min(index, len(signature.args) - 1)]
            if call.function == "info" and index == 1 and isinstance(arg, VectorSelector):
                self._selector(arg, empty_allowed=True)
                continue
            self._expect(arg, want, f"call to function {quote(call.function)}")

    def _count_arguments(self, call: Call, signature: Signature) -> None:
        count, most = len(call.args), len(signature.args)
        least = most - 1 if signature.variadic else most
        most = least + signature.variadic if signature.variadic else most
        if least <= count and (count <= most or signature.variadic < 0):
            return
        bound = least if count < least else most
        kind = "" if not signature.variadic else "at least " if count < least else "at most "
        where = f"in call to {quote(call.function)}, got {count}"
        self.fail(f"expected {kind}{bound} argument(s) {where}", call.span)

    def _info_labels(self, labels: Expr) -> None:
        """The second argument of `info` is a selector of labels, never of a metric."""
        if not isinstance(labels, VectorSelector):
            self.fail("expected label selectors only", labels.span)
        if labels.name:
            message = "expected label selectors only, got vector selector instead"
            self.fail(message, labels.span)

    def _binary(self, expr: BinaryExpr) -> None:
        sides = [(self.visit(expr.lhs), expr.lhs), (self.visit(expr.rhs), expr.rhs)]
        types = [actual for actual, _ in sides]
        self._operator(expr, types)
        for kind, side in sides:
            if kind not in _PLAIN:
                what = "binary expression must contain only scalar and instant vector types"
                self.fail(what, side.span)
        self._matching(expr, expr.matching or VectorMatching(), types)

    def _operator(self, expr: BinaryExpr, types: list[ValueType]) -> None:
        compares = expr.op in COMPARISONS
        if expr.return_bool and not compares:
            message = "bool modifier can only be used on comparison operators"
            self.fail(message, expr.op_span)
        scalars = types == [ValueType.SCALAR, ValueType.SCALAR]
        if compares and scalars and not expr.return_bool:
            self.fail("comparisons between scalars must use BOOL modifier", expr.op_span)
        matching = expr.matching
        if matching and matching.on and (both := _both(matching)):
            message = f"label {quote(both)} must not occur in ON and GROUP clause at once"
            self.fail(message, expr.op_span)

    def _matching(self, expr: BinaryExpr, matching: VectorMatching, types: list[ValueType]) -> None:
        vectors = types == [ValueType.VECTOR, ValueType.VECTOR]
        filled = matching.fill_left is not None or matching.fill_right is not None
        if not vectors and matching.labels:
            self.fail("vector matching only allowed between instant vectors", expr.span)
        if not vectors and filled:
            self.fail("filling in missing series only allowed between instant vectors", expr.span)
        if expr.op not in SET_OPS:
            return
        operator = quote(expr.op.value)
        if not vectors:
            what = f"set operator {operator} not allowed in binary scalar expression"
            self.fail(what, expr.span)
        if matching.cardinality is not Cardinality.MANY_TO_MANY:
            self.fail(f"no grouping allowed for {operator} operation", expr.span)
        if filled:
            self.fail("filling in missing series not allowed for set operators", expr.span)


def _both(matching: VectorMatching) -> str:
    """A label that stands in `on` and in `group_left` or `group_right`, "" if none does."""
    return next((label for label in matching.labels if label in matching.include), "")
