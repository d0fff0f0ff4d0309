"""The end of a silence: announced while something still fires under it, or come by itself because
all that it muted is resolved."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Condition, Incident, Reason
from tocsin_alerting.incidents.notification import MAX_ALERTS, Notification, notified_alerts
from tocsin_alerting.incidents.roster import resolve
from tocsin_alerting.incidents.silences import Silence, SilenceState, expired, warns_at_ms
from tocsin_alerting.incidents.working_set import WorkingSet

SUBJECT, OVER = "silence", "silence_over"


def subject(silence: Silence) -> str:
    return f"{SUBJECT}:{silence.id}"


def put_silence(working: WorkingSet, silence: Silence) -> None:
    """From now on it is so, and its end is announced when that is due."""
    working.mute_rules.put([silence])
    working.changes().silences[silence.id] = silence
    working.set_subject_timer(subject(silence), warns_at_ms(silence))
    runs = silence.ends_at_ms > silence.updated_at_ms  # else somebody ended it
    working.set_subject_timer(_over(silence), silence.ends_at_ms if runs else None)


def _over(silence: Silence) -> str:
    return f"{OVER}:{silence.id}"


def note_expiry(working: WorkingSet, about: str, now_ms: int) -> None:
    """Its time is over: nobody ended it."""
    silence = working.mute_rules.silences.get(about.partition(":")[2])
    if silence is not None and silence.state(now_ms) is SilenceState.EXPIRED:
        working.note(0, "silence_expired", now_ms, data=note_of(silence))


def note_of(silence: Silence) -> dict[str, Any]:
    """What the history says of it."""
    return {
        "id": silence.id,
        "matchers": [str(matcher) for matcher in silence.matchers],
        "starts_at_ms": silence.starts_at_ms,
        "ends_at_ms": silence.ends_at_ms,
        "comment": silence.comment,
        **({"window": silence.window} if silence.window else {}),
        **({"until_resolved": True} if silence.until_resolved else {}),
    }


def forget_old_silences(working: WorkingSet, now_ms: int) -> None:
    for silence in working.mute_rules.forget_old(now_ms):
        working.changes().silences[silence.id] = None
        working.set_subject_timer(subject(silence), None)
        working.set_subject_timer(_over(silence), None)


def end_resolved_silences(working: WorkingSet, now_ms: int) -> None:
    """End what is to last until it is over, and is."""
    rules = working.mute_rules
    wanted = [one for one in rules.silences.values() if one.until_resolved]
    wanted = [one for one in wanted if one.active_at(now_ms)]
    if not wanted:
        return
    names = {name for incident in firing(working) for name in rules.names(incident)}
    for silence in wanted:
        if silence.mute_name in names and not silence.has_matched:
            put_silence(working, replace(silence, has_matched=True))
        elif silence.mute_name not in names and silence.has_matched:
            put_silence(working, expired(silence, now_ms))
            data = note_of(silence) | {"why": "resolved"}
            working.note(0, "silence_ended", now_ms, data=data)


def firing(working: WorkingSet) -> Iterator[Incident]:
    """The incidents with silenced alerts that are not over."""
    for incident in working.incidents.values():
        if incident.silenced and incident.counts_as_firing:
            yield incident


def muted_by(working: WorkingSet, silence: Silence) -> list[Incident]:
    """The incidents with alerts that it mutes now, the worst first."""
    name, rules = silence.mute_name, working.mute_rules
    muted = [incident for incident in firing(working) if name in rules.names(incident)]
    return sorted(muted, key=lambda incident: (incident.severity, incident.number))


def announce_end(working: WorkingSet, about: str, now_ms: int) -> None:
    """Its end is near: whoever set it hears of it, if something still fires under it."""
    silence = working.mute_rules.silences.get(about.partition(":")[2])
    if silence is None or not silence.active_at(now_ms):
        return
    muted = [one for one in muted_by(working, silence) if one.source is not Condition.CLEAR]
    if not muted:
        return
    for addressee in _addressees(working, silence, muted, now_ms):
        working.post(_notification(working, silence, muted, addressee, now_ms))
    data = note_of(silence) | {"incidents": len(muted)}
    working.note(0, "silence_ends", now_ms, data=data)


def _addressees(
    working: WorkingSet, silence: Silence, muted: Sequence[Incident], now_ms: int
) -> tuple[Addressee, ...]:
    """The author, who is a contact; else those whom what it mutes would page now."""
    config = working.config
    contact = config.roster.contacts.get(silence.created_by)
    author = contact.addressees((), muted[0].severity) if contact else ()
    return author or tuple(
        dict.fromkeys(
            addressee
            for one in muted
            for addressee in resolve(one.step_recipients(), config.roster, now_ms, one.severity)
        )
    )


def _notification(
    working: WorkingSet,
    silence: Silence,
    muted: list[Incident],
    addressee: Addressee,
    now_ms: int,
) -> Notification:
    alerts = [
        alert
        for incident in muted[:MAX_ALERTS]
        for alert in notified_alerts(incident, working.config, now_ms)
    ]
    worst = muted[0]
    return Notification(
        key=f"{subject(silence)}/{silence.ends_at_ms}/{addressee.receiver}/{addressee.contact}",
        incident=0,
        incidents=tuple(incident.number for incident in muted[:MAX_ALERTS]),
        receiver=addressee.receiver,
        contact=addressee.contact,
        reason=Reason.SILENCE_ENDS,
        severity=worst.severity.value,
        status="firing",
        state=worst.state.value,
        step=0,
        loop=0,
        title=", ".join(map(str, silence.matchers)),
        group_key=subject(silence),
        group_labels={},
        alerts=tuple(alerts[:MAX_ALERTS]),
        opened_at_ms=silence.starts_at_ms,
        at_ms=now_ms,
        actor=silence.created_by,
        note=silence.comment,
        next_at_ms=silence.ends_at_ms,
        truncated_alerts=max(0, len(alerts) - MAX_ALERTS),
        external_url=working.config.external_url,
    )
