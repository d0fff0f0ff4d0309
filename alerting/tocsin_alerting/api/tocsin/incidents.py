"""`/api/v1/incidents`: what people are told about, and what they do about it."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.annotations import absolute_links, annotation_texts
from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.roles import Role, RoleRoute, principal_of
from tocsin_alerting.api.prometheus.encoding import format_value
from tocsin_alerting.api.tocsin.filters import count, incident_filter
from tocsin_alerting.incidents.actions import re_raise_after_ms
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import NoSuchIncident
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import (
    Incident,
    IncidentState,
    Notify,
    Reason,
    Timer,
    TimerKind,
    began_ms,
)
from tocsin_alerting.incidents.journal.protocol import NO_NUMBER
from tocsin_alerting.incidents.journal.questions import IncidentFilter
from tocsin_alerting.incidents.log_lines import EVIDENCE, without_lines
from tocsin_alerting.incidents.notification import (
    Evidence,
    Notification,
    build_notifications,
    next_page,
    title,
    worst_first,
)
from tocsin_alerting.incidents.records import OPEN_STATES, IncidentTimeline
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.time_format import rfc3339

_STATES = {"open": OPEN_STATES, "all": tuple(IncidentState)}
_MAX_BODY_BYTES = 64 << 10
_ALERTS_PER_SLICE = 50  # alerts, some milliseconds
_MAX_INCIDENTS = 1000  # in one answer
_MAX_ALERTS = 100  # of an incident in a list; alone it is shown with all of them
_NUMBER = re.compile(r"[0-9]{1,18}")
_NOTICED = frozenset(TimerKind) - {
    TimerKind.REOPEN_END,
    TimerKind.SLO_WARN,
    TimerKind.HOLD_END,  # it may be that of a hold before
    TimerKind.FLAP_END,
    TimerKind.NEW_ALERTS,
}
_NEWEST_ENDED = "9" * 18  # a cursor that leads to all of those that are over
_SEVERITY_CURSOR = re.compile(r"(P[0-4])-([0-9]{1,18})")  # a cursor among open ones, by severity

Enrich = Callable[[Notification], Awaitable[Notification]]
Asked = tuple[Collection[IncidentState], IncidentFilter]


def routes(
    dispatcher: Dispatcher, external_url: str = "", enrich: Enrich | None = None
) -> list[Route]:
    """Lists, and one incident with its history; annotations that link to the agent link below
    `external_url`. `enrich` adds to a message what was known when its alert fired."""
    one_at_a_time = asyncio.Lock()  # hundreds of incidents take many turns of the loop
    one_asks = asyncio.Lock()  # messages ask as well, and come first

    async def listed(request: Request) -> Response:
        name = request.query_params.get("state", "open")
        states = _STATES.get(name) or tuple(s for s in IncidentState if s == name.upper())
        if not states:
            raise ApiError("bad_data", f'invalid state "{name}"; use open, all or a state')
        order = request.query_params.get("order", "newest")
        if order not in _ORDERS:
            raise ApiError("bad_data", f'invalid order "{order[:40]}"; use {" or ".join(_ORDERS)}')
        cursor = request.query_params.get("cursor", "")
        limit = count(request.query_params, "limit", _MAX_INCIDENTS, _MAX_INCIDENTS)
        wanted = incident_filter(request.query_params)
        incidents, following = await _ORDERS[order](dispatcher, (states, wanted), limit, cursor)
        async with one_at_a_time:
            page = await _page(incidents, dispatcher, external_url)
        still_open = sum(incident.is_open for incident in dispatcher.working.incidents.values())
        return success({"incidents": page, "next": following, "open": still_open})

    async def detail(request: Request) -> Response:
        story = await incident_story(dispatcher, incident_number(request.path_params["number"]))
        config, evidence = dispatcher.working.config, None
        if enrich is not None:
            async with one_asks:
                evidence = (await enrich(_first_page(story.incident, config))).evidence
        respond = principal_of(request).role >= Role.RESPOND
        more = {
            "recorded": not dispatcher.writer.incident_waits(story.incident.number),
            "evidence": evidence and _readable(evidence, respond),
        }
        return success(incident_detail(story, config, external_url, respond) | more)

    return [
        RoleRoute("/api/v1/incidents", listed, Role.READ),
        RoleRoute("/api/v1/incidents/{number}", detail, Role.READ),
    ]


def _readable(evidence: Evidence, respond: bool) -> dict[str, Any]:
    numbers = tuple(one for one in evidence.numbers if respond or one[0] != EVIDENCE)
    return replace(evidence, numbers=numbers).as_data()


def _first_page(incident: Incident, config: IncidentConfig) -> Notification:
    """As it was told when it opened: what is asked for it is the same at each request."""
    to = Addressee("")
    notify = Notify(Reason.OPENED, (to,), 0)
    (page,) = build_notifications(incident, notify, (to,), incident.opened_at_ms, config, None)
    return page


async def _page(
    incidents: Iterable[Incident], dispatcher: Dispatcher, external_url: str
) -> list[dict[str, Any]]:
    """Made with a turn of the loop after every few, or one with many alerts."""
    page: list[dict[str, Any]] = []
    alerts = 0
    for incident in incidents:
        config = dispatcher.working.config
        row = incident_summary(incident, config, external_url, _MAX_ALERTS)
        timers = dispatcher.timers(incident.number)
        page.append(row | {"next": incident_next(incident, timers, config)})
        alerts += 1 + len(incident.members)
        if alerts >= _ALERTS_PER_SLICE:
            await asyncio.sleep(0)
            alerts = 0
    return page


async def _newest(
    dispatcher: Dispatcher, asked: Asked, limit: int, cursor: str
) -> tuple[list[Incident], str | None]:
    """A page of them, and where the next one begins."""
    if cursor and not _NUMBER.fullmatch(cursor):
        raise _invalid_cursor(cursor)
    states, wanted = asked
    below = int(cursor) if cursor else NO_NUMBER
    incidents = await dispatcher.incidents(states, limit + 1, below, wanted)
    return incidents[:limit], str(incidents[limit - 1].number) if len(incidents) > limit else None


async def _worst(
    dispatcher: Dispatcher, asked: Asked, limit: int, cursor: str
) -> tuple[list[Incident], str | None]:
    """The worst of the open ones first, of one severity the newest; then those that are over."""
    states, wanted = asked
    ended = [state for state in states if state not in OPEN_STATES], wanted
    if _NUMBER.fullmatch(cursor):
        return await _newest(dispatcher, ended, limit, cursor)
    after = _SEVERITY_CURSOR.fullmatch(cursor)
    if cursor and not after:
        raise _invalid_cursor(cursor)
    place = (after[1], -int(after[2])) if after else ("", 0)
    opened = [state for state in states if state in OPEN_STATES]
    still_open = await dispatcher.incidents(opened, sys.maxsize, NO_NUMBER, wanted)
    page = [incident for incident in sorted(still_open, key=_rank) if _rank(incident) > place]
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
    return ApiError("bad_data", f'invalid cursor "{cursor[:40]}"; use the `next` of a response')


def incident_number(text: str) -> int:
    """Raises ApiError for what is none."""
    if not _NUMBER.fullmatch(text):
        raise ApiError("not_found", f'no incident "{text[:40]}"; incidents have numbers')
    return int(text)


async def incident_story(dispatcher: Dispatcher, number: int) -> IncidentTimeline:
    try:
        return await dispatcher.timeline(number)
    except NoSuchIncident as error:
        raise ApiError("not_found", str(error)) from None


def incident_summary(
    incident: Incident,
    config: IncidentConfig,
    external_url: str = "",
    most_alerts: int | None = None,
) -> dict[str, Any]:
    """One incident as lists show it, what fires and the worst of it first; each time in RFC 3339
    and in Unix milliseconds. `alert_count` counts all alerts, also those that `most_alerts` leaves
    out of `alerts`."""
    return {
        "number": incident.number,
        "title": title(incident),
        "severity": incident.severity,
        "state": incident.state,
        "source": incident.source,
        "labels": dict(incident.group_labels),
        "owner": incident.owner,
        "assigned_by": incident.assigned_by,
        "muted_by": sorted(incident.muted_by),
        "policy": incident.policy.name,
        "step": incident.step,
        "loop": incident.loop,
        "exhausted": incident.exhausted,
        **_both("began_at", since_ms(incident)),
        **_both("opened_at", incident.opened_at_ms),
        **_both("acked_at", incident.acked_at_ms),
        **_both("resolved_at", incident.resolved_at_ms),
        "closed_by_hand": incident.closed_by_hand,
        "ended_as": incident.ended_as,
        "flapping": incident.flapping,
        **_both("resolves_at", incident.hold_until_ms),
        **_both("raised_again_at", _raised_again_at_ms(incident)),
        "alerts": [
            {
                "labels": dict(member.alert.labels),
                "annotations": absolute_links(dict(member.alert.annotations), external_url),
                "source": member.source,
                "value": format_value(member.alert.value),
                **_both("since", member.since_ms),
                "origins": sorted(member.origins),
            }
            for member in worst_first(incident, config, most_alerts)
        ],
        "alert_count": len(incident.members),
        "summary": _summary_text(incident, config),
        "reopened": incident.flaps,
        "storm": incident.storm or None,
        "times_in_24h": incident.times_in_24h,
        "drill": incident.drill,
    }


def incident_brief(
    incident: Incident, dispatcher: Dispatcher, external_url: str = ""
) -> dict[str, Any]:
    """As `incident_summary`, without its alerts, and with what comes next."""
    config = dispatcher.working.config
    whole = incident_summary(incident, config, external_url, most_alerts=1)
    brief = {name: value for name, value in whole.items() if name != "alerts"}
    return brief | {"next": incident_next(incident, dispatcher.timers(incident.number), config)}


def incident_next(
    incident: Incident, timers: Sequence[Timer], config: IncidentConfig
) -> dict[str, Any] | None:
    """The next timer that does something people notice, and whom it notifies if it says so."""
    if incident.hold_until_ms is not None:
        return {"at_ms": incident.hold_until_ms, "what": TimerKind.HOLD_END, "who": []}
    timer = next((timer for timer in timers if timer.kind in _NOTICED), None)
    if timer is None:
        return None
    pages = timer.kind in (TimerKind.STEP, TimerKind.FINAL)
    who = next_page(incident, timer.due_at_ms, config).to if pages else ()
    return {**_both("at", timer.due_at_ms), "what": timer.kind, "who": list(who)}


def _both(name: str, at_ms: int | None) -> dict[str, str | int | None]:
    """A time for people and their tools, and in the milliseconds that were here first."""
    return {name: None if at_ms is None else rfc3339(at_ms), f"{name}_ms": at_ms}


def _summary_text(incident: Incident, config: IncidentConfig) -> str:
    """What the worst alert says of itself."""
    worst = next(iter(worst_first(incident, config, 1)), None)
    texts = annotation_texts(dict(worst.alert.annotations)) if worst else ()
    return next(iter(texts), "")


def since_ms(incident: Incident) -> int:
    """When its condition began to hold, which is before it opened if its rule waits."""
    began = began_ms(incident, incident.resolved_at_ms or sys.maxsize)
    return incident.opened_at_ms if began is None else began


def _raised_again_at_ms(incident: Incident) -> int | None:
    """When what was closed by hand is raised again if it still fires."""
    if not incident.closed_by_hand or incident.resolved_at_ms is None:
        return None
    return incident.resolved_at_ms + re_raise_after_ms(incident)


def incident_detail(
    story: IncidentTimeline, config: IncidentConfig, external_url: str = "", respond: bool = False
) -> dict[str, Any]:
    """One incident with everything that happened and will happen. `respond`: for somebody who may,
    and so may read lines of logs."""
    return incident_summary(story.incident, config, external_url) | {
        "next": incident_next(story.incident, story.timers, config),
        "history": [
            {**_both("at", e.at_ms), "event": e.event, "actor": e.actor, "data": data}
            for e in story.history
            for data in [e.data if respond else without_lines(e.event, e.data)]
        ],
        "timers": [{"kind": t.kind, **_both("due_at", t.due_at_ms)} for t in story.timers],
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
