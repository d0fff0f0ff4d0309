"""`/api/v1/oncall`: who is on call in each schedule, and who takes over a shift."""

from collections.abc import Callable, Mapping
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_object
from tocsin_alerting.api.http.envelope import ApiError, not_on_disk, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute, actor
from tocsin_alerting.api.http.times import YEAR_2200_MS, calendar_ms, duration_ms
from tocsin_alerting.api.tocsin import policies
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.ical import write_calendar
from tocsin_alerting.incidents.oncall import GAP_HORIZON_MS, Override, Schedule, Shift
from tocsin_alerting.incidents.roster import Roster
from tocsin_alerting.time_format import rfc3339
from tocsin_alerting.yaml_document import did_you_mean

_MAX_BODY_BYTES = 64 << 10
_SHOWN_MS = 14 * 86_400_000  # shifts of a schedule that are shown without `until`
_MAX_SHIFTS = 2_000
_ICS = ".ics"
_PAST_MS = 7 * 86_400_000
_EXPORTED_MS = 90 * 86_400_000
_MAX_OVERRIDES = 1_000


def routes(
    dispatcher: Dispatcher,
    guard: Guard,
    now_ms: Callable[[], int],
    emails: Mapping[str, str] | None = None,
) -> list[Route]:
    """Reads, and overrides as POST; with `policies.routes`. `emails` are those of contacts, for
    the attendees of a calendar."""

    def roster() -> Roster:
        return dispatcher.working.config.roster

    def at(request: Request, name: str = "at") -> int:
        text = request.query_params.get(name)
        return calendar_ms(text, name) if text else now_ms()

    async def listed(request: Request) -> Response:
        at_ms = at(request)
        schedules = [_schedule_json(each, at_ms) for each in roster().schedules.values()]
        people = sorted(roster().contacts)
        return success({"at": rfc3339(at_ms), "schedules": schedules, "contacts": people})

    async def detail(request: Request) -> Response:
        name = request.path_params["name"]
        if name.endswith(_ICS) and name not in roster().schedules:
            schedule = _schedule(roster(), name.removesuffix(_ICS))
            return _calendar(schedule, emails, now_ms())
        schedule = _schedule(roster(), name)
        start_ms = at(request, "from")
        until = request.query_params.get("until")
        end_ms = calendar_ms(until, "until") if until else start_ms + _SHOWN_MS
        if not start_ms < end_ms <= start_ms + GAP_HORIZON_MS:
            raise ApiError("bad_data", '"until" must be after "from", by 366 days at most')
        shifts = [_shift_json(shift) for shift in schedule.shifts(start_ms, end_ms)][:_MAX_SHIFTS]
        return success(_schedule_json(schedule, now_ms()) | {"shifts": shifts})

    return [
        get_route("/api/v1/oncall", listed),
        *_override_routes(dispatcher, guard, now_ms),
        get_route("/api/v1/oncall/{name}", detail),
        *policies.routes(dispatcher, now_ms),
    ]


def _calendar(schedule: Schedule, emails: Mapping[str, str] | None, now_ms: int) -> Response:
    """Of a week ago to 90 days ahead, for a calendar that subscribes to it."""
    start_ms, end_ms = now_ms - _PAST_MS, now_ms + _EXPORTED_MS
    text = write_calendar(schedule, emails or {}, start_ms, end_ms)
    return Response(text, media_type="text/calendar; charset=utf-8")


def _override_routes(
    dispatcher: Dispatcher, guard: Guard, now_ms: Callable[[], int]
) -> list[Route]:
    async def overrides(request: Request) -> Response:
        if request.method == "POST":
            return await override(request)
        known = sorted(dispatcher.working.overrides.values(), key=lambda each: each.start_ms)
        return success({"overrides": [_override_json(override) for override in known]})

    async def override(request: Request) -> Response:
        who = guard(request)
        sent = await read_object(request, _MAX_BODY_BYTES)
        by = actor(who, _text(sent, "by"), _text(sent, "user"))
        made = _override(sent, by, dispatcher.working.config.roster, now_ms())
        known = dispatcher.working.overrides
        if made.id not in known and len(known) >= _MAX_OVERRIDES:
            raise ApiError("conflict", f"there are {_MAX_OVERRIDES} overrides; remove some")
        await dispatcher.override(made, now_ms())
        return _recorded(_override_json(made))

    async def remove(request: Request) -> Response:
        who = guard(request)
        sent = await read_object(request, _MAX_BODY_BYTES)
        name = request.path_params["id"]
        by = actor(who, _text(sent, "by"), _text(sent, "user"))
        if not await dispatcher.remove_override(name, by, now_ms()):
            raise ApiError("not_found", f'no override has the id "{name[:40]}"')
        return _recorded({"id": name})

    def _recorded(data: dict[str, Any]) -> Response:
        down = dispatcher.writer.down
        warnings = [not_on_disk(dispatcher.writer.last_error)] if down else ()
        return success(data | {"recorded": not down}, warnings)

    return [
        get_route("/api/v1/oncall/overrides", overrides, "POST", change_role=Role.RESPOND),
        RoleRoute("/api/v1/oncall/overrides/{id}/remove", remove, Role.RESPOND, ["POST"]),
    ]


def _schedule(roster: Roster, name: str) -> Schedule:
    if name not in roster.schedules:
        hint = did_you_mean(name, roster.schedules)
        raise ApiError("not_found", f'no schedule is called "{name[:100]}"{hint}')
    return roster.schedules[name]


def _schedule_json(schedule: Schedule, at_ms: int) -> dict[str, Any]:
    """Contacts are "" where nobody is on call."""
    now, following = schedule.now_and_next(at_ms)
    return {
        "name": schedule.name,
        "time_zone": str(schedule.zone),
        "now": {"contact": now.contact, "until": following and rfc3339(now.end_ms)},
        "next": following and _shift_json(following),
        "overrides": [
            _override_json(override) for override in schedule.overrides if override.end_ms > at_ms
        ],
    }


def _shift_json(shift: Shift) -> dict[str, str]:
    return {
        "contact": shift.contact,
        "from": rfc3339(shift.start_ms),
        "until": rfc3339(shift.end_ms),
    }


def _override_json(override: Override) -> dict[str, str | None]:
    """One of the configuration has no id: it cannot be removed here."""
    return {
        "id": override.id or None,
        "schedule": override.schedule,
        "contact": override.contact,
        "from": rfc3339(override.start_ms),
        "until": rfc3339(override.end_ms),
        "created": rfc3339(override.created_ms) if override.id else None,
        "by": override.created_by,
        "comment": override.comment,
    }


def _override(sent: Mapping[str, Any], by: str, roster: Roster, now_ms: int) -> Override:
    schedule = _schedule(roster, _text(sent, "schedule"))
    contact = _text(sent, "contact")
    if contact not in roster.contacts:
        hint = did_you_mean(contact, roster.contacts)
        raise ApiError("bad_data", f'no contact is called "{contact[:100]}"{hint}')
    start_ms = _time(sent, "from", now_ms)
    length = _text(sent, "for")
    if bool(length) == bool(sent.get("until")):
        raise ApiError("bad_data", 'give either "until" or "for"')
    end_ms = start_ms + duration_ms(length, "for") if length else _time(sent, "until", now_ms)
    if end_ms > YEAR_2200_MS:
        raise ApiError("bad_data", "an override must end before the year 2200")
    if end_ms <= max(start_ms, now_ms):
        raise ApiError("bad_data", "an override must end after it begins, and in the future")
    return Override(
        schedule.name,
        contact,
        start_ms,
        end_ms,
        id=_text(sent, "request_id")[:64] or token_hex(4),
        created_ms=now_ms,
        created_by=by,
        comment=_text(sent, "comment"),
    )


def _time(sent: Mapping[str, Any], name: str, otherwise_ms: int) -> int:
    value = sent.get(name)
    return otherwise_ms if value in (None, "") else calendar_ms(str(value), name)


def _text(sent: Mapping[str, Any], name: str) -> str:
    value = sent.get(name, "")
    if not isinstance(value, str):
        raise ApiError("bad_data", f'"{name}" is not text')
    return value[:1000]
