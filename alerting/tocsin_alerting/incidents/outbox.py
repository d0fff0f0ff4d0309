"""The messages of every incident that is not closed, and which of them may go out now.

Delivery is at least once, with the same key on every try. Messages of one incident to one addressee
go one at a time, so that nobody reads "resolved" before "firing".
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tocsin_alerting.incidents.message import (
    WAITING,
    Message,
    MessageState,
    claimed,
    lease_over,
    withdrawn,
)
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.policy import Target

REMARKS = frozenset({Reason.SLO_BREACH, Reason.UNKNOWN})


class Outbox:
    """`changed` is called with every message that is new or different."""

    def __init__(self, changed: Callable[[Message], None]) -> None:
        self._changed = changed
        self._all: dict[str, Message] = {}
        self._waiting: dict[str, None] = {}
        self._of: dict[int, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def load(self, message: Message) -> None:
        """Take a message that is already recorded."""
        self._all[message.key] = message
        self._of.setdefault(message.notification.incident, {})[message.key] = None
        if message.state in WAITING:
            self._waiting[message.key] = None
        else:
            self._waiting.pop(message.key, None)

    def put(self, message: Message) -> None:
        self.load(message)
        self._changed(message)

    def get(self, key: str) -> Message | None:
        return self._all.get(key)

    def of(self, incident: int) -> list[Message]:
        return [self._all[key] for key in self._of.get(incident, ())]

    def waiting(self) -> list[Message]:
        return [self._all[key] for key in self._waiting]

    def post(self, message: Message) -> None:
        """Add a message. A newer page makes older ones that nobody got yet pointless.

        A remark (the recover target was missed, the state is unknown) makes way for such a page.
        """
        unsent = [one for one in self.of(message.notification.incident) if _unsent(one)]
        pages = [one for one in unsent if one.is_page and _same_way(one, message)]
        if message.notification.reason in REMARKS and pages:
            self.put(replace(withdrawn(message), last_error=f"said by {pages[0].key}"))
            return
        for older in pages if message.is_page else ():
            self.put(replace(withdrawn(older), last_error=f"replaced by {message.key}"))
        self.put(message)

    def withdraw_pages(self, incident: int) -> None:
        for message in self.of(incident):
            if message.is_page and message.state in WAITING:
                self.put(withdrawn(message))

    def reached(self, incident: int, cycle: int) -> set[Target]:
        """Who got a page in this cycle, or is getting one."""
        arrived = (MessageState.SENT, MessageState.SENDING)
        return {
            one.target
            for one in self.of(incident)
            if one.is_page and one.generation >= cycle and one.state in arrived
        }

    def retract(self, failed: Message, cycle: int) -> None:
        """The page never arrived: what was to follow it to the same addressee must not either."""
        if failed.target in self.reached(failed.notification.incident, cycle):
            return
        for message in self.of(failed.notification.incident):
            if not message.is_page and _same_way(message, failed) and _unsent(message):
                self.put(replace(withdrawn(message), last_error="its page never arrived"))

    def claim(self, now_ms: int, limit: int, may_go: Callable[[Message], bool]) -> list[Message]:
        """At most `limit` messages, marked as being sent; the worst severity first."""
        self._expire(now_ms)
        chosen = list(self._claimable(now_ms, may_go))[:limit]
        marked = [claimed(message, now_ms) for message in chosen]
        for message in marked:
            self.put(message)
        return marked

    def _expire(self, now_ms: int) -> None:
        for message in self.waiting():
            if message.state is MessageState.SENDING and (message.due_at_ms or 0) <= now_ms:
                self.put(lease_over(message, now_ms))

    def _claimable(self, now_ms: int, may_go: Callable[[Message], bool]) -> Iterator[Message]:
        waiting = self.waiting()
        busy = {_way(one) for one in waiting if one.state is MessageState.SENDING}
        for message in sorted(waiting, key=lambda one: (one.notification.severity, one.id)):
            due = message.state is MessageState.PENDING and message.next_at_ms <= now_ms
            if due and _way(message) not in busy and may_go(message):
                busy.add(_way(message))
                yield message

    def next_due_ms(self, may_go: Callable[[Message], bool]) -> int | None:
        """When the next message that `may_go` is due; one behind another waits for that one."""
        waiting = self.waiting()
        busy = {_way(one) for one in waiting if one.state is MessageState.SENDING}
        due = (
            one.due_at_ms
            for one in waiting
            if one.state is MessageState.SENDING or (_way(one) not in busy and may_go(one))
        )
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def step_failed(self, message: Message) -> bool:
        """Whether every page of the message's step failed for good."""
        same = [one for one in self.of(message.notification.incident) if _same_step(one, message)]
        return all(one.state in (MessageState.FAILED, MessageState.CANCELLED) for one in same)

    def shift(self, delta_ms: int) -> None:
        for message in self.waiting():
            lease_ms = message.lease_until_ms
            self.put(
                replace(
                    message,
                    next_at_ms=message.next_at_ms + delta_ms,
                    lease_until_ms=None if lease_ms is None else lease_ms + delta_ms,
                )
            )

    def renumber(self, offset: int) -> None:
        for message in list(self._all.values()):
            self.put(replace(message, id=message.id + offset))

    def drop(self, incidents: Iterable[int]) -> None:
        """Forget what is finished of these incidents; what still waits stays."""
        for number in incidents:
            for message in self.of(number):
                if message.state not in WAITING:
                    del self._all[message.key]
                    del self._of[number][message.key]
            if not self._of.get(number):
                self._of.pop(number, None)


def _way(message: Message) -> tuple[int, Target]:
    return message.notification.incident, message.target


def _same_way(one: Message, other: Message) -> bool:
    return one.key != other.key and _way(one) == _way(other)


def _same_step(one: Message, other: Message) -> bool:
    mine, its = one.notification, other.notification
    here = (one.generation, mine.step, mine.loop)
    return one.is_page and here == (other.generation, its.step, its.loop)


def _unsent(message: Message) -> bool:
    return message.state is MessageState.PENDING


def wants_page(reason: Reason) -> bool:
    """Whether this message goes only to those whom a page of the incident reached."""
    return reason in (Reason.RESOLVED, Reason.ACKED)
