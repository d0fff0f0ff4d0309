"""An incident: what people are told about, answer for, and see resolved.

It is frozen; `transitions.transition` makes the next one. All times are Unix milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationPolicy, Severity
from tocsin_alerting.rules.alert import Alert, moved
from tocsin_exporter.snapshot import Labels


class IncidentState(StrEnum):
    TRIGGERED = "TRIGGERED"  # nobody owns it, the escalation clock runs
    ACKED = "ACKED"  # owned, the escalation is stopped, the ack clock runs
    SNOOZED = "SNOOZED"  # quiet until a time
    RESOLVED = "RESOLVED"  # the reopen window runs
    CLOSED = "CLOSED"  # nothing happens any more


OPEN = frozenset({IncidentState.TRIGGERED, IncidentState.ACKED, IncidentState.SNOOZED})


class Condition(StrEnum):
    """What the alerts say; never derived from the incident's state, nor the other way round."""

    FIRING = "firing"
    CLEAR = "clear"
    UNKNOWN = "unknown"
    UNWATCHED = "unwatched"  # of a member alone: it ended because its rule or source is gone


ENDED_CONDITIONS = frozenset({Condition.CLEAR, Condition.UNWATCHED})


@dataclass(frozen=True, slots=True)
class Member:
    """One alert instance of an incident; `ended_at_ms` is None while it fires or is unknown.

    `origins` are those who say that it fires, or that nobody can tell.
    """

    alert: Alert
    source: Condition
    since_ms: int
    ended_at_ms: int | None = None
    origins: Mapping[str, Condition] = field(default_factory=dict)

    def shifted(self, delta_ms: int) -> "Member":
        ended = None if self.ended_at_ms is None else self.ended_at_ms + delta_ms
        alert = moved(self.alert, delta_ms)
        return replace(self, alert=alert, since_ms=self.since_ms + delta_ms, ended_at_ms=ended)


@dataclass(frozen=True, slots=True)
class Incident:
    """`number` is what people type, `uid` is unique across journals, `key` says what is grouped.

    `severity` is the worst so far and `policy` the one that it brought; neither is lowered before
    the incident resolves. `step` is -1 until the first step was due. `notices` counts the messages
    decided; `cycle` is the generation in which the incident opened or last reopened, and `paged`
    are those to whom a page was decided since. `muted_by` holds `inhibited:NUMBER`,
    `silence:ID`, `maintenance:NAME`. `closed_by_hand`: RESOLVED by a person while alerts fired.
    `began_at_ms` is kept of alerts that have fired anew since: see `began_ms`.
    """

    number: int
    uid: str
    key: str
    group_labels: Labels
    policy: EscalationPolicy
    severity: Severity
    opened_at_ms: int
    state: IncidentState = IncidentState.TRIGGERED
    source: Condition = Condition.FIRING
    generation: int = 1
    cycle: int = 1
    step: int = -1
    loop: int = 0
    notices: int = 0
    flaps: int = 0
    members: Mapping[str, Member] = field(default_factory=dict)
    muted_by: frozenset[str] = frozenset()
    paged: frozenset[Addressee] = frozenset()
    owner: str = ""
    resolution: str = ""
    closed_by_hand: bool = False
    slo_breached: bool = False
    unreachable: bool = False
    paged_at_ms: int | None = None
    acked_at_ms: int | None = None
    muted_at_ms: int | None = None
    exhausted_at_ms: int | None = None
    resolved_at_ms: int | None = None
    unknown_since_ms: int | None = None
    began_at_ms: int | None = None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def counts_as_firing(self) -> bool:
        """Whether what it says of its target still counts: open, or closed by hand alone."""
        return self.is_open or (self.state is IncidentState.RESOLVED and self.closed_by_hand)

    @property
    def muted(self) -> bool:
        return bool(self.muted_by)

    @property
    def exhausted(self) -> bool:
        return self.exhausted_at_ms is not None

    @property
    def active(self) -> tuple[Member, ...]:
        """The members that fire, or of which nobody can tell."""
        return tuple(
            member for member in self.members.values() if member.source not in ENDED_CONDITIONS
        )

    def step_addressees(self) -> tuple[Addressee, ...]:
        """Whom the current step tells."""
        steps = self.policy.steps
        return steps[min(max(self.step, 0), len(steps) - 1)].notify if steps else ()

    def own_addressees(self) -> tuple[Addressee, ...]:
        """The owner's ways in the policy; none when there is no owner, or it names them nowhere."""
        addressees = (target for step in self.policy.steps for target in step.notify)
        own = dict.fromkeys(target for target in addressees if target.contact == self.owner)
        return tuple(own) if self.owner else ()

    def owner_addressees(self) -> tuple[Addressee, ...]:
        """The owner's ways, else those of the current step."""
        return self.own_addressees() or self.step_addressees()

    def shifted(self, delta_ms: int) -> "Incident":
        """The same incident by a clock that reads `delta_ms` more: ages stay what they are."""
        moved = {name: at + delta_ms for name in TIMES if (at := getattr(self, name)) is not None}
        members = {name: member.shifted(delta_ms) for name, member in self.members.items()}
        return replace(self, members=members, **moved)


TIMES = (
    "opened_at_ms",
    "paged_at_ms",
    "acked_at_ms",
    "muted_at_ms",
    "exhausted_at_ms",
    "resolved_at_ms",
    "unknown_since_ms",
    "began_at_ms",
)


def began_ms(incident: Incident, now_ms: int) -> int | None:
    """When the last stretch began in which at least one of the alerts' conditions held."""
    spans = [
        (member.alert.active_at_ms, member.ended_at_ms or now_ms)
        for member in incident.members.values()
    ]
    if incident.began_at_ms is not None and spans:
        spans.append((incident.began_at_ms, max(end_ms for _, end_ms in spans)))
    began: int | None = None
    for start_ms, end_ms in sorted(spans, key=lambda span: -span[1]):
        if began is None or end_ms >= began:
            began = start_ms if began is None else min(began, start_ms)
    return began


def next_generation(incident: Incident) -> Incident:
    """The next generation: every timer of the one before is stale."""
    return replace(
        incident,
        generation=incident.generation + 1,
        exhausted_at_ms=None,
        unreachable=False,
    )
