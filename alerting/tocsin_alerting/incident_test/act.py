"""What people do in a test, by the same calls as the API's."""

from collections.abc import Mapping

from tocsin_alerting.incident_test.script import (
    Act,
    Answer,
    Expire,
    Mute,
    TakeOver,
)
from tocsin_alerting.incidents.actions import Action
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import IncidentError
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.notification import title
from tocsin_alerting.incidents.oncall import Override
from tocsin_alerting.incidents.silences import InvalidSilence, Silence

_LONGEST_MS = 30 * 86_400_000  # of a silence until it is over


class ActFailed(Exception):
    """It could not be done: the words say why."""


async def carry_out(act: Act, dispatcher: Dispatcher, now_ms: int, offset_ms: int) -> None:
    """`offset_ms` is between times of the test and the agent's. Raises ActFailed."""
    try:
        match act:
            case Answer():
                await _answer(act, dispatcher, now_ms, offset_ms)
            case Mute():
                wanted = _silence(act, dispatcher, now_ms, offset_ms)
                await dispatcher.silencing.put(wanted, act.id, now_ms)
            case Expire():
                await dispatcher.silencing.expire(act.id, act.by, now_ms)
            case TakeOver():
                await dispatcher.override(_override(act, now_ms, offset_ms), now_ms)
    except (IncidentError, InvalidSilence) as error:
        raise ActFailed(str(error)) from None


async def _answer(act: Answer, dispatcher: Dispatcher, now_ms: int, offset_ms: int) -> None:
    found = _the_one(act.labels, dispatcher)
    action = Action(
        act.verb,
        found.number,
        act.by,
        note=act.note,
        step=act.step,
        until_ms=None if act.until_ms is None else act.until_ms + offset_ms,
        false_positive=act.false_positive,
        cause=act.cause,
        to=act.to,
        fields=act.fields,
    )
    await dispatcher.act(action, now_ms)


def _the_one(labels: Mapping[str, str], dispatcher: Dispatcher) -> Incident:
    """The open incident of which an alert has the labels; else the newest that is over."""
    matching = [
        incident
        for incident in dispatcher.working.incidents.values()
        if has_labels(incident, labels)
    ]
    if not matching:
        raise ActFailed("there is no such incident at that time")
    found = [one for one in matching if one.is_open] or matching[-1:]
    if len(found) > 1:
        named = ", ".join(f"#{one.number} {title(one)}" for one in found)
        raise ActFailed(f"{len(found)} incidents match ({named}); name more labels")
    return found[0]


def has_labels(incident: Incident, labels: Mapping[str, str]) -> bool:
    """Whether one of its alerts has all of the labels."""
    wanted = labels.items()
    return any(wanted <= dict(member.alert.labels).items() for member in incident.members.values())


def _silence(act: Mute, dispatcher: Dispatcher, now_ms: int, offset_ms: int) -> Silence:
    ends_ms = now_ms + _LONGEST_MS if act.until_ms is None else act.until_ms + offset_ms
    warn_ms = None if act.window else dispatcher.working.config.silence_warn_ms
    return Silence(
        id="",
        matchers=act.matchers,
        starts_at_ms=now_ms,
        ends_at_ms=ends_ms,
        created_by=act.by,
        comment="by the test",
        except_matchers=act.except_matchers,
        window=act.id if act.window else "",
        until_resolved=act.until_resolved,
        warn_before_ms=warn_ms,
    )


def _override(act: TakeOver, now_ms: int, offset_ms: int) -> Override:
    return Override(
        schedule=act.schedule,
        contact=act.contact,
        start_ms=now_ms,
        end_ms=act.until_ms + offset_ms,
        id=f"{act.schedule}-{now_ms}",
        created_ms=now_ms,
        created_by=act.by,
        comment="by the test",
    )
