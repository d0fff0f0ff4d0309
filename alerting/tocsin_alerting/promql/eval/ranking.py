"""topk, bottomk, limitk, count_values: aggregations that keep or count single elements."""

from dataclasses import replace

import numpy as np

from tocsin_alerting.promql.eval.aggregations_v2 import TopkHeap
from tocsin_alerting.promql.eval.context import Context
from tocsin_alerting.promql.eval.grouping import grouped
from tocsin_alerting.promql.eval.label_hash import label_hash
from tocsin_alerting.promql.eval.label_ops import by_labels, check_label, only, with_label, without
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.eval.vector import Scalar, Vector
from tocsin_alerting.promql.parser.ast import AggregateExpr, AggregateOp
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.strconv import format_number, quote, shortest
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels

_LARGEST = float(2**63)


def ranked(node: AggregateExpr, k: Scalar, vector: Vector, context: Context) -> Vector:
    """The first k elements of each group: highest, lowest, or in the order of the series."""
    for limit in k.tolist():
        _check_integer(limit, context.semantics)
    ids = by_labels(vector.series, node.grouping, node.without).ids
    keep = np.zeros(vector.values.shape, np.bool_)
    order = np.arange(len(ids))
    for step in range(len(keep)):
        context.budget.spend(0)
        rows = _by_rank(node.op, vector, step, ids)
        first = _places(ids[rows]) < np.trunc(k[step])
        if context.semantics == 2:
            rows, first = _as_heaped(node.op, vector.values[step], ids, rows, first)
        keep[step, rows[first]] = True
        order = rows
    rest = np.setdiff1d(np.arange(len(ids)), order)
    return replace(vector.kept(keep), order=np.concatenate([order, rest]))


def _check_integer(k: float, semantics: Semantics) -> None:
    if np.isnan(k) and semantics == 3:
        raise QueryError("Parameter value is NaN")
    if not -_LARGEST <= k < _LARGEST:
        which = "overflows" if semantics == 2 or k > 0 else "underflows"
        raise QueryError(f"Scalar value {shortest(k)} {which} int64")


def _by_rank(op: AggregateOp, vector: Vector, step: int, ids: Ints) -> Ints:
    """The present series, group by group, the best first; NaN is worse than any number."""
    rows = np.flatnonzero(vector.present_mask[step])
    if op is AggregateOp.LIMITK:
        return rows[np.argsort(ids[rows], kind="stable")]
    values = vector.values[step, rows]
    keys = -values if op is AggregateOp.TOPK else values
    return rows[np.lexsort((keys, np.isnan(keys), ids[rows]))]


def _places(ids: Ints) -> Ints:
    """0, 1, 2, ... within each run of equal ids."""
    begins: Mask = np.concatenate([[True], ids[1:] != ids[:-1]]) if len(ids) else ids == 0
    at = np.arange(len(ids))
    return at - np.maximum.accumulate(np.where(begins, at, 0)) if len(ids) else at


def _as_heaped(
    op: AggregateOp, values: Floats, ids: Ints, rows: Ints, first: Mask
) -> tuple[Ints, Mask]:
    """The ranked rows and which of them are kept, where equal elements compete for the places."""
    keys = values[rows] if op is AggregateOp.TOPK else -values[rows]
    equal = (keys[1:] == keys[:-1]) | (np.isnan(keys[1:]) & np.isnan(keys[:-1]))
    rows, first = rows.copy(), first.copy()
    for group in np.unique(ids[rows[1:]][equal & first[:-1] & (ids[rows[1:]] == ids[rows[:-1]])]):
        places = np.flatnonzero(ids[rows] == group)
        members, k = np.sort(rows[places]), int(first[places].sum())
        competing = values[members] if op is AggregateOp.TOPK else -values[members]
        best = members[TopkHeap(competing.tolist()).best(k)]
        rows[places] = np.concatenate([best, np.setdiff1d(members, best)])
    return rows, first


def ratio(node: AggregateExpr, share: Scalar, vector: Vector, context: Context) -> Vector:
    """About this share of the series, always the same ones; a negative one takes the others.

    Each series has a place between 0 and 1 by the hash of its labels, that of Prometheus.
    """
    assert node.param is not None
    if np.isnan(share).any():
        raise QueryError("Ratio value is NaN")
    for extreme in (share.max(initial=0.0), share.min(initial=0.0)):
        if abs(extreme) > 1:
            text = f"got {extreme:g}, capping to {np.sign(extreme):g}"
            message = f"ratio value should be between -1 and 1, {text}"
            context.notes.warn(message, node.param.span)
    places = vector.series.memo("places", lambda: _hashed(vector.series.labels))
    limit = np.clip(share, -1, 1)[:, None]
    return vector.kept(np.where(limit >= 0, places < limit, places >= 1 + limit))


def _hashed(series: tuple[Labels, ...]) -> Floats:
    return np.array([label_hash(labels) for labels in series], np.float64) / 2.0**64


def counted_values(node: AggregateExpr, label: str, vector: Vector, context: Context) -> Vector:
    """How many elements of each group have which value; the value becomes a label.

    Every value may be another, so each series that comes out is paid for, as long as it is.
    """
    if len(vector.values):  # a subquery may have no step, and nothing is asked then
        check_label(label, f"invalid label name {quote(label)}", context.semantics)
    names = frozenset(node.grouping)
    counts: dict[Labels, Floats] = {}
    for step in range(len(vector.values)):
        context.budget.spend(0)
        for row in np.flatnonzero(vector.present_mask[step]).tolist():
            text = format_number(float(vector.values[step, row]))
            labels = with_label(vector.series.labels[row], label, text)
            key = (
                without(labels, names | {METRIC_NAME})
                if node.without
                else only(labels, names | {label})
            )
            if key not in counts:
                context.budget.spend(len(vector.values))
                counts[key] = np.zeros(len(vector.values))
            counts[key][step] += 1
    series = grouped(list(counts)).groups
    shape = (len(vector.values), len(counts))
    values = np.stack(list(counts.values()), axis=1) if counts else np.zeros(shape)
    return Vector(series, values, values > 0)
