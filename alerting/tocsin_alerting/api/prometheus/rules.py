"""`/api/v1/rules` and `/api/v1/alerts`, in the shapes that Grafana reads from a Prometheus."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.times import rfc3339
from tocsin_alerting.api.prometheus.encoding import unix_seconds
from tocsin_alerting.api.prometheus.params import selector_param
from tocsin_alerting.api.prometheus.rule_pagination import rule_page
from tocsin_alerting.notify.annotation_links import absolute_links
from tocsin_alerting.promql.parser.numbers import exponent
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import GroupState, RuleState

Progress = Callable[[], Sequence[GroupState]]
_IN_A_SLICE = 100  # some 2 ms
_TYPES = {"alert": "alerting", "record": "recording", "": ""}


def routes(
    groups: Progress, external_url: str = "", monotonic: Callable[[], float] | None = None
) -> list[Route]:
    """`groups` gives the state of every rule group as it is now; annotations that link to the
    agent link below `external_url`. By `monotonic`, in seconds, who asks at once shares an answer.
    """
    one_at_a_time = asyncio.Lock()  # thousands of alerts take many turns of the loop

    async def rules(request: Request) -> Response:
        kind = request.query_params.get("type", "")
        if kind not in _TYPES:
            raise ApiError("bad_data", f'invalid parameter "type": not supported value "{kind}"')
        chosen = _RuleFilter(request, _TYPES[kind], external_url)
        turned = rule_page(request.query_params)
        async with one_at_a_time:
            shown = [
                await _group(progress, chosen)
                for progress in groups()
                if chosen.has_group(progress)
            ]
        return success(
            turned.cut(group for group in shown if group["rules"] or chosen.is_unfiltered)
        )

    async def alerts(request: Request) -> Response:
        async with one_at_a_time:
            return success({"alerts": await _alerts(_active(groups()), external_url)})

    return [
        get_route("/api/v1/rules", rules, shared_by=monotonic),
        get_route("/api/v1/alerts", alerts, shared_by=monotonic),
    ]


class _RuleFilter:
    """Which groups and rules were asked for, and where their links lead."""

    def __init__(self, request: Request, kind: str, external_url: str) -> None:
        self.kind = kind
        self.external_url = external_url
        self.names = set(request.query_params.getlist("rule_name[]"))
        self.groups = set(request.query_params.getlist("rule_group[]"))
        self.files = set(request.query_params.getlist("file[]"))
        texts = request.query_params.getlist("match[]")
        self.matcher_sets = [
            matchers for text in texts for matchers in selector_param(text, "match[]")
        ]
        self.alerts = request.query_params.get("exclude_alerts", "false") != "true"

    @property
    def is_unfiltered(self) -> bool:
        return not (self.kind or self.names or self.matcher_sets)

    def has_group(self, progress: GroupState) -> bool:
        group = progress.group
        fits = not self.groups or group.name in self.groups
        return fits and (not self.files or group.file in self.files)

    def has_rule(self, progress: RuleState) -> bool:
        fits = not self.names or progress.rule.name in self.names
        fits = fits and (not self.matcher_sets or self._matches(dict(progress.rule.labels)))
        return fits and (not self.kind or self.kind == _type(progress))

    def _matches(self, labels: Mapping[str, str]) -> bool:
        """Only the labels that the rule itself gives count, as they stand in the file."""
        return any(
            all(matcher.matches(labels.get(matcher.name, "")) for matcher in every)
            for every in self.matcher_sets
        )


def _type(progress: RuleState) -> str:
    return "alerting" if isinstance(progress.rule, AlertingRule) else "recording"


async def _group(progress: GroupState, chosen: _RuleFilter) -> dict[str, Any]:
    group = progress.group
    return {
        "name": group.name,
        "file": group.file,
        "rules": [await _rule(rule, chosen) for rule in progress.rules if chosen.has_rule(rule)],
        "interval": unix_seconds(progress.interval_ms),
        "limit": group.limit,
        "evaluationTime": progress.evaluation_seconds,
        "lastEvaluation": rfc3339(progress.evaluated_ms),
    }


async def _rule(progress: RuleState, chosen: _RuleFilter) -> dict[str, Any]:
    rule = progress.rule
    shown: dict[str, Any] = {
        "name": rule.name,
        "query": print_expr(rule.query),
        "health": progress.health,
        "evaluationTime": progress.evaluation_seconds,
        "lastEvaluation": rfc3339(progress.evaluated_ms),
        "type": _type(progress),
    }
    if progress.last_error:
        shown["lastError"] = progress.last_error
    if rule.labels or isinstance(rule, AlertingRule):
        shown["labels"] = dict(rule.labels)
    if isinstance(rule, AlertingRule):
        shown |= {
            "state": progress.state or "unknown",
            "duration": unix_seconds(rule.for_ms),
            "keepFiringFor": unix_seconds(rule.keep_firing_for_ms),
            "annotations": absolute_links(dict(rule.annotations), chosen.external_url),
            "alerts": await _alerts(_visible(progress.alerts.values()), chosen.external_url)
            if chosen.alerts
            else [],
        }
    return shown


def _active(groups: Iterable[GroupState]) -> Iterator[Alert]:
    for group in groups:
        for rule in group.rules:
            yield from _visible(rule.alerts.values())


def _visible(alerts: Iterable[Alert]) -> Iterator[Alert]:
    """An alert that has resolved is remembered, not shown."""
    return (alert for alert in alerts if alert.state is not AlertState.INACTIVE)


async def _alerts(alerts: Iterable[Alert], external_url: str) -> list[dict[str, Any]]:
    """Those that there are now, made with a turn of the loop after every few."""
    rows: list[dict[str, Any]] = []
    for number, alert in enumerate(list(alerts), 1):
        rows.append(_alert(alert, external_url))
        if number % _IN_A_SLICE == 0:
            await asyncio.sleep(0)
    return rows


def _alert(alert: Alert, external_url: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "labels": dict(alert.labels),
        "annotations": absolute_links(dict(alert.annotations), external_url),
        "state": alert.state,
        "activeAt": rfc3339(alert.active_at_ms),
        "value": exponent(alert.value),
    }
    if alert.keep_firing_since_ms is not None:
        shown["keepFiringSince"] = rfc3339(alert.keep_firing_since_ms)
    return shown
