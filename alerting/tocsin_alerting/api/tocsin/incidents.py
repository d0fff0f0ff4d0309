"""`/api/v1/incidents`: what people are told about, and what they do about it."""

import asyncio
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError, not_on_disk, success
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.times import time_ms
from tocsin_alerting.api.prometheus.encoding import format_value
from tocsin_alerting.incidents.actions import Action, Verb, re_raise_after_ms
from tocsin_alerting.incidents.dispatcher import OPEN_STATES, Dispatcher
from tocsin_alerting.incidents.errors import Conflict, NoSuchIncident
from tocsin_alerting.incidents.incident import Incident, IncidentState, began_ms
from tocsin_alerting.incidents.journal.protocol import NO_NUMBER
from tocsin_alerting.incidents.notification_builder import title, worst_first
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.timeline import IncidentTimeline
from tocsin_alerting.notify.annotation_links import absolute_links

_STATES = {"open": OPEN_STATES, "all": tuple(IncidentState)}
_MAX_BODY_BYTES = 64 << 10
_ALERTS_PER_SLICE = 50  # alerts, some milliseconds
_MAX_INCIDENTS = 1000  # in one answer
_MAX_ALERTS = 100  # of an incident in a list; alone it is shown with all of them
_NUMBER = re.compile(r"[0-9]{1,18}")
_NEWEST_ENDED = "9" * 18  # a cursor that leads to all of those that are over
_SEVERITY_CURSOR = re.compile(r"(P[0-4])-([0-9]{1,18})")  # a cursor among open ones, by severity


def routes(
    dispatcher: Dispatcher, guard: Guard, now_ms: Callable[[], int], external_url: str = ""
) -> list[Route]:
    """Lists, one incident with its history, and the actions of `Verb` as POST; annotations that
    link to the agent link below `external_url`."""
    one_at_a_time = asyncio.Lock()  # hundreds of incidents take many turns of the loop

    async def listed(request: Request) -> Response:
        name = request.query_params.get("state", "open")
        states = _STATES.get(name) or tuple(s for s in IncidentState if s == name.upper())
        if not states:
            raise ApiError("bad_data", f'state is "{name}"; it may be open, all or a state')
        order = request.query_params.get("order", "newest")
        if order not in _ORDERS:
            raise ApiError("bad_data", f'order is "{order[:40]}"; it may be {" or ".join(_ORDERS)}')
        cursor = request.query_params.get("cursor", "")
        incidents, following = await _ORDERS[order](dispatcher, states, _limit(request), cursor)
        async with one_at_a_time:
            page = await _page(incidents, dispatcher.working.config, external_url)
        still_open = sum(incident.is_open for incident in dispatcher.working.incidents.values())
        return success({"incidents": page, "next": following, "open": still_open})

    async def detail(request: Request) -> Response:
        story = await _incident_story(dispatcher, _number(request))
        recorded = {"recorded": not dispatcher.writer.incident_waits(story.incident.number)}
        return success(incident_detail(story, dispatcher.working.config, external_url) | recorded)

    async def act(request: Request) -> Response:
        guard(request)
        action = await _action(request)
        try:
            answered = await dispatcher.act(action, now_ms())
            waits = dispatcher.writer.incident_waits(answered.number)
            data = incident_summary(answered, dispatcher.working.config, external_url) | {
                "recorded": not waits
            }
            return success(data, [not_on_disk(dispatcher.writer.last_error)] if waits else ())
        except NoSuchIncident as error:
            raise ApiError("not_found", str(error)) from None
        except Conflict as error:
            raise ApiError("conflict", str(error)) from None

    return [
        Route("/api/v1/incidents", listed),
        Route("/api/v1/incidents/{number}", detail),
        Route("/api/v1/incidents/{number}/{verb}", act, methods=["POST"]),
    ]


async def _page(
    incidents: Iterable[Incident], config: IncidentConfig, external_url: str
) -> list[dict[str, Any]]:
    """Made with a turn of the loop after every few, or one with many alerts."""
    page: list[dict[str, Any]] = []
    alerts = 0
    for incident in incidents:
        page.append(incident_summary(incident, config, external_url, _MAX_ALERTS))
        alerts += 1 + len(incident.members)
        if alerts >= _ALERTS_PER_SLICE:
            await asyncio.sleep(0)
            alerts = 0
    return page


def _limit(request: Request) -> int:
    limit = request.query_params.get("limit", str(_MAX_INCIDENTS))
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= _MAX_INCIDENTS:
        raise ApiError("bad_data", f'limit is "{limit[:40]}"; it may be 1 to {_MAX_INCIDENTS}')
    return int(limit)


async def _newest(
    dispatcher: Dispatcher, states: Collection[IncidentState], limit: int, cursor: str
) -> tuple[list[Incident], str | None]:
    """A page of them, and where the next one begins."""
    if cursor and not _NUMBER.fullmatch(cursor):
        raise _invalid_cursor(cursor)
    incidents = await dispatcher.incidents(states, limit + 1, int(cursor) if cursor else NO_NUMBER)
    return incidents[:limit], str(incidents[limit - 1].number) if len(incidents) > limit else None


async def _worst(
    dispatcher: Dispatcher, states: Collection[IncidentState], limit: int, cursor: str
) -> tuple[list[Incident], str | None]:
    """The worst of the open ones first, of one severity the newest; then those that are over."""
    ended = [state for state in states if state not in OPEN_STATES]
    if _NUMBER.fullmatch(cursor):
        return await _newest(dispatcher, ended, limit, cursor)
    after = _SEVERITY_CURSOR.fullmatch(cursor)
    if cursor and not after:
        raise _invalid_cursor(cursor)
    place = (after[1], -int(after[2])) if after else ("", 0)
    still_open = await dispatcher.incidents(
        [state for state in states if state in OPEN_STATES], sys.maxsize
    )
    ranked = sorted(still_open, key=_rank)
    page = [incident for incident in ranked if _rank(incident) > place]
    if page[limit:]:
        return page[:limit], f"{page[limit - 1].severity}-{page[limit - 1].number}"
    room = limit - len(page)
    over, more = await _newest(dispatcher, ended, max(room, 1), "")
    if not room:
        return page, _NEWEST_ENDED if over else None
    return page + over, more


def _rank(incident: Incident) -> tuple[str, int]:
    return incident.severity, -incident.number


_ORDERS = {"newest": _newest, "severity": _worst}


def _invalid_cursor(cursor: str) -> ApiError:
    return ApiError("bad_data", f'cursor is "{cursor[:40]}"; it must be the next of an answer')


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not _NUMBER.fullmatch(text):
        raise ApiError("not_found", f'there is no incident "{text[:40]}"; they have numbers')
    return int(text)


async def _incident_story(dispatcher: Dispatcher, number: int) -> IncidentTimeline:
    try:
        return await dispatcher.timeline(number)
    except NoSuchIncident as error:
        raise ApiError("not_found", str(error)) from None


async def _action(request: Request) -> Action:
    verb, sent = request.path_params["verb"], await _request_data(request)
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
        actor=_text_field(sent, "by") or "somebody",
        note=_text_field(sent, "note"),
        request_id=_text_field(sent, "request_id"),
        step=step,
        until_ms=time_ms(str(until), "until") if until else None,
        false_positive=sent.get("false_positive") is True,
    )


async def _request_data(request: Request) -> Mapping[str, Any]:
    """The JSON object or the form that was sent; an empty body is an empty object."""
    content = await read_body(request, _MAX_BODY_BYTES)
    if "form" in request.headers.get("content-type", ""):
        return dict(parse_qsl(content.decode("utf-8", "replace")))
    try:
        data = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiError("bad_data", f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ApiError("bad_data", "the body is not a JSON object")
    return data


def _text_field(sent: Mapping[str, Any], name: str) -> str:
    value = sent.get(name, "")
    if not isinstance(value, str):
        raise ApiError("bad_data", f'"{name}" is not text')
    return value[:1000]


def incident_summary(
    incident: Incident,
    config: IncidentConfig,
    external_url: str = "",
    most_alerts: int | None = None,
) -> dict[str, Any]:
    """One incident as lists show it, what fires and the worst of it first; times are Unix
    milliseconds. `alert_count` counts all alerts, also those that `most_alerts` leaves out of
    `alerts`."""
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
                "annotations": absolute_links(dict(member.alert.annotations), external_url),
                "source": member.source,
                "value": format_value(member.alert.value),
                "since_ms": member.since_ms,
            }
            for member in worst_first(incident, config, most_alerts)
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


def incident_detail(
    story: IncidentTimeline, config: IncidentConfig, external_url: str = ""
) -> dict[str, Any]:
    """One incident with everything that happened and will happen."""
    return incident_summary(story.incident, config, external_url) | {
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
