"""Hypothesis strategies for well-typed PromQL expressions, in the form that the parser returns."""

from hypothesis import strategies as st

from tocsin_alerting.promql.parser.ast import (
    COMPARISONS,
    SET_OPS,
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    Cardinality,
    Duration,
    DurationExpr,
    DurationOp,
    Edge,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
)
from tocsin_alerting.promql.parser.printer import matcher_text
from tocsin_alerting.promql.parser.signatures import FUNCTIONS, ValueType
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp

WITH_SCALAR = (
    AggregateOp.BOTTOMK,
    AggregateOp.LIMITK,
    AggregateOp.LIMIT_RATIO,
    AggregateOp.QUANTILE,
    AggregateOp.TOPK,
)
PLAIN = tuple(op for op in AggregateOp if op not in (*WITH_SCALAR, AggregateOp.COUNT_VALUES))
ARITHMETIC = tuple(op for op in BinaryOp if op not in COMPARISONS | SET_OPS and "/" not in op[1:])

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=8)
names = st.sampled_from(["a", "up", "ns:rate5m", "sum", "by", "offset", "and", "start", "step"])
labels = st.sampled_from(["job", "le", "on", "bool", "or", "_x1"]) | text.filter(
    lambda name: name not in ("", "__name__")
)
label_lists = st.lists(labels, max_size=3, unique=True).map(tuple)
at_times = st.none() | st.sampled_from(Edge) | st.integers(-(10**14), 10**14)
positive_ms = st.integers(1, 10**12) | st.sampled_from([60_000, 3_600_000, 86_400_000])
strings = text.map(StringLiteral)
numbers = st.floats(min_value=0).map(NumberLiteral)
spans_s = st.integers(0, 10**10).map(lambda ms: NumberLiteral(ms / 1000, duration=True))


def _matchers() -> st.SearchStrategy[tuple[Matcher, ...]]:
    plain = st.builds(Matcher, labels, st.sampled_from([MatchOp.EQUAL, MatchOp.NOT_EQUAL]), text)
    regex = st.sampled_from(["a|b", "5..", "[^x]*", ".+"])
    pattern = st.builds(Matcher, labels, st.sampled_from([MatchOp.REGEX, MatchOp.NOT_REGEX]), regex)
    some = st.lists(plain | pattern, max_size=3)
    return some.map(lambda found: tuple(sorted(found, key=matcher_text)))


@st.composite
def selectors(draw: st.DrawFn) -> VectorSelector:
    name = draw(names | st.just(""))
    fixed = Matcher("__name__", MatchOp.EQUAL, name or draw(text.filter(bool)))
    sets: list[tuple[Matcher, ...]] = []
    for matchers in draw(st.lists(_matchers(), min_size=1, max_size=2)):
        ordered = (
            (*matchers, fixed) if name else tuple(sorted((*matchers, fixed), key=matcher_text))
        )
        # A second set of nothing but the name cannot be written down.
        sets += [ordered] if len(ordered) > 1 or not sets and not name else []
    smoothed, anchored = draw(st.sampled_from([(False, False), (True, False), (False, True)]))
    return VectorSelector(
        name=name,
        matcher_sets=tuple(sets) or ((fixed,),),
        offset=draw(offsets()),
        at=draw(at_times),
        anchored=anchored,
        smoothed=smoothed,
    )


STEP_OR_RANGE = st.sampled_from([DurationExpr(DurationOp.STEP), DurationExpr(DurationOp.RANGE)])


def _operands() -> st.SearchStrategy[NumberLiteral | DurationExpr]:
    literals = numbers.filter(lambda found: 0 < found.value < 10**9) | spans_s
    return st.recursive(literals | STEP_OR_RANGE, _combined, max_leaves=4)


def _combined(
    inner: st.SearchStrategy[NumberLiteral | DurationExpr],
) -> st.SearchStrategy[DurationExpr]:
    infix = st.sampled_from([DurationOp.ADD, DurationOp.SUB, DurationOp.MUL, DurationOp.POW])
    binary = st.builds(DurationExpr, infix, inner, inner, st.just(True))
    bounds = st.sampled_from([DurationOp.MIN_OF, DurationOp.MAX_OF])
    return binary | st.builds(DurationExpr, bounds, inner, inner)


def _arithmetic() -> st.SearchStrategy[DurationExpr]:
    return STEP_OR_RANGE | _combined(_operands())


def offsets() -> st.SearchStrategy[Duration]:
    negative = _arithmetic().map(lambda inner: DurationExpr(DurationOp.SUB, rhs=inner))
    return st.just(0) | positive_ms | positive_ms.map(lambda ms: -ms) | _arithmetic() | negative


ranges = positive_ms | _arithmetic()
matrices = st.builds(MatrixSelector, selectors(), ranges)


def in_parens(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return inner.map(lambda expr: expr if isinstance(expr, Call) else ParenExpr(expr))


def _matchings() -> st.SearchStrategy[VectorMatching]:
    fills = st.none() | st.floats().map(NumberLiteral)
    one = st.builds(
        VectorMatching,
        st.just(Cardinality.ONE_TO_ONE),
        st.booleans(),
        label_lists,
        fill_left=fills,
        fill_right=fills,
    )
    sides = st.sampled_from([Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY])
    many = st.builds(VectorMatching, sides, st.just(False), label_lists, label_lists, fills, fills)
    return one | many


def _binaries(vectors: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    sides, scalar = in_parens(vectors), in_parens(numbers)
    infix, compare = st.sampled_from(ARITHMETIC), st.sampled_from(sorted(COMPARISONS))
    sets = st.builds(VectorMatching, st.just(Cardinality.MANY_TO_MANY), st.booleans(), label_lists)
    return st.one_of(
        st.builds(BinaryExpr, infix, sides, sides, _matchings()),
        st.builds(BinaryExpr, compare, sides, sides, _matchings(), st.booleans()),
        st.builds(BinaryExpr, st.sampled_from(sorted(SET_OPS)), sides, sides, sets),
        st.builds(BinaryExpr, compare, sides, scalar, return_bool=st.booleans()),
        st.builds(BinaryExpr, infix, scalar, sides),
    )


def _aggregates(vectors: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    rest = {"grouping": label_lists, "without": st.booleans()}
    return st.one_of(
        st.builds(AggregateExpr, st.sampled_from(PLAIN), vectors, **rest),
        st.builds(AggregateExpr, st.sampled_from(WITH_SCALAR), vectors, numbers, **rest),
        st.builds(AggregateExpr, st.just(AggregateOp.COUNT_VALUES), vectors, strings, **rest),
    )


@st.composite
def _calls(draw: st.DrawFn, vectors: st.SearchStrategy[Expr]) -> Call:
    wanted = sorted(
        name
        for name, found in FUNCTIONS.items()
        if found.only != 2 and found.returns is ValueType.VECTOR and name != "info"
    )
    name = draw(st.sampled_from(wanted))
    subqueries = st.builds(
        SubqueryExpr, in_parens(vectors), ranges, st.none() | ranges, offsets(), at_times
    )
    by_type: dict[ValueType, st.SearchStrategy[Expr]] = {
        ValueType.VECTOR: vectors,
        ValueType.SCALAR: numbers,
        ValueType.STRING: strings,
        ValueType.MATRIX: matrices | subqueries,
    }
    return Call(name, tuple(draw(by_type[wanted_type]) for wanted_type in FUNCTIONS[name].args))


def _larger(vectors: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    signs = st.sampled_from([BinaryOp.ADD, BinaryOp.SUB])
    return st.one_of(
        _calls(vectors),
        _aggregates(vectors),
        _binaries(vectors),
        st.builds(ParenExpr, vectors),
        st.builds(UnaryExpr, signs, in_parens(vectors)),
    )


def expressions() -> st.SearchStrategy[Expr]:
    """Expressions of every type, most of them instant vectors, in the syntax of 3.x."""
    vectors: st.SearchStrategy[Expr] = st.recursive(selectors(), _larger, max_leaves=6)
    signed = st.floats().map(NumberLiteral)
    return vectors | matrices | signed | strings
