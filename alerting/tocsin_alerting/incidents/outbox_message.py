"""One row of the outbox: a notification on its way, and how far it came.

PENDING ---> SENDING ---> SENT
   ^            |------> FAILED      refused for good, or for too long
   +------------+------> CANCELLED   answered or over before anybody got it
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.rules.severity import Severity


@dataclass(frozen=True, slots=True)
class Delivered:
    """Delivered; `reference` is what the other side calls it, `detail` its answer in short.
    `unsent`: there was nothing to send, and nobody was asked."""

    reference: str = ""
    detail: str = ""
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Not delivered, worth another try: not before `not_before_ms` when the answer named a time.
    `retries`: after so many of them the answer counts as a refusal; None for any number."""

    error: str
    not_before_ms: int | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """Refused as if for good: a wrong password, a bad certificate, 4xx. It may be mended soon, so
    it is tried again, but nobody waits for it. `final`: nobody is there, and no try helps. `gone`
    stands for the address at which nobody is to ask any more; "" where another message may.
    """

    error: str
    final: bool = False
    gone: str = ""


Outcome = Delivered | RetryAt | Permanent


def outcome_of_attempt(outcome: Outcome, attempt: int) -> Outcome:
    """What it means for a message that was tried `attempt` times, from 1."""
    if isinstance(outcome, RetryAt) and outcome.retries is not None and attempt > outcome.retries:
        return Permanent(outcome.error)
    return outcome


_REPLACED = "replaced by "
LEASE_MS = 30_000
GIVE_UP_MS = 24 * 3_600_000
MAX_RETRY_AFTER_MS = 3_600_000
# After each refusal that may be mended: 15, 30 and 60 s after the first, then each minute for ten;
# of milder severities 1, 5, 10, 30 and 60 min after it.
URGENT_WAITS_MS = (15_000, 15_000, 30_000, *(60_000,) * 10)
REFUSED_WAITS_MS = (60_000, 240_000, 300_000, 1_200_000, 1_800_000)
URGENT_SEVERITIES = frozenset({Severity.P0.value, Severity.P1.value})
END_REASONS = frozenset(
    {Reason.RESOLVED, Reason.FIRED_AND_RESOLVED, Reason.GIVEN_UP, Reason.UNWATCHED}
)
NOTICE_REASONS = frozenset(
    {
        Reason.ACKED,
        Reason.CLOSED_BY_HAND,
        Reason.CLOSED_UNKNOWN,
        Reason.GIVEN_UP,
        Reason.UNWATCHED,
        Reason.FIRED_AND_RESOLVED,
        Reason.RESOLVED,
        Reason.SILENCE_ENDS,
        Reason.TEST,
    }
)


class MessageState(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"


WAITING_STATES = frozenset({MessageState.PENDING, MessageState.SENDING})


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """`withdrawn`: on its way when it was no longer wanted; a failure is not tried again then.

    `refusals` counts the attempts that ended as if for good. `late`: a page that was not answered
    with success by `deliver_by_ms`; it is tried all the same, and nobody waits for it.
    """

    id: int
    notification: Notification
    generation: int
    state: MessageState = MessageState.PENDING
    attempts: int = 0
    next_at_ms: int = 0
    lease_until_ms: int | None = None
    withdrawn: bool = False
    last_error: str = ""
    reference: str = ""
    refusals: int = 0
    deliver_by_ms: int | None = None
    late: bool = False

    @property
    def key(self) -> str:
        return self.notification.key

    @property
    def addressee(self) -> Addressee:
        return Addressee(self.notification.receiver, self.notification.contact)

    @property
    def is_page(self) -> bool:
        """Whether it says that something fires."""
        return self.notification.reason not in NOTICE_REASONS

    @property
    def is_urgent(self) -> bool:
        return self.notification.severity in URGENT_SEVERITIES

    @property
    def is_lost(self) -> bool:
        """Whether nobody is to wait for it: it failed, or was refused or late and is tried on."""
        refused = (self.refusals > 0 or self.late) and self.state is not MessageState.SENT
        return refused or self.state is MessageState.FAILED

    def shifted(self, delta_ms: int) -> "OutboxMessage":
        """The same by a clock that reads `delta_ms` more; what it says stays as it is."""
        lease_ms = None if self.lease_until_ms is None else self.lease_until_ms + delta_ms
        by_ms = None if self.deliver_by_ms is None else self.deliver_by_ms + delta_ms
        next_ms = self.next_at_ms + delta_ms
        return replace(self, next_at_ms=next_ms, lease_until_ms=lease_ms, deliver_by_ms=by_ms)

    @property
    def due_at_ms(self) -> int | None:
        """When it may be claimed; None when it never may be again."""
        if self.state is MessageState.SENDING:
            return self.lease_until_ms
        return self.next_at_ms if self.state is MessageState.PENDING else None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is the caller's to send: report the outcome, or it is sent again later.
    `items`: those that a digest stands for."""

    key: str
    notification: Notification
    attempt: int
    items: tuple["Delivery", ...] = ()


def claimed(message: OutboxMessage, now_ms: int) -> OutboxMessage:
    return replace(
        message,
        state=MessageState.SENDING,
        attempts=message.attempts + 1,
        lease_until_ms=now_ms + LEASE_MS,
    )


def after_attempt(
    message: OutboxMessage, outcome: Outcome, now_ms: int, jitter: float
) -> OutboxMessage:
    """The message after an attempt that ended in `outcome`; `jitter` is in [0, 1)."""
    free = replace(message, lease_until_ms=None)
    match outcome:
        case Delivered():
            return replace(
                free, state=MessageState.SENT, reference=outcome.reference, last_error=""
            )
        case Permanent(final=True):
            return replace(free, state=MessageState.FAILED, last_error=outcome.error)
        case Permanent():
            refused = replace(_failed_with(free, outcome.error), refusals=free.refusals + 1)
            return _retry_refused(refused, now_ms, jitter)
        case RetryAt():
            return _retry_later(_failed_with(free, outcome.error), outcome, now_ms, jitter)


def is_awaited(message: OutboxMessage, attempt: int, outcome: Outcome) -> bool:
    """Whether the outcome of that attempt still tells something; a late success always does."""
    waiting = message.state in (MessageState.PENDING, MessageState.SENDING)
    current = message.state is MessageState.SENDING and message.attempts == attempt
    return current or (waiting and isinstance(outcome, Delivered))


def history_event(
    message: OutboxMessage, outcome: Outcome, now_ms: int
) -> tuple[str, dict[str, object]]:
    """The event and the data of the line that says how an attempt ended; who was not asked at all
    is not told."""
    sent = message.notification
    data: dict[str, object] = {
        "receiver": sent.receiver,
        "contact": sent.contact,
        "reason": sent.reason.value,
        "severity": str(sent.severity),
    }
    if sent.digest_at_ms is not None:
        data["digest"] = True  # one of several lines about one message
    if isinstance(outcome, Delivered) and outcome.unsent:
        return "delivery_skipped", data | {"why": outcome.detail}
    if message.state is MessageState.SENT:
        waited_ms = max(0, now_ms - sent.at_ms)
        return "delivered", data | {"reference": message.reference, "waited_ms": waited_ms}
    if message.state is MessageState.FAILED:
        return "delivery_failed", data | {"error": message.last_error, "tries": message.attempts}
    data |= {"attempt": message.attempts, "error": message.last_error}
    if isinstance(outcome, Permanent):
        data["refused"] = True
    if message.state is MessageState.PENDING:
        data["next_at_ms"] = message.next_at_ms
    return "delivery_retry", data


def replaced_by(key: str) -> str:
    """Why a message was withdrawn whose news are in another one."""
    return f"{_REPLACED}{key}"


def _failed_with(message: OutboxMessage, error: str) -> OutboxMessage:
    """What took its place meanwhile says more than why it failed."""
    replaced = message.withdrawn and message.last_error.startswith(_REPLACED)
    return replace(message, last_error=message.last_error if replaced else error)


def _retry_later(
    message: OutboxMessage, outcome: RetryAt, now_ms: int, jitter: float
) -> OutboxMessage:
    if message.withdrawn:
        return replace(message, state=MessageState.CANCELLED)
    urgent = message.is_urgent and message.is_page
    sent = message.notification
    due_ms = sent.at_ms if sent.digest_at_ms is None else sent.digest_at_ms
    if not urgent and now_ms - due_ms >= GIVE_UP_MS:
        return replace(message, state=MessageState.FAILED)
    next_at_ms = now_ms + backoff_ms(message.attempts, jitter, urgent=message.is_urgent)
    if outcome.not_before_ms is not None:
        next_at_ms = min(outcome.not_before_ms, now_ms + MAX_RETRY_AFTER_MS)
    return replace(message, state=MessageState.PENDING, next_at_ms=max(next_at_ms, now_ms))


def _retry_refused(message: OutboxMessage, now_ms: int, jitter: float) -> OutboxMessage:
    """Refused, and tried again: what is wrong with a server is often mended within minutes."""
    if message.withdrawn:
        return replace(message, state=MessageState.CANCELLED)
    waits = URGENT_WAITS_MS if message.is_urgent else REFUSED_WAITS_MS
    if message.refusals > len(waits):
        return replace(message, state=MessageState.FAILED)
    next_at_ms = now_ms + _shortened(waits[message.refusals - 1], jitter)
    return replace(message, state=MessageState.PENDING, next_at_ms=next_at_ms)


def withdrawn(message: OutboxMessage) -> OutboxMessage:
    """What nobody got is cancelled; what is on its way may still arrive."""
    if message.state is MessageState.PENDING:
        return replace(message, state=MessageState.CANCELLED)
    return replace(message, withdrawn=True) if message.state is MessageState.SENDING else message


def lease_expired(message: OutboxMessage, now_ms: int) -> OutboxMessage:
    """Nobody knows whether it arrived: send it again with the same key, if it is still wanted."""
    state = MessageState.CANCELLED if message.withdrawn else MessageState.PENDING
    failed = _failed_with(message, "the sender did not report back")
    return replace(failed, state=state, lease_until_ms=None, next_at_ms=now_ms)


def backoff_ms(attempts: int, jitter: float, *, urgent: bool) -> int:
    """The wait after the `attempts`-th failure (from 1): doubling from 1 s, to 1 or 10 minutes.

    `jitter` in [0, 1) takes off up to a fifth, so that no message waits longer than planned.
    """
    longest_ms = 60_000 if urgent else 600_000
    planned = min(1000 << min(attempts - 1, 20), longest_ms)
    return _shortened(planned, jitter)


def _shortened(planned_ms: int, jitter: float) -> int:
    return round(planned_ms * (1 - 0.2 * jitter))
