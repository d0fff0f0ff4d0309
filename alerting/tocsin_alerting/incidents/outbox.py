"""The messages of every incident that is not closed, and which of them may go out now.

Delivery is at least once, with the same key on every try. Messages of one incident to one addressee
go one at a time, so that nobody reads "resolved" before "firing".
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    WAITING_STATES,
    MessageState,
    OutboxMessage,
    claimed,
    lease_expired,
    withdrawn,
)
from tocsin_alerting.incidents.ready_queue import ReadyQueue

MayGoAt = Callable[[OutboxMessage], int | None]
IncidentAddressee = tuple[int, Addressee]
AlertKind = tuple[str, str]  # severity, alertname
QueueOrder = tuple[str, int, int]  # severity, turn, id
MAX_SENDING = 32  # of a receiver that are claimed at once; P0 and P1 may be twice as many
CLOSED_REASONS = frozenset({Reason.CLOSED_BY_HAND, Reason.CLOSED_UNKNOWN})
END_REASONS = frozenset(
    {Reason.RESOLVED, Reason.FIRED_AND_RESOLVED, Reason.GIVEN_UP, Reason.UNWATCHED}
)
REMARK_REASONS = frozenset({Reason.SLO_BREACH, Reason.UNKNOWN})


class Outbox:
    """`changed` is called with every message that is new or different, and whether only its state
    is.

    `most_sending` messages of a receiver are handed out at a time; the rest can still be withdrawn.
    The worst severity goes first. Of one severity a receiver gets alternately the one whose turn it
    is and the newest page: five thousand messages hold up neither the first of another alert nor
    the next of the same. Turns go round the alerts.
    """

    def __init__(
        self, changed: Callable[[OutboxMessage, bool], None], most_sending: int = MAX_SENDING
    ) -> None:
        self._changed = changed
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
        self._by_incident.setdefault(message.notification.incident, {})[message.key] = None
        if message.state in WAITING_STATES:
            self._waiting[message.key] = None
        else:
            for kept in (self._waiting, self._turns, self._batches, self._on_hold):
                kept.pop(message.key, None)

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
        """Add a message. A newer page makes older ones that nobody got yet pointless.

        A remark (the recover target was missed, the state is unknown) makes way for such a page.
        """
        self._withdraw_outdated(message)
        unsent = [
            other for other in self.of_incident(message.notification.incident) if _is_unsent(other)
        ]
        pages = [other for other in unsent if other.is_page and _same_addressee(other, message)]
        if message.notification.reason in REMARK_REASONS and pages:
            self.put(replace(withdrawn(message), last_error=f"said by {pages[0].key}"))
            return
        for older in pages if message.is_page else ():
            self.put(replace(withdrawn(older), last_error=f"replaced by {message.key}"))
        self.put(message)

    def _withdraw_outdated(self, message: OutboxMessage) -> None:
        """ "Closed, still firing" must not arrive after what came of it, nor "resolved" after that
        it fires again."""
        outdated = CLOSED_REASONS | END_REASONS if message.is_page else CLOSED_REASONS
        for older in self.of_incident(message.notification.incident):
            waits = older.notification.reason in outdated and older.state in WAITING_STATES
            if waits and _same_addressee(older, message):
                self.put(replace(withdrawn(older), last_error=f"replaced by {message.key}"))

    def withdraw_pages(self, incident: int) -> None:
        for message in self.of_incident(incident):
            if message.is_page and message.state in WAITING_STATES:
                self.put(withdrawn(message))

    def reached(self, incident: int, cycle: int) -> set[Addressee]:
        """Who got a page in this cycle, or is getting one."""
        arrived = (MessageState.SENT, MessageState.SENDING)
        return {
            message.addressee
            for message in self.of_incident(incident)
            if message.is_page and message.generation >= cycle and message.state in arrived
        }

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
        tried = {message.addressee for message in pages if message.attempts}
        refused = {message.addressee for message in pages if _is_refused(message)}
        return tried - refused - self.informed(incident, cycle)

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
                self.put(replace(withdrawn(message), last_error="its page never arrived"))

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
            self.put(marked[-1])
        return marked

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
        same = [
            other
            for other in self.of_incident(message.notification.incident)
            if _same_step(other, message)
        ]
        return all(other.is_lost or other.state is MessageState.CANCELLED for other in same)

    def shift(self, delta_ms: int) -> None:
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


def _is_refused(message: OutboxMessage) -> bool:
    """For good: what was refused in vain for minutes may be taken again when it is over."""
    return message.state is MessageState.FAILED and not message.refusals


def _is_unsent(message: OutboxMessage) -> bool:
    return message.state is MessageState.PENDING


def only_to_paged(reason: Reason) -> bool:
    """Whether this message goes only to those whom a page of the incident reached."""
    return reason in NOTICE_REASONS - {Reason.FIRED_AND_RESOLVED, Reason.TEST}
