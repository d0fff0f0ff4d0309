"""One evaluation of an alerting rule, exactly as Prometheus does it (rules/alerting.go, Eval)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, fingerprint
from tocsin_alerting.rules.fair_share import FairShare
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.template import expand_label, expand_or_error
from tocsin_alerting.rules.template_data import QueryRows, TemplateData
from tocsin_exporter.slices import Work
from tocsin_exporter.snapshot import Labels, sorted_labels

RESOLVED_RETENTION_MS = 15 * 60_000
_MAX_ALERT_LABELS = 8192  # label sets of alerts that are known from the last evaluation
SLICE_ALERTS = 500  # looked at in one turn of the loop, which takes some milliseconds
FOR_RAISED = "its `for` was raised and has not passed yet"


class DuplicateLabelSet(ValueError):
    """Two samples give one alert: the whole rule fails and its state stays."""

    def __init__(self) -> None:
        super().__init__(
            "vector contains metrics with the same labelset after applying alert labels"
        )


class Candidate(NamedTuple):
    """One sample of the rule's result with the alert's labels and annotations made from it.

    `key` is the fingerprint of the labels. A tuple, because it is made for each alert at each
    evaluation.
    """

    labels: Labels
    annotations: Labels
    value: float
    key: str


@dataclass(slots=True)
class AlertLabelsMemo:
    """The `labels` and fingerprints (`keys`) of the alerts that plain labels make of `series`.

    A rule keeps those of its last result, as the next one mostly has the same series.
    """

    rule: AlertingRule | None = None
    series: tuple[Labels, ...] = ()
    labels: tuple[Labels, ...] = ()
    keys: tuple[str, ...] = ()

    def of(self, rule: AlertingRule, series: tuple[Labels, ...]) -> None:
        if self.rule is not rule or self.series != series:
            self.rule, self.series = rule, series
            self.labels = tuple(_alert_labels(labels, rule.labels, rule.name) for labels in series)
            self.keys = tuple(map(fingerprint, self.labels))


@dataclass(frozen=True, slots=True)
class AlertsUpdate:
    """`alerts` by fingerprint, those that resolved within 15 minutes among them."""

    alerts: Mapping[str, Alert]
    events: tuple[AlertEvent, ...]


async def candidates(
    rule: AlertingRule,
    rows: QueryRows,
    scope: Callable[[Mapping[str, str], float], TemplateData],
    naming: AlertLabelsMemo,
    share: FairShare,
) -> list[Candidate]:
    """The rule's result with its templates expanded. Never fails: an error becomes the text."""
    if not any("{{" in text for _, text in (*rule.labels, *rule.annotations)):
        series, values = zip(*rows, strict=True) if rows else ((), ())
        naming.of(rule, series)
        return list(map(Candidate, naming.labels, repeat(rule.annotations), values, naming.keys))
    name = f"__alert_{rule.name}"
    scopes = [scope(dict(labels), value) for labels, value in rows]
    # The labels first: they are the alerts. The annotations share the time that is left.
    named = await _expanded(rule.labels, expand_label, name, scopes, share)
    noted = await _expanded(rule.annotations, expand_or_error, name, scopes, share)
    results: list[Candidate] = []
    for (series, value), added, annotations in zip(rows, named, noted, strict=True):
        labels = _alert_labels(series, added, rule.name)
        results.append(Candidate(labels, annotations, value, fingerprint(labels)))
        await share.pause()
    return results


async def _expanded(
    texts: Labels,
    expand: Callable[[str, str, TemplateData], Awaitable[str]],
    name: str,
    scopes: Iterable[TemplateData],
    share: FairShare,
) -> list[Labels]:
    """The labels, or the annotations, of each alert."""
    expanded: list[Labels] = []
    for scope in scopes:
        expanded.append(tuple([(key, await expand(text, name, scope)) for key, text in texts]))
        await share.pause()
    return expanded


@lru_cache(_MAX_ALERT_LABELS)
def _alert_labels(labels: Labels, added: Labels, alertname: str) -> Labels:
    named = {**dict(labels), **dict(added), "alertname": alertname}
    named.pop("__name__", None)
    return sorted_labels(named)


def update_alerts(
    rule: AlertingRule, vector: Sequence[Candidate], now_ms: int, previous: Mapping[str, Alert]
) -> Work[AlertsUpdate]:
    """The alerts after an evaluation at `now_ms`, and what changed.

    Raises DuplicateLabelSet; nothing has changed then.
    """
    present = {candidate.key: candidate for candidate in vector}
    if len(present) < len(vector):
        raise DuplicateLabelSet
    alerts: dict[str, Alert] = {}
    events: list[AlertEvent] = []
    for count, key in enumerate(dict.fromkeys((*previous, *present)), 1):
        before, sample = previous.get(key), present.get(key)
        after = (
            _firing_or_pending(rule, before, sample, now_ms)
            if sample
            else _without_sample(rule, before, now_ms)
        )
        if after is not None:
            alerts[key] = after
            if before is None or before.state is not after.state:
                events.extend(_events(before, after, now_ms))
        if count % SLICE_ALERTS == 0:
            yield
    return AlertsUpdate(alerts, tuple(events))


def count_active(alerts: Iterable[Alert]) -> int:
    """How many are pending or firing: what a group's `limit` counts."""
    return sum(alert.state is not AlertState.INACTIVE for alert in alerts)


def alert_samples(
    rule: AlertingRule, alerts: Iterable[Alert]
) -> Work[Sequence[tuple[Labels, float]]]:
    """ALERTS and ALERTS_FOR_STATE of what is pending or firing; `__name__` is in the labels.

    No series comes twice, though two alerts may differ in a label `alertstate` of their own. A
    label that expanded to nothing shows its template here, as it does in Prometheus.
    """
    samples: dict[Labels, float] = {}
    for count, alert in enumerate(alerts, 1):
        if count % SLICE_ALERTS == 0:
            yield
        if alert.state is not AlertState.INACTIVE:
            state = {"__name__": "ALERTS", "alertstate": str(alert.state)}
            labels = {**dict(rule.labels), **dict(alert.labels)}
            samples[sorted_labels(labels | state)] = 1.0
            since = float(alert.active_at_ms // 1000)
            samples[sorted_labels(labels | {"__name__": "ALERTS_FOR_STATE"})] = since
    return list(samples.items())


def _firing_or_pending(
    rule: AlertingRule, before: Alert | None, candidate: Candidate, now_ms: int
) -> Alert:
    if before is None or before.state is AlertState.INACTIVE:
        new = Alert(
            rule.uid,
            candidate.labels,
            candidate.annotations,
            AlertState.PENDING,
            candidate.value,
            now_ms,
        )
        return _with_for(rule, new, now_ms)
    # Not by `replace`: that takes four times as long, for every alert at every evaluation.
    again = Alert(
        before.rule,
        before.labels,
        candidate.annotations,
        before.state,
        candidate.value,
        before.active_at_ms,
        before.fired_at_ms,
        before.resolved_at_ms,
    )
    return _with_for(rule, again, now_ms)


def _without_sample(rule: AlertingRule, before: Alert | None, now_ms: int) -> Alert | None:
    if before is None or before.state is AlertState.PENDING:
        return None
    if before.state is AlertState.INACTIVE:
        return before if now_ms - (before.resolved_at_ms or 0) <= RESOLVED_RETENTION_MS else None
    since = now_ms if before.keep_firing_since_ms is None else before.keep_firing_since_ms
    if now_ms - since < rule.keep_firing_for_ms:
        return _with_for(rule, replace(before, keep_firing_since_ms=since), now_ms)
    return replace(before, state=AlertState.INACTIVE, resolved_at_ms=now_ms)


def _with_for(rule: AlertingRule, alert: Alert, now_ms: int) -> Alert:
    """Pending long enough fires; firing goes back when a reload raised `for`."""
    waited = now_ms - alert.active_at_ms >= rule.for_ms
    if waited is (alert.state is AlertState.FIRING):
        return alert
    if waited:
        return replace(alert, state=AlertState.FIRING, fired_at_ms=now_ms)
    return replace(alert, state=AlertState.PENDING, fired_at_ms=None, keep_firing_since_ms=None)


def _events(before: Alert | None, after: Alert, now_ms: int) -> Iterable[AlertEvent]:
    was = before is not None and before.state is AlertState.FIRING
    fires = after.state is AlertState.FIRING
    if fires and not was:
        yield AlertEvent(EventKind.FIRING, after, now_ms)
    if was and not fires:
        waits = after.state is AlertState.PENDING  # it holds still, and the rule waits anew
        kind, reason = (EventKind.REMOVED, FOR_RAISED) if waits else (EventKind.CLEAR, "")
        yield AlertEvent(kind, after, now_ms, reason)
