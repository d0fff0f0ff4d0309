"""An incident, its alerts and timers, and the changes that its state machine asks for.

An incident is what people are told about, answer for, and see resolved. It is frozen;
`transitions.transition` makes the next one, and says what has to be done beside that: messages,
timers, entries in the history, nothing else. All times are Unix milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    Recipient,
)
from tocsin_alerting.rules.alert import Alert, moved
from tocsin_alerting.rules.severity import Severity
from tocsin_exporter.snapshot import Labels

ASSIGNEE_ANSWERS_MS = 15 * 60_000  # at most, before an assignment counts as not answered


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
    are those to whom a page was decided since. `muted_by` holds `inhibited:NUMBER`, `silence:ID`
    and `maintenance:NAME`; `silenced` are the fingerprints of alerts that silences and windows
    match: nobody hears of those, be the incident muted or not.
    `closed_by_hand`: RESOLVED by a person while alerts fired.
    `assigned_by` gave it to an `owner` who has not acknowledged it himself ("": he has).
    `began_at_ms` is kept of alerts that have fired anew since: see `began_ms`.
    `flaps` counts how often it fired again; `flapped` are the last of those times, `damped` how
    often in a row that was too often, and `hold_until_ms` is when it resolves if it stays clear;
    `held` are the kinds of timers that were due meanwhile (damping.py). `told_at_ms`: the last
    page. `ended_as` is the reason of its end, "" while there is none.
    `storm` is the number of the storm that it is one of (0: none), its own if it is a storm;
    `told_singly`: one of it, and told all the same. Of a storm `joined` counts those that are told
    of by it, `told_joined` how many were there when it last paged, and `lost` how many of them
    ended without being seen clear.
    `times_in_24h` is how often it fired within a day when it opened or reopened, that included.
    `drill`: nothing is wrong; it pages all the same, and counts in no statistics.
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
    times_in_24h: int = 1
    members: Mapping[str, Member] = field(default_factory=dict)
    muted_by: frozenset[str] = frozenset()
    silenced: frozenset[str] = frozenset()
    paged: frozenset[Addressee] = frozenset()
    owner: str = ""
    assigned_by: str = ""
    resolution: str = ""
    ended_as: str = ""
    closed_by_hand: bool = False
    flapping: bool = False
    flapped: tuple[int, ...] = ()
    damped: int = 0
    held: frozenset[str] = frozenset()
    slo_breached: bool = False
    unreachable: bool = False
    drill: bool = False
    paged_at_ms: int | None = None
    told_at_ms: int | None = None
    hold_until_ms: int | None = None
    acked_at_ms: int | None = None
    muted_at_ms: int | None = None
    exhausted_at_ms: int | None = None
    resolved_at_ms: int | None = None
    unknown_since_ms: int | None = None
    began_at_ms: int | None = None
    storm: int = 0
    told_singly: bool = False
    joined: int = 0
    told_joined: int = 0
    lost: int = 0

    @property
    def is_storm(self) -> bool:
        return self.storm == self.number

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
    def in_hold(self) -> bool:
        """Open, and all its alerts are clear: nobody hears of it unless it fires again."""
        return self.hold_until_ms is not None

    @property
    def exhausted(self) -> bool:
        return self.exhausted_at_ms is not None

    @property
    def active(self) -> tuple[Member, ...]:
        """The members that fire, or of which nobody can tell."""
        return tuple(
            member for member in self.members.values() if member.source not in ENDED_CONDITIONS
        )

    @property
    def loud(self) -> tuple[Member, ...]:
        """The active members that no silence and no maintenance window matches."""
        if not self.silenced:
            return self.active
        return tuple(m for m in self.active if m.alert.fingerprint not in self.silenced)

    def step_recipients(self) -> tuple[Recipient, ...]:
        """Whom the current step tells."""
        steps = self.policy.steps
        return steps[min(max(self.step, 0), len(steps) - 1)].notify if steps else ()

    @property
    def ack_timeout_ms(self) -> int | None:
        """How long an acknowledgement lasts (None: for ever). That of an assignee who has not
        acknowledged himself lasts as long as the step would wait."""
        timeout_ms = self.policy.ack.timeout_ms
        if not self.assigned_by:
            return timeout_ms
        steps = self.policy.steps
        wait_ms = steps[min(max(self.step, 0), len(steps) - 1)].escalate_after_ms if steps else None
        limits = (limit for limit in (timeout_ms, wait_ms) if limit is not None)
        return min((ASSIGNEE_ANSWERS_MS, *limits))

    def shifted(self, delta_ms: int) -> "Incident":
        """The same incident by a clock that reads `delta_ms` more: ages stay what they are."""
        moved = {name: at + delta_ms for name in TIMES if (at := getattr(self, name)) is not None}
        members = {name: member.shifted(delta_ms) for name, member in self.members.items()}
        flapped = tuple(at + delta_ms for at in self.flapped)
        return replace(self, members=members, flapped=flapped, **moved)


TIMES = tuple(name for name in Incident.__dataclass_fields__ if name.endswith("_ms"))
"""The fields that a clock step moves."""


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
        held=incident.held & OUTLIVES_GENERATION,
    )


class TimerKind(StrEnum):
    GROUP_WAIT = "group_wait"
    STEP = "step"
    FINAL = "final"
    HOURS = "hours"  # until its people may be told, its current step waits
    ACK_REMIND = "ack_remind"
    ACK_TIMEOUT = "ack_timeout"
    SNOOZE_END = "snooze_end"
    REOPEN_END = "reopen_end"
    RE_RAISE = "re_raise"
    SLO_WARN = "slo_warn"
    SLO_BREACH = "slo_breach"
    SOURCE_UNKNOWN = "source_unknown"
    UNKNOWN_MAX = "unknown_max"
    HOLD_END = "hold_end"  # it has been clear for long enough
    FLAP_END = "flap_end"  # it has fired for long enough
    NEW_ALERTS = "new_alerts"  # what joined since the last page is told


OUTLIVES_GENERATION = frozenset(
    {
        TimerKind.SLO_WARN,
        TimerKind.SLO_BREACH,
        TimerKind.SOURCE_UNKNOWN,
        TimerKind.UNKNOWN_MAX,
        TimerKind.HOLD_END,
        TimerKind.FLAP_END,
        TimerKind.NEW_ALERTS,
    }
)


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer of an incident; of each kind there is at most one. Times are Unix milliseconds."""

    kind: TimerKind
    due_at_ms: int
    generation: int

    def is_live(self, generation: int) -> bool:
        """Whether it still means something: an answer or a new start raises the generation."""
        return self.kind in OUTLIVES_GENERATION or self.generation == generation

    def shifted(self, delta_ms: int) -> "Timer":
        return replace(self, due_at_ms=self.due_at_ms + delta_ms)


TimersByKind = dict[TimerKind, Timer]


class Reason(StrEnum):
    """Why this message goes out."""

    OPENED = "opened"
    ESCALATED = "escalated"
    REPEAT = "repeat"
    FINAL = "final"
    WORSE = "worse"  # the severity was raised
    REOPENED = "reopened"
    FLAPPING = "flapping"  # it fires and clears too often
    FLAP_ENDED = "flap_ended"  # it fires, and stays so
    NEW_ALERTS = "new_alerts"  # others of its alerts fire
    UNMUTED = "unmuted"
    UNREACHABLE = "unreachable"  # the step before reached nobody
    ACKED = "acked"
    ACK_REMIND = "ack_remind"
    ACK_EXPIRED = "ack_expired"
    UNACKED = "unacked"
    ASSIGNED = "assigned"  # to the one who gets the message
    SNOOZE_END = "snooze_end"
    SLO_BREACH = "slo_breach"
    MANUAL = "manual"
    UNKNOWN = "unknown"
    STILL_FIRING = "still_firing"
    STORM_GREW = "storm_grew"  # more incidents opened in it since its last page
    CLOSED_BY_HAND = "closed_by_hand"  # it still fires
    CLOSED_UNKNOWN = "closed_unknown"  # by hand, while nobody can tell
    GIVEN_UP = "given_up"  # nobody could tell for too long
    UNWATCHED = "unwatched"  # its rule or source is gone
    FIRED_AND_RESOLVED = "fired_and_resolved"  # no page got through before it was over
    RESOLVED = "resolved"
    DIGEST = "digest"  # of several incidents, as one message
    SILENCE_ENDS = "silence_ends"  # of no incident: something still fires under it
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell `targets`; `serial` counts the incident's messages, so that no two keys are equal."""

    reason: Reason
    targets: tuple[Addressee, ...]
    serial: int
    actor: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Replaces the timer of the same kind."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of the history."""

    event: str
    actor: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WithdrawPages:
    """Pages that nobody received yet need not go out: somebody answered, or it is over."""


Effect = Notify | SetTimer | Record | WithdrawPages
Effects = tuple[Effect, ...]
Change = tuple[Incident, Effects]
"""The incident after a transition, and what has to be done."""
