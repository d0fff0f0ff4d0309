"""One alert of an incident after what its origins say of it: it fires, is clear, or unknown."""

from collections.abc import Mapping
from dataclasses import replace

from tocsin_alerting.incidents.incident import ENDED_CONDITIONS, Condition, Member
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind


def new_member(event: AlertEvent, now_ms: int) -> Member:
    return Member(event.alert, Condition.FIRING, now_ms, origins={event.origin: Condition.FIRING})


def firing_member(known: Member | None, event: AlertEvent, now_ms: int) -> Member:
    if known is None or known.source in ENDED_CONDITIONS:
        return new_member(event, now_ms)
    origins = {**known.origins, event.origin: Condition.FIRING}
    alert = _as_first_seen(known, event.alert)
    return Member(alert, Condition.FIRING, known.since_ms, origins=origins)


def member_after(known: Member, event: AlertEvent, now_ms: int) -> Member:
    if event.kind is EventKind.UNKNOWN:
        return _with_unknown(known, event.origin)
    if event.kind is EventKind.GIVEN_UP:
        return _without_origin(known, event.origin)
    return _cleared(known, event, now_ms)


def _with_unknown(known: Member, origin: str) -> Member:
    origins = {**known.origins, origin: Condition.UNKNOWN}
    return replace(known, origins=origins, source=_combined_condition(origins))


def _without_origin(known: Member, origin: str) -> Member:
    """`origin` says nothing of it any more. Of whom nobody says anything, that is unknown still."""
    origins = {name: condition for name, condition in known.origins.items() if name != origin}
    if origins == known.origins:
        return known
    return replace(known, origins=origins, source=_combined_condition(origins))


def _cleared(known: Member, event: AlertEvent, now_ms: int) -> Member:
    """The member as it is without `event.origin`; unchanged when others alone say that it fires."""
    if known.origins and event.origin not in known.origins:
        return known
    origins = {name: condition for name, condition in known.origins.items() if name != event.origin}
    if origins:
        return replace(known, origins=origins, source=_combined_condition(origins))
    alert = _as_first_seen(known, event.alert)
    source = Condition.UNWATCHED if event.kind is EventKind.REMOVED else Condition.CLEAR
    return replace(known, alert=alert, source=source, ended_at_ms=now_ms, origins=origins)


def _as_first_seen(known: Member, alert: Alert) -> Alert:
    """A rule counts anew after a time without data, or for a second origin; what began did not."""
    if alert.active_at_ms <= known.alert.active_at_ms:
        return alert  # of thousands that clear none is made anew
    return replace(alert, active_at_ms=known.alert.active_at_ms)


def _combined_condition(origins: Mapping[str, Condition]) -> Condition:
    return Condition.FIRING if Condition.FIRING in origins.values() else Condition.UNKNOWN
