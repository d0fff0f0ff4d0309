"""The sections that say who is told: contacts, steps, policies, and what they mean."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
)
from tocsin_alerting.notify.email.message import bare_address
from tocsin_alerting.settings import Duration, Interval, Section, several


class ContactSection(Section):
    """A person, and the ways to reach that person."""

    email: Annotated[str, AfterValidator(bare_address)]


class AddresseeSection(Section):
    """`{receiver: NAME}`, `{contact: NAME, via: [email]}` or `{everyone: true, via: [email]}`."""

    receiver: str | None = None
    contact: str | None = None
    everyone: Literal[True] | None = None
    via: Annotated[tuple[Literal["email"], ...], BeforeValidator(several)] = ()

    @model_validator(mode="after")
    def _one(self) -> "AddresseeSection":
        if sum(key is not None for key in (self.receiver, self.contact, self.everyone)) != 1:
            raise ValueError("name exactly one of receiver, contact and everyone")
        if (self.receiver is None) != bool(self.via):
            raise ValueError("contact and everyone need via: [email]; receiver takes no via")
        return self


AddresseeSections = Annotated[
    tuple[AddresseeSection, ...], BeforeValidator(several), Field(min_length=1)
]


class StepSection(Section):
    notify: AddresseeSections
    escalate_after: Interval | None = None


class FinalSection(Section):
    """After the last step of the last repeat."""

    notify: AddresseeSections
    every: Interval
    for_: Interval = Field(alias="for")


class AckSection(Section):
    timeout: Interval | None = None
    remind: Interval | None = None
    on_timeout: Literal["restart", "resume", "next"] = "restart"


def _no_interval(value: object) -> None:
    if value is not None:
        raise ValueError(
            "nothing repeats by group here: an alert that joins an incident is shown in it and "
            "pages nobody anew; leave it out, and say with escalate_after, ack.remind and "
            "final.every when people hear again"
        )


class GroupTimes(Section):
    wait: Duration = 15_000
    interval: Annotated[None, BeforeValidator(_no_interval)] = None


class PolicySection(Section):
    recover_within: Interval | None = None
    group: GroupTimes | None = None
    steps: Annotated[tuple[StepSection, ...], BeforeValidator(several), Field(min_length=1)]
    repeat: int = Field(default=0, ge=0, le=100)
    final: FinalSection | None = None
    ack: AckSection = AckSection()
    snooze_max: Interval | None = None
    re_raise_after: Interval | None = None


class AddresseeDirectory:
    """Turns addressees into targets; `mailer` is the receiver through which contacts are written
    to: the first of type email."""

    def __init__(self, contacts: Iterable[str], mailer: str) -> None:
        self._contacts, self._mailer = tuple(contacts), mailer

    def targets(self, addressees: Iterable[AddresseeSection]) -> tuple[Addressee, ...]:
        found = (target for section in addressees for target in self._targets(section))
        return tuple(dict.fromkeys(found))

    def _targets(self, addressee: AddresseeSection) -> Iterable[Addressee]:
        if addressee.receiver is not None:
            return (Addressee(addressee.receiver),)
        names = self._contacts if addressee.contact is None else (addressee.contact,)
        return (Addressee(self._mailer, name) for name in names)


def escalation_policy(
    name: str, section: PolicySection, group: GroupTimes, directory: AddresseeDirectory
) -> EscalationPolicy:
    """The section as the incident layer takes it; `group` holds when it has no times of its own."""
    times, final, ack = section.group or group, section.final, section.ack
    return EscalationPolicy(
        name=name,
        steps=tuple(
            EscalationStep(directory.targets(step.notify), step.escalate_after)
            for step in section.steps
        ),
        repeat=section.repeat,
        final=None
        if final is None
        else FinalStep(directory.targets(final.notify), final.every, final.for_),
        ack=AckTimes(ack.timeout, ack.remind, ack.on_timeout),
        group_wait_ms=times.wait,
        recover_within_ms=section.recover_within,
        snooze_max_ms=section.snooze_max,
        re_raise_after_ms=section.re_raise_after,
    )


def default_policies(notify: list[dict[str, Any]]) -> Mapping[str, PolicySection]:
    """P0 to P4 with `notify` in each step: the policies of a file that has none of its own."""

    def step(escalate_after: str | None = None) -> dict[str, Any]:
        return (
            {"notify": notify, "escalate_after": escalate_after}
            if escalate_after
            else {"notify": notify}
        )

    sections: dict[str, dict[str, Any]] = {
        "P0": {
            "recover_within": "5m",
            "group": {"wait": "0s"},
            "steps": [step("15m"), step("15m"), step("15m")],
            "repeat": 3,
            "final": {"notify": notify, "every": "15m", "for": "1d"},
            "ack": {"timeout": "30m", "remind": "10m"},
            "snooze_max": "30m",
            "re_raise_after": "15m",
        },
        "P1": {
            "recover_within": "15m",
            "steps": [step("1h"), step("1h")],
            "repeat": 2,
            "ack": {"timeout": "2h", "remind": "1h"},
            "snooze_max": "4h",
        },
        "P2": {
            "recover_within": "1h",
            "group": {"wait": "30s"},
            "steps": [step("4h"), step()],
            "ack": {"timeout": "8h", "remind": "4h"},
        },
        "P3": {"recover_within": "4h", "steps": [step()]},
        "P4": {"recover_within": "1d", "steps": [step()]},
    }
    return {name: PolicySection.model_validate(data) for name, data in sections.items()}
