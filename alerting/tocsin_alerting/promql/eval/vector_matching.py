"""Binary operators between two vectors: which series match, and what is made of them.

First signatures and joins (which series meet), then arithmetic and comparison of what meets, then
the set operators and, or, unless.
"""

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from tocsin_alerting.promql.eval.arithmetic import (
    ARITHMETIC,
    COMPARISON,
    TRIMS,
    incompatible,
    keeps_name,
)
from tocsin_alerting.promql.eval.context import Context, distinct, merged
from tocsin_alerting.promql.eval.grouping import Grouping, grouped
from tocsin_alerting.promql.eval.label_ops import (
    IDENTITY,
    as_rows,
    only,
    taken,
    with_label,
    without,
)
from tocsin_alerting.promql.eval.limits import Budget, QueryError, QueryLimitExceeded
from tocsin_alerting.promql.eval.vector import CELL_BYTES, Vector, size_of
from tocsin_alerting.promql.parser.ast import (
    COMPARISONS,
    BinaryExpr,
    BinaryOp,
    Cardinality,
    NumberLiteral,
    VectorMatching,
)
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.strconv import quote_labels
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels

_MANY_PAIRS = 1_000_000
_PAIR_BYTES = 600  # its labels; beside them, at each step, both sides and what they make
_LASTING = 100_000  # pairs: their labels take some hundred bytes each


def signature(labels: Labels, matching: VectorMatching) -> Labels:
    """The labels by which a series finds its partner."""
    if matching.on:
        return only(labels, frozenset(matching.labels))
    return without(labels, frozenset((*matching.labels, METRIC_NAME)))


def signatures(lhs: LabelSets, rhs: LabelSets, matching: VectorMatching) -> Grouping:
    """All series of both sides, left ones first, grouped by signature."""
    key = ("signatures", matching.on, matching.labels, rhs)
    both = (*lhs.labels, *rhs.labels)
    return lhs.memo(key, lambda: grouped([signature(labels, matching) for labels in both]))


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """Pairs of a series of the many side and one of the one side, with equal signatures.

    `many` and `one` (pairs,) are their rows; `results` groups pairs that make the same series, and
    `meetings` those that have, beside that, the same signature. `plain`: no two pairs share a
    series of the one side's signature, so nothing can be ambiguous and every pair is a result.
    """

    many: Ints
    one: Ints
    results: Grouping
    meetings: Grouping
    plain: bool


def join(many: LabelSets, one: LabelSets, node: BinaryExpr, semantics: Semantics) -> Join:
    """For `group_right` the caller swaps the sides."""
    matching = node.matching or VectorMatching()
    key = ("join", one, matching, _keeps_name(node, semantics))
    return many.memo(
        key, lambda: _joined(many, one, node, semantics), lambda made: len(made.many) < _LASTING
    )


def one_side(many: LabelSets, one: LabelSets, matching: VectorMatching) -> Grouping:
    """The series of the one side, grouped by signature."""
    key = ("one side", one, matching.on, matching.labels)

    def sides() -> Grouping:
        return _sides(signatures(many, one, matching).ids[len(many) :].tolist())

    return many.memo(key, sides)


def _keeps_name(node: BinaryExpr, semantics: Semantics) -> bool:
    """2.42 drops it at once where a comparison answers 0 or 1."""
    return keeps_name(node.op, semantics) and not (semantics == 2 and node.return_bool)


def pair_count(many: LabelSets, one: LabelSets, matching: VectorMatching) -> int:
    """How many pairs a join would have."""
    groups = signatures(many, one, matching)
    left, right = groups.ids[: len(many)], groups.ids[len(many) :]
    size = len(groups.groups)
    return int(np.bincount(left, minlength=size) @ np.bincount(right, minlength=size))


def _joined(many: LabelSets, one: LabelSets, node: BinaryExpr, semantics: Semantics) -> Join:
    matching = node.matching or VectorMatching()
    groups = signatures(many, one, matching)
    left, right = groups.ids[: len(many)].tolist(), groups.ids[len(many) :].tolist()
    by_signature: dict[int, list[int]] = {}
    for row, number in enumerate(right):
        by_signature.setdefault(number, []).append(row)
    pairs = [(a, b) for a, number in enumerate(left) for b in by_signature.get(number, ())]
    many_rows, one_rows = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    labels = [_result(many.labels[a], one.labels[b], node, semantics) for a, b in pairs]
    results = grouped(labels)
    meetings = grouped(
        [(*labels[at], ("\xff", str(left[pair[0]]))) for at, pair in enumerate(pairs)]
    )
    if matching.cardinality is Cardinality.ONE_TO_ONE:
        meetings = grouped([(("\xff", str(left[a])),) for a, _ in pairs])
    one_groups = one_side(many, one, matching)
    unique = len(one_groups.groups) == len(right) and len(results.groups) == len(pairs)
    plain = unique and len(meetings.groups) == len(pairs)
    return Join(many_rows, one_rows, results, meetings, plain)


def _sides(numbers: list[int]) -> Grouping:
    return grouped([(("", str(number)),) for number in numbers])


def _result(many: Labels, one: Labels, node: BinaryExpr, semantics: Semantics) -> Labels:
    """(promql/engine.go, resultMetric)"""
    matching = node.matching or VectorMatching()
    labels = many
    if not _keeps_name(node, semantics):
        labels = without(labels, IDENTITY)
    if matching.cardinality is Cardinality.ONE_TO_ONE:
        names = frozenset(matching.labels)
        labels = only(labels, names) if matching.on else without(labels, names)
    one_labels = dict(one)
    for name in matching.include:
        labels = with_label(labels, name, one_labels.get(name, ""))
    return labels


def filled(many: Vector, one: Vector, matching: VectorMatching) -> tuple[Vector, Vector]:
    """Both sides with a series more for each signature that the other side has.

    It holds the fill value, and is present at the steps at which the other side has a series of
    that signature and its own side has none.
    """
    groups = signatures(many.series, one.series, matching)
    split = len(many.series)
    present_right = _groups_present(
        groups, np.concatenate([np.zeros_like(many.present_mask), one.present_mask], axis=1)
    )
    present_left = _groups_present(
        groups, np.concatenate([many.present_mask, np.zeros_like(one.present_mask)], axis=1)
    )
    wide = _with_stand_ins(
        many, groups.ids[split:], groups, present_right & ~present_left, matching.fill_left
    )
    tall = _with_stand_ins(
        one, groups.ids[:split], groups, present_left & ~present_right, matching.fill_right
    )
    return wide, tall


def _groups_present(groups: Grouping, mask: Mask) -> Mask:
    """Which groups (steps, groups) have a series in the mask (steps, series)."""
    return groups.count(mask, len(mask)) > 0


def _with_stand_ins(
    vector: Vector, ids: Ints, groups: Grouping, missing: Mask, fill: NumberLiteral | None
) -> Vector:
    if fill is None:
        return vector
    lacked = np.unique(ids)

    def extended() -> LabelSets:
        return LabelSets(
            vector.series.labels + tuple(groups.groups.labels[group] for group in lacked.tolist())
        )

    series = vector.series.memo(("stand-ins", groups.groups), extended)
    stand_ins = np.full((len(vector.values), len(lacked)), fill.value)
    values = np.concatenate([vector.values, stand_ins], axis=1)
    present = np.concatenate([vector.present_mask, missing[:, lacked]], axis=1)
    return Vector(series, values, present, False)


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
    present_kept = present if keep is None else keep if present is None else present & keep
    if context.semantics == 2 and not joined.plain:
        # 2.42 minds ambiguity only among pairs that a comparison keeps.
        _check_meetings(joined, present_kept, len(values), node)
    return _gathered(joined, values, present_kept, node, context)


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
    return many.present_mask[:, joined.many] & one.present_mask[:, joined.one]


def _check_one_side(many: Vector, one: Vector, node: BinaryExpr, semantics: Semantics) -> None:
    """Two series of the one side must not have the same signature at a step."""
    groups = one_side(many.series, one.series, node.matching or VectorMatching())
    if len(groups.groups) == len(one.series):
        return
    twice = groups.count(one.present, len(one.values)) > 1
    twice &= many.present_mask.any(axis=1, keepdims=True)  # nothing meets nothing
    if twice.any():
        step = int(np.argwhere(twice)[0, 0])
        ids, first = groups.ids.tolist(), dict[int, int]()
        for row in np.flatnonzero(one.present_mask[step]).tolist():
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
    pairs_present = np.ones(values.shape, np.bool_) if present is None else present
    if (results.count(pairs_present, len(values)) > 1).any():
        raise QueryError("multiple matches for labels: grouping labels must ensure unique matches")
    gathered = results.max(np.where(pairs_present, values, np.nan))
    return distinct(Vector(series, gathered, results.any(pairs_present), unnamed))


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


def set_operation(node: BinaryExpr, lhs: Vector, rhs: Vector, budget: Budget) -> Vector:
    """and, or, unless; raises QueryLimitExceeded."""
    budget.room(size_of(lhs) + size_of(rhs))
    groups = signatures(lhs.series, rhs.series, node.matching or VectorMatching())
    split = len(lhs.series)
    if node.op is BinaryOp.OR:
        return _union(lhs, rhs, groups)
    present_right = np.concatenate([np.zeros_like(lhs.present_mask), rhs.present_mask], axis=1)
    matched = _groups_present(groups, present_right)[:, groups.ids[:split]]
    return lhs.kept(matched if node.op is BinaryOp.AND else ~matched)


def _union(lhs: Vector, rhs: Vector, groups: Grouping) -> Vector:
    """All of the left side, and of the right side what has no match at that step."""
    present_left = np.concatenate([lhs.present_mask, np.zeros_like(rhs.present_mask)], axis=1)
    taken = _groups_present(groups, present_left)[:, groups.ids[len(lhs.series) :]]
    series = lhs.series.memo(
        ("or", rhs.series), lambda: LabelSets(lhs.series.labels + rhs.series.labels)
    )
    present = np.concatenate([lhs.present_mask, rhs.present_mask & ~taken], axis=1)
    unnamed = np.concatenate([lhs.unnamed_rows, rhs.unnamed_rows])
    values = np.concatenate([lhs.values, rhs.values], axis=1)
    # A series may come from the left at one step and from the right at another.
    return merged(Vector(series, values, present, unnamed))
