"""Who the recipients of a step are at a moment: contacts with their ways and hours, and who is on
call.

Nothing here remembers anything: the same roster at the same time gives the same people.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tocsin_alerting.incidents.calendar_times import TimeInterval
from tocsin_alerting.incidents.escalation_policy import Addressee, Recipient
from tocsin_alerting.incidents.oncall import Override, Schedule
from tocsin_alerting.rules.severity import Severity

Addressees = tuple[Addressee, ...]
_EVERY_WAY = frozenset({Severity.P0, Severity.P1})
_MOST_CHANGES = 100  # of hours and hand-overs that are looked at in one go: weeks of them


@dataclass(frozen=True, slots=True)
class Contact:
    """A person: `ways` by their names, the preferred one first. A P0 comes at any hour; what is
    milder within `hours` (None: always), and outside of the `quiet` ones."""

    ways: Mapping[str, Addressee] = field(default_factory=dict)
    hours: TimeInterval | None = None
    quiet: TimeInterval | None = None

    def may_be_told(self, at_ms: int, severity: Severity) -> bool:
        if severity is Severity.P0:
            return True
        in_hours = self.hours is None or self.hours.contains(at_ms)
        return in_hours and not (self.quiet is not None and self.quiet.contains(at_ms))

    def next_change_ms(self, at_ms: int) -> int | None:
        intervals = (interval for interval in (self.hours, self.quiet) if interval is not None)
        changes = (interval.next_change_ms(at_ms) for interval in intervals)
        return min((change for change in changes if change is not None), default=None)

    def addressees(self, via: tuple[str, ...], severity: Severity) -> Addressees:
        """By the ways `via`. Without any of them, or with none of them here: by all ways for P0 and
        P1, by the preferred one for what is milder."""
        chosen = tuple(self.ways[way] for way in via if way in self.ways)
        if chosen:
            return chosen
        ways = tuple(self.ways.values())
        return ways if severity in _EVERY_WAY else ways[:1]


@dataclass(frozen=True, slots=True)
class Roster:
    """`policy_hours`: when the policy of that name tells anybody of what is milder than P0."""

    contacts: Mapping[str, Contact] = field(default_factory=dict)
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    policy_hours: Mapping[str, TimeInterval] = field(default_factory=dict)

    def knows(self, recipient: Recipient) -> bool:
        """Whether there is such a contact or schedule; everyone is somebody."""
        if recipient.contact:
            return bool(self._ways(recipient.contact))
        if recipient.schedule:
            return recipient.schedule in self.schedules
        return any(contact.ways for contact in self.contacts.values())

    def _ways(self, name: str) -> Mapping[str, Addressee]:
        contact = self.contacts.get(name)
        return contact.ways if contact else {}

    def with_overrides(self, overrides: Iterable[Override]) -> "Roster":
        """With these after those of the configuration; the last one holds."""
        added: dict[str, list[Override]] = {}
        for override in sorted(overrides, key=lambda override: (override.created_ms, override.id)):
            added.setdefault(override.schedule, []).append(override)
        schedules = {
            name: replace(schedule, overrides=(*schedule.overrides, *added[name]))
            if name in added
            else schedule
            for name, schedule in self.schedules.items()
        }
        return replace(self, schedules=schedules)


def resolve(
    recipients: Iterable[Recipient], roster: Roster, now_ms: int, severity: Severity
) -> Addressees:
    """Where the messages to `recipients` go now, each once: nobody twice, nobody in quiet hours."""
    addressees = (
        addressee
        for recipient in recipients
        for addressee in _resolved(recipient, roster, now_ms, severity)
    )
    return tuple(dict.fromkeys(addressees))


def resolve_contact(recipient: Recipient, roster: Roster, severity: Severity) -> Addressees:
    """The ways of a recipient with a contact, at whatever hour."""
    if recipient.receiver:
        return (Addressee(recipient.receiver, recipient.contact),)
    contact = roster.contacts.get(recipient.contact)
    return contact.addressees(recipient.via, severity) if contact else ()


def possible_addressees(recipients: Iterable[Recipient], roster: Roster) -> Addressees:
    """Whom `recipients` may ever mean, by the ways of the worst severity."""
    return tuple(
        dict.fromkeys(
            addressee
            for recipient in recipients
            for name in (_possible_contacts(recipient, roster) or ("",))
            for addressee in resolve_contact(
                replace(recipient, contact=name or recipient.contact), roster, Severity.P0
            )
        )
    )


def told_from_ms(
    recipients: Iterable[Recipient], roster: Roster, now_ms: int, severity: Severity
) -> int | None:
    """When the first of `recipients` may be told, if hours alone keep them now; else None: somebody
    may be told now, or there is nobody."""
    wanted = tuple(recipients)
    if resolve(wanted, roster, now_ms, severity) or not resolve(
        wanted, roster, now_ms, Severity.P0
    ):
        return None
    return next_told_ms(wanted, roster, now_ms, severity)


def next_told_ms(
    recipients: tuple[Recipient, ...], roster: Roster, now_ms: int, severity: Severity
) -> int | None:
    """The next time at which one of `recipients` may be told: hours begin, or a shift does. Far
    ahead, a time at which to look again; None: nothing ever changes."""
    at_ms = now_ms
    for _ in range(_MOST_CHANGES):
        change_ms = next_change_ms(recipients, roster, at_ms)
        if change_ms is None or resolve(recipients, roster, change_ms, severity):
            return change_ms
        at_ms = change_ms
    return at_ms


def next_change_ms(recipients: Iterable[Recipient], roster: Roster, at_ms: int) -> int | None:
    """When somebody's hours begin or end, or somebody else takes over."""
    changes: list[int | None] = []
    for recipient in recipients:
        names = _possible_contacts(recipient, roster)
        contacts = (roster.contacts[name] for name in names if name in roster.contacts)
        changes += [contact.next_change_ms(at_ms) for contact in contacts]
        if schedule := roster.schedules.get(recipient.schedule):
            changes.append(schedule.next_change_ms(at_ms))
    return min((change for change in changes if change is not None), default=None)


def _resolved(
    recipient: Recipient, roster: Roster, now_ms: int, severity: Severity
) -> Iterator[Addressee]:
    if recipient.receiver:
        yield Addressee(recipient.receiver, recipient.contact)
        return
    for name in _contacts(recipient, roster, now_ms):
        contact = roster.contacts.get(name)
        if contact is not None and contact.may_be_told(now_ms, severity):
            yield from contact.addressees(recipient.via, severity)


def _contacts(recipient: Recipient, roster: Roster, now_ms: int) -> tuple[str, ...]:
    """Who they are now, by name."""
    if recipient.everyone:
        return tuple(roster.contacts)
    if recipient.schedule:
        schedule = roster.schedules.get(recipient.schedule)
        on_call = schedule.on_call(now_ms) if schedule else ""
        return (on_call,) if on_call else ()
    return (recipient.contact,)


def _possible_contacts(recipient: Recipient, roster: Roster) -> tuple[str, ...]:
    if recipient.schedule:
        schedule = roster.schedules.get(recipient.schedule)
        return schedule.members() if schedule else ()
    if recipient.everyone:
        return tuple(roster.contacts)
    return (recipient.contact,) if recipient.contact else ()
