"""What a policy that is right may still do at some hour: reach nobody, or by one channel alone."""

from collections.abc import Collection, Iterator
from datetime import datetime, tzinfo

from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, Recipient
from tocsin_alerting.incidents.oncall import GAP_HORIZON_MS, Schedule, Shift
from tocsin_alerting.incidents.roster import possible_addressees
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.severity import Severity


def gap_warnings(
    incidents: IncidentConfig, now_ms: int, leave_out: Collection[str] = ()
) -> Iterator[str]:
    """When a schedule that a policy notifies names nobody within a year; the next time of each."""
    notified = {recipient.schedule for recipient in _all_recipients(incidents)} - set(leave_out)
    for name, schedule in incidents.roster.schedules.items():
        gaps = schedule.gaps(now_ms, now_ms + GAP_HORIZON_MS) if name in notified else []
        if gaps:
            yield f'schedule "{name}" names nobody {_gap(gaps[0], schedule, now_ms)}{_more(gaps)}'


def _all_recipients(incidents: IncidentConfig) -> Iterator[Recipient]:
    for policy in incidents.policies.values():
        yield from _recipients(policy)


def _recipients(policy: EscalationPolicy) -> Iterator[Recipient]:
    for step in policy.steps:
        yield from step.notify
    yield from policy.final.notify if policy.final else ()


def _gap(gap: Shift, schedule: Schedule, now_ms: int) -> str:
    start, end = (clock_text(at_ms, schedule.zone) for at_ms in (gap.start_ms, gap.end_ms))
    if gap.end_ms >= now_ms + GAP_HORIZON_MS:
        since = (
            "" if gap.start_ms <= now_ms else f" from {clock_text(gap.start_ms, schedule.zone)} on"
        )
        return f"at all{since}; add members or layers"
    start, end = (clock_text(at_ms, schedule.zone) for at_ms in (gap.start_ms, gap.end_ms))
    return f"from {start} to {end}; add a layer or an override"


def _more(gaps: list[Shift]) -> str:
    return f" ({len(gaps) - 1} more such times within a year)" if len(gaps) > 1 else ""


def clock_text(at_ms: int, zone: tzinfo) -> str:
    """`Sat 2026-12-05 18:00 CET`."""
    return datetime.fromtimestamp(at_ms // 1000, zone).strftime("%a %Y-%m-%d %H:%M %Z")


def policy_notes(incidents: IncidentConfig) -> Iterator[str]:
    """What works, and might not on the night when it is needed."""
    yield from _single_channel(incidents)
    yield from _missing_ways(incidents)
    notified = {recipient.schedule for recipient in _all_recipients(incidents)}
    for name in incidents.roster.schedules:
        if name not in notified:
            yield f'schedule "{name}" is in no policy: nobody is notified because of it'


def _single_channel(incidents: IncidentConfig) -> Iterator[str]:
    policy = incidents.policies[Severity.P0.value]
    people = possible_addressees(_recipients(policy), incidents.roster)
    receivers = {addressee.receiver for addressee in people}
    if len(receivers) == 1:
        yield (
            f"P0 goes out by {receivers.pop()} alone: while that does not work nobody is paged; add"
            " a second receiver"
        )


def _missing_ways(incidents: IncidentConfig) -> Iterator[str]:
    """Of several people, those who have none of the ways that a step asks for."""
    roster = incidents.roster
    noted: set[tuple[str, tuple[str, ...]]] = set()
    for recipient in _all_recipients(incidents):
        schedule = roster.schedules.get(recipient.schedule)
        names = schedule.members() if schedule else tuple(roster.contacts)
        if not recipient.via or recipient.contact:
            continue
        for name in names:
            contact = roster.contacts.get(name)
            missing = contact is not None and not set(recipient.via) & set(contact.ways)
            if missing and (name, recipient.via) not in noted:
                noted.add((name, recipient.via))
                via = " or ".join(recipient.via)
                yield f'contact "{name}" has no way {via}: a step that asks for it uses the others'
