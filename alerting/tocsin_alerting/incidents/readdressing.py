"""An incident keeps the policy that it opened with; the receivers that it names may go meanwhile.

Who is told then: those whom the policy of that name tells now at the same step, else everybody whom
it tells, else everybody whom P0 tells.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.escalation import addressees_now, page
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Recipient,
)
from tocsin_alerting.incidents.incident import (
    Change,
    Effects,
    Incident,
    IncidentState,
    Reason,
    Record,
)
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.severity import Severity

Recipients = tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration is another one; `reached_addressees` got a page since the incident
    (re)opened, `told_addressees` one of the current step."""

    reached_addressees: frozenset[Addressee] = frozenset()
    told_addressees: frozenset[Addressee] = frozenset()


RENAMED = "renamed_receivers"  # its key among what the journal remembers
_MOST_RENAMES = 1_000


def renames(remembered: str, fresh: Mapping[str, str], there: Collection[str]) -> str:
    """What is to be remembered once the receivers `fresh` have other names; `there` are those that
    the configuration has: whoever is called so now is nobody else."""
    known = {**json.loads(remembered or "{}"), **fresh}
    left = [(old, new) for old, new in known.items() if old not in there]
    return json.dumps(dict(left[-_MOST_RENAMES:]))


def also_called(addressees: Iterable[Addressee], remembered: str) -> frozenset[Addressee]:
    """Also by the names that their receivers have had since."""
    known, found = json.loads(remembered or "{}"), set(addressees)
    waiting = list(found)
    while waiting:
        one = waiting.pop()
        if (name := known.get(one.receiver)) and (new := replace(one, receiver=name)) not in found:
            found.add(new)
            waiting.append(new)
    return frozenset(found)


def lost_recipients(incident: Incident, config: IncidentConfig) -> Recipients:
    """Whom the incident would tell in vain, in the order of its policy."""
    policy = incident.policy
    named = [recipient for step in policy.steps for recipient in step.notify]
    named += policy.final.notify if policy.final else ()
    return tuple(dict.fromkeys(recipient for recipient in named if not config.is_known(recipient)))


def readdress(
    incident: Incident, event: Reconfigured, now_ms: int, config: IncidentConfig
) -> Change:
    """Replace whom it would tell in vain; who takes the place of an unreached one is paged now."""
    lost = lost_recipients(incident, config)
    if not lost:
        return incident, ()
    before, mended = incident, replace(incident, policy=current_policy(incident, config))
    notices: Effects = ()
    unreached = {who for who in lost if not _is_reached(who, event.reached_addressees)}
    if (
        mended.state is IncidentState.TRIGGERED
        and mended.step >= 0
        and unreached & set(_current_recipients(before))
    ):
        had = _current_recipients(before)
        new = [who for who in _current_recipients(mended) if who not in had]
        note = f"instead of {recipient_names(lost)}, no longer in the configuration"
        targets = addressees_now(mended, new, now_ms, config)
        if not event.told_addressees.issuperset(targets) or not targets:
            untold = [target for target in targets if target not in event.told_addressees]
            mended, notices = page(mended, untold, Reason.UNREACHABLE, note=note)
    data = {
        "lost": recipient_names(lost),
        "instead": recipient_names(_added_recipients(before, mended)),
    }
    return mended, (Record("receivers_lost", data=data), *notices)


def _is_reached(recipient: Recipient, reached: frozenset[Addressee]) -> bool:
    """Whether a page got to it; of a schedule or everyone, to any person."""
    if recipient.receiver:
        return Addressee(recipient.receiver, recipient.contact) in reached
    if recipient.contact:
        return any(addressee.contact == recipient.contact for addressee in reached)
    return any(addressee.contact for addressee in reached)


def current_policy(incident: Incident, config: IncidentConfig) -> EscalationPolicy:
    """The incident's policy with recipients that there are."""
    policy = incident.policy
    now = config.policies.get(policy.name) or config.policies[incident.severity.value]
    steps = tuple(
        EscalationStep(
            _replace_lost(step.notify, _step_recipients(now, number), now, config),
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


def recipient_names(recipients: Iterable[Recipient]) -> str:
    """`mail, phone (li), schedule primary`."""
    return ", ".join(map(str, recipients))


def _replace_lost(
    targets: Recipients, instead: Recipients, now: EscalationPolicy, config: IncidentConfig
) -> Recipients:
    reachable = tuple(who for who in targets if config.is_known(who))
    if len(reachable) == len(targets) > 0:
        return targets
    for choice in (
        instead,
        _all_recipients(now),
        _all_recipients(config.policies[Severity.P0.value]),
    ):
        present = (*reachable, *(who for who in choice if config.is_known(who)))
        if present:
            return tuple(dict.fromkeys(present))
    return targets


def _step_recipients(policy: EscalationPolicy, step: int) -> Recipients:
    return policy.steps[min(step, len(policy.steps) - 1)].notify


def _all_recipients(policy: EscalationPolicy) -> Recipients:
    return tuple(dict.fromkeys(target for step in policy.steps for target in step.notify))


def _current_recipients(incident: Incident) -> Recipients:
    """Whom the current step tells, and the repeats after the last one."""
    final = incident.policy.final
    after = final.notify if final and incident.exhausted else ()
    return (*incident.step_recipients(), *after)


def _added_recipients(before: Incident, after: Incident) -> Recipients:
    had = set(_all_recipients(before.policy))
    return tuple(who for who in _all_recipients(after.policy) if who not in had)
