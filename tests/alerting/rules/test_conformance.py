"""The scenarios of the alert generator compliance suite, on a clock of our own.

There, a tester writes samples to a running server for 40 minutes. Here the same courses of values
go through the real store and engine, with a sample each 15 s and an evaluation each 30 s.
"""

from collections.abc import Mapping

from support.rule_deps import SetSources
from support.rule_texts import MINUTE
from tocsin_alerting.rules.alert import Alert, AlertState, EventKind
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.instant_query import rows
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.rules.rule_test_store import make_test_store
from tocsin_alerting.rules.series_notation import parse_series_notation
from tocsin_exporter.snapshot import Labels, labels

RULES = """
groups:
  - name: pending_firing_resolved
    rules:
      - alert: Simple
        expr: course{rule="simple"} > 10
        for: 6m
        labels: {foo: bar}
        annotations: {summary: "The value is {{$value}} {{.Value}}"}
  - name: pending_resolved
    rules:
      - {alert: Pending, expr: 'course{rule="pending"} > 10', for: 3m}
      - {alert: Inactive, expr: 'course{rule="pending"} > 99', for: 3m}
  - name: zero_and_small_for
    rules:
      - {alert: ZeroFor, expr: 'course{rule="zero"} > 10'}
      - {alert: SmallFor, expr: 'course{rule="zero"} > 13', for: 15s}
  - name: order
    rules:
      - alert: First
        expr: course{rule="order"} > 10
        for: 3m
        labels: {foo: bar}
      - alert: Second
        expr: >-
          sum by (alertname, foo) (ALERTS{alertstate="firing", alertname="First"}) == 2
        labels: {foo: baz}
        annotations: {was: "{{$labels.alertname}} {{.Labels.foo}}"}
"""
STEP_MS = 15_000


class Course:
    """The rules under evaluation while series take their course."""

    def __init__(self, **courses: str) -> None:
        self.bench = make_test_store(MINUTE)
        deps = EvaluationDeps(self.bench.engine, self.bench.write, SetSources(), lambda: 0.0)
        self.groups = Groups(deps, 2 * STEP_MS)
        self.groups.load([read(RULES, "rules.yml")], 0)
        self.series = [
            (labels(__name__="course", rule=name.partition("__")[0], variant=name), values)
            for name, values in (
                (key, parse_series_notation(text)) for key, text in courses.items()
            )
        ]
        self.told: list[tuple[float, EventKind, str]] = []
        self.step = 0

    async def until(self, minute: float) -> None:
        while self.step * STEP_MS <= minute * MINUTE:
            at_ms = self.step * STEP_MS
            samples = [(k, v[self.step]) for k, v in self.series if self.step < len(v)]
            self.bench.append(at_ms, [(k, v) for k, v in samples if v is not None])
            if self.step % 2 == 0:
                for group in self.groups.all:
                    for event in await self.groups.evaluate(group, at_ms):
                        self.told.append((at_ms / MINUTE, event.kind, event.alert.name))
            self.step += 1

    def alerts(self, name: str) -> list[Alert]:
        rules = [rule for group in self.groups.all for rule in group.rules]
        all_alerts = [alert for rule in rules for alert in rule.alerts.values()]
        return [alert for alert in all_alerts if alert.name == name]

    def states(self, name: str) -> list[AlertState]:
        return [alert.state for alert in self.alerts(name)]

    async def series_of(self, name: str) -> Mapping[Labels, float]:
        at_ms = (self.step - 1) * STEP_MS
        result = await self.bench.engine.instant(f'ALERTS{{alertname="{name}"}}', at_ms)
        return dict(rows(result))


async def test_pending_then_firing_then_resolved() -> None:
    course = Course(simple="3x7 15x47 5x80")  # above 10 from minute 2 to 14
    await course.until(1.5)
    assert course.alerts("Simple") == [] and await course.series_of("Simple") == {}
    await course.until(7.5)
    assert course.states("Simple") == [AlertState.PENDING]
    (series,) = await course.series_of("Simple")
    assert dict(series) | {"variant": ""} == {
        "__name__": "ALERTS", "alertname": "Simple", "alertstate": "pending", "foo": "bar",
        "rule": "simple", "variant": "",
    }  # fmt: skip
    await course.until(8)
    (alert,) = course.alerts("Simple")
    assert (alert.state, alert.active_at_ms, alert.fired_at_ms) == (
        AlertState.FIRING, 2 * MINUTE, 8 * MINUTE,
    )  # fmt: skip
    assert alert.annotations == (("summary", "The value is 15 15"),)
    (series,) = await course.series_of("Simple")  # the pending series went stale at once
    assert dict(series)["alertstate"] == "firing"
    await course.until(14)
    (alert,) = course.alerts("Simple")
    assert (alert.state, alert.resolved_at_ms) == (AlertState.INACTIVE, 14 * MINUTE)
    assert await course.series_of("Simple") == {}
    await course.until(29)
    assert course.states("Simple") == [AlertState.INACTIVE]
    await course.until(29.5)
    assert course.alerts("Simple") == []
    assert course.told == [(8, EventKind.FIRING, "Simple"), (14, EventKind.CLEAR, "Simple")]


async def test_pending_that_ends_before_its_for_is_never_told() -> None:
    course = Course(pending="3x3 15x10 19 5x40")  # above 10 from minute 1 to 4: not yet 3 minutes
    await course.until(3.5)
    assert course.states("Pending") == [AlertState.PENDING]
    await course.until(20)
    assert course.alerts("Pending") == [] and course.alerts("Inactive") == []
    assert course.told == []


async def test_zero_for_fires_at_once_and_a_small_one_at_the_next_evaluation() -> None:
    course = Course(zero="3x3 19x20 5x10")
    await course.until(1)
    assert course.states("ZeroFor") == [AlertState.FIRING]
    assert course.states("SmallFor") == [AlertState.PENDING]
    await course.until(1.25)
    assert course.states("SmallFor") == [AlertState.PENDING]
    await course.until(8)
    assert course.told == [
        (1, EventKind.FIRING, "ZeroFor"),
        (1.5, EventKind.FIRING, "SmallFor"),
        (6.5, EventKind.CLEAR, "ZeroFor"),
        (6.5, EventKind.CLEAR, "SmallFor"),
    ]


async def test_alerts_come_one_after_the_other_and_a_later_rule_sees_them_in_the_same_cycle() -> (
    None
):
    course = Course(order__one="15x60", order__two="5x7 15x53")
    await course.until(2)
    assert course.states("First") == [AlertState.PENDING] * 2
    await course.until(4.5)
    assert sorted(course.states("First")) == [AlertState.FIRING, AlertState.PENDING]
    assert course.alerts("Second") == []
    await course.until(5)
    (second,) = course.alerts("Second")
    assert second.labels == (("alertname", "Second"), ("foo", "baz"))
    assert second.annotations == (("was", "First bar"),)
    assert course.told == [
        (3, EventKind.FIRING, "First"),
        (5, EventKind.FIRING, "First"),
        (5, EventKind.FIRING, "Second"),
    ]
