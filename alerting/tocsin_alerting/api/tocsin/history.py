"""`/api/v1/log` and `/api/v1/stats`: what happened, line by line in words, and in numbers."""

import re
from collections.abc import Callable
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.tocsin.filters import count, incident_filter, optional_time
from tocsin_alerting.api.tocsin.incidents import incident_number, incident_story
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.fault_record import fault_record, markdown
from tocsin_alerting.incidents.history_words import LANGUAGES, line_words
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.journal.questions import EntryQuery, Place
from tocsin_alerting.incidents.log_lines import without_lines
from tocsin_alerting.incidents.notification import title
from tocsin_alerting.time_format import rfc3339

_MAX_LINES, _LINES = 1000, 200  # of one answer; where nothing says how many
_DAY_MS = 86_400_000
_WEEK_MS = 7 * _DAY_MS
_CURSOR = re.compile(r"(-?[0-9]{1,15})-([0-9]{1,15})")


def routes(dispatcher: Dispatcher, now_ms: Callable[[], int], zone: tzinfo) -> list[Route]:
    """`zone` is whose hours of the day are counted, where the request names no other."""

    async def log(request: Request) -> Response:
        params = request.query_params
        query, language = _query(params, now_ms()), language_of(params)
        wanted = incident_filter(_without(params, "since", "until", "person"))
        page = await dispatcher.records.history(query, wanted)
        lines = [
            history_line(entry, page.incidents.get(entry.incident), language)
            for entry in page.entries
        ]
        following = page.following
        place = following and (following.before if following.newest else following.after)
        return success({"entries": lines, "next": place and f"{place[0]}-{place[1]}"})

    async def stats(request: Request) -> Response:
        params = request.query_params
        until_ms = optional_time(params, "until") or now_ms()
        since_ms = optional_time(params, "since")
        since_ms = until_ms - _WEEK_MS if since_ms is None else since_ms
        if since_ms > until_ms:
            raise ApiError("bad_data", "since is after until")
        wanted = incident_filter(_without(params, "drills"))
        drills = _is_true(params, "drills")
        counted = await dispatcher.records.statistics(since_ms, until_ms, wanted, drills)
        span = {"since": rfc3339(since_ms), "until": rfc3339(until_ms)}
        chosen = _zone(params, zone)
        return success(span | counted.to_json(chosen) | {"zone": str(chosen)})

    async def record(request: Request) -> Response:
        params = request.query_params
        story = await incident_story(dispatcher, incident_number(request.path_params["number"]))
        language = language_of(params)
        written = fault_record(story, dispatcher.working.config, now_ms(), language)
        text = markdown(written, _zone(params, zone), language)
        return success(written | {"markdown": text})

    return [
        get_route("/api/v1/log", log),
        get_route("/api/v1/stats", stats),
        get_route("/api/v1/incidents/{number}/record", record),
    ]


def _zone(params: QueryParams, otherwise: tzinfo) -> tzinfo:
    name = params.get("zone", "")
    try:
        return ZoneInfo(name) if name else otherwise
    except (ZoneInfoNotFoundError, ValueError, OSError):
        words = f'no time zone "{name[:40]}"; write one like Asia/Shanghai'
        raise ApiError("bad_data", words) from None


def _is_true(params: QueryParams, name: str) -> bool:
    value = params.get(name, "false")
    if value not in ("true", "false"):
        raise ApiError("bad_data", f'{name} must be true or false, not "{value[:40]}"')
    return value == "true"


def language_of(params: QueryParams) -> str:
    language = params.get("language", "en")
    if language not in LANGUAGES:
        words = f'invalid language "{language[:40]}"; use {" or ".join(LANGUAGES)}'
        raise ApiError("bad_data", words)
    return language


def _query(params: QueryParams, now_ms: int) -> EntryQuery:
    """The last day, where nothing says since when."""
    number, newest = params.get("incident", ""), params.get("order", "oldest")
    if newest not in ("oldest", "newest"):
        raise ApiError("bad_data", f'invalid order "{newest[:40]}"; use oldest or newest')
    since_ms = optional_time(params, "since")
    if since_ms is None and not number:
        since_ms = now_ms - _DAY_MS
    place = _place(params.get("cursor", ""))
    return EntryQuery(
        limit=count(params, "limit", _MAX_LINES, _LINES),
        since_ms=since_ms,
        until_ms=optional_time(params, "until"),
        incidents=(incident_number(number.removeprefix("#")),) if number else None,
        actor=params.get("person", ""),
        events=tuple(params.getlist("event")),
        after=place if newest == "oldest" else None,
        before=place if newest == "newest" else None,
        newest=newest == "newest",
    )


def _place(cursor: str) -> Place | None:
    match = _CURSOR.fullmatch(cursor)
    if cursor and match is None:
        words = f'invalid cursor "{cursor[:40]}"; use the `next` of a response'
        raise ApiError("bad_data", words)
    return (int(match[1]), int(match[2])) if match else None


def _without(params: QueryParams, *names: str) -> QueryParams:
    return QueryParams([(key, value) for key, value in params.multi_items() if key not in names])


def history_line(entry: HistoryEntry, incident: Incident | None, language: str) -> dict[str, Any]:
    """`incident` 0 is the agent itself; `text` says in words what happened."""
    return {
        "at": rfc3339(entry.at_ms),
        "incident": entry.incident,
        "title": title(incident) if incident else "",
        "severity": incident.severity if incident else "",
        "event": entry.event,
        "actor": entry.actor,
        "text": line_words(entry.event, entry.actor, entry.data, entry.at_ms, language),
        "data": without_lines(entry.event, entry.data),
    }
