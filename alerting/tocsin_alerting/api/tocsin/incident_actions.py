"""POST below `/api/v1/incidents`: what people do about incidents, one or many of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError, not_on_disk, success
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Principal, Role, RoleRoute, actor
from tocsin_alerting.api.http.times import time_ms
from tocsin_alerting.api.tocsin.incidents import incident_number, incident_summary
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import Conflict, IncidentError, NoSuchIncident
from tocsin_alerting.incidents.fault_record import FIELDS
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.statistics import CAUSES

_MAX_BODY_BYTES = 64 << 10
_MAX_TEXT = 1000  # characters of a name or a note
_MAX_FIELD_TEXT = 10_000  # of a field of the fault record
_MAX_AT_ONCE = 1000  # incidents of one request
_ERROR_TYPES = {NoSuchIncident: "not_found", Conflict: "conflict"}
Summary = Callable[[Incident], dict[str, Any]]


def routes(
    dispatcher: Dispatcher, guard: Guard, now_ms: Callable[[], int], external_url: str = ""
) -> list[Route]:
    """The actions of `Verb`: on one incident, and on many, each with a result of its own."""

    def summary(incident: Incident) -> dict[str, Any]:
        shown = incident_summary(incident, dispatcher.working.config, external_url)
        return shown | {"recorded": not dispatcher.writer.incident_waits(incident.number)}

    def answer(data: Any, acted: Iterable[Incident]) -> Response:
        waits = any(dispatcher.writer.incident_waits(incident.number) for incident in acted)
        return success(data, [not_on_disk(dispatcher.writer.last_error)] if waits else ())

    async def act(request: Request) -> Response:
        who = guard(request)
        sent = await _request_data(request)
        number = incident_number(request.path_params["number"])
        action = _action(_verb(request.path_params["verb"], "not_found"), number, sent, who)
        try:
            acted = await dispatcher.act(action, now_ms())
        except IncidentError as error:
            raise ApiError(_ERROR_TYPES[type(error)], str(error)) from None
        return answer(summary(acted), [acted])

    async def bulk(request: Request) -> Response:
        who = guard(request)
        sent = await _request_data(request)
        verb = _verb(sent.get("action"), "bad_data")
        actions = [_action(verb, number, sent, who) for number in _numbers(sent.get("incidents"))]
        results = await dispatcher.act_all([_with_own_id(action) for action in actions], now_ms())
        acted = [result for result in results if isinstance(result, Incident)]
        return answer({"results": _results(actions, results, summary)}, acted)

    return [
        RoleRoute("/api/v1/incidents/bulk", bulk, Role.RESPOND, ["POST"]),
        RoleRoute("/api/v1/incidents/{number}/{verb}", act, Role.RESPOND, ["POST"]),
    ]


def _results(
    actions: Sequence[Action], results: Sequence[Incident | IncidentError], summary: Summary
) -> list[dict[str, Any]]:
    """In the order of the request."""
    return [
        {"number": action.incident, "errorType": _ERROR_TYPES[type(result)], "error": str(result)}
        if isinstance(result, IncidentError)
        else {"number": action.incident, "incident": summary(result)}
        for action, result in zip(actions, results, strict=True)
    ]


def _with_own_id(action: Action) -> Action:
    """One request acts on many: what was done once is done once for each of them."""
    if not action.request_id:
        return action
    return replace(action, request_id=f"{action.request_id}/{action.incident}")


def _verb(name: object, missing: str) -> Verb:
    if name not in list(Verb):
        words = f'no such action: "{str(name)[:40]}"; there are {", ".join(Verb)}'
        raise ApiError(missing, words)
    return Verb(str(name))


def _numbers(sent: object) -> list[int]:
    """Each once, in their order."""
    if not isinstance(sent, list) or not sent or not all(type(n) is int and n > 0 for n in sent):
        raise ApiError("bad_data", '"incidents" must be a list of incident numbers')
    numbers = list(dict.fromkeys(sent))
    if len(numbers) > _MAX_AT_ONCE:
        raise ApiError("bad_data", f"{len(numbers)} incidents; at most {_MAX_AT_ONCE} at once")
    return numbers


def _action(verb: Verb, number: int, sent: Mapping[str, Any], who: Principal) -> Action:
    until, step = sent.get("until"), sent.get("step")
    if verb is Verb.SNOOZE and not until:
        raise ApiError("bad_data", '"until" is missing or invalid; give Unix seconds or RFC 3339')
    if step is not None and type(step) is not int:
        raise ApiError("bad_data", '"step" must be the number of a step, from 0')
    action = Action(
        verb,
        number,
        actor=actor(who, _text_field(sent, "by"), _text_field(sent, "user")),
        note=_text_field(sent, "note"),
        request_id=_text_field(sent, "request_id"),
        step=step,
        until_ms=time_ms(str(until), "until") if until else None,
        false_positive=sent.get("false_positive") is True,
        cause=_choice(_text_field(sent, "cause"), "cause", CAUSES),
        to=_text_field(sent, "to"),
        fields=_record_fields(sent.get("fields", {})),
    )
    if verb is Verb.ASSIGN and not action.to:
        raise ApiError("bad_data", '"to" is missing: the contact who is to have the incident')
    if verb is Verb.COMMENT and not action.note and not action.fields:
        raise ApiError("bad_data", 'a comment needs a "note", or "fields"')
    return action


def _record_fields(sent: object) -> dict[str, str]:
    if not isinstance(sent, dict):
        raise ApiError("bad_data", '"fields" is not an object of texts')
    fields = {
        _choice(name, "field", FIELDS): _text_field(sent, name, _MAX_FIELD_TEXT) for name in sent
    }
    _choice(fields.get("cause", ""), "cause", CAUSES)
    return fields


def _choice(value: str, what: str, known: Iterable[str]) -> str:
    if value and value not in known:
        raise ApiError("bad_data", f'no {what} "{value[:40]}"; there are {", ".join(known)}')
    return value


async def _request_data(request: Request) -> Mapping[str, Any]:
    """The JSON object or the form that was sent; an empty body is an empty object."""
    content = await read_body(request, _MAX_BODY_BYTES)
    if "form" in request.headers.get("content-type", ""):
        return dict(parse_qsl(content.decode("utf-8", "replace")))
    try:
        data = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiError("bad_data", f"request body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ApiError("bad_data", "request body is not a JSON object")
    return data


def _text_field(sent: Mapping[str, Any], name: str, most: int = _MAX_TEXT) -> str:
    value = sent.get(name, "")
    if not isinstance(value, str):
        raise ApiError("bad_data", f'"{name}" is not text')
    return value[:most]
