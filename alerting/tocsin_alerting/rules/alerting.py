"""One evaluation of an alerting rule, exactly as Prometheus does it (rules/alerting.go, Eval)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, fingerprint
from tocsin_alerting.rules.fair_share import FairShare
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.scope import Rows, Scope
from tocsin_alerting.rules.template import expand_label, expand_or_say
from tocsin_exporter.snapshot import Labels

RESOLVED_RETENTION_MS = 15 * 60_000
_KEPT = 8192  # label sets of alerts that are known from the last evaluation
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
class Naming:
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
            self.labels = tuple(_alert_labels(one, rule.labels, rule.name) for one in series)
            self.keys = tuple(map(fingerprint, self.labels))


@dataclass(frozen=True, slots=True)
class Step:
    """`alerts` by fingerprint, those that resolved within 15 minutes among them."""

    alerts: Mapping[str, Alert]
    events: tuple[AlertEvent, ...]


async def candidates(
    rule: AlertingRule,
    rows: Rows,
    scope: Callable[[Mapping[str, str], float], Scope],
    naming: Naming,
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
    noted = await _expanded(rule.annotations, expand_or_say, name, scopes, share)
    found: list[Candidate] = []
    for (series, value), added, annotations in zip(rows, named, noted, strict=True):
        labels = _alert_labels(series, added, rule.name)
        found.append(Candidate(labels, annotations, value, fingerprint(labels)))
        await share.pause()
    return found


async def _expanded(
    texts: Labels,
    expand: Callable[[str, str, Scope], Awaitable[str]],
    name: str,
    scopes: Iterable[Scope],
    share: FairShare,
) -> list[Labels]:
    """The labels, or the annotations, of each alert."""
    found: list[Labels] = []
    for scope in scopes:
        found.append(tuple([(key, await expand(text, name, scope)) for key, text in texts]))
        await share.pause()
    return found


@lru_cache(_KEPT)
def _alert_labels(labels: Labels, added: Labels, alertname: str) -> Labels:
    named = {**dict(labels), **dict(added), "alertname": alertname}
    named.pop("__name__", None)
    return _sorted(named)


def step(
    rule: AlertingRule, vector: Sequence[Candidate], now_ms: int, previous: Mapping[str, Alert]
) -> Step:
    """The alerts after an evaluation at `now_ms`, and what changed.

    Raises DuplicateLabelSet; nothing has changed then.
    """
    present = {one.key: one for one in vector}
    if len(present) < len(vector):
        raise DuplicateLabelSet
    alerts: dict[str, Alert] = {}
    events: list[AlertEvent] = []
    for key in dict.fromkeys((*previous, *present)):
        before, found = previous.get(key), present.get(key)
        after = _present(rule, before, found, now_ms) if found else _absent(rule, before, now_ms)
        if after is not None:
            alerts[key] = after
            if before is None or before.state is not after.state:
                events.extend(_events(before, after, now_ms))
    return Step(alerts, tuple(events))


def active(alerts: Iterable[Alert]) -> int:
    """How many are pending or firing: what a group's `limit` counts."""
    return sum(alert.state is not AlertState.INACTIVE for alert in alerts)


def alert_samples(rule: AlertingRule, alerts: Iterable[Alert]) -> Sequence[tuple[Labels, float]]:
    """ALERTS and ALERTS_FOR_STATE of what is pending or firing; `__name__` is in the labels.

    No series comes twice, though two alerts may differ in a label `alertstate` of their own. A
    label that expanded to nothing shows its template here, as it does in Prometheus.
    """
    samples: dict[Labels, float] = {}
    for alert in alerts:
        if alert.state is not AlertState.INACTIVE:
            state = {"__name__": "ALERTS", "alertstate": str(alert.state)}
            labels = {**dict(rule.labels), **dict(alert.labels)}
            samples[_sorted(labels | state)] = 1.0
            since = float(alert.active_at_ms // 1000)
            samples[_sorted(labels | {"__name__": "ALERTS_FOR_STATE"})] = since
    return list(samples.items())


def _present(rule: AlertingRule, before: Alert | None, found: Candidate, now_ms: int) -> Alert:
    if before is None or before.state is AlertState.INACTIVE:
        new = Alert(
            rule.uid, found.labels, found.annotations, AlertState.PENDING, found.value, now_ms
        )
        return _aged(rule, new, now_ms)
    # Not by `replace`: that takes four times as long, for every alert at every evaluation.
    again = Alert(
        before.rule,
        before.labels,
        found.annotations,
        before.state,
        found.value,
        before.active_at_ms,
        before.fired_at_ms,
        before.resolved_at_ms,
    )
    return _aged(rule, again, now_ms)


def _absent(rule: AlertingRule, before: Alert | None, now_ms: int) -> Alert | None:
    if before is None or before.state is AlertState.PENDING:
        return None
    if before.state is AlertState.INACTIVE:
        return before if now_ms - (before.resolved_at_ms or 0) <= RESOLVED_RETENTION_MS else None
    since = now_ms if before.keep_firing_since_ms is None else before.keep_firing_since_ms
    if now_ms - since < rule.keep_firing_for_ms:
        return _aged(rule, replace(before, keep_firing_since_ms=since), now_ms)
    return replace(before, state=AlertState.INACTIVE, resolved_at_ms=now_ms)


def _aged(rule: AlertingRule, alert: Alert, now_ms: int) -> Alert:
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


def _sorted(labels: Mapping[str, str]) -> Labels:
    """An empty label is none."""
    return tuple(sorted((name, value) for name, value in labels.items() if value != ""))
