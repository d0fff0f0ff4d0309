"""`/api/v1/rules` and `/api/v1/alerts`, in the shapes that Grafana reads from a Prometheus."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.annotations import absolute_links
from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.prometheus.encoding import unix_seconds
from tocsin_alerting.api.prometheus.params import selector_param, whole_number
from tocsin_alerting.incidents.external_alerts import ExternalAlert
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_alerting.strconv import exponent
from tocsin_alerting.time_format import rfc3339, rfc3339_nano

Progress = Callable[[], Sequence[GroupState]]
_IN_A_SLICE = 100  # some 2 ms
_TYPES = {"alert": "alerting", "record": "recording", "": ""}


def routes(
    groups: Progress,
    external_url: str = "",
    monotonic: Callable[[], float] | None = None,
    external: Iterable[ExternalAlert] = (),
) -> list[Route]:
    """`groups` gives the state of every rule group as it is now; annotations that link to the
    agent link below `external_url`. By `monotonic`, in seconds, who asks at once shares an answer.
    `external` are the alerts of other senders.
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
            active = [(group, one) for group in groups() for one in _active(group.rules)]
            ours = await _alerts(active, external_url)
            return success({"alerts": ours + await _external_rows(external, external_url)})

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
        "rules": [
            await _rule(progress, rule, chosen) for rule in progress.rules if chosen.has_rule(rule)
        ],
        "interval": unix_seconds(progress.interval_ms),
        "limit": group.limit,
        "evaluationTime": progress.evaluation_seconds,
        "lastEvaluation": rfc3339(progress.evaluated_ms),
    }


async def _rule(group: GroupState, progress: RuleState, chosen: _RuleFilter) -> dict[str, Any]:
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
    if progress.warnings:
        shown["warnings"] = list(progress.warnings)
    if rule.labels or isinstance(rule, AlertingRule):
        shown["labels"] = dict(rule.labels)
    if isinstance(rule, AlertingRule):
        shown |= {
            "state": progress.state or "unknown",
            "duration": unix_seconds(rule.for_ms),
            "keepFiringFor": unix_seconds(rule.keep_firing_for_ms),
            "annotations": absolute_links(dict(rule.annotations), chosen.external_url),
            "alerts": await _alerts(
                [(group, one) for one in _active([progress])], chosen.external_url
            )
            if chosen.alerts
            else [],
        }
    return shown


def _active(rules: Iterable[RuleState]) -> Iterator[Alert]:
    """An alert that has resolved is remembered, not shown."""
    for rule in rules:
        for alert in rule.standing.values():
            if alert.state is not AlertState.INACTIVE:
                yield alert


async def _alerts(
    alerts: Iterable[tuple[GroupState, Alert]], external_url: str
) -> list[dict[str, Any]]:
    """Made with a turn of the loop after every few."""
    rows: list[dict[str, Any]] = []
    for number, (group, alert) in enumerate(alerts, 1):
        rows.append(_alert(alert, external_url, group.nanoseconds))
        if number % _IN_A_SLICE == 0:
            await asyncio.sleep(0)
    return rows


async def _external_rows(
    alerts: Iterable[ExternalAlert], external_url: str
) -> list[dict[str, Any]]:
    """With their sender in `origin`; `unknown` is one that its sender no longer sends."""
    rows: list[dict[str, Any]] = []
    for number, external in enumerate(list(alerts), 1):
        state = {} if external.unknown_since_ms is None else {"state": "unknown"}
        own = _alert(external.as_alert(), external_url)
        rows.append({**own, **state, "origin": external.origin})
        if number % _IN_A_SLICE == 0:
            await asyncio.sleep(0)
    return rows


def _milliseconds(at_ms: int) -> int:
    return at_ms * 1_000_000


def _alert(
    alert: Alert, external_url: str, nanoseconds: Callable[[int], int] = _milliseconds
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "labels": dict(alert.labels),
        "annotations": absolute_links(dict(alert.annotations), external_url),
        "state": alert.state,
        "activeAt": rfc3339_nano(nanoseconds(alert.active_at_ms)),
        "value": exponent(alert.value),
    }
    if alert.keep_firing_since_ms is not None:
        shown["keepFiringSince"] = rfc3339_nano(nanoseconds(alert.keep_firing_since_ms))
    return shown


@dataclass(frozen=True, slots=True)
class RulePage:
    """At most `limit` groups, from the one that `token` names on; 0 is all of them."""

    limit: int
    token: str

    def cut(self, groups: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The groups of this page, and where the next begins if there is one.

        Raises ApiError when the page began at a group that is gone.
        """
        every = list(groups)
        tokens = [_token(group["file"], group["name"]) for group in every]
        if self.token and self.token not in tokens:
            gone = f"invalid group_next_token '{self.token}'. were rule groups changed?"
            raise _invalid("group_next_token", gone)
        first = tokens.index(self.token) if self.token else 0
        end = first + self.limit if self.limit else len(every)
        page: dict[str, Any] = {"groups": every[first:end]}
        return page | {"groupNextToken": tokens[end]} if end < len(every) else page


def rule_page(parameters: QueryParams) -> RulePage:
    """Raises ApiError for a limit that is none."""
    limit, token = parameters.get("group_limit", ""), parameters.get("group_next_token", "")
    if not limit and token:
        why = "group_limit needs to be present in order to paginate over the groups"
        raise _invalid("group_next_token", why)
    most = whole_number(limit or "1")
    if most is None:
        why = f'group_limit needs to be a valid number, not "{limit}"'
        raise _invalid("group_limit", why)
    if most <= 0:
        raise _invalid("group_limit", "group_limit needs to be greater than 0")
    return RulePage(most if limit else 0, token)


def _invalid(name: str, why: str) -> ApiError:
    return ApiError("bad_data", f'invalid parameter "{name}": {why}')


def _token(file: str, group: str) -> str:
    return sha1(f"{file};{group}".encode(), usedforsecurity=False).hexdigest()
