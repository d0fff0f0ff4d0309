"""`/api/v2/silences` and `/api/v2/silence/ID`: our silences in Alertmanager's words.

An ad hoc maintenance window is none of them: Alertmanager has no word for what it leaves out. What
it has no word for either (until it is over, whom to warn) stays as it is when a silence is changed
here. A change is answered with 200 when it is on the disk.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from tocsin_alerting.api.alertmanager.alerts import matchers_asked
from tocsin_alerting.api.alertmanager.endpoint import (
    Refused,
    alertmanager_route,
    as_json,
    check_json,
    flag,
)
from tocsin_alerting.api.alertmanager.go_json import decoded, time_ms, wrong_type
from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import not_on_disk
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Principal, Role, RoleRoute, actor
from tocsin_alerting.incidents.alert_matcher import (
    AlertMatcher,
    InvalidMatcher,
    alert_matcher,
    operator_of,
)
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import NoSuchSilence
from tocsin_alerting.incidents.silences import InvalidSilence, Silence, SilenceState
from tocsin_alerting.strconv import quote
from tocsin_alerting.time_format import rfc3339

MAX_BODY_BYTES = 64 << 10
MAX_MATCHERS = 100
NO_SUCH_SILENCE = "silence not found"
_SILENCE = "silence"
_REQUIRED = ("comment", "createdBy", "endsAt", "matchers", "startsAt")
_MATCHER_FIELDS = {"isRegex": bool, "name": str, "value": str}
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RANKS = {SilenceState.ACTIVE: 1, SilenceState.PENDING: 2, SilenceState.EXPIRED: 3}


def routes(
    dispatcher: Dispatcher,
    guard: Guard,
    now_ms: Callable[[], int],
    new_id: Callable[[], str] = lambda: str(uuid4()),
) -> list[RoleRoute]:
    """`new_id` makes a UUID."""
    api = _SilenceApi(dispatcher, guard, now_ms, new_id)
    one = {"GET": api.one, "DELETE": api.expire}
    return [
        alertmanager_route("/silences", {"GET": api.list, "POST": api.set}),
        alertmanager_route("/silence/{id}", one),
    ]


class _SilenceApi:
    def __init__(
        self,
        dispatcher: Dispatcher,
        guard: Guard,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._dispatcher, self._silencing = dispatcher, dispatcher.silencing
        self._guard, self._now_ms, self._new_id = guard, now_ms, new_id

    async def list(self, request: Request) -> Response:
        wanted, now_ms = matchers_asked(request), self._now_ms()
        states = {state for state in SilenceState if flag(request, state.value)}
        shown = [
            silence
            for silence in self._silencing.all.values()
            if not silence.window and silence.state(now_ms) in states and _has(silence, wanted)
        ]
        shown.sort(key=lambda silence: _rank(silence, now_ms))
        return as_json([silence_json(silence, now_ms) for silence in shown])

    async def one(self, request: Request) -> Response:
        silence = self._known(_asked_id(request))
        return Response(status_code=404) if silence is None else self._shown(silence)

    async def set(self, request: Request) -> Response:
        check_json(request)
        who = self._guard(request)
        sent = _checked(decoded(await _body(request), _SILENCE))
        now_ms = self._now_ms()
        before = self._known(sent["id"]) if sent["id"] else None
        if sent["id"] and before is None:
            raise Refused(404, NO_SUCH_SILENCE)
        wanted = self._wanted(sent, before, who, now_ms)
        try:
            put = self._silencing.put(wanted, self._new_id(), now_ms, everything=True)
            silence = await put
        except (InvalidSilence, NoSuchSilence) as error:
            raise Refused(400, f"silence invalid: {error}") from None
        self._check_recorded(silence)
        return as_json({"silenceID": silence.id})

    async def expire(self, request: Request) -> Response:
        name, who = _asked_id(request), self._guard(request)
        if self._known(name) is None:
            return Response(status_code=404)
        silence = await self._silencing.expire(name, actor(who, ""), self._now_ms())
        self._check_recorded(silence)
        return Response(status_code=200)

    def _known(self, name: str) -> Silence | None:
        silence = self._silencing.all.get(name)
        return None if silence is None or silence.window else silence

    def _shown(self, silence: Silence) -> Response:
        return as_json(silence_json(silence, self._now_ms()))

    def _check_recorded(self, silence: Silence) -> None:
        """Raises Refused."""
        if not self._silencing.recorded(silence):
            why = not_on_disk(self._dispatcher.writer.last_error)
            raise Refused(503, f"silence {silence.id}: {why}")

    def _wanted(
        self, sent: Mapping[str, Any], before: Silence | None, who: Principal, now_ms: int
    ) -> Silence:
        """Raises Refused."""
        starts, ends = sent["startsAt"], sent["endsAt"]
        if ends is None or (starts is not None and starts >= ends):
            why = "Failed to create silence: start time must be before end time"
            raise Refused(400, why)
        if ends <= now_ms:
            raise Refused(400, "Failed to create silence: end time can't be in the past")
        return Silence(
            id=sent["id"],
            matchers=_matchers(sent["matchers"]),
            starts_at_ms=now_ms if starts is None else starts,
            ends_at_ms=ends,
            created_by=_author(who, sent["createdBy"]),
            comment=sent["comment"],
            until_resolved=before.until_resolved if before else False,
            warn_before_ms=self._warn_ms() if before is None else before.warn_before_ms,
        )

    def _warn_ms(self) -> int | None:
        return self._dispatcher.working.config.silence_warn_ms


def silence_json(silence: Silence, now_ms: int) -> dict[str, Any]:
    return {
        "id": silence.id,
        "status": {"state": silence.state(now_ms)},
        "updatedAt": rfc3339(silence.updated_at_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": rfc3339(silence.ends_at_ms),
        "matchers": [
            {
                "isEqual": matcher.op in ("=", "=~"),
                "isRegex": matcher.pattern is not None,
                "name": matcher.name,
                "value": matcher.value,
            }
            for matcher in silence.matchers
        ],
        "startsAt": rfc3339(silence.starts_at_ms),
    }


def _has(silence: Silence, wanted: Iterable[AlertMatcher]) -> bool:
    """A filter asks for silences with this very matcher, not for those that match something."""
    return all(matcher in silence.matchers for matcher in wanted)


def _rank(silence: Silence, now_ms: int) -> tuple[int, int]:
    """The next to end first, then the next to begin, then the last that ended."""
    state = silence.state(now_ms)
    times = {
        SilenceState.ACTIVE: silence.ends_at_ms,
        SilenceState.PENDING: silence.starts_at_ms,
        SilenceState.EXPIRED: -silence.ends_at_ms,
    }
    return _RANKS[state], times[state]


def _asked_id(request: Request) -> str:
    """Raises Refused."""
    name = str(request.path_params["id"])
    if not _UUID.fullmatch(name):
        why = f"silenceID in path must be of type uuid: {quote(name[:100])}"
        raise Refused(422, why, 601)
    return name


async def _body(request: Request) -> bytes:
    body = await read_body(request, MAX_BODY_BYTES)
    if not body.strip():
        raise Refused(422, "silence in body is required", 602)
    return body


def _author(who: Principal, created_by: str) -> str:
    """Who has a credential is its bearer, whatever the client says; admin may name others."""
    by = created_by if who.role >= Role.ADMIN else ""
    return actor(who, by, created_by)


def _checked(sent: Any) -> dict[str, Any]:
    """The fields of a silence, of the right types. Raises Refused."""
    if sent is not None and not isinstance(sent, dict):
        raise wrong_type(sent, "value of type models.PostableSilence", _SILENCE)
    given = sent or {}
    texts = {name: _text(given.get(name), name) for name in ("id", "comment", "createdBy")}
    times = {name: _time(given.get(name), name) for name in ("startsAt", "endsAt")}
    matchers = given.get("matchers")
    if matchers is not None and not isinstance(matchers, list):
        place = "struct field Silence.matchers of type models.Matchers"
        raise wrong_type(matchers, place, _SILENCE)
    checked = [_checked_matcher(item) for item in matchers or ()]
    for name in _REQUIRED:
        if given.get(name) is None:
            raise Refused(422, f"{name} in body is required", 602)
        if name == "matchers":
            _check_complete(checked)
    return {**texts, **times, "matchers": checked}


def _time(value: object, name: str) -> int | None:
    return time_ms(value, f"Silence.{name}", _SILENCE)


def _text(value: object, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise wrong_type(value, f"struct field Silence.{name} of type string", _SILENCE)
    return value or ""


def _checked_matcher(item: object) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        place = "struct field Silence.matchers of type models.Matcher"
        raise wrong_type(item, place, _SILENCE)
    for name, kind in {**_MATCHER_FIELDS, "isEqual": bool}.items():
        value = item.get(name)
        if value is not None and not isinstance(value, kind):
            wanted = "bool" if kind is bool else "string"
            place = f"struct field Matcher.matchers.{name} of type {wanted}"
            raise wrong_type(value, place, _SILENCE)
    return item


def _check_complete(matchers: list[Mapping[str, Any]]) -> None:
    if not matchers:
        raise Refused(422, "matchers in body should have at least 1 items", 612)
    if len(matchers) > MAX_MATCHERS:
        raise Refused(422, f"matchers in body should have at most {MAX_MATCHERS} items", 611)
    for number, item in enumerate(matchers):
        for name in _MATCHER_FIELDS:
            if item.get(name) is None:
                raise Refused(422, f"matchers.{number}.{name} in body is required", 602)


def _matchers(items: Iterable[Mapping[str, Any]]) -> tuple[AlertMatcher, ...]:
    """Raises Refused."""
    matchers = tuple(_matcher(number, item) for number, item in enumerate(items))
    if all(_matches_empty(matcher) for matcher in matchers):
        why = "silence invalid: at least one matcher must not match the empty string"
        raise Refused(400, why)
    return matchers


def _matches_empty(matcher: AlertMatcher) -> bool:
    """As Alertmanager sees it: `alertname!="X"` says clearly enough that all others are meant."""
    return matcher.op in ("=", "=~") and matcher.matches({})


def _matcher(number: int, item: Mapping[str, Any]) -> AlertMatcher:
    invalid, value = f"silence invalid: invalid label matcher {number}", item["value"]
    if not item["name"]:
        raise Refused(400, f'{invalid}: invalid label name ""')
    try:
        op = operator_of(item["isRegex"], item.get("isEqual") is not False)
        return alert_matcher(item["name"], op, value)
    except InvalidMatcher as error:
        why = f"invalid regular expression {quote(value[:200])}: {error.why}"
        raise Refused(400, f"{invalid}: {why}") from None
