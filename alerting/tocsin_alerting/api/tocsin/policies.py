"""`/api/v1/policies` and `/api/v1/route`: who would be notified, by what, when."""

from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.times import calendar_ms
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationPolicy, Recipient
from tocsin_alerting.incidents.forecast import ExpectedPage, Forecast, forecast
from tocsin_alerting.incidents.roster import Roster, resolve
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.time_format import rfc3339

_MAX_LABELS = 200


def routes(dispatcher: Dispatcher, now_ms: Callable[[], int]) -> list[Route]:
    def at(request: Request) -> int:
        text = request.query_params.get("at")
        return calendar_ms(text, "at") if text else now_ms()

    async def policies(request: Request) -> Response:
        config, at_ms = dispatcher.working.config, at(request)
        shown = [_policy_json(policy, config.roster, at_ms) for policy in config.policies.values()]
        return success({"at": rfc3339(at_ms), "policies": shown})

    async def route(request: Request) -> Response:
        labels, at_ms = labels_of(request.query_params.getlist("label")), at(request)
        return success(
            forecast_json(labels, at_ms, forecast(labels, at_ms, dispatcher.working.config))
        )

    return [get_route("/api/v1/policies", policies), get_route("/api/v1/route", route)]


def forecast_json(labels: dict[str, str], at_ms: int, expected: Forecast) -> dict[str, Any]:
    """`severity` null: nobody is paged."""
    return {
        "labels": labels,
        "at": rfc3339(at_ms),
        "severity": expected.severity,
        "policy": expected.policy,
        "routes": expected.routes,
        "group": dict(expected.group),
        "pages": pages_json(expected.pages, at_ms),
        "complete": expected.complete,
    }


def pages_json(pages: Iterable[ExpectedPage], at_ms: int) -> list[dict[str, Any]]:
    return [_page_json(page, at_ms) for page in pages]


def labels_of(texts: Iterable[str]) -> dict[str, str]:
    """Of `name=value`. Raises ApiError."""
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ApiError("bad_data", f'"{text[:100]}" is no label; write it like severity=P0')
        labels[name] = value
    if len(labels) > _MAX_LABELS:
        raise ApiError("bad_data", f"more than {_MAX_LABELS} labels")
    return labels


def _page_json(page: ExpectedPage, from_ms: int) -> dict[str, Any]:
    return {
        "at": rfc3339(page.at_ms),
        "after_ms": page.at_ms - from_ms,
        "reason": page.reason,
        "step": page.step,
        "to": [_addressee_json(addressee) for addressee in page.addressees],
    }


def _addressee_json(addressee: Addressee) -> dict[str, str]:
    return {"receiver": addressee.receiver, "contact": addressee.contact}


def _policy_json(policy: EscalationPolicy, roster: Roster, at_ms: int) -> dict[str, Any]:
    named = Severity.__members__.get(policy.name)
    severity = named or Severity.P2

    def notified(recipients: tuple[Recipient, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": str(recipient),
                "to": [
                    _addressee_json(each) for each in resolve([recipient], roster, at_ms, severity)
                ],
            }
            for recipient in recipients
        ]

    final, ack = policy.final, policy.ack
    return {
        "name": policy.name,
        "group_wait_ms": policy.group_wait_ms,
        "recover_within_ms": policy.recover_within_ms,
        "steps": [
            {"notify": notified(step.notify), "escalate_after_ms": step.escalate_after_ms}
            for step in policy.steps
        ],
        "repeat": policy.repeat,
        "final": final
        and {
            "notify": notified(final.notify),
            "every_ms": final.every_ms,
            "for_ms": final.for_ms,
        },
        "ack": {
            "timeout_ms": ack.timeout_ms,
            "remind_ms": ack.remind_ms,
            "on_timeout": ack.on_timeout,
        },
        "snooze_max_ms": policy.snooze_max_ms,
        "re_raise_after_ms": policy.re_raise_after_ms,
    }
