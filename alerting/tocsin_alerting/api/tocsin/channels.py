"""`POST /api/v1/receivers/NAME/test` and `.../preview`: a message through a receiver and what was
said, and what one would be, which nobody gets."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute, principal_of
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Notify, Reason
from tocsin_alerting.incidents.notification import Notification, build_notifications
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.rehearsal import Rehearsed, rehearse
from tocsin_alerting.notify.samples import (
    SAMPLE_STATES,
    in_state,
    sample_notification,
    trial_notification,
)
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.yaml_document import did_you_mean

LANGUAGES = ("", "en", "zh")
BuildChannel = Callable[[str, str], Channel]
"""A receiver's channel, made anew; its messages are in a language ("": the configured one). Raises
ValueError or OSError."""


def routes(
    channels: Mapping[str, Channel],
    guard: Guard,
    now_ms: Callable[[], int],
    external_url: str = "",
    dispatcher: Dispatcher | None = None,
    build: BuildChannel | None = None,
) -> list[Route]:
    """Without `build` there are no previews."""

    def asked(request: Request, severity: str, state: str) -> tuple[str, str, str, str]:
        """The receiver, the contact, severity and state."""
        guard(request)
        name, query = request.path_params["name"], request.query_params
        if name not in channels:
            hint = did_you_mean(name, channels)
            raise ApiError("not_found", f'no receiver is called "{name}"{hint}')
        severity = _one_of("severity", query.get("severity", severity), list(Severity.__members__))
        return name, query.get("contact", ""), severity, _state(query.get("state", state))

    async def test(request: Request) -> Response:
        name, contact, severity, state = asked(request, "P4", "test")
        transcript: list[str] = []
        sent = trial_notification(state, severity, name, contact, now_ms(), external_url)
        outcome = await channels[name].send(sent, now_ms(), transcript)
        if dispatcher is not None:
            await _take_test(dispatcher, sent, outcome, principal_of(request).name, now_ms())
        return success(outcome_json(outcome, transcript))

    async def preview(request: Request) -> Response:
        name, contact, severity, state = asked(request, "P0", "firing")
        await request.body()  # left unread, it resets the connection before a long answer is out
        query = request.query_params
        language = _one_of("language", query.get("language", ""), LANGUAGES)
        if number := query.get("incident", ""):
            to = Addressee(name, contact)
            shown = _of_incident(dispatcher, number, to, query.get("state", ""), now_ms())
        else:
            make = trial_notification if query.get("trial") == "true" else sample_notification
            shown = make(state, severity, name, contact, now_ms(), external_url)
        assert build is not None
        try:
            channel = build(name, language)
        except (ValueError, OSError) as error:
            raise ApiError("execution", f"{name}: {error}") from None
        try:
            return success(rehearsal_json(*await rehearse(channel, shown, now_ms())))
        finally:
            await channel.close()

    return [
        RoleRoute(f"/api/v1/{word}/{{name:path}}/{verb}", endpoint, Role.RESPOND, ["POST"])
        for word in ("receivers", "channels")  # the latter is its former name
        for verb, endpoint in (("test", test), ("preview", preview))
        if endpoint is test or build is not None
    ]


async def _take_test(
    dispatcher: Dispatcher, sent: Notification, outcome: Outcome, actor: str, now_ms: int
) -> None:
    """One that arrives shows that the receiver works again; a refusal counts for nothing, but that
    nobody is there."""
    dispatcher.channels.remember_gone(sent.receiver, outcome, now_ms)
    dispatcher.changed.set()  # written at once
    if isinstance(outcome, Delivered):
        told = {"receiver": sent.receiver, "contact": sent.contact, "severity": sent.severity}
        told |= {"reason": "test", "reference": outcome.reference}
        dispatcher.note("delivered", actor, told, now_ms)
        await dispatcher.channels.take(sent.receiver, outcome, now_ms)


def _one_of(name: str, value: str, choices: tuple[str, ...] | list[str]) -> str:
    if value not in choices:
        listed = ", ".join(filter(None, choices))
        raise ApiError("bad_data", f'{name} is one of {listed}, not "{value[:40]}"')
    return value


def _state(value: str) -> str:
    return _one_of("state", value, SAMPLE_STATES)


def _of_incident(
    dispatcher: Dispatcher | None, number: str, to: Addressee, state: str, now_ms: int
) -> Notification:
    """What would be said of it now, or in another state. Its link answers nothing."""
    known = dispatcher.working.incidents if dispatcher else {}
    incident = known.get(int(number)) if number.isdecimal() and len(number) < 10 else None
    if incident is None or dispatcher is None:
        raise ApiError("not_found", f"no open incident has the number {number[:10]}")
    config = dispatcher.working.config
    over = incident.resolved_at_ms is not None
    notify = Notify(Reason.RESOLVED if over else Reason.OPENED, (to,), 0)
    (page,) = build_notifications(incident, notify, (to,), now_ms, config, None)
    page = in_state(page, _state(state)) if state else page
    return replace(page, key=f"preview/{page.key}")


def outcome_json(outcome: Outcome, transcript: list[str]) -> dict[str, object]:
    delivered = isinstance(outcome, Delivered)
    why = outcome.detail if isinstance(outcome, Delivered) else outcome.error
    return {"delivered": delivered, "detail": why, "transcript": transcript}


def rehearsal_json(messages: list[Rehearsed], why: str) -> dict[str, object]:
    """`why` says why there are none."""
    shown = [
        {"to": one.to, "headers": dict(one.headers), "text": one.text, "html": one.html}
        for one in messages
    ]
    return {"messages": shown, "why": why}
