"""An incident keeps the policy that it opened with; the receivers that it names may go meanwhile.

Who is told then: those whom the policy of that name tells now at the same step, else everybody whom
it tells, else everybody whom P0 tells.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.effects import Change, Effects, Record
from tocsin_alerting.incidents.escalation import page
from tocsin_alerting.incidents.incident import Incident, State
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.policy import Final, Policy, Severity, Step, Target
from tocsin_alerting.incidents.routing import IncidentConfig

Targets = tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration is another one; `reached` got a page since the incident (re)opened."""

    reached: frozenset[Target] = frozenset()


def lost_targets(incident: Incident, config: IncidentConfig) -> Targets:
    """Whom the incident would tell in vain, in the order of its policy."""
    policy = incident.policy
    named = [target for step in policy.steps for target in step.notify]
    named += policy.final.notify if policy.final else ()
    return tuple(dict.fromkeys(one for one in named if not config.is_addressee(one)))


def readdress(
    incident: Incident, event: Reconfigured, now_ms: int, config: IncidentConfig
) -> Change:
    """Replace whom it would tell in vain; who takes the place of an unreached one is paged now."""
    lost = lost_targets(incident, config)
    if not lost:
        return incident, ()
    before, mended = incident, replace(incident, policy=present_policy(incident, config))
    told: Effects = ()
    unreached = set(lost) - event.reached
    if mended.state is State.TRIGGERED and mended.step >= 0 and unreached & set(_running(before)):
        new = [one for one in _running(mended) if one not in _running(before)]
        note = f"instead of {names(lost)}, which the configuration no longer has"
        mended, told = page(mended, new, Reason.UNREACHABLE, note=note)
    data = {"lost": names(lost), "instead": names(_new(before, mended))}
    return mended, (Record("receivers_lost", data=data), *told)


def present_policy(incident: Incident, config: IncidentConfig) -> Policy:
    """The incident's policy with addressees that there are."""
    policy = incident.policy
    now = config.policies.get(policy.name) or config.policies[incident.severity.value]
    steps = tuple(
        Step(_mended(step.notify, _at(now, number), now, config), step.escalate_after_ms)
        for number, step in enumerate(policy.steps)
    )
    final = policy.final
    if final is not None:
        instead = now.final.notify if now.final else ()
        final = Final(_mended(final.notify, instead, now, config), final.every_ms, final.for_ms)
    return replace(policy, steps=steps, final=final)


def names(targets: Iterable[Target]) -> str:
    """`mail, phone (li)`: receivers, with the contact where one is named."""
    return ", ".join(
        f"{one.receiver} ({one.contact})" if one.contact else one.receiver for one in targets
    )


def _mended(targets: Targets, instead: Targets, now: Policy, config: IncidentConfig) -> Targets:
    kept = tuple(one for one in targets if config.is_addressee(one))
    if len(kept) == len(targets) > 0:
        return targets
    for choice in (instead, _everybody(now), _everybody(config.policies[Severity.P0.value])):
        found = (*kept, *(one for one in choice if config.is_addressee(one)))
        if found:
            return tuple(dict.fromkeys(found))
    return targets


def _at(policy: Policy, step: int) -> Targets:
    return policy.steps[min(step, len(policy.steps) - 1)].notify


def _everybody(policy: Policy) -> Targets:
    return tuple(dict.fromkeys(target for step in policy.steps for target in step.notify))


def _running(incident: Incident) -> Targets:
    """Whom the current step tells, and the repeats after the last one."""
    final = incident.policy.final
    after = final.notify if final and incident.exhausted else ()
    return (*incident.step_targets(), *after)


def _new(before: Incident, after: Incident) -> Targets:
    had = set(_everybody(before.policy))
    return tuple(one for one in _everybody(after.policy) if one not in had)
