"""An incident keeps the policy that it opened with; the receivers that it names may go meanwhile.

Who is told then: those whom the policy of that name tells now at the same step, else everybody whom
it tells, else everybody whom P0 tells.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.effects import Change, Effects, Record
from tocsin_alerting.incidents.escalation import page
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Severity,
)
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.routing import IncidentConfig

Addressees = tuple[Addressee, ...]


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration is another one; `reached` got a page since the incident (re)opened."""

    reached_addressees: frozenset[Addressee] = frozenset()


def lost_addressees(incident: Incident, config: IncidentConfig) -> Addressees:
    """Whom the incident would tell in vain, in the order of its policy."""
    policy = incident.policy
    named = [target for step in policy.steps for target in step.notify]
    named += policy.final.notify if policy.final else ()
    return tuple(
        dict.fromkeys(addressee for addressee in named if not config.is_addressee(addressee))
    )


def readdress(
    incident: Incident, event: Reconfigured, now_ms: int, config: IncidentConfig
) -> Change:
    """Replace whom it would tell in vain; who takes the place of an unreached one is paged now."""
    lost = lost_addressees(incident, config)
    if not lost:
        return incident, ()
    before, mended = incident, replace(incident, policy=current_policy(incident, config))
    notices: Effects = ()
    unreached = set(lost) - event.reached_addressees
    if (
        mended.state is IncidentState.TRIGGERED
        and mended.step >= 0
        and unreached & set(_current_addressees(before))
    ):
        new = [
            addressee
            for addressee in _current_addressees(mended)
            if addressee not in _current_addressees(before)
        ]
        note = f"instead of {addressee_names(lost)}, which the configuration no longer has"
        mended, notices = page(mended, new, Reason.UNREACHABLE, note=note)
    data = {
        "lost": addressee_names(lost),
        "instead": addressee_names(_added_addressees(before, mended)),
    }
    return mended, (Record("receivers_lost", data=data), *notices)


def current_policy(incident: Incident, config: IncidentConfig) -> EscalationPolicy:
    """The incident's policy with addressees that there are."""
    policy = incident.policy
    now = config.policies.get(policy.name) or config.policies[incident.severity.value]
    steps = tuple(
        EscalationStep(
            _replace_lost(step.notify, _step_addressees(now, number), now, config),
            step.escalate_after_ms,
        )
        for number, step in enumerate(policy.steps)
    )
    final = policy.final
    if final is not None:
        instead = now.final.notify if now.final else ()
        final = FinalStep(
            _replace_lost(final.notify, instead, now, config), final.every_ms, final.for_ms
        )
    return replace(policy, steps=steps, final=final)


def addressee_names(targets: Iterable[Addressee]) -> str:
    """`mail, phone (li)`: receivers, with the contact where one is named."""
    return ", ".join(
        f"{addressee.receiver} ({addressee.contact})" if addressee.contact else addressee.receiver
        for addressee in targets
    )


def _replace_lost(
    targets: Addressees, instead: Addressees, now: EscalationPolicy, config: IncidentConfig
) -> Addressees:
    kept = tuple(addressee for addressee in targets if config.is_addressee(addressee))
    if len(kept) == len(targets) > 0:
        return targets
    for choice in (
        instead,
        _all_addressees(now),
        _all_addressees(config.policies[Severity.P0.value]),
    ):
        present = (*kept, *(addressee for addressee in choice if config.is_addressee(addressee)))
        if present:
            return tuple(dict.fromkeys(present))
    return targets


def _step_addressees(policy: EscalationPolicy, step: int) -> Addressees:
    return policy.steps[min(step, len(policy.steps) - 1)].notify


def _all_addressees(policy: EscalationPolicy) -> Addressees:
    return tuple(dict.fromkeys(target for step in policy.steps for target in step.notify))


def _current_addressees(incident: Incident) -> Addressees:
    """Whom the current step tells, and the repeats after the last one."""
    final = incident.policy.final
    after = final.notify if final and incident.exhausted else ()
    return (*incident.step_addressees(), *after)


def _added_addressees(before: Incident, after: Incident) -> Addressees:
    had = set(_all_addressees(before.policy))
    return tuple(addressee for addressee in _all_addressees(after.policy) if addressee not in had)
