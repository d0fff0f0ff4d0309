"""`/api/v1/incidents`: what people are told about, and what they do about it."""

import re
import sys
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError, success
from tocsin_alerting.api.body import body
from tocsin_alerting.api.encoding import number
from tocsin_alerting.api.guard import Guard
from tocsin_alerting.api.times import time_ms
from tocsin_alerting.incidents.action import Action, Verb
from tocsin_alerting.incidents.answers import re_raise_after_ms
from tocsin_alerting.incidents.composition import title
from tocsin_alerting.incidents.desk import OPEN_STATES, Desk
from tocsin_alerting.incidents.errors import Conflict, NoSuchIncident
from tocsin_alerting.incidents.incident import Incident, State, began_ms
from tocsin_alerting.incidents.journal import NO_NUMBER
from tocsin_alerting.incidents.story import Story
from tocsin_alerting.notify.links import shown_links

_STATES = {"open": OPEN_STATES, "all": tuple(State)}
_MOST_BYTES = 64 << 10
_MOST_INCIDENTS = 1000  # in one answer
_MOST_ALERTS = 100  # of an incident in a list; alone it is shown with all of them
_NUMBER = re.compile(r"[0-9]{1,18}")


def routes(
    desk: Desk, guard: Guard, now_ms: Callable[[], int], external_url: str = ""
) -> list[Route]:
    """Lists, one incident with its history, and the actions of `Verb` as POST; annotations that
    link to the agent link below `external_url`."""

    async def listed(request: Request) -> Response:
        name = request.query_params.get("state", "open")
        states = _STATES.get(name) or tuple(s for s in State if s == name.upper())
        if not states:
            raise ApiError("bad_data", f'state is "{name}"; it may be open, all or a state')
        limit, below = _page(request)
        found = await desk.incidents(states, limit + 1, below)
        page = [shown(one, external_url, _MOST_ALERTS) for one in found[:limit]]
        cursor = str(found[limit - 1].number) if len(found) > limit else None
        return success({"incidents": page, "next": cursor})

    async def one(request: Request) -> Response:
        return success(told(await _or_not_found(desk, _number(request)), external_url))

    async def act(request: Request) -> Response:
        guard(request)
        action = await _action(request)
        try:
            return success(shown(await desk.act(action, now_ms()), external_url))
        except NoSuchIncident as error:
            raise ApiError("not_found", str(error)) from None
        except Conflict as error:
            raise ApiError("conflict", str(error)) from None

    return [
        Route("/api/v1/incidents", listed),
        Route("/api/v1/incidents/{number}", one),
        Route("/api/v1/incidents/{number}/{verb}", act, methods=["POST"]),
    ]


def _page(request: Request) -> tuple[int, int]:
    """How many at most, and below which number: `cursor` is the `next` of the page before."""
    limit = request.query_params.get("limit", str(_MOST_INCIDENTS))
    cursor = request.query_params.get("cursor", "")
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= _MOST_INCIDENTS:
        raise ApiError("bad_data", f'limit is "{limit[:40]}"; it may be 1 to {_MOST_INCIDENTS}')
    if cursor and not _NUMBER.fullmatch(cursor):
        raise ApiError("bad_data", f'cursor is "{cursor[:40]}"; it must be the next of an answer')
    return int(limit), int(cursor) if cursor else NO_NUMBER


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not _NUMBER.fullmatch(text):
        raise ApiError("not_found", f'there is no incident "{text[:40]}"; they have numbers')
    return int(text)


async def _or_not_found(desk: Desk, number: int) -> Story:
    try:
        return await desk.story(number)
    except NoSuchIncident as error:
        raise ApiError("not_found", str(error)) from None


async def _action(request: Request) -> Action:
    verb, sent = request.path_params["verb"], await _sent(request)
    if verb not in list(Verb):
        raise ApiError("not_found", f'no such action: "{verb}"; there are {", ".join(Verb)}')
    until, step = sent.get("until"), sent.get("step")
    if verb == Verb.SNOOZE and not until:
        raise ApiError("bad_data", 'say how long: "until" as Unix seconds or RFC 3339')
    if step is not None and type(step) is not int:
        raise ApiError("bad_data", '"step" is the number of a step, from 0')
    return Action(
        Verb(verb),
        _number(request),
        actor=_text(sent, "by") or "somebody",
        note=_text(sent, "note"),
        request_id=_text(sent, "request_id"),
        step=step,
        until_ms=time_ms(str(until), "until") if until else None,
        false_positive=sent.get("false_positive") is True,
    )


async def _sent(request: Request) -> Mapping[str, Any]:
    """The JSON object or the form that was sent; an empty body is an empty object."""
    content = await body(request, _MOST_BYTES)
    if "form" in request.headers.get("content-type", ""):
        return dict(parse_qsl(content.decode("utf-8", "replace")))
    try:
        found = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiError("bad_data", f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ApiError("bad_data", "the body is not a JSON object")
    return found


def _text(sent: Mapping[str, Any], name: str) -> str:
    value = sent.get(name, "")
    if not isinstance(value, str):
        raise ApiError("bad_data", f'"{name}" is not text')
    return value[:1000]


def shown(
    incident: Incident, external_url: str = "", most_alerts: int | None = None
) -> dict[str, Any]:
    """One incident as lists show it; times are Unix milliseconds. `alert_count` counts all alerts,
    also those that `most_alerts` leaves out of `alerts`."""
    return {
        "number": incident.number,
        "title": title(incident),
        "severity": incident.severity,
        "state": incident.state,
        "source": incident.source,
        "labels": dict(incident.group_labels),
        "owner": incident.owner,
        "muted_by": sorted(incident.muted_by),
        "policy": incident.policy.name,
        "step": incident.step,
        "loop": incident.loop,
        "exhausted": incident.exhausted,
        "began_at_ms": _began_ms(incident),
        "opened_at_ms": incident.opened_at_ms,
        "acked_at_ms": incident.acked_at_ms,
        "resolved_at_ms": incident.resolved_at_ms,
        "closed_by_hand": incident.closed_by_hand,
        "raised_again_at_ms": _raised_again_at_ms(incident),
        "alerts": [
            {
                "labels": dict(member.alert.labels),
                "annotations": shown_links(dict(member.alert.annotations), external_url),
                "source": member.source,
                "value": number(member.alert.value),
                "since_ms": member.since_ms,
            }
            for member in islice(incident.members.values(), most_alerts)
        ],
        "alert_count": len(incident.members),
    }


def _began_ms(incident: Incident) -> int:
    """When its condition began to hold, which is before it opened if its rule waits."""
    began = began_ms(incident, incident.resolved_at_ms or sys.maxsize)
    return incident.opened_at_ms if began is None else began


def _raised_again_at_ms(incident: Incident) -> int | None:
    """When what was closed by hand is raised again if it still fires."""
    if not incident.closed_by_hand or incident.resolved_at_ms is None:
        return None
    return incident.resolved_at_ms + re_raise_after_ms(incident)


def told(story: Story, external_url: str = "") -> dict[str, Any]:
    """One incident with everything that happened and will happen."""
    return shown(story.incident, external_url) | {
        "history": [
            {"at_ms": e.at_ms, "event": e.event, "actor": e.actor, "data": e.data}
            for e in story.history
        ],
        "timers": [{"kind": t.kind, "due_at_ms": t.due_at_ms} for t in story.timers],
        "messages": [
            {
                "key": m.key,
                "receiver": m.notification.receiver,
                "contact": m.notification.contact,
                "reason": m.notification.reason,
                "state": m.state,
                "attempts": m.attempts,
                "last_error": m.last_error,
            }
            for m in story.messages
        ],
    }
