"""`/api/v1/incidents/N/why`: the rules that opened it, where they stand, and what they compare."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.annotations import absolute_links
from tocsin_alerting.api.http.envelope import success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.prometheus.encoding import format_value
from tocsin_alerting.api.tocsin.incidents import incident_brief, incident_number, incident_story
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.incident import Member
from tocsin_alerting.incidents.notification import worst_first
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.rules.alert import rules_origin
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.rules.threshold import comparison
from tocsin_alerting.time_format import rfc3339

_MOST_ALERTS = 20  # the worst ones


def routes(
    dispatcher: Dispatcher, groups: Callable[[], Sequence[GroupState]], external_url: str = ""
) -> list[Route]:
    """`groups` are the rules as they are loaded now."""

    async def why(request: Request) -> Response:
        story = await incident_story(dispatcher, incident_number(request.path_params["number"]))
        incident = story.incident
        members = worst_first(incident, dispatcher.working.config, _MOST_ALERTS)
        alerts = [_alert(member, groups(), external_url) for member in members]
        return success(
            {
                "incident": incident_brief(incident, dispatcher, external_url),
                "alerts": alerts,
                "alert_count": len(incident.members),
            }
        )

    return [get_route("/api/v1/incidents/{number}/why", why)]


def _alert(member: Member, groups: Sequence[GroupState], external_url: str) -> dict[str, Any]:
    alert = member.alert
    found = rule_of(member, groups)
    return {
        "labels": dict(alert.labels),
        "annotations": absolute_links(dict(alert.annotations), external_url),
        "source": member.source,
        "value": format_value(alert.value),
        "active_at": rfc3339(alert.active_at_ms),
        "rule": found and _rule(*found),
    }


def rule_of(member: Member, groups: Sequence[GroupState]) -> tuple[GroupState, AlertingRule] | None:
    """Of equal names in several files the one that says so; none where it is gone."""
    return next(_rules(member, groups), None)


def _rules(
    member: Member, groups: Sequence[GroupState]
) -> Iterator[tuple[GroupState, AlertingRule]]:
    uid = member.alert.rule
    for group in groups:
        ours = not member.origins or rules_origin(group.group.file, uid) in member.origins
        for state in group.rules if ours else ():
            if isinstance(state.rule, AlertingRule) and state.rule.uid == uid:
                yield group, state.rule


def _rule(group: GroupState, rule: AlertingRule) -> dict[str, Any]:
    compared = comparison(rule.query)
    limit = compared.limit
    return {
        "name": rule.name,
        "file": rule.place.file or group.group.file,
        "line": rule.place.line,
        "group": group.group.name,
        "query": print_expr(rule.query),
        "for_seconds": rule.for_ms / 1000,
        "measured": print_expr(compared.measured),
        "operator": compared.op,
        "threshold": format_value(limit) if isinstance(limit, float) else None,
        "threshold_query": (
            None if limit is None or isinstance(limit, float | int) else print_expr(limit)
        ),
    }
