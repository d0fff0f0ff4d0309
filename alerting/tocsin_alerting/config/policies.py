"""The sections that say who is told: contacts, steps, policies, and what they mean."""

from collections.abc import Iterable, Mapping
from datetime import tzinfo
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.config.hours import HoursSection
from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Recipient,
)
from tocsin_alerting.incidents.roster import Contact
from tocsin_alerting.notify.contact_ways import EMAIL, phone_number, ways_by
from tocsin_alerting.notify.email.message import bare_address
from tocsin_alerting.settings import NUMBER, Duration, Interval, Section, Words, several
from tocsin_alerting.yaml_document import did_you_mean


def _words(value: object) -> object:
    """One word or several."""
    return (value,) if isinstance(value, str) else value


class ContactSection(Section):
    """A person, and the ways to reach that person: `email`; with `phone` the ways `sms` and
    `phone`; and in `ways` the receivers that are this person's own, by what the way is called.
    `prefers` says in which order."""

    email: Annotated[str, AfterValidator(bare_address)] | None = None
    phone: Annotated[str, AfterValidator(phone_number), NUMBER] | None = None
    ways: dict[str, str] = {}
    prefers: Words = ()
    hours: HoursSection | None = None
    quiet: HoursSection | None = None

    @model_validator(mode="after")
    def _reachable(self) -> "ContactSection":
        if not self.way_names():
            raise ValueError("there is no way to reach this contact; add email, phone or ways")
        if EMAIL in self.ways:
            raise ValueError("the way email is the key email; call the other way something else")
        unknown = [way for way in self.prefers if way not in self.way_names()]
        if unknown:
            near = did_you_mean(unknown[0], self.way_names())
            raise ValueError(f'prefers names "{unknown[0]}", which is no way of this contact{near}')
        return self

    def way_names(self) -> tuple[str, ...]:
        """The preferred ones first, then mail, what stands in `ways`, SMS and calls: what is
        milder than P1 goes by the first alone, and rings nobody up who has another."""
        by_address = ways_by(key for key in ("email", "phone") if getattr(self, key))
        mail = [way for way in by_address if way == EMAIL]
        own = [*mail, *self.ways, *by_address]
        return tuple(dict.fromkeys([*(way for way in self.prefers if way in own), *own]))

    def contact(self, name: str, by_way: Mapping[str, str], zone: tzinfo) -> Contact:
        """`by_way`: the receivers through which contacts are written to, by the way."""
        receivers = {**by_way, **self.ways}
        ways = {
            way: Addressee(receivers[way], name) for way in self.way_names() if way in receivers
        }
        return Contact(
            ways=ways,
            hours=self.hours.interval(zone) if self.hours else None,
            quiet=self.quiet.interval(zone) if self.quiet else None,
        )


class RecipientSection(Section):
    """`{receiver: NAME}`, `{contact: NAME}`, `{schedule: NAME}` or `{everyone: true}`; people with
    the ways to reach them, as `via: [email]`, or without."""

    receiver: str | None = None
    contact: str | None = None
    schedule: str | None = None
    everyone: Literal[True] | None = None
    via: Annotated[Words, BeforeValidator(_words)] = ()

    @model_validator(mode="after")
    def _one_of_them(self) -> "RecipientSection":
        named = (self.receiver, self.contact, self.schedule, self.everyone)
        if sum(key is not None for key in named) != 1:
            raise ValueError("name exactly one of receiver, contact, schedule and everyone")
        if self.receiver is not None and self.via:
            raise ValueError("receiver takes no via")
        return self

    def recipient(self) -> Recipient:
        return Recipient(
            receiver=self.receiver or "",
            contact=self.contact or "",
            schedule=self.schedule or "",
            everyone=bool(self.everyone),
            via=self.via,
        )


RecipientSections = Annotated[
    tuple[RecipientSection, ...], BeforeValidator(several), Field(min_length=1)
]


class StepSection(Section):
    notify: RecipientSections
    escalate_after: Interval | None = None


class FinalSection(Section):
    """After the last step of the last repeat."""

    notify: RecipientSections
    every: Interval
    for_: Interval = Field(alias="for")


class AckSection(Section):
    timeout: Interval | None = None
    remind: Interval | None = None
    on_timeout: Literal["restart", "resume", "next"] = "restart"


class GroupTimes(Section):
    """As Alertmanager's `group_wait` and `group_interval`: so long the first page waits for other
    alerts of the incident, and so far apart it pages for those that join."""

    wait: Duration = 15_000
    interval: Interval = 300_000

    def filled_from(self, every: "GroupTimes") -> "GroupTimes":
        """With the times of `every` policy where it has none of its own."""
        names = GroupTimes.model_fields.keys() - self.model_fields_set
        return self.model_copy(update={name: getattr(every, name) for name in names})


def _digest(value: int) -> int:
    if value < 60_000:
        raise ValueError("a digest comes once a minute at most; use 1m or more")
    return value


Digest = Annotated[Interval, AfterValidator(_digest)]


class PolicySection(Section):
    """Outside of `hours` it tells nobody of what is milder than P0, and waits for them."""

    hours: HoursSection | None = None
    recover_within: Interval | None = None
    group: GroupTimes | None = None
    steps: Annotated[tuple[StepSection, ...], BeforeValidator(several), Field(min_length=1)]
    repeat: int = Field(default=0, ge=0, le=100)
    final: FinalSection | None = None
    ack: AckSection = AckSection()
    snooze_max: Interval | None = None
    re_raise_after: Interval | None = None
    digest: Digest | None = None
    resolve_hold: Duration = 0
    page_on_new_instance: bool = True


def escalation_policy(name: str, section: PolicySection, group: GroupTimes) -> EscalationPolicy:
    """The section as the incident layer takes it; `group` holds when it has no times of its own."""
    own, final, ack = section.group, section.final, section.ack
    times = own.filled_from(group) if own else group
    return EscalationPolicy(
        name=name,
        steps=tuple(
            EscalationStep(_recipients(step.notify), step.escalate_after) for step in section.steps
        ),
        repeat=section.repeat,
        final=None
        if final is None
        else FinalStep(_recipients(final.notify), final.every, final.for_),
        ack=AckTimes(ack.timeout, ack.remind, ack.on_timeout),
        group_wait_ms=times.wait,
        recover_within_ms=section.recover_within,
        snooze_max_ms=section.snooze_max,
        re_raise_after_ms=section.re_raise_after,
        digest_ms=section.digest,
        resolve_hold_ms=section.resolve_hold,
        new_alerts_after_ms=times.interval if section.page_on_new_instance else None,
    )


def _recipients(sections: Iterable[RecipientSection]) -> tuple[Recipient, ...]:
    return tuple(dict.fromkeys(section.recipient() for section in sections))


def default_policies(
    first: list[dict[str, Any]], later: list[dict[str, Any]]
) -> Mapping[str, PolicySection]:
    """P0 to P4 with `first` in the first step and `later` in the others: the policies of a file
    that has none of its own."""

    def step(
        escalate_after: str | None = None, notify: list[dict[str, Any]] = later
    ) -> dict[str, Any]:
        after = {"escalate_after": escalate_after} if escalate_after else {}
        return {"notify": notify, **after}

    sections: dict[str, dict[str, Any]] = {
        "P0": {
            "recover_within": "5m",
            "group": {"wait": "0s"},
            "steps": [step("15m", first), step("15m"), step("15m")],
            "repeat": 3,
            "final": {"notify": later, "every": "15m", "for": "1d"},
            "ack": {"timeout": "30m", "remind": "10m"},
            "snooze_max": "30m",
            "re_raise_after": "15m",
        },
        "P1": {
            "recover_within": "15m",
            "steps": [step("1h", first), step("1h")],
            "repeat": 2,
            "ack": {"timeout": "2h", "remind": "1h"},
            "snooze_max": "4h",
        },
        "P2": {
            "recover_within": "1h",
            "group": {"wait": "30s"},
            "steps": [step("4h", first), step()],
            "ack": {"timeout": "8h", "remind": "4h"},
        },
        "P3": {"recover_within": "4h", "steps": [step(notify=first)]},
        "P4": {"recover_within": "1d", "steps": [step(notify=first)]},
    }
    return {name: PolicySection.model_validate(data) for name, data in sections.items()}
