"""`POST /api/v1/drill`: page for real, to see that it works, and say that it is a drill."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError, not_on_disk, success
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute, actor
from tocsin_alerting.api.http.tokens import digest
from tocsin_alerting.api.tocsin.policies import pages_json
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.drills import OWN_LABELS, Drill, open_drill
from tocsin_alerting.incidents.forecast import expected_pages
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.time_format import read_duration, rfc3339
from tocsin_alerting.yaml_document import did_you_mean

LASTS_MS, SHORTEST_MS, LONGEST_MS = 30 * 60_000, 10_000, 24 * 3_600_000
_MOST_BYTES, _MOST_LABELS, _MOST_TEXT = 1 << 16, 100, 1000
_KEYS = ("severity", "policy", "labels", "for", "note", "by", "user", "request_id")


def routes(dispatcher: Dispatcher, guard: Guard, now_ms: Callable[[], int]) -> list[Route]:
    async def drill(request: Request) -> Response:
        who, body = guard(request), await _body(request)
        by = actor(who, _text(body, "by"), _text(body, "user"))
        at_ms, config = now_ms(), dispatcher.working.config
        wanted = _drill(body, by, at_ms)
        try:
            pages, _ = expected_pages(open_drill(1, wanted, at_ms, config), at_ms, config)
        except KeyError:
            hint = did_you_mean(wanted.policy, config.policies)
            why = f'no policy is called "{wanted.policy[:80]}"{hint}'
            raise ApiError("bad_data", why) from None
        number = await dispatcher.drills.begin(wanted, at_ms)
        writer = dispatcher.writer
        return success(
            {
                "incident": number,
                "severity": wanted.severity.value,
                "policy": wanted.policy_in(config).name,
                "ends_at": rfc3339(wanted.ends_at_ms),
                "pages": pages_json(
                    (page for page in pages if page.at_ms < wanted.ends_at_ms), at_ms
                ),
            },
            [not_on_disk(writer.last_error)] if writer.down else [],
        )

    return [RoleRoute("/api/v1/drill", drill, Role.RESPOND, ["POST"])]


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await read_body(request, _MOST_BYTES))
    except orjson.JSONDecodeError as error:
        raise ApiError("bad_data", f"request body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiError("bad_data", "request body is no JSON object")
    if unknown := [key for key in body if key not in _KEYS]:
        hint = did_you_mean(unknown[0], _KEYS)
        raise ApiError("bad_data", f'"{unknown[0][:80]}" means nothing here{hint}')
    return body


def _drill(body: Mapping[str, Any], by: str, now_ms: int) -> Drill:
    severity, request_id = _text(body, "severity"), _text(body, "request_id")
    if severity not in Severity.__members__:
        raise ApiError("bad_data", f"severity must be one of {', '.join(Severity)}")
    return Drill(
        id=(digest(request_id) if request_id else secrets.token_hex(4))[:8],
        severity=Severity(severity),
        labels=_labels(body.get("labels", {})),
        ends_at_ms=now_ms + _lasts_ms(_text(body, "for")),
        started_by=by,
        policy=_text(body, "policy"),
        note=_text(body, "note"),
    )


def _lasts_ms(text: str) -> int:
    lasts_ms = read_duration(text) if text else LASTS_MS
    if lasts_ms is None or not SHORTEST_MS <= lasts_ms <= LONGEST_MS:
        raise ApiError("bad_data", "for must be a duration from 10s to 24h, like 30m")
    return lasts_ms


def _text(body: Mapping[str, Any], name: str) -> str:
    text = body.get(name) or ""
    if not isinstance(text, str) or len(text) > _MOST_TEXT:
        raise ApiError("bad_data", f"{name} must be a text of at most {_MOST_TEXT} characters")
    return text


def _labels(labels: object) -> dict[str, str]:
    texts = isinstance(labels, dict) and all(isinstance(value, str) for value in labels.values())
    if not texts or len(labels) > _MOST_LABELS:  # type: ignore[arg-type]
        raise ApiError("bad_data", f"labels must be at most {_MOST_LABELS} texts by their names")
    assert isinstance(labels, dict)
    if own := OWN_LABELS & labels.keys():
        raise ApiError("bad_data", f'the label "{min(own)}" is set by itself; leave it out')
    return labels
