"""Which series of two vectors meet: signatures, pairs, and the labels of what they make."""

from dataclasses import dataclass

import numpy as np

from tocsin_alerting.promql.ast import BinaryExpr, Cardinality, VectorMatching
from tocsin_alerting.promql.evaluation.arithmetic import keeps_name
from tocsin_alerting.promql.evaluation.grouping import Grouping, grouped
from tocsin_alerting.promql.evaluation.labelling import IDENTITY, only, with_label, without
from tocsin_alerting.promql.values import Semantics
from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

_LASTING = 100_000  # pairs: their labels take some hundred bytes each


def signature(labels: Labels, matching: VectorMatching) -> Labels:
    """The labels by which a series finds its partner."""
    if matching.on:
        return only(labels, frozenset(matching.labels))
    return without(labels, frozenset((*matching.labels, NAME)))


def signatures(lhs: SeriesSet, rhs: SeriesSet, matching: VectorMatching) -> Grouping:
    """All series of both sides, left ones first, grouped by signature."""
    key = ("signatures", matching.on, matching.labels, rhs)
    both = (*lhs.labels, *rhs.labels)
    return lhs.remember(key, lambda: grouped([signature(one, matching) for one in both]))


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


def join(many: SeriesSet, one: SeriesSet, node: BinaryExpr, semantics: Semantics) -> Join:
    """For `group_right` the caller swaps the sides."""
    matching = node.matching or VectorMatching()
    key = ("join", one, matching, _keeps_name(node, semantics))
    return many.remember(
        key, lambda: _joined(many, one, node, semantics), lambda made: len(made.many) < _LASTING
    )


def one_side(many: SeriesSet, one: SeriesSet, matching: VectorMatching) -> Grouping:
    """The series of the one side, grouped by signature."""
    key = ("one side", one, matching.on, matching.labels)

    def sides() -> Grouping:
        return _sides(signatures(many, one, matching).ids[len(many) :].tolist())

    return many.remember(key, sides)


def _keeps_name(node: BinaryExpr, semantics: Semantics) -> bool:
    """2.42 drops it at once where a comparison answers 0 or 1."""
    return keeps_name(node.op, semantics) and not (semantics == 2 and node.return_bool)


def pair_count(many: SeriesSet, one: SeriesSet, matching: VectorMatching) -> int:
    """How many pairs a join would have."""
    found = signatures(many, one, matching)
    left, right = found.ids[: len(many)], found.ids[len(many) :]
    size = len(found.groups)
    return int(np.bincount(left, minlength=size) @ np.bincount(right, minlength=size))


def _joined(many: SeriesSet, one: SeriesSet, node: BinaryExpr, semantics: Semantics) -> Join:
    matching = node.matching or VectorMatching()
    found = signatures(many, one, matching)
    left, right = found.ids[: len(many)].tolist(), found.ids[len(many) :].tolist()
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
    held = dict(one)
    for name in matching.include:
        labels = with_label(labels, name, held.get(name, ""))
    return labels
