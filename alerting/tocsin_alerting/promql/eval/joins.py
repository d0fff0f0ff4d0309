"""Which series of two vectors meet: signatures, pairs, and the labels of what they make."""

from dataclasses import dataclass

import numpy as np

from tocsin_alerting.promql.eval.arithmetic import keeps_name
from tocsin_alerting.promql.eval.grouping import Grouping, grouped
from tocsin_alerting.promql.eval.label_ops import IDENTITY, only, with_label, without
from tocsin_alerting.promql.eval.vector import Vector
from tocsin_alerting.promql.parser.ast import BinaryExpr, Cardinality, NumberLiteral, VectorMatching
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Ints, Mask
from tocsin_exporter.snapshot import Labels

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
    kept = dict(one)
    for name in matching.include:
        labels = with_label(labels, name, kept.get(name, ""))
    return labels


def filled(many: Vector, one: Vector, matching: VectorMatching) -> tuple[Vector, Vector]:
    """Both sides with a series more for each signature that the other side has.

    It holds the fill value, and is present at the steps at which the other side has a series of
    that signature and its own side has none.
    """
    groups = signatures(many.series, one.series, matching)
    split = len(many.series)
    theirs = _present(groups, np.concatenate([np.zeros_like(many.here), one.here], axis=1))
    ours = _present(groups, np.concatenate([many.here, np.zeros_like(one.here)], axis=1))
    wide = _with_stand_ins(many, groups.ids[split:], groups, theirs & ~ours, matching.fill_left)
    tall = _with_stand_ins(one, groups.ids[:split], groups, ours & ~theirs, matching.fill_right)
    return wide, tall


def _present(groups: Grouping, mask: Mask) -> Mask:
    """The groups (steps, groups) that have a series in the mask (steps, series)."""
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
    present = np.concatenate([vector.here, missing[:, lacked]], axis=1)
    return Vector(series, values, present, False)
