"""Binary operators between two vectors: arithmetic and comparison of the series that match."""

from dataclasses import replace
from typing import NoReturn

import numpy as np

from tocsin_alerting.promql.eval.arithmetic import ARITHMETIC, COMPARISON, TRIMS, incompatible
from tocsin_alerting.promql.eval.context import Context, distinct
from tocsin_alerting.promql.eval.joins import Join, filled, join, one_side, pair_count, signature
from tocsin_alerting.promql.eval.label_ops import as_rows, taken
from tocsin_alerting.promql.eval.limits import QueryError, QueryLimitExceeded
from tocsin_alerting.promql.eval.vector import CELL_BYTES, Vector
from tocsin_alerting.promql.parser.ast import COMPARISONS, BinaryExpr, Cardinality, VectorMatching
from tocsin_alerting.promql.parser.quoting import quote_labels
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.values import Floats, Mask
from tocsin_exporter.snapshot import Labels

_MANY_PAIRS = 1_000_000
_PAIR_BYTES = 600  # its labels; beside them, at each step, both sides and what they make


def matched(node: BinaryExpr, lhs: Vector, rhs: Vector, context: Context) -> Vector:
    """Raises QueryError where a match is ambiguous at a step."""
    matching = node.matching or VectorMatching()
    swapped = matching.cardinality is Cardinality.ONE_TO_MANY
    many, one = (rhs, lhs) if swapped else (lhs, rhs)
    many, one = _compact(many, one, matching)
    if matching.fill_left is not None or matching.fill_right is not None:
        many, one = filled(many, one, matching)
    _check_one_side(many, one, node, context.semantics)
    pairs = pair_count(many.series, one.series, matching)
    context.budget.room(pairs * (_PAIR_BYTES + 3 * CELL_BYTES * len(many.values)))
    joined = join(many.series, one.series, node, context.semantics)
    present = _both_present(joined, many, one)
    if context.semantics == 3 and not joined.plain:
        _check_meetings(joined, present, len(many.values), node)
    left, right = many.values[:, joined.many], one.values[:, joined.one]
    if swapped:
        left, right = right, left
    values, keep = _computed(node, left, right, context)
    kept = present if keep is None else keep if present is None else present & keep
    if context.semantics == 2 and not joined.plain:
        # 2.42 minds ambiguity only among pairs that a comparison keeps.
        _check_meetings(joined, kept, len(values), node)
    return _gathered(joined, values, kept, node, context)


def _computed(
    node: BinaryExpr, lhs: Floats, rhs: Floats, context: Context
) -> tuple[Floats, Mask | None]:
    if node.op in TRIMS:
        incompatible(node, context)
        return lhs, np.zeros(lhs.shape, np.bool_)
    if node.op not in COMPARISONS:
        return ARITHMETIC[node.op](lhs, rhs), None
    holds = COMPARISON[node.op](lhs, rhs)
    return (holds.astype(np.float64), None) if node.return_bool else (lhs, holds)


def _both_present(joined: Join, many: Vector, one: Vector) -> Mask | None:
    """Which pairs (steps, pairs) are both present; None: all."""
    if many.present is None and one.present is None:
        return None
    return many.here[:, joined.many] & one.here[:, joined.one]


def _check_one_side(many: Vector, one: Vector, node: BinaryExpr, semantics: Semantics) -> None:
    """Two series of the one side must not have the same signature at a step."""
    groups = one_side(many.series, one.series, node.matching or VectorMatching())
    if len(groups.groups) == len(one.series):
        return
    twice = groups.count(one.present, len(one.values)) > 1
    twice &= many.here.any(axis=1, keepdims=True)  # nothing meets nothing
    if twice.any():
        step = int(np.argwhere(twice)[0, 0])
        ids, first = groups.ids.tolist(), dict[int, int]()
        for row in np.flatnonzero(one.here[step]).tolist():
            if (before := first.setdefault(ids[row], row)) != row:
                twins = [one.series.labels[row], one.series.labels[before]]
                _fail_many_to_many(node, sorted(twins) if semantics == 3 else twins)


def _check_meetings(joined: Join, present: Mask | None, steps: int, node: BinaryExpr) -> None:
    """Two pairs must not make the same series at a step."""
    if (joined.meetings.count(present, steps) > 1).any():
        matching = node.matching or VectorMatching()
        if matching.cardinality is Cardinality.ONE_TO_ONE:
            why = "many-to-one matching must be explicit (group_left/group_right)"
        else:
            why = "grouping labels must ensure unique matches"
        raise QueryError(f"multiple matches for labels: {why}")


def _gathered(
    joined: Join, values: Floats, present: Mask | None, node: BinaryExpr, context: Context
) -> Vector:
    """One row a result, which at any step comes from at most one pair."""
    results = joined.results
    series = results.groups
    unnamed = node.return_bool and context.semantics == 3
    if len(series) == values.shape[1]:
        return distinct(Vector(series, values, present, unnamed))
    here = np.ones(values.shape, np.bool_) if present is None else present
    if (results.count(here, len(values)) > 1).any():
        raise QueryError("multiple matches for labels: grouping labels must ensure unique matches")
    gathered = results.max(np.where(here, values, np.nan))
    return distinct(Vector(series, gathered, results.any(here), unnamed))


def _compact(many: Vector, one: Vector, matching: VectorMatching) -> tuple[Vector, Vector]:
    """Without the series that are nowhere present, when otherwise pairs would abound."""
    limit = 4 * (len(many.series) + len(one.series)) + 1000
    if pair_count(many.series, one.series, matching) <= limit:
        return many, one
    many, one = _present_rows(many), _present_rows(one)
    if pair_count(many.series, one.series, matching) > _MANY_PAIRS:
        raise QueryLimitExceeded("vector matching would make too many pairs of series")
    return many, one


def _present_rows(vector: Vector) -> Vector:
    if vector.present is None:
        return vector
    rows = as_rows(np.any(vector.present, axis=0))
    return replace(
        vector,
        series=taken(vector.series, rows),
        values=vector.values[:, rows],
        present=vector.present[:, rows],
        unnamed=vector.unnamed_rows[rows],
        order=None,
    )


def _fail_many_to_many(node: BinaryExpr, twins: list[Labels]) -> NoReturn:
    matching = node.matching or VectorMatching()
    side = "left" if matching.cardinality is Cardinality.ONE_TO_MANY else "right"
    group = quote_labels(signature(twins[0], matching))
    both = ", ".join(map(quote_labels, twins))
    raise QueryError(
        f"found duplicate series for the match group {group} on the {side} hand-side of the "
        f"operation: [{both}];many-to-many matching not allowed: matching labels must be unique "
        "on one side"
    )
