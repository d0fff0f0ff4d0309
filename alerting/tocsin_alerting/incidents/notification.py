"""One message to one addressee, complete in itself: the outbox holds it, a channel sends it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why this message goes out."""

    OPENED = "opened"
    ESCALATED = "escalated"
    REPEAT = "repeat"
    FINAL = "final"
    WORSE = "worse"  # the severity was raised
    REOPENED = "reopened"
    UNMUTED = "unmuted"
    UNREACHABLE = "unreachable"  # the step before reached nobody
    ACKED = "acked"
    ACK_REMIND = "ack_remind"
    ACK_EXPIRED = "ack_expired"
    UNACKED = "unacked"
    SNOOZE_END = "snooze_end"
    SLO_BREACH = "slo_breach"
    MANUAL = "manual"
    UNKNOWN = "unknown"
    STILL_FIRING = "still_firing"
    CLOSED_BY_HAND = "closed_by_hand"  # it still fires
    CLOSED_UNKNOWN = "closed_unknown"  # by hand, while nobody can tell
    GIVEN_UP = "given_up"  # nobody could tell for too long
    UNWATCHED = "unwatched"  # its rule or source is gone
    FIRED_AND_RESOLVED = "fired_and_resolved"  # no page got through before it was over
    RESOLVED = "resolved"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class NotifiedAlert:
    """An alert as a message shows it; `ends_at_ms` is None while it fires. `active_at_ms` is when
    its condition began to hold, which is before it fired if its rule has a `for`."""

    status: str  # firing | resolved
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at_ms: int
    ends_at_ms: int | None
    value: float
    fingerprint: str
    generator_url: str = ""
    active_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """`key` is the same on every retry of one message and on no other message.

    `incident` is the number that people type; `receiver` names the channel, `contact` the person
    ("" when the receiver has its own addressees); `at_ms` is when the message was decided.
    `others` are told by the same step; `next_to` are told at `next_at_ms` if nobody answers (None:
    nothing follows). `not_recorded` says that the journal could not be written when this was sent.
    `began_at_ms` is when what it tells of began, if known: before the opening if the rules wait.
    `unanswered` are those who got a page before and did not answer, each with when it was decided.
    `truncated_alerts` counts the alerts that were left out of `alerts` to keep the message small.
    """

    key: str
    incident: int
    receiver: str
    contact: str
    reason: Reason
    severity: str
    status: str  # firing | resolved
    state: str  # the incident's state after the transition
    step: int
    loop: int
    title: str
    group_key: str
    group_labels: Mapping[str, str]
    alerts: tuple[NotifiedAlert, ...]
    opened_at_ms: int
    at_ms: int
    actor: str = ""
    note: str = ""
    others: tuple[str, ...] = ()
    next_at_ms: int | None = None
    next_to: tuple[str, ...] = ()
    not_recorded: bool = False
    truncated_alerts: int = 0
    external_url: str = ""
    began_at_ms: int | None = None
    unanswered: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `asdict`, and no copies: a start reads tens of thousands."""
        shown = {name: getattr(self, name) for name in _FIELDS}
        alerts = ({name: getattr(one, name) for name in _ALERT_FIELDS} for one in self.alerts)
        return {**shown, "alerts": tuple(alerts)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Notification":
        """The notification that `to_json` wrote."""
        alerts = tuple(NotifiedAlert(**alert) for alert in data["alerts"])
        people = {name: tuple(data.get(name, ())) for name in ("others", "next_to")}
        unanswered = tuple((name, at_ms) for name, at_ms in data.get("unanswered", ()))
        people |= {"unanswered": unanswered}
        return cls(**{**data, **people, "alerts": alerts, "reason": Reason(data["reason"])})


_FIELDS = tuple(one.name for one in fields(Notification))
_ALERT_FIELDS = tuple(one.name for one in fields(NotifiedAlert))
