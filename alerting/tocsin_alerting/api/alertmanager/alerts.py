"""`GET /api/v2/alerts` and `/alerts/groups`: all that fires, by our rules and by others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import re2
from starlette.requests import Request
from starlette.responses import Response

from tocsin_alerting.annotations import absolute_links
from tocsin_alerting.api.alertmanager.alert_status import AlertStatuses
from tocsin_alerting.api.alertmanager.endpoint import Refused, as_json, flag
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.alertmanager.routing_tree import receivers_of
from tocsin_alerting.incidents.alert_matcher import (
    AlertMatcher,
    InvalidMatcher,
    Pattern,
    all_match,
    parse_matcher,
)
from tocsin_alerting.incidents.external_alerts import EXTERNAL, ExternalAlert
from tocsin_alerting.incidents.grouping import alert_group
from tocsin_alerting.incidents.incident import ENDED_CONDITIONS, Condition, Incident
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.time_format import rfc3339
from tocsin_exporter.snapshot import Labels

UNKNOWN_NOTE = "state_unknown"  # the annotation that says since when nobody can tell
_IN_A_SLICE = 100  # some milliseconds
Shown = dict[str, Any]
Progress = Callable[[], Sequence[GroupState]]
"""The state of every rule group as it is now."""


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """One alert as it stands now; `incident` None: it pages nobody (severity none)."""

    alert: Alert
    unknown: bool
    incident: Incident | None
    said: ExternalAlert | None  # by its sender, last


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts were asked for."""

    matchers: tuple[AlertMatcher, ...]
    receiver: Pattern | None
    active: bool
    silenced: bool
    inhibited: bool
    muted: bool

    def shows(self, status: Mapping[str, Any]) -> bool:
        return (
            (self.active or status["state"] != "active")
            and (self.silenced or not status["silencedBy"])
            and (self.inhibited or not status["inhibitedBy"])
            and (self.muted or not status["mutedBy"])
        )

    def has_receiver(self, name: str) -> bool:
        return self.receiver is None or self.receiver.fullmatch(name) is not None


def read_filter(request: Request) -> AlertFilter:
    """Raises Refused."""
    pattern = request.query_params.get("receiver")
    return AlertFilter(
        matchers=matchers_asked(request),
        receiver=None if pattern is None else _pattern(pattern),
        active=flag(request, "active"),
        silenced=flag(request, "silenced"),
        inhibited=flag(request, "inhibited"),
        muted=flag(request, "muted"),
    )


def matchers_asked(request: Request) -> tuple[AlertMatcher, ...]:
    """Those of the parameter `filter`, which may be repeated. Raises Refused."""
    return tuple(map(_matcher, request.query_params.getlist("filter")))


def _matcher(text: str) -> AlertMatcher:
    try:
        return parse_matcher(text)
    except InvalidMatcher as error:
        raise Refused(400, f"bad matcher format: {text[:200]}: {error.why}") from None


def _pattern(text: str) -> Pattern:
    options = re2.Options()
    options.log_errors = False
    try:
        return cast(Pattern, re2.compile(text, options))
    except re2.error as error:
        why = f"failed to parse receiver param: error parsing regexp: {error}"
        raise Refused(400, why) from None


class AlertView:
    """Links to the agent lead below `external_url`."""

    def __init__(self, intake: AlertIntake, groups: Progress, external_url: str) -> None:
        self._working, self._now_ms = intake.dispatcher.working, intake.now_ms
        self._groups, self._external_url = groups, external_url
        self._resolve_timeout_ms = intake.resolve_timeout_ms
        self._one_at_a_time = asyncio.Lock()  # thousands of alerts take many turns of the loop

    async def alerts(self, request: Request) -> Response:
        """Sorted by fingerprint, as Alertmanager does."""
        chosen = read_filter(request)
        async with self._one_at_a_time:
            shown = [row async for _, row in self._rows(chosen)]
        return as_json(sorted(shown, key=lambda row: str(row["fingerprint"])))

    async def groups(self, request: Request) -> Response:
        """One for each incident and receiver."""
        chosen = read_filter(request)
        groups: dict[tuple[Labels, str], list[Shown]] = {}
        async with self._one_at_a_time:
            async for active, row in self._rows(chosen):
                for receiver in row["receivers"]:
                    if chosen.has_receiver(receiver["name"]):
                        key = self._group_labels(active), receiver["name"]
                        groups.setdefault(key, []).append(row)
        return as_json([_group(*key, groups[key]) for key in sorted(groups)])

    def _group_labels(self, active: ActiveAlert) -> Labels:
        if active.incident is not None:
            return active.incident.group_labels
        return alert_group(self._working.config, dict(active.alert.labels)).labels

    async def _rows(self, chosen: AlertFilter) -> AsyncIterator[tuple[ActiveAlert, Shown]]:
        """Those that are asked for, with a turn of the loop after every few. Incidents do not
        change, others take their place: each is shown as it was when its turn came."""
        statuses = AlertStatuses(self._working)
        for number, active in enumerate(self._active(), 1):
            if number % _IN_A_SLICE == 0:
                await asyncio.sleep(0)
            labels = dict(active.alert.labels)
            receivers = receivers_of(self._working.config, labels)
            if all_match(chosen.matchers, labels) and any(map(chosen.has_receiver, receivers)):
                status = statuses.of(active.alert, active.incident)
                if chosen.shows(status):
                    yield active, self._row(active, labels, receivers, status)

    def _active(self) -> Iterator[ActiveAlert]:
        external, shown = self._working.external, set[str]()
        for incident in list(self._working.incidents.values()):
            for name, member in incident.members.items():
                if member.source not in ENDED_CONDITIONS:
                    shown.add(name)
                    said = _last_said(external.of(name).values())
                    unknown = member.source is Condition.UNKNOWN
                    yield ActiveAlert(member.alert, unknown, incident, said)
        for said in list(external):
            if said.fingerprint not in shown:
                shown.add(said.fingerprint)
                yield ActiveAlert(said.as_alert(), said.unknown_since_ms is not None, None, said)
        for alert in list(self._firing_by_rules()):
            if alert.fingerprint not in shown:
                yield ActiveAlert(alert, False, None, None)

    def _firing_by_rules(self) -> Iterator[Alert]:
        for group in self._groups():
            for rule in group.rules:
                yield from (a for a in rule.alerts.values() if a.state is AlertState.FIRING)

    def _row(
        self, active: ActiveAlert, labels: Mapping[str, str], names: Sequence[str], status: Shown
    ) -> Shown:
        alert, said, now_ms = active.alert, active.said, self._now_ms()
        annotations = absolute_links(
            dict(said.annotations if said else alert.annotations), self._external_url
        )
        if active.unknown:
            annotations = {**annotations, UNKNOWN_NOTE: _unknown_text(active)}
        started_ms = said.starts_at_ms if said else alert.fired_at_ms or alert.active_at_ms
        row: Shown = {
            "annotations": annotations,
            "endsAt": rfc3339(said.ends_at_ms if said else now_ms + self._resolve_timeout_ms),
            "fingerprint": alert.fingerprint,
            "receivers": [{"name": name} for name in names],
            "startsAt": rfc3339(started_ms),
            "status": status,
            "updatedAt": rfc3339(said.updated_at_ms if said else now_ms),
            "labels": labels,
        }
        if said is not None and said.generator_url:
            row["generatorURL"] = said.generator_url
        return row


def _last_said(alerts: Iterable[ExternalAlert]) -> ExternalAlert | None:
    return max(alerts, key=lambda alert: alert.updated_at_ms, default=None)


def _unknown_text(active: ActiveAlert) -> str:
    said = active.said
    if said is None or said.unknown_since_ms is None:
        return "unknown: nobody can tell whether it still fires"
    sender = said.origin.removeprefix(EXTERNAL)
    return f"unknown: {sender} has not sent it since {rfc3339(said.updated_at_ms)}"


def _group(labels: Labels, receiver: str, alerts: Sequence[Shown]) -> Shown:
    return {
        "alerts": sorted(alerts, key=lambda row: str(row["fingerprint"])),
        "labels": dict(labels),
        "receiver": {"name": receiver},
    }
