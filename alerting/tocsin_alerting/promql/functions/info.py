"""info(): series with the labels that info metrics, such as target_info, hold about their targets.

(promql/info.go)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from tocsin_alerting.promql.eval.context import Context, merged
from tocsin_alerting.promql.eval.grouping import Grouping, grouped
from tocsin_alerting.promql.eval.label_ops import by_labels, only
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.eval.selectors import select_instant, span_ms
from tocsin_alerting.promql.eval.unaligned_windows import SampleField
from tocsin_alerting.promql.eval.vector import CELL_BYTES, Value, Vector
from tocsin_alerting.promql.parser.ast import (
    Call,
    Edge,
    Expr,
    SubqueryExpr,
    VectorSelector,
    children,
)
from tocsin_alerting.strconv import quote_labels
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Ints, Mask
from tocsin_exporter.snapshot import Labels, sorted_labels

_IDENTITY = frozenset(("instance", "job"))
_SIGNATURE = _IDENTITY | {METRIC_NAME}
_TARGET_INFO = Matcher(METRIC_NAME, MatchOp.EQUAL, "target_info")
_ANY_INFO = Matcher(METRIC_NAME, MatchOp.REGEX, ".+_info")


@dataclass(frozen=True, slots=True)
class InfoMatchers:
    """The matchers of the second argument: on the `names` of info metrics and on their `data`."""

    names: tuple[Matcher, ...]
    data: tuple[Matcher, ...]

    def is_info(self, labels: Labels) -> bool:
        name = dict(labels).get(METRIC_NAME, "")
        return all(matcher.matches(name) for matcher in self.names)


Choice: TypeAlias = tuple[Labels, ...]
"""The info series that those of one target have at a step, one of each info metric at most."""


@dataclass(frozen=True, slots=True, eq=False)
class NewestInfo:
    """The info series of each signature at each step: `rows` (steps, signatures), -1 for none."""

    series: LabelSets
    groups: Grouping
    rows: Ints

    def by_identity(self) -> Mapping[Labels, list[int]]:
        """The signatures that differ in the name alone."""
        rows: dict[Labels, list[int]] = {}
        for number, labels in enumerate(self.groups.groups.labels):
            rows.setdefault(only(labels, _IDENTITY), []).append(number)
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class JoinPlan:
    """A series for each one that is given and each choice of info series that it may meet.

    `rows`, `targets` and `choices` (series,) say which these are; `conflicts` are those whose info
    series disagree about the label that is named.
    """

    series: LabelSets
    rows: Ints
    targets: Ints
    choices: Ints
    conflicts: Mapping[int, str]


def info(call: Call, args: Sequence[Value], context: Context) -> Vector:
    """Each series with the labels of the info series that have its `instance` and `job`.

    What the labels are depends on the labels alone, and is remembered until they change.
    """
    vector, wanted = cast(Vector, args[0]), _wanted(call)
    bases = vector.series.memo(("info", wanted), lambda: _bases(vector.series, wanted))
    infos = _newest(_info_series(call, vector, bases, wanted, context))
    met, chosen = _met(by_labels(vector.series, _IDENTITY, False), infos)
    key = ("info", wanted, met)
    plan = vector.series.memo(key, lambda: _planned(vector.series, bases, met, wanted))
    context.budget.room(2 * CELL_BYTES * len(vector.values) * len(plan.rows))
    present = vector.present_mask[:, plan.rows] & (chosen[:, plan.targets] == plan.choices)
    for row, name in plan.conflicts.items():
        if present[:, row].any():
            raise QueryError(f"conflicting label: {name}")
    unnamed = vector.unnamed_rows[plan.rows]
    return merged(Vector(plan.series, vector.values[:, plan.rows], present, unnamed))


def _bases(series: LabelSets, wanted: tuple[InfoMatchers, ...]) -> Mask:
    """Which series (series,) are no info series themselves."""
    return np.array(
        [not any(w.is_info(labels) for w in wanted) for labels in series.labels], np.bool_
    )


def _wanted(call: Call) -> tuple[InfoMatchers, ...]:
    """What each set of matchers asks for: target_info, unless it says anything about the name."""
    selector = call.args[1] if len(call.args) > 1 else None
    sets = selector.matcher_sets if isinstance(selector, VectorSelector) else ((),)
    matchers_of_sets = []
    for matchers in sets:
        names = tuple(matcher for matcher in matchers if matcher.name == METRIC_NAME)
        if not any(matcher.op in (MatchOp.EQUAL, MatchOp.REGEX) for matcher in names):
            names = (_ANY_INFO, *names) if names else (_TARGET_INFO,)
        matchers_of_sets.append(
            InfoMatchers(
                names, tuple(matcher for matcher in matchers if matcher.name != METRIC_NAME)
            )
        )
    return tuple(matchers_of_sets)


def _info_series(
    call: Call, vector: Vector, bases: Mask, wanted: tuple[InfoMatchers, ...], context: Context
) -> Vector:
    """The info series that may be of these targets; their values are the times of their samples.

    They are looked at when the first selector of the first argument looks.
    """
    at, offset_ms = _looks(call.args[0], context) or (None, 0)
    sets = tuple((*matchers.names, *matchers.data) for matchers in wanted)
    infos = select_instant(VectorSelector("", sets, offset_ms, at), context, SampleField.TIME)
    targets = by_labels(vector.series, _IDENTITY, False)
    known: dict[str, set[str]] = {}
    for target in np.unique(targets.ids[vector.present_mask.any(axis=0) & bases]).tolist():
        for name, value in targets.groups.labels[target]:
            known.setdefault(name, set()).add(value)
    rows = [
        row
        for row, labels in enumerate(infos.series.labels)
        if known and all(dict(labels).get(name, "") in values for name, values in known.items())
    ]
    series = LabelSets(tuple(infos.series.labels[row] for row in rows))
    return Vector(series, infos.values[:, rows], infos.present_mask[:, rows])


def _looks(expr: Expr, context: Context) -> tuple[int | Edge | None, int] | None:
    """The @ and the offset of the first selector in `expr`, moved by the subqueries around it."""
    if isinstance(expr, VectorSelector):
        return expr.at, span_ms(expr.offset, context, negative=True)
    for child in children(expr):
        if looks := _looks(child, context):
            at, offset_ms = looks
            if at is not None or not isinstance(expr, SubqueryExpr):
                return looks
            return expr.at, offset_ms + span_ms(expr.offset, context, negative=True)
    return None


def _newest(infos: Vector) -> NewestInfo:
    """Raises QueryError where two series of one signature have a sample of the same time."""
    groups = grouped([only(labels, _SIGNATURE) for labels in infos.series.labels])
    times = infos.filled(-np.inf)
    newest = infos.present_mask & (times == groups.max(times)[:, groups.ids])
    if (twice := groups.count(newest, len(times)) > 1).any():
        step, group = np.argwhere(twice)[0].tolist()
        first, second, *_ = (row for row in groups.members()[group] if newest[step, row])
        raise QueryError(
            "found duplicate series for info metric: existing "
            f"{quote_labels(infos.series.labels[first])} @ {times[step, first] * 1000:.0f}, "
            f"new {quote_labels(infos.series.labels[second])} @ {times[step, second] * 1000:.0f}"
        )
    rows = np.where(newest, np.arange(len(infos.series), dtype=np.float64), -1.0)
    return NewestInfo(infos.series, groups, groups.max(rows).astype(np.int64))


def _met(targets: Grouping, infos: NewestInfo) -> tuple[tuple[tuple[Choice, ...], ...], Ints]:
    """The choices of each target, and which of them it has at each step (steps, targets)."""
    by_identity, labels = infos.by_identity(), infos.series.labels
    met, chosen = [], np.zeros((len(infos.rows), len(targets.groups)), np.int64)
    for target, identity in enumerate(targets.groups.labels):
        picks = infos.rows[:, by_identity.get(identity, [])]
        choices, which = np.unique(picks, axis=0, return_inverse=True)
        chosen[:, target] = which.reshape(-1)
        met.append(
            tuple(tuple(labels[row] for row in rows if row >= 0) for rows in choices.tolist())
        )
    return tuple(met), chosen


def _planned(
    series: LabelSets,
    bases: Mask,
    met: tuple[tuple[Choice, ...], ...],
    wanted: tuple[InfoMatchers, ...],
) -> JoinPlan:
    data = frozenset(matcher.name for want in wanted for matcher in want.data)
    bare = any(all(matcher.matches("") for matcher in want.data) for want in wanted)
    targets = by_labels(series, _IDENTITY, False).ids.tolist()
    pairs: list[tuple[int, int, int]] = []
    made: list[Labels] = []
    conflicts: dict[int, str] = {}
    for row, labels in enumerate(series.labels):
        for number, choice in enumerate(met[targets[row]]):
            if choice or bare or not bases[row]:
                enriched, conflict = _enriched(labels, choice if bases[row] else (), data)
                if conflict:
                    conflicts[len(pairs)] = conflict
                pairs.append((row, targets[row], number))
                made.append(enriched)
    rows, of, choices = np.array(pairs, np.int64).reshape(-1, 3).T
    return JoinPlan(LabelSets(tuple(made)), rows, of, choices, conflicts)


def _enriched(labels: Labels, choice: Choice, data: frozenset[str]) -> tuple[Labels, str]:
    """With all labels of the info series, or with those of `data`; its own ones stay.

    The text names a label that two info metrics disagree about, "" if there is none.
    """
    own, added, conflict = dict(labels), dict[str, str](), ""
    for name, value in (pair for labels_of_info in choice for pair in labels_of_info):
        if name == METRIC_NAME or data and name not in data:
            continue
        if added.get(name, value) != value:
            conflict = name
        if name not in own:
            added[name] = value
    return (sorted_labels({**own, **added}) if added else labels), conflict
