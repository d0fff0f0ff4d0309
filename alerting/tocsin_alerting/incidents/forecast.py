"""Who would be paged, by what and when, about an alert with given labels: the state machine alone,
run ahead while nobody answers. Nothing is sent, and nothing remembered."""

from collections.abc import Mapping
from dataclasses import dataclass

from tocsin_alerting.incidents.alert_changes import open_incident
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.grouping import alert_group
from tocsin_alerting.incidents.incident import (
    Change,
    Incident,
    Notify,
    Reason,
    SetTimer,
    TimersByKind,
)
from tocsin_alerting.incidents.routing import (
    IncidentConfig,
    Route,
    alert_severity,
    matching_routes,
)
from tocsin_alerting.incidents.timers import TimerDue, timer_due
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.severity import Severity

HORIZON_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class ExpectedPage:
    at_ms: int
    reason: Reason
    step: int
    addressees: tuple[Addressee, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """`severity` None: nobody is paged, its label says so. `routes` count from 1. `complete`: no
    page follows those in `pages`."""

    severity: Severity | None
    policy: str = ""
    group: tuple[tuple[str, str], ...] = ()
    routes: tuple[int, ...] = ()
    pages: tuple[ExpectedPage, ...] = ()
    complete: bool = True


def forecast(
    labels: Mapping[str, str], at_ms: int, config: IncidentConfig, most: int = 50
) -> Forecast:
    """What follows when an alert with `labels` fires at `at_ms`; `most` pages of it."""
    alert = Alert(
        rule="route",
        labels=tuple(sorted(labels.items())),
        annotations=(),
        state=AlertState.FIRING,
        value=1.0,
        active_at_ms=at_ms,
        fired_at_ms=at_ms,
    )
    severity = alert_severity(alert, config)
    if severity is None:
        return Forecast(None)
    group = alert_group(config, labels)
    event = AlertEvent(EventKind.FIRING, alert, at_ms)
    change = open_incident(1, group, event, at_ms, config)
    pages, complete = expected_pages(change, at_ms, config, most)
    return Forecast(
        severity,
        change[0].policy.name,
        group.labels,
        _matching(config, labels),
        tuple(pages),
        complete,
    )


def _matching(config: IncidentConfig, labels: Mapping[str, str]) -> tuple[int, ...]:
    matched: list[Route] = list(matching_routes(config, labels))
    return tuple(
        number for number, route in enumerate(config.routes, 1) if any(route is m for m in matched)
    )


def expected_pages(
    change: Change, at_ms: int, config: IncidentConfig, most: int = 50
) -> tuple[list[ExpectedPage], bool]:
    """What follows when an incident opens so; whether that is all."""
    pages: list[ExpectedPage] = []
    timers: TimersByKind = {}
    now_ms = at_ms
    while len(pages) < most:
        incident, timers = _take(change, timers, now_ms, pages)
        if not timers:
            return pages, True
        timer = min(timers.values(), key=lambda timer: timer.due_at_ms)
        now_ms = max(now_ms, timer.due_at_ms)
        if now_ms - at_ms > HORIZON_MS:
            return pages, False
        del timers[timer.kind]
        change = timer_due(incident, TimerDue(timer), now_ms, config)
    return pages[:most], False


def _take(
    change: Change, timers: TimersByKind, now_ms: int, pages: list[ExpectedPage]
) -> tuple[Incident, TimersByKind]:
    """Adds what goes out to `pages`; the timers that run from here."""
    incident, effects = change
    left = {kind: t for kind, t in timers.items() if t.is_live(incident.generation)}
    for effect in effects:
        if isinstance(effect, SetTimer):
            left[effect.timer.kind] = effect.timer
        elif isinstance(effect, Notify):
            step = max(incident.step, 0)
            pages.append(ExpectedPage(now_ms, effect.reason, step, effect.targets))
    return incident, left
