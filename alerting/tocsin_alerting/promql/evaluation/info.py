"""info(): series with the labels that info metrics, such as target_info, hold about their targets.

(promql/info.go)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from tocsin_alerting.promql.ast import (
    Call,
    Edge,
    Expr,
    SubqueryExpr,
    VectorSelector,
    children,
)
from tocsin_alerting.promql.evaluation.budget import QueryError
from tocsin_alerting.promql.evaluation.context import Context, merged
from tocsin_alerting.promql.evaluation.grouping import Grouping, grouped
from tocsin_alerting.promql.evaluation.labelling import as_rows, only
from tocsin_alerting.promql.evaluation.selectors import select_instant, span_ms
from tocsin_alerting.promql.evaluation.stretch import What
from tocsin_alerting.promql.evaluation.vector import Value, Vector
from tocsin_alerting.promql.quoting import quote_labels
from tocsin_alerting.store.cell import Ints, Mask
from tocsin_alerting.store.matchers import Matcher, MatchOp
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.target import NAME, sorted_labels
from tocsin_exporter.snapshot import Labels

_IDENTITY = frozenset(("instance", "job"))
_SIGNATURE = _IDENTITY | {NAME}
_TARGET_INFO = Matcher(NAME, MatchOp.EQUAL, "target_info")
_ANY_INFO = Matcher(NAME, MatchOp.REGEX, ".+_info")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The matchers of the second argument: on the `names` of info metrics and on their `data`."""

    names: tuple[Matcher, ...]
    data: tuple[Matcher, ...]

    def is_info(self, labels: Labels) -> bool:
        name = dict(labels).get(NAME, "")
        return all(one.matches(name) for one in self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Newest:
    """The info series of each signature at each step: `rows` (steps, signatures), -1 for none."""

    series: SeriesSet
    groups: Grouping
    rows: Ints

    def by_identity(self) -> Mapping[Labels, list[int]]:
        """The signatures that differ in the name alone."""
        found: dict[Labels, list[int]] = {}
        for number, labels in enumerate(self.groups.groups.labels):
            found.setdefault(only(labels, _IDENTITY), []).append(number)
        return found


def info(call: Call, args: Sequence[Value], context: Context) -> Vector:
    """Each series with the labels of the info series that have its `instance` and `job`."""
    vector, wanted = cast(Vector, args[0]), _wanted(call)
    bases = [not any(w.is_info(one) for w in wanted) for one in vector.series.labels]
    infos = _newest(_info_series(call, vector, bases, wanted, context))
    columns = list(_columns(vector, bases, infos, wanted))
    rows = [row for row, _, _ in columns]
    series = SeriesSet(tuple(labels for _, labels, _ in columns))
    present = np.zeros((len(vector.values), len(columns)), np.bool_)
    for number, (_, _, steps) in enumerate(columns):
        present[:, number] = steps
    return merged(Vector(series, vector.values[:, rows], present, vector.unnamed_rows[rows]))


def _wanted(call: Call) -> list[Wanted]:
    """What each set of matchers asks for: target_info, unless it says anything about the name."""
    selector = call.args[1] if len(call.args) > 1 else None
    sets = selector.matcher_sets if isinstance(selector, VectorSelector) else ((),)
    found = []
    for matchers in sets:
        names = tuple(one for one in matchers if one.name == NAME)
        if not any(one.op in (MatchOp.EQUAL, MatchOp.REGEX) for one in names):
            names = (_ANY_INFO, *names) if names else (_TARGET_INFO,)
        found.append(Wanted(names, tuple(one for one in matchers if one.name != NAME)))
    return found


def _info_series(
    call: Call, vector: Vector, bases: list[bool], wanted: list[Wanted], context: Context
) -> Vector:
    """The info series that may be of these targets; their values are the times of their samples.

    They are looked at when the first selector of the first argument looks.
    """
    at, offset_ms = _looks(call.args[0], context) or (None, 0)
    sets = tuple((*one.names, *one.data) for one in wanted)
    found = select_instant(VectorSelector("", sets, offset_ms, at), context, What.TIME)
    known: dict[str, set[str]] = {}
    for row in as_rows(vector.here.any(axis=0) & np.array(bases, np.bool_)):
        for name, value in only(vector.series.labels[row], _IDENTITY):
            known.setdefault(name, set()).add(value)
    rows = [
        row
        for row, labels in enumerate(found.series.labels)
        if known and all(dict(labels).get(name, "") in held for name, held in known.items())
    ]
    series = SeriesSet(tuple(found.series.labels[row] for row in rows))
    return Vector(series, found.values[:, rows], found.here[:, rows])


def _looks(expr: Expr, context: Context) -> tuple[int | Edge | None, int] | None:
    """The @ and the offset of the first selector in `expr`, moved by the subqueries around it."""
    if isinstance(expr, VectorSelector):
        return expr.at, span_ms(expr.offset, context, negative=True)
    for child in children(expr):
        if found := _looks(child, context):
            at, offset_ms = found
            if at is not None or not isinstance(expr, SubqueryExpr):
                return found
            return expr.at, offset_ms + span_ms(expr.offset, context, negative=True)
    return None


def _newest(infos: Vector) -> Newest:
    """Raises QueryError where two series of one signature have a sample of the same time."""
    groups = grouped([only(one, _SIGNATURE) for one in infos.series.labels])
    times = infos.filled(-np.inf)
    newest = infos.here & (times == groups.max(times)[:, groups.ids])
    if (twice := groups.count(newest, len(times)) > 1).any():
        step, group = np.argwhere(twice)[0].tolist()
        first, second, *_ = (row for row in groups.members()[group] if newest[step, row])
        raise QueryError(
            "found duplicate series for info metric: existing "
            f"{quote_labels(infos.series.labels[first])} @ {times[step, first] * 1000:.0f}, "
            f"new {quote_labels(infos.series.labels[second])} @ {times[step, second] * 1000:.0f}"
        )
    rows = np.where(newest, np.arange(len(infos.series), dtype=np.float64), -1.0)
    return Newest(infos.series, groups, groups.max(rows).astype(np.int64))


def _columns(
    vector: Vector, bases: list[bool], infos: Newest, wanted: list[Wanted]
) -> Iterator[tuple[int, Labels, Mask]]:
    """(row, labels, steps) for each series and each choice of info series that it meets."""
    here, by_identity = vector.here, infos.by_identity()
    data = frozenset(one.name for want in wanted for one in want.data)
    bare = any(all(one.matches("") for one in want.data) for want in wanted)
    for row, labels in enumerate(vector.series.labels):
        if not bases[row]:
            yield row, labels, here[:, row]
            continue
        picks = infos.rows[:, by_identity.get(only(labels, _IDENTITY), [])]
        choices, chosen = np.unique(picks, axis=0, return_inverse=True)
        for number, choice in enumerate(choices.tolist()):
            steps = here[:, row] & (chosen.reshape(-1) == number)
            found = [infos.series.labels[one] for one in choice if one >= 0]
            if steps.any() and (found or bare):
                yield row, _enriched(labels, found, data), steps


def _enriched(labels: Labels, infos: list[Labels], data: frozenset[str]) -> Labels:
    """With all labels of the info series, or with those of `data`; its own ones stay.

    Raises QueryError where two info metrics disagree.
    """
    held, added = dict(labels), dict[str, str]()
    for name, value in (pair for one in infos for pair in one):
        if name == NAME or data and name not in data:
            continue
        if added.get(name, value) != value:
            raise QueryError(f"conflicting label: {name}")
        if name not in held:
            added[name] = value
    return sorted_labels({**held, **added})
