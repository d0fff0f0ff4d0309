"""Evaluates rules over a time that has passed: each rule for all of it at once, where that says the
same as one evaluation after the other, and step by step where rules read what they record."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tocsin_alerting.backtest.alert_spans import (
    AlertSpan,
    ConditionCells,
    alert_spans,
    pending_and_firing,
)
from tocsin_alerting.backtest.history import History, RecordedSeries
from tocsin_alerting.backtest.rule_order import (
    RuleKey,
    in_order_of_reading,
    is_read,
    reads_its_own_time,
)
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget, QueryError, QueryLimitExceeded
from tocsin_alerting.promql.result import Matrix, Track
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.alerting import (
    AlertLabelsMemo,
    Candidate,
    DuplicateLabelSet,
    alert_samples,
    candidates,
    update_alerts,
)
from tocsin_alerting.rules.evaluation import LimitExceeded
from tocsin_alerting.rules.fair_share import FairShare
from tocsin_alerting.rules.instant_query import query_at, rows
from tocsin_alerting.rules.recording import DuplicateRecordedSeries, record
from tocsin_alerting.rules.rule import AlertingRule, RecordingRule, RuleGroup
from tocsin_alerting.rules.template_data import QueryRows, TemplateBudget, TemplateData
from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Labels, sorted_labels

_STEPS_AT_ONCE = 2_000
_BUDGET_BYTES = 2 << 30
_MANY = 1 << 40


def _unheard(done: int) -> None:
    """Nobody waits for it."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """From `start_ms` to `end_ms`, each group at its interval. `progress` hears how many rules are
    done."""

    start_ms: int
    end_ms: int
    interval_ms: int
    external_labels: Mapping[str, str] = field(default_factory=dict)
    progress: Callable[[int], None] = _unheard


@dataclass(slots=True, eq=False)
class RuleReplay:
    """What came of one rule. `failures` counts the evaluations that failed, the last of them with
    `last_error`; of an alerting rule `cells` say when its condition held."""

    group: RuleGroup
    rule: AlertingRule | RecordingRule
    times: Ints
    cells: ConditionCells
    spans: list[AlertSpan] = field(default_factory=list)
    failures: int = 0
    last_error: str = ""

    @property
    def records(self) -> bool:
        return isinstance(self.rule, RecordingRule)


@dataclass(slots=True, eq=False)
class _Task:
    """A rule under way: at which steps it failed, where what it gives is kept, if anybody reads it,
    and its alerts, where they are needed step by step."""

    replay: RuleReplay
    failed: Mask
    recorded: RecordedSeries | None
    alerts: Mapping[str, Alert] = field(default_factory=dict)

    def fail(self, step: int, error: Exception) -> None:
        if not self.failed[step]:
            self.failed[step] = True
            self.replay.failures += 1
        self.replay.last_error = str(error) or type(error).__name__

    def last_two(self, step: int) -> Ints:
        """The step, and the one before it at which the rule did not fail."""
        return np.append(np.flatnonzero(~self.failed[:step])[-1:], step)


class Replay:
    """One backtest over a history."""

    def __init__(self, engine: QueryEngine, history: History, settings: ReplaySettings) -> None:
        self._engine, self._history, self._settings = engine, history, settings

    def quiet(self) -> "Replay":
        """The same, and nobody hears of its progress."""
        settings = replace(self._settings, progress=_unheard)
        return Replay(self._engine, self._history, settings)

    async def run(self, groups: Sequence[RuleGroup]) -> list[RuleReplay]:
        """In the order of the files."""
        order = in_order_of_reading(groups)
        done: dict[RuleKey, RuleReplay] = {}
        for component in order:
            tasks = {key: self._task(groups[key.group], key, groups) for key in component.rules}
            if component.reads_itself:
                await self._step_by_step(list(tasks.values()))
            else:
                for task in tasks.values():
                    await self._at_once(task)
            for key, task in tasks.items():
                done[key] = self._finished(task)
            self._settings.progress(len(done))
        return [done[key] for key in sorted(done)]

    def _task(self, group: RuleGroup, key: RuleKey, groups: Sequence[RuleGroup]) -> _Task:
        settings = self._settings
        interval_ms = group.interval_ms or settings.interval_ms
        first = -(-settings.start_ms // interval_ms) * interval_ms
        times = np.arange(first, settings.end_ms + 1, interval_ms, dtype=np.int64)
        rule = group.rules[key.rule]
        recorded = None
        if isinstance(rule, RecordingRule) or is_read(rule, groups):
            recorded = RecordedSeries(times)
            self._history.add(recorded)
        replay = RuleReplay(group, rule, times, ConditionCells(times))
        return _Task(replay, np.zeros(len(times), np.bool_), recorded)

    async def _at_once(self, task: _Task) -> None:
        times, query = task.replay.times, task.replay.rule.query
        if reads_its_own_time(query):
            for step in range(len(times)):
                await self._step(task, step)
            return
        for start in range(0, len(times), _STEPS_AT_ONCE):
            await self._chunk(task, start, min(start + _STEPS_AT_ONCE, len(times)))
        if isinstance(task.replay.rule, AlertingRule):
            _drop_over_limit(task)
            self._write_alerts(task)
        elif task.recorded is not None:
            task.recorded.mark_stale(np.flatnonzero(~task.failed))

    async def _chunk(self, task: _Task, start: int, stop: int) -> None:
        """Of steps that fail together those are looked for that fail by themselves."""
        times, rule = task.replay.times, task.replay.rule
        interval_ms = int(times[1] - times[0]) if len(times) > 1 else 1
        budget = Budget(_MANY, _MANY, max_bytes=_BUDGET_BYTES)
        try:
            value = self._engine.evaluate_range(
                rule.query, int(times[start]), int(times[stop - 1]), interval_ms, budget
            ).value
        except QueryError as error:
            if stop - start == 1:
                task.fail(start, error)
                return
            if isinstance(error, QueryLimitExceeded) and stop - start < 8:
                raise
            middle = (start + stop) // 2
            await self._chunk(task, start, middle)
            await self._chunk(task, middle, stop)
            return
        assert isinstance(value, Matrix)
        await self._keep(task, value.series)

    async def _keep(self, task: _Task, tracks: Sequence[Track]) -> None:
        rule, times = task.replay.rule, task.replay.times
        if isinstance(rule, RecordingRule):
            self._record(task, rule, tracks)
        elif any("{{" in text for _, text in rule.labels):
            by_step = rows_by_step(tracks, times)
            for step, result in sorted(by_step.items()):
                await self._alerts(task, rule, result, step)
        else:
            naming = AlertLabelsMemo()
            naming.of(rule, tuple(track.labels for track in tracks))
            for labels, track in zip(naming.labels, tracks, strict=True):
                self._hold(task, labels, times.searchsorted(track.times), track.values)

    def _record(self, task: _Task, rule: RecordingRule, tracks: Sequence[Track]) -> None:
        """A step at which two samples give one series fails."""
        times, recorded = task.replay.times, task.recorded
        assert recorded is not None
        named: dict[Labels, list[Track]] = defaultdict(list)
        for track in tracks:
            series = {**dict(track.labels), "__name__": rule.name, **dict(rule.labels)}
            named[sorted_labels(series)].append(track)
        for same in named.values():
            at_ms, counts = np.unique(np.concatenate([t.times for t in same]), return_counts=True)
            for step in times.searchsorted(at_ms[counts > 1]).tolist():
                task.fail(step, DuplicateRecordedSeries())
        for labels, same in named.items():
            column = recorded.column(labels)
            for track in same:
                steps = times.searchsorted(track.times)
                good = ~task.failed[steps]
                column[steps[good]] = track.values[good]

    def _hold(self, task: _Task, labels: Labels, steps: Ints, values: Floats) -> None:
        """Notes at which steps the condition of an alert held; a step at which two samples give
        one alert fails."""
        cells = task.replay.cells
        present = cells.present.get(labels)
        if present is None:
            present = cells.present[labels] = np.zeros(len(cells.times), np.bool_)
            cells.values[labels] = np.zeros(len(cells.times))
        if present[steps].any():
            for step in steps[present[steps]].tolist():
                task.fail(step, DuplicateLabelSet())
        present[steps] = True
        cells.values[labels][steps] = values

    async def _step_by_step(self, tasks: Sequence[_Task]) -> None:
        """Rules that read each other, as they were: at each time those that are due, in order."""
        due: dict[int, list[tuple[_Task, int]]] = defaultdict(list)
        for task in tasks:
            for step, at_ms in enumerate(task.replay.times.tolist()):
                due[at_ms].append((task, step))
        for at_ms in sorted(due):
            for task, step in due[at_ms]:
                await self._step(task, step)

    async def _step(self, task: _Task, step: int) -> None:
        rule, at_ms = task.replay.rule, int(task.replay.times[step])
        try:
            result = rows(await self._engine.instant(rule.query, at_ms))
            if isinstance(rule, RecordingRule):
                assert task.recorded is not None
                for labels, value in record(rule, result):
                    task.recorded.column(labels)[step] = value
                task.recorded.mark_stale(task.last_two(step))
                return
        except ValueError as error:
            task.fail(step, error)
            return
        try:
            vector = await self._alerts(task, rule, result, step)
            if task.recorded is not None:
                task.alerts = at_once(update_alerts(rule, vector, at_ms, task.alerts)).alerts
        except DuplicateLabelSet as error:
            task.fail(step, error)
            return
        if task.recorded is not None:
            for labels, value in at_once(alert_samples(rule, task.alerts.values())):
                task.recorded.column(labels)[step] = value
            task.recorded.mark_stale(task.last_two(step))

    async def _alerts(
        self, task: _Task, rule: AlertingRule, result: QueryRows, step: int
    ) -> list[Candidate]:
        """The alerts that the result of one evaluation is; they are noted."""
        at_ms = int(task.replay.times[step])
        ask, spending = query_at(self._engine, at_ms), TemplateBudget()
        external = self._settings.external_labels

        def scope(labels: Mapping[str, str], value: float) -> TemplateData:
            return TemplateData(labels, value, at_ms, external, "", ask, spending)

        bare = replace(rule, annotations=())
        vector = await candidates(bare, result, scope, AlertLabelsMemo(), FairShare(lambda: 0.0))
        for alert in vector:
            self._hold(task, alert.labels, np.array([step]), np.array([alert.value]))
        return vector

    def _write_alerts(self, task: _Task) -> None:
        """ALERTS and ALERTS_FOR_STATE of all steps."""
        rule, recorded = task.replay.rule, task.recorded
        if recorded is None or not isinstance(rule, AlertingRule):
            return
        cells = task.replay.cells.without(task.failed)
        steps = recorded.times.searchsorted(cells.times)
        by_labels: dict[Labels, list[AlertSpan]] = defaultdict(list)
        for span in alert_spans(cells, rule.for_ms, rule.keep_firing_for_ms):
            by_labels[span.labels].append(span)
        for labels, pending, firing, since in pending_and_firing(cells, by_labels):
            named = {**dict(rule.labels), **dict(labels)}
            for state, mask in (("pending", pending), ("firing", firing)):
                series = sorted_labels({**named, "__name__": "ALERTS", "alertstate": state})
                recorded.column(series)[steps[mask]] = 1.0
            active = pending | firing
            series = sorted_labels({**named, "__name__": "ALERTS_FOR_STATE"})
            recorded.column(series)[steps[active]] = since[active]
        recorded.mark_stale(steps)

    def _finished(self, task: _Task) -> RuleReplay:
        replay = task.replay
        if isinstance(replay.rule, AlertingRule):
            rule = replay.rule
            replay.cells = replay.cells.without(task.failed)
            replay.spans = alert_spans(replay.cells, rule.for_ms, rule.keep_firing_for_ms)
        return replay


def _drop_over_limit(task: _Task) -> None:
    """Where more alerts are active than the group's `limit` allows, a rule drops all of them."""
    present, limit = task.replay.cells.present, task.replay.group.limit
    if not limit or len(present) <= limit:
        return
    count = np.sum(list(present.values()), axis=0)
    for step in np.flatnonzero(count > limit).tolist():
        error = LimitExceeded(f"exceeded limit of {limit} with {count[step]} alerts")
        task.replay.failures += 1
        task.replay.last_error = str(error)
        for cells in present.values():
            cells[step] = False


def rows_by_step(tracks: Iterable[Track], times: Ints) -> dict[int, QueryRows]:
    """What an instant query would have answered at each step, where that is anything."""
    found: dict[int, list[tuple[Labels, float]]] = defaultdict(list)
    for track in tracks:
        steps = times.searchsorted(track.times).tolist()
        for step, value in zip(steps, track.values.tolist(), strict=True):
            found[step].append((track.labels, value))
    return dict(found)
