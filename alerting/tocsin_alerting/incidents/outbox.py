"""The messages of every incident that is not closed, and which of them may go out now.

Delivery is at least once, with the same key on every try. Messages of one incident to one addressee
go one at a time, so that nobody reads "resolved" before "firing".
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from tocsin_alerting.incidents.deadlines import DeliveryDeadlines
from tocsin_alerting.incidents.digests import ready_with
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import (
    END_REASONS,
    NOTICE_REASONS,
    WAITING_STATES,
    MessageState,
    OutboxMessage,
    claimed,
    lease_expired,
    replaced_by,
    withdrawn,
)
from tocsin_alerting.incidents.rate_budget import RateBudgets
from tocsin_alerting.incidents.ready_queue import ReadyQueue

MayGoAt = Callable[[OutboxMessage], int | None]
IncidentAddressee = tuple[int, Addressee]
AlertKind = tuple[str, str]  # severity, alertname
QueueOrder = tuple[str, int, int]  # severity, turn, id
RATE_WAIT = "it waits for the rate limit"  # also after a restart one knows that it did
MAX_ITEMS = 1_000  # of a digest; the rest is another one
MAX_SENDING = 32  # of a receiver that are claimed at once; P0 and P1 may be twice as many
CLOSED_REASONS = frozenset({Reason.CLOSED_BY_HAND, Reason.CLOSED_UNKNOWN})
REMARK_REASONS = frozenset({Reason.SLO_BREACH, Reason.UNKNOWN})
# Each says how it stands: of those that nobody got yet, the newest is the truth.
STATE_REASONS = frozenset({Reason.ACKED, *CLOSED_REASONS, *END_REASONS})


class Outbox:
    """`changed` is called with every message that is new or different, and whether only its state
    is.

    `most_sending` messages of a receiver are handed out at a time; the rest can still be withdrawn.
    The worst severity goes first. Of one severity a receiver gets alternately the one whose turn it
    is and the newest page: five thousand messages hold up neither the first of another alert nor
    the next of the same. Turns go round the alerts. What is over one of the `budgets` waits.
    """

    def __init__(
        self,
        changed: Callable[[OutboxMessage, bool], None],
        most_sending: int = MAX_SENDING,
        budgets: RateBudgets | None = None,
    ) -> None:
        self._changed = changed
        self.budgets = budgets or RateBudgets({}, {})
        self.deadlines = DeliveryDeadlines(self.get)
        self._max_sending = most_sending
        self._messages: dict[str, OutboxMessage] = {}
        self._waiting: dict[str, None] = {}
        self._by_incident: dict[int, dict[str, None]] = {}
        self._due_heap: list[tuple[int, str, int | None]] = []  # when, key, the message's due time
        self._ready: dict[str, ReadyQueue] = {}  # by receiver
        self._on_hold: dict[str, None] = {}
        self._sending_key: dict[IncidentAddressee, str] = {}
        self._queued_behind: dict[IncidentAddressee, list[str]] = {}
        self._sending: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        self._next_turn: dict[AlertKind, int] = {}
        self._turn: Counter[str] = Counter()
        self._batches: dict[str, int] = {}  # what was decided in one moment is a changeset
        self._last_batch, self._last_at_ms, self._claims = 0, 0, 0

    def __len__(self) -> int:
        return len(self._messages)

    def load(self, message: OutboxMessage) -> None:
        """Take a message that is already recorded."""
        before = self._messages.get(message.key)
        self._messages[message.key] = message
        self._assign_turn(message)
        self._track_sending(message, before)
        self._schedule(message)
        self.deadlines.put(message, before)
        self._by_incident.setdefault(message.notification.incident, {})[message.key] = None
        if message.state in WAITING_STATES:
            self._waiting[message.key] = None
        else:
            for kept in (self._waiting, self._turns, self._batches, self._on_hold):
                kept.pop(message.key, None)
            if message.state is MessageState.SENT:
                self.budgets.forget(message.key)

    def put(self, message: OutboxMessage) -> None:
        before = self._messages.get(message.key)
        self.load(message)
        self._changed(message, before is not None and _same_content(message, before))

    def get(self, key: str) -> OutboxMessage | None:
        return self._messages.get(key)

    def of_incident(self, incident: int) -> list[OutboxMessage]:
        return [self._messages[key] for key in self._by_incident.get(incident, ())]

    def waiting(self) -> list[OutboxMessage]:
        return [self._messages[key] for key in self._waiting]

    def post(self, message: OutboxMessage) -> None:
        """Add a message. A newer page makes older ones that nobody got yet pointless, and what says
        how it stands now what said so before.

        A remark (the recover target was missed, the state is unknown) makes way for such a page.
        """
        self._withdraw_outdated(message)
        unsent = [
            other for other in self.of_incident(message.notification.incident) if _is_unsent(other)
        ]
        pages = [other for other in unsent if other.is_page and _same_addressee(other, message)]
        if message.notification.reason in REMARK_REASONS and pages:
            self.put(replace(withdrawn(message), last_error=f"included in {pages[0].key}"))
            return
        if message.is_page:
            self._replace_pages(message)
        self.put(message)

    def _replace_pages(self, newer: OutboxMessage) -> None:
        """Also what is on its way, if it fails: else both would wait for a receiver that hangs."""
        for older in self.of_incident(newer.notification.incident):
            waits = older.is_page and older.state in WAITING_STATES
            if waits and _same_addressee(older, newer):
                self.put(replace(withdrawn(older), last_error=replaced_by(newer.key)))

    def _withdraw_outdated(self, message: OutboxMessage) -> None:
        """ "Closed, still firing" must not arrive after what came of it, nor "resolved" after that
        it fires again. "Acknowledged" that nobody got yet is of no use after either."""
        sent = message.notification
        outdated = CLOSED_REASONS | END_REASONS if message.is_page else CLOSED_REASONS
        newer = message.is_page or sent.reason in STATE_REASONS
        for older in self.of_incident(sent.incident) if sent.incident else ():
            waits = older.notification.reason in outdated and older.state in WAITING_STATES
            acked = older.notification.reason is Reason.ACKED
            waits |= newer and acked and older.state in WAITING_STATES
            if waits and _same_addressee(older, message):
                self.put(replace(withdrawn(older), last_error=replaced_by(message.key)))

    def withdraw_pages(self, incident: int) -> None:
        for message in self.of_incident(incident):
            if message.is_page and message.state in WAITING_STATES:
                self.put(withdrawn(message))

    def reached(self, incident: int, cycle: int, since_ms: int = 0) -> set[Addressee]:
        """Who got a page in this cycle, of `since_ms` or later, or is getting one."""
        arrived = (MessageState.SENT, MessageState.SENDING)
        return {
            message.addressee
            for message in self.of_incident(incident)
            if message.is_page and message.generation >= cycle and message.state in arrived
            if message.notification.at_ms >= since_ms
        }

    def thread(self, message: OutboxMessage) -> str:
        """What the other side called the first message about the same incident to the same
        addressee; "" when none arrived, or it gave no name."""
        if not message.notification.incident:
            return ""
        others = self.of_incident(message.notification.incident)
        named = (one for one in others if one.reference and _same_addressee(one, message))
        first = min(named, key=lambda one: one.id, default=None)
        return first.reference if first else ""

    def informed(self, incident: int, cycle: int) -> set[Addressee]:
        """Who believes that it fires: those reached, and whom nobody told of an earlier end."""
        last: dict[Addressee, bool] = {}
        for message in self.of_incident(incident):
            if message.state is MessageState.SENT and (
                message.is_page or message.notification.reason in END_REASONS
            ):
                last[message.addressee] = message.is_page
        return self.reached(incident, cycle) | {target for target, page in last.items() if page}

    def paged(self, incident: int, cycle: int) -> dict[Addressee, int]:
        """Who has got a page in this cycle, and when the first one was decided."""
        first: dict[Addressee, int] = {}
        for message in self.of_incident(incident):
            if (
                message.is_page
                and message.generation >= cycle
                and message.state is MessageState.SENT
            ):
                at_ms = message.notification.at_ms
                first[message.addressee] = min(at_ms, first.get(message.addressee, at_ms))
        return first

    def missed(self, incident: int, cycle: int) -> set[Addressee]:
        """Whom this cycle's pages were tried for in vain, without being refused for good."""
        pages = [
            message
            for message in self.of_incident(incident)
            if message.is_page and message.generation >= cycle
        ]
        tried = {m.addressee for m in pages if m.attempts or self._was_held_up(m)}
        refused = {message.addressee for message in pages if _is_refused(message)}
        return tried - refused - self.informed(incident, cycle)

    def _was_held_up(self, message: OutboxMessage) -> bool:
        """By its budget, or by a receiver that has taken no other for some time."""
        hung = not self._has_room(message) and not message.notification.digest_at_ms
        return message.key in self.budgets.delayed or message.last_error == RATE_WAIT or hung

    def retract(self, failed: OutboxMessage, cycle: int) -> None:
        """The page never arrived: what was to follow it to the same addressee must not either.

        But whom no try reached before it was over is told that it fired and has resolved.
        """
        if failed.addressee in self.informed(failed.notification.incident, cycle):
            return
        for message in self.of_incident(failed.notification.incident):
            if message.is_page or not _same_addressee(message, failed) or not _is_unsent(message):
                continue
            if message.notification.reason is Reason.RESOLVED and not _is_refused(failed):
                notification = replace(message.notification, reason=Reason.FIRED_AND_RESOLVED)
                self.put(replace(message, notification=notification))
            elif message.notification.reason is not Reason.FIRED_AND_RESOLVED or _is_refused(
                failed
            ):
                self.put(replace(withdrawn(message), last_error="its page was never delivered"))

    def claim(self, now_ms: int, limit: int, goes_at: MayGoAt) -> list[OutboxMessage]:
        """At most `limit` messages, marked as being sent; the worst severity first.

        `goes_at` gives the time from which a message may go; None: when `resume` was called.
        """
        marked: list[OutboxMessage] = []
        while len(marked) < limit and (chosen := self._next_message(now_ms, goes_at)) is not None:
            ready, severity = self._ready[chosen.addressee.receiver], chosen.notification.severity
            if ready.by_turn:
                self._turn[severity] = max(self._turn[severity], self._turns[chosen.key])
            self._claims += 1
            ready.take(chosen.key, self._claims)
            marked.append(claimed(chosen, now_ms))
            self.budgets.take(chosen, now_ms)
            self.put(marked[-1])
            if chosen.notification.digest_at_ms is not None:
                marked += self._rest_of_digest(chosen, now_ms, goes_at)
        return marked

    def _rest_of_digest(
        self, first: OutboxMessage, now_ms: int, goes_at: MayGoAt
    ) -> list[OutboxMessage]:
        """What else goes to the same addressee with this item, marked as being sent."""
        rest: list[OutboxMessage] = []
        for other in ready_with(first, self.waiting(), MAX_ITEMS):
            at_ms = goes_at(other)
            due = _is_unsent(other) and other.next_at_ms <= now_ms
            free = _incident_addressee(other) not in self._sending_key
            if due and free and at_ms is not None and at_ms <= now_ms:
                rest.append(claimed(other, now_ms))
                self.put(rest[-1])
        return rest

    def waiting_for_digest(self, incident: int) -> frozenset[Addressee]:
        """Whom the next digest is to tell that the incident fires."""
        return frozenset(
            message.addressee
            for message in self.of_incident(incident)
            if message.is_page and _is_unsent(message) and message.notification.digest_at_ms
        )

    def next_due_ms(self, now_ms: int, goes_at: MayGoAt) -> int | None:
        """When there may be one to claim; a message behind another waits for that one."""
        if self._next_message(now_ms, goes_at) is not None:
            return now_ms
        while self._due_heap and self._message_of(self._due_heap[0]) is None:
            heapq.heappop(self._due_heap)
        return self._due_heap[0][0] if self._due_heap else None

    def resume(self, keys: Iterable[str] | None = None) -> None:
        """Ask again whether they may go: of these messages, or of all that might not."""
        for key in list(self._on_hold if keys is None else keys):
            if key in self._on_hold:
                del self._on_hold[key]
                self._schedule(self._messages[key])

    def hasten(self, receiver: str, at_ms: int) -> None:
        """It takes messages again: what failed there is tried again then, if not before. What it
        refused waits for somebody to mend something."""
        for message in self.waiting():
            failed = _is_unsent(message) and message.attempts and not message.refusals
            if failed and message.addressee.receiver == receiver and message.next_at_ms > at_ms:
                self.put(replace(message, next_at_ms=at_ms))

    def _next_message(self, now_ms: int, goes_at: MayGoAt) -> OutboxMessage | None:
        """The worst message that may go now; those before it are put where they wait.

        Of one severity the receiver that was served longest ago is the next.
        """
        self._promote_due(now_ms)
        heads = (self._next_of(ready, now_ms, goes_at) for ready in self._ready.values())
        return min((head for head in heads if head), key=self._queue_and_order, default=None)

    def _next_of(self, ready: ReadyQueue, now_ms: int, goes_at: MayGoAt) -> OutboxMessage | None:
        """The next message to a receiver, unless it has no room: it stays there until claimed."""
        while (key := ready.peek()) is not None:
            message = self._earliest_to_same(key, ready)
            if message is not None and not self._has_room(message):
                return None
            if message is not None and self._may_go(message, now_ms, goes_at):
                return message
            ready.remove(message.key if message else key)
        return None

    def _earliest_to_same(self, key: str, ready: ReadyQueue) -> OutboxMessage | None:
        """Of what is ready to the same addressee about the same incident, what was said first."""
        message = self._messages.get(key)
        if message is None or not _is_unsent(message):
            return None  # cancelled, or on its way
        others = self._by_incident.get(message.notification.incident, {})
        waiting = [self._messages[other_key] for other_key in others if other_key in ready]
        same = (
            other
            for other in waiting
            if _incident_addressee(other) == _incident_addressee(message) and _is_unsent(other)
        )
        return min(same, key=self._order_of, default=message)

    def _may_go(self, message: OutboxMessage, now_ms: int, goes_at: MayGoAt) -> bool:
        """Whether it may go now; if not, it is put where it waits."""
        if message.next_at_ms > now_ms:  # tried again later, or the clock went back a little
            self._schedule(message)
            return False
        if _incident_addressee(message) in self._sending_key:
            self._queued_behind.setdefault(_incident_addressee(message), []).append(message.key)
            return False
        at_ms = goes_at(message)
        if at_ms is not None and at_ms <= now_ms:
            at_ms = self.budgets.waits(message, now_ms)
            if at_ms is None:
                return True
        self._on_hold[message.key] = None
        if at_ms is not None:
            heapq.heappush(self._due_heap, (at_ms, message.key, message.due_at_ms))
        return False

    def _has_room(self, message: OutboxMessage) -> bool:
        """What is claimed cannot be taken back: few at a time, and the urgent find room still."""
        most = 2 * self._max_sending if message.is_urgent else self._max_sending
        return self._sending[message.addressee.receiver] < most

    def _promote_due(self, now_ms: int) -> None:
        """What is due becomes ready; what was not reported in time is to be sent again."""
        while self._due_heap and self._due_heap[0][0] <= now_ms:
            message = self._message_of(heapq.heappop(self._due_heap))
            if message is None:
                continue
            if message.state is MessageState.SENDING:
                self.put(lease_expired(message, now_ms))
            else:
                self._make_ready(message)

    def _message_of(self, entry: tuple[int, str, int | None]) -> OutboxMessage | None:
        """The message that an entry is about, unless it has moved on."""
        _, key, due_at_ms = entry
        message = self._messages.get(key)
        return message if message and message.due_at_ms == due_at_ms is not None else None

    def _make_ready(self, message: OutboxMessage) -> None:
        severity, turn, number = self._order_of(message)
        newest = (severity, not message.is_page, -self._batches[message.key], number)
        ready = self._ready.setdefault(message.addressee.receiver, ReadyQueue())
        ready.add(message.key, ((severity, turn, number), newest))

    def _assign_turn(self, message: OutboxMessage) -> None:
        """Its turn is the one after the last of its kind, or the present one."""
        sent = message.notification
        if message.key in self._turns or message.state not in WAITING_STATES:
            return
        kind = (sent.severity, sent.group_labels.get("alertname", ""))
        turn = max(self._next_turn.get(kind, 0), self._turn[sent.severity])
        self._turns[message.key], self._next_turn[kind] = turn, turn + 1
        if sent.at_ms != self._last_at_ms:  # later, or the clock went back
            self._last_batch, self._last_at_ms = self._last_batch + 1, sent.at_ms
        self._batches[message.key] = self._last_batch

    def _queue_and_order(self, message: OutboxMessage) -> tuple[str, int, QueueOrder]:
        ready, order = self._ready[message.addressee.receiver], self._order_of(message)
        return message.notification.severity, ready.last_claim, order

    def _order_of(self, message: OutboxMessage) -> QueueOrder:
        return message.notification.severity, self._turns[message.key], message.id

    def _schedule(self, message: OutboxMessage) -> None:
        due_at_ms = message.due_at_ms
        if due_at_ms is not None:
            heapq.heappush(self._due_heap, (due_at_ms, message.key, due_at_ms))

    def _track_sending(self, message: OutboxMessage, before: OutboxMessage | None) -> None:
        """One message of an incident at a time is on its way to an addressee."""
        way = _incident_addressee(message)
        was, is_now = (
            one is not None and one.state is MessageState.SENDING for one in (before, message)
        )
        if message.notification.digest_at_ms is None:  # however many items, a digest is one
            self._sending[message.addressee.receiver] += is_now - was
        if is_now:
            self._sending_key[way] = message.key
        elif before is not None and self._sending_key.get(way) == message.key:
            del self._sending_key[way]
            for key in self._queued_behind.pop(way, ()):
                waiting = self._messages.get(key)
                if waiting is not None and _is_unsent(waiting):
                    self._make_ready(waiting)

    def step_failed(self, message: OutboxMessage) -> bool:
        """Whether no page of the message's step may be waited for."""
        same = self.of_step(message)
        return all(other.is_lost or other.state is MessageState.CANCELLED for other in same)

    def tried(self, message: OutboxMessage) -> frozenset[Addressee]:
        """All to whom the message's step was sent."""
        return frozenset(addressee_of(other) for other in self.of_step(message))

    def of_step(self, message: OutboxMessage) -> list[OutboxMessage]:
        """The pages of the same step of the escalation."""
        others = self.of_incident(message.notification.incident)
        return [other for other in others if _same_step(other, message)]

    def shift(self, delta_ms: int) -> None:
        self.budgets.shift(delta_ms)
        for message in self.waiting():
            self.put(message.shifted(delta_ms))

    def renumber(self, offset: int) -> None:
        for message in list(self._messages.values()):
            self.put(replace(message, id=message.id + offset))

    def drop(self, incidents: Iterable[int]) -> None:
        """Forget what is finished of these incidents; what still waits stays."""
        for number in incidents:
            for message in self.of_incident(number):
                if message.state not in WAITING_STATES:
                    self.budgets.forget(message.key)
                    self._on_hold.pop(message.key, None)
                    self._turns.pop(message.key, None)
                    self._batches.pop(message.key, None)
                    del self._messages[message.key]
                    del self._by_incident[number][message.key]
            if not self._by_incident.get(number):
                self._by_incident.pop(number, None)


def _incident_addressee(message: OutboxMessage) -> IncidentAddressee:
    return message.notification.incident, message.addressee


def _same_content(message: OutboxMessage, before: OutboxMessage) -> bool:
    return message.id == before.id and message.notification is before.notification


def _same_addressee(message: OutboxMessage, other: OutboxMessage) -> bool:
    return message.key != other.key and _incident_addressee(message) == _incident_addressee(other)


def _same_step(message: OutboxMessage, other: OutboxMessage) -> bool:
    mine, its = message.notification, other.notification
    here = (message.generation, mine.step, mine.loop)
    return message.is_page and here == (other.generation, its.step, its.loop)


def addressee_of(message: OutboxMessage) -> Addressee:
    return Addressee(message.notification.receiver, message.notification.contact)


def _is_refused(message: OutboxMessage) -> bool:
    """For good: what was refused in vain for minutes may be taken again when it is over."""
    return message.state is MessageState.FAILED and not message.refusals


def _is_unsent(message: OutboxMessage) -> bool:
    return message.state is MessageState.PENDING


def only_to_paged(reason: Reason) -> bool:
    """Whether this message goes only to those whom a page of the incident reached."""
    to_others = {Reason.FIRED_AND_RESOLVED, Reason.SILENCE_ENDS, Reason.TEST}
    return reason in NOTICE_REASONS - to_others
