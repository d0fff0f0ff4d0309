"""How incidents went, as metrics: from the counts of the journal, so that a restart loses none.

A counter that does not exist before the first event hides it from `increase()`: what the loaded
rules can bring stands there with 0, for as many names as the counts tell apart.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import is_not

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.incident import Condition, IncidentState
from tocsin_alerting.incidents.statistics import (
    ENDS,
    MAX_ALERTS,
    OTHER,
    Histogram,
    IncidentStatistics,
)
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.severity import SEVERITY_LABEL, Severity, severity_of
from tocsin_alerting.rules.state import GroupState
from tocsin_exporter.snapshot import Family, Sample, labels

Families = Mapping[str, Family]
Groups = Callable[[], Sequence[GroupState]]
HOWS = (*ENDS.values(), "false_positive")
_BUCKET, _SUM, _COUNT = "_bucket", "_sum", "_count"


class IncidentMetrics:
    """`receivers` are those that people are told by; `groups` are the rules that are loaded."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        groups: Groups,
        receivers: Sequence[str],
        now_ms: Callable[[], int],
    ) -> None:
        self._dispatcher, self._groups, self._now_ms = dispatcher, groups, now_ms
        self._receivers = receivers
        self._known: Sequence[tuple[str, str]] = ()
        self._known_of: tuple[Sequence[object], object] | None = None
        self._counts: Sequence[Sample] = ()
        self._counts_of: object = None

    def samples(self, families: Families) -> Iterator[Sample]:
        """Counts are left out until the journal is read; then they are whole."""
        yield from self._open_now(families)
        counted = self._dispatcher.tally.counted
        if counted is not None:
            yield from self._by_alert(counted, families)
            yield from _by_severity(counted, families)
            yield from self._by_receiver(counted, families)

    def _open_now(self, families: Families) -> Iterator[Sample]:
        oldest_ms, now_ms, unknown = dict.fromkeys(Severity, 0), self._now_ms(), 0
        for incident in self._dispatcher.working.incidents.values():
            unknown += incident.is_open and incident.source is Condition.UNKNOWN
            if incident.state is IncidentState.TRIGGERED and not incident.muted:
                age_ms = now_ms - incident.opened_at_ms
                oldest_ms[incident.severity] = max(oldest_ms[incident.severity], age_ms)
        yield Sample(families["tocsin_incidents_unknown"], unknown)
        family = families["tocsin_incident_oldest_unanswered_seconds"]
        for severity, age_ms in oldest_ms.items():
            yield Sample(family, age_ms / 1000, labels(severity=severity.value))

    def _by_alert(self, counted: IncidentStatistics, families: Families) -> Sequence[Sample]:
        """Made anew when a rule or a count is another one: they are thousands."""
        known = self._known_alerts()
        counts = (counted.opened, counted.unanswered, counted.reopened, counted.resolved)
        shape = (id(counted), id(known), *(count.total() for count in counts))
        if shape != self._counts_of:
            self._counts = [*_counts_of_alerts(counted, known, families)]
            self._counts_of = shape
        return self._counts

    def _known_alerts(self) -> Sequence[tuple[str, str]]:
        """The alerts of the loaded rules with their severities, the worst first, but for those made
        by a template, and those that never page. The same object while the rules are the same."""
        words = self._dispatcher.working.config.severity_words
        groups = [progress.group for progress in self._groups()]
        before = self._known_of
        if before is None or before[1] != words or _differ(groups, before[0]):
            written = {
                (rule.name, dict(rule.labels).get(SEVERITY_LABEL, ""))
                for group in groups
                for rule in group.rules
                if isinstance(rule, AlertingRule)
            }
            meant = ((name, severity_of(text, words)) for name, text in written if "{{" not in text)
            self._known = _told_apart(sorted((word.value, name) for name, word in meant if word))
            self._known_of = groups, words
        return self._known

    def _by_receiver(self, counted: IncidentStatistics, families: Families) -> Iterator[Sample]:
        none = {(name, severity.value) for name in self._receivers for severity in Severity}
        for receiver, severity in sorted({*none, *counted.pages}):
            own = labels(receiver=receiver, severity=severity)
            yield Sample(families["tocsin_pages_total"], counted.pages[receiver, severity], own)
        for receiver in sorted({*self._receivers, *counted.failed}):
            family = families["tocsin_notifications_failed_total"]
            yield Sample(family, counted.failed[receiver], labels(receiver=receiver))
        family = families["tocsin_notification_latency_seconds"]
        for receiver, times in sorted(counted.latency_seconds.items()):
            yield from _histogram(family, times, receiver=receiver)


def _differ(groups: Sequence[object], before: Sequence[object]) -> bool:
    return len(groups) != len(before) or any(map(is_not, groups, before))


def _told_apart(alerts: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """(name, severity) of (severity, name): beyond so many names the counts are of all others."""
    names = set([*dict.fromkeys(name for _, name in alerts)][:MAX_ALERTS])
    return sorted({(name if name in names else OTHER, severity) for severity, name in alerts})


def _counts_of_alerts(
    counted: IncidentStatistics, known: Sequence[tuple[str, str]], families: Families
) -> Iterator[Sample]:
    for name, counts in (
        ("tocsin_incidents_opened_total", counted.opened),
        ("tocsin_incidents_unanswered_total", counted.unanswered),
    ):
        for alert, severity in sorted({*known, *counts}):
            own = labels(alertname=alert, severity=severity)
            yield Sample(families[name], counts[alert, severity], own)
    for alert in sorted({*(alert for alert, _ in known), *counted.reopened}):
        family = families["tocsin_incidents_reopened_total"]
        yield Sample(family, counted.reopened[alert], labels(alertname=alert))
    ends = {(alert, severity, how, "") for alert, severity in known for how in HOWS}
    for end in sorted(ends | counted.resolved.keys()):
        alert, severity, how, cause = end
        own = labels(alertname=alert, severity=severity, how=how, cause=cause)
        yield Sample(families["tocsin_incidents_resolved_total"], counted.resolved[end], own)


def _by_severity(counted: IncidentStatistics, families: Families) -> Iterator[Sample]:
    for name, counts in (
        ("tocsin_incident_recover_breaches_total", counted.breaches),
        ("tocsin_incident_escalations_total", counted.escalations),
    ):
        for severity in Severity:
            yield Sample(families[name], counts[severity.value], labels(severity=severity.value))
    for name, times in (
        ("tocsin_incident_ack_seconds", counted.ack_seconds),
        ("tocsin_incident_duration_seconds", counted.duration_seconds),
    ):
        for severity in Severity:
            one = times.get(severity.value) or Histogram()
            yield from _histogram(families[name], one, severity=severity.value)


def _histogram(family: Family, times: Histogram, **own: str) -> Iterator[Sample]:
    for bound, count in zip(times.bounds_s, times.buckets, strict=True):
        yield Sample(family, count, labels(le=f"{bound:g}", **own), _BUCKET)
    yield Sample(family, times.count, labels(le="+Inf", **own), _BUCKET)
    yield Sample(family, times.sum, labels(**own), _SUM)
    yield Sample(family, times.count, labels(**own), _COUNT)
