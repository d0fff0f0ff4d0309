"""`/api/v1/silences` and `/api/v1/maintenance`: what is muted, by whom, and until when."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_object
from tocsin_alerting.api.http.envelope import ApiError, not_on_disk, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute, actor
from tocsin_alerting.api.tocsin.silence_body import (
    duration_in,
    flag_in,
    silence_in,
    silence_json,
    text_in,
    time_in,
)
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import NoSuchSilence
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.maintenance import MaintenanceWindow
from tocsin_alerting.incidents.notification import title
from tocsin_alerting.incidents.silence_end import firing
from tocsin_alerting.incidents.silences import InvalidSilence, Silence, SilenceState
from tocsin_alerting.incidents.silencing import Preview
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.time_format import rfc3339

_MAX_BODY_BYTES = 64 << 10
_MAX_SILENCES = 1000  # in one answer
_MAX_SHOWN = 20  # incidents of a preview
_CURSOR = re.compile(r"([0-9]{1,15})/([^/]{1,100})")
_STATES = {
    "current": (SilenceState.ACTIVE, SilenceState.PENDING),
    "all": tuple(SilenceState),
    **{state.value: (state,) for state in SilenceState},
}
Endpoint = Callable[[Request], Awaitable[Response]]
Change = Callable[[Request, Mapping[str, Any]], Awaitable[Response]]


def routes(
    dispatcher: Dispatcher,
    guard: Guard,
    now_ms: Callable[[], int],
    new_id: Callable[[], str] = lambda: str(uuid4()),
) -> list[Route]:
    """Lists, a preview and changes; `new_id` makes a UUID for what has no `request_id`."""
    return _Endpoints(dispatcher, guard, now_ms, new_id).routes()


class _Endpoints:
    def __init__(
        self,
        dispatcher: Dispatcher,
        guard: Guard,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._dispatcher, self._guard = dispatcher, guard
        self._silencing = dispatcher.silencing
        self._now_ms, self._new_id = now_ms, new_id

    def routes(self) -> list[Route]:
        silences, windows = "/api/v1/silences", "/api/v1/maintenance"
        return [
            _both(silences, self._list, self._changes(self._add)),
            get_route(
                f"{silences}/preview", self._preview_either, "POST", change_role=Role.RESPOND
            ),
            get_route(f"{silences}/{{id}}", self._one),
            _change(f"{silences}/{{id}}/expire", self._changes(self._expire)),
            _change(f"{silences}/{{id}}/extend", self._changes(self._extend)),
            _both(windows, self._windows, self._changes(self._add_window)),
            _change(f"{windows}/{{name}}/end", self._changes(self._end_window)),
        ]

    def _changes(self, answer: Change) -> Endpoint:
        """An endpoint that is guarded, reads a body, and refuses in the API's words."""

        async def endpoint(request: Request) -> Response:
            who = self._guard(request)
            sent = await read_object(request, _MAX_BODY_BYTES)
            by = actor(who, text_in(sent, "by"), text_in(sent, "user"))
            sent = {**sent, "by": by}
            try:
                return await answer(request, sent)
            except NoSuchSilence as error:
                raise ApiError("not_found", str(error)) from None
            except InvalidSilence as error:
                raise ApiError("bad_data", str(error)) from None

        return endpoint

    # silences

    async def _list(self, request: Request) -> Response:
        name = request.query_params.get("state", "current")
        if name not in _STATES:
            raise ApiError("bad_data", f'invalid state "{name[:40]}"; use {", ".join(_STATES)}')
        now_ms, after = self._now_ms(), _cursor(request)
        listed = sorted(
            (silence.ends_at_ms, silence.id)
            for silence in self._silencing.all.values()
            if silence.state(now_ms) in _STATES[name] and not silence.window
        )
        rest = [place for place in listed if place > after]
        page, mutes = rest[: _limit(request)], self._mutes()
        shown = [
            silence_json(self._silencing.get(key), now_ms, mutes.get(f"silence:{key}", []))
            for _, key in page
        ]
        following = f"{page[-1][0]}/{page[-1][1]}" if len(page) < len(rest) else None
        return success({"silences": shown, "next": following})

    async def _one(self, request: Request) -> Response:
        try:
            silence = self._silencing.get(request.path_params["id"])
        except NoSuchSilence as error:
            raise ApiError("not_found", str(error)) from None
        return success(self._shown(silence))

    async def _add(self, request: Request, sent: Mapping[str, Any]) -> Response:
        now_ms = self._now_ms()
        warn_ms = self._dispatcher.working.config.silence_warn_ms
        wanted = silence_in({**sent, "name": "", "except": []}, now_ms, warn_ms)
        everything = flag_in(sent, "everything")
        silence = await self._silencing.put(wanted, self._id(sent), now_ms, everything=everything)
        return self._changed(silence)

    async def _preview_either(self, request: Request) -> Response:
        """Of a body, or of `matcher` in the query, which may be repeated."""
        if request.method == "POST":
            return await self._changes(self._preview)(request)
        return await self._preview(request, {"matchers": request.query_params.getlist("matcher")})

    async def _preview(self, request: Request, sent: Mapping[str, Any]) -> Response:
        wanted = silence_in({"for": "1h", **sent}, self._now_ms(), None)
        seen = await self._silencing.preview(wanted, self._now_ms())
        return success(_preview_json(seen), _warnings(seen.firing))

    async def _expire(self, request: Request, sent: Mapping[str, Any]) -> Response:
        actor = text_in(sent, "by")
        name, now_ms = request.path_params["id"], self._now_ms()
        return self._changed(await self._silencing.expire(name, actor, now_ms))

    async def _extend(self, request: Request, sent: Mapping[str, Any]) -> Response:
        """`for` counts from its present end."""
        name, actor = request.path_params["id"], text_in(sent, "by")
        longer_ms, ends_at_ms = duration_in(sent, "for"), time_in(sent, "ends_at")
        if (longer_ms is None) == (ends_at_ms is None):
            raise ApiError("bad_data", 'send "for", how much longer, or "ends_at"')
        if ends_at_ms is None:
            ends_at_ms = self._silencing.get(name).ends_at_ms + (longer_ms or 0)
        extended = await self._silencing.extend(name, ends_at_ms, actor, self._now_ms())
        return self._changed(extended)

    def _id(self, sent: Mapping[str, Any]) -> str:
        """The same for the same request."""
        request_id = text_in(sent, "request_id")
        return str(uuid5(NAMESPACE_URL, f"silence:{request_id}")) if request_id else self._new_id()

    def _shown(self, silence: Silence) -> dict[str, Any]:
        mutes = self._mutes().get(silence.mute_name, [])
        recorded = {"recorded": self._silencing.recorded(silence)}
        return silence_json(silence, self._now_ms(), mutes) | recorded

    def _changed(self, silence: Silence) -> Response:
        shown, working = self._shown(silence), self._dispatcher.working
        warnings = _warnings(working.incidents[number] for number in shown["mutes"])
        if not shown["recorded"]:
            warnings.append(not_on_disk(self._dispatcher.writer.last_error))
        return success(shown, warnings)

    def _mutes(self) -> dict[str, list[int]]:
        """The numbers of the incidents with alerts that are muted now, by what mutes them."""
        muted: dict[str, list[int]] = {}
        for incident in firing(self._dispatcher.working):
            for name in self._dispatcher.working.mute_rules.names(incident):
                muted.setdefault(name, []).append(incident.number)
        return muted

    # maintenance windows

    async def _windows(self, request: Request) -> Response:
        now_ms, mutes = self._now_ms(), self._mutes()
        planned = self._dispatcher.working.config.maintenance
        ad_hoc = (
            silence
            for silence in self._silencing.all.values()
            if silence.window and silence.state(now_ms) is not SilenceState.EXPIRED
        )
        shown = [_window_json(one, now_ms, mutes.get(one.mute_name, [])) for one in planned]
        shown += [
            silence_json(one, now_ms, mutes.get(one.mute_name, [])) | {"origin": "ad hoc"}
            for one in ad_hoc
        ]
        return success({"windows": shown})

    async def _add_window(self, request: Request, sent: Mapping[str, Any]) -> Response:
        now_ms = self._now_ms()
        wanted = silence_in({**sent, "id": "", "until_resolved": False}, now_ms, None)
        if not wanted.window:
            raise ApiError("bad_data", 'it needs a "name"')
        everything = flag_in(sent, "everything") or bool(wanted.except_matchers)
        window = await self._silencing.put(wanted, self._id(sent), now_ms, everything=everything)
        return self._changed(window)

    async def _end_window(self, request: Request, sent: Mapping[str, Any]) -> Response:
        name, now_ms = request.path_params["name"], self._now_ms()
        actor = text_in(sent, "by")
        for silence in list(self._silencing.all.values()):
            if silence.window == name and silence.state(now_ms) is not SilenceState.EXPIRED:
                return self._changed(await self._silencing.expire(silence.id, actor, now_ms))
        if any(window.name == name for window in self._dispatcher.working.config.maintenance):
            why = f'"{name}" is in the configuration; remove it there'
            raise ApiError("conflict", why)
        raise ApiError("not_found", f'no maintenance window "{name[:40]}" is on')


def _both(path: str, read: Endpoint, change: Endpoint) -> Route:
    async def endpoint(request: Request) -> Response:
        return await (change if request.method == "POST" else read)(request)

    return get_route(path, endpoint, "POST", change_role=Role.RESPOND)


def _change(path: str, endpoint: Endpoint) -> Route:
    return RoleRoute(path, endpoint, Role.RESPOND, ["POST"])


def _cursor(request: Request) -> tuple[int, str]:
    text = request.query_params.get("cursor", "")
    match = _CURSOR.fullmatch(text)
    if text and not match:
        raise ApiError("bad_data", f'invalid cursor "{text[:40]}"; use the `next` of a response')
    return (int(match[1]), match[2]) if match else (-1, "")


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(_MAX_SILENCES))
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= _MAX_SILENCES:
        raise ApiError("bad_data", f'invalid limit "{text[:40]}"; use 1 to {_MAX_SILENCES}')
    return int(text)


def _warnings(muted: Iterable[Incident]) -> list[str]:
    """That it mutes what nobody may overlook."""
    worst = [one for one in muted if one.severity is Severity.P0]
    more = f" and {len(worst) - 1} more" if len(worst) > 1 else ""
    return [f"it mutes P0: {_named(worst[0])}{more}"] if worst else []


def _named(incident: Incident) -> str:
    return f"#{incident.number} {title(incident)}"


def _preview_json(seen: Preview) -> dict[str, Any]:
    return {
        "firing": [
            {
                "number": incident.number,
                "severity": incident.severity,
                "state": incident.state,
                "title": title(incident),
            }
            for incident in seen.firing[:_MAX_SHOWN]
        ],
        "firing_count": len(seen.firing),
        "alerts": seen.alerts,
        "last_7_days": seen.recent,
        "last_7_days_p0": seen.recent_p0,
        "everything": seen.everything,
    }


def _window_json(window: MaintenanceWindow, now_ms: int, mutes: list[int]) -> dict[str, Any]:
    """One of the configuration; `next_change_at` is when it begins or ends, None: never."""
    change_ms = window.next_change_ms(now_ms)
    active = window.active_at(now_ms)
    state = SilenceState.ACTIVE if active else SilenceState.PENDING
    over = not active and change_ms is None
    return {
        "name": window.name,
        "origin": "configuration",
        "state": SilenceState.EXPIRED if over else state,
        "matchers": [str(matcher) for matcher in window.matchers],
        "except": [str(matcher) for matcher in window.except_matchers],
        "recurring": window.interval is not None,
        "next_change_at": None if change_ms is None else rfc3339(change_ms),
        "mutes": mutes,
    }
