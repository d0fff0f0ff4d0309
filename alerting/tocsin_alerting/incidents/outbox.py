"""The messages of every incident that is not closed, and which of them may go out now.

Delivery is at least once, with the same key on every try. Messages of one incident to one addressee
go one at a time, so that nobody reads "resolved" before "firing".
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from tocsin_alerting.incidents.message import (
    NOTICES,
    WAITING,
    Message,
    MessageState,
    claimed,
    lease_over,
    withdrawn,
)
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.policy import Target
from tocsin_alerting.incidents.ready_queue import ReadyQueue

Gate = Callable[[Message], int | None]
Way = tuple[int, Target]
Kind = tuple[str, str]  # severity, alertname
Order = tuple[str, int, int]  # severity, turn, id
MOST_SENDING = 32  # of a receiver that are claimed at once; P0 and P1 may be twice as many
CLOSED = frozenset({Reason.CLOSED_BY_HAND, Reason.CLOSED_UNKNOWN})
ENDED = frozenset({Reason.RESOLVED, Reason.FIRED_AND_RESOLVED, Reason.GIVEN_UP, Reason.UNWATCHED})
REMARKS = frozenset({Reason.SLO_BREACH, Reason.UNKNOWN})


class Outbox:
    """`changed` is called with every message that is new or different, and whether only its state
    is.

    `most_sending` messages of a receiver are handed out at a time; the rest can still be withdrawn.
    The worst severity goes first. Of one severity a receiver gets alternately the one whose turn it
    is and the newest page: five thousand messages hold up neither the first of another alert nor
    the next of the same. Turns go round the alerts.
    """

    def __init__(
        self, changed: Callable[[Message, bool], None], most_sending: int = MOST_SENDING
    ) -> None:
        self._changed = changed
        self._most = most_sending
        self._all: dict[str, Message] = {}
        self._waiting: dict[str, None] = {}
        self._of: dict[int, dict[str, None]] = {}
        self._later: list[tuple[int, str, int | None]] = []  # when, key, the message's due time
        self._ready: dict[str, ReadyQueue] = {}  # by receiver
        self._stopped: dict[str, None] = {}
        self._busy: dict[Way, str] = {}
        self._behind: dict[Way, list[str]] = {}
        self._sending: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        self._next_turn: dict[Kind, int] = {}
        self._turn: Counter[str] = Counter()
        self._batches: dict[str, int] = {}  # what was decided in one moment is a batch
        self._last_batch, self._last_at_ms, self._claims = 0, 0, 0

    def __len__(self) -> int:
        return len(self._all)

    def load(self, message: Message) -> None:
        """Take a message that is already recorded."""
        before = self._all.get(message.key)
        self._all[message.key] = message
        self._line_up(message)
        self._occupy(message, before)
        self._plan(message)
        self._of.setdefault(message.notification.incident, {})[message.key] = None
        if message.state in WAITING:
            self._waiting[message.key] = None
        else:
            for kept in (self._waiting, self._turns, self._batches, self._stopped):
                kept.pop(message.key, None)

    def put(self, message: Message) -> None:
        before = self._all.get(message.key)
        self.load(message)
        self._changed(message, before is not None and _says_the_same(message, before))

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
        self._outdate(message)
        unsent = [one for one in self.of(message.notification.incident) if _unsent(one)]
        pages = [one for one in unsent if one.is_page and _same_way(one, message)]
        if message.notification.reason in REMARKS and pages:
            self.put(replace(withdrawn(message), last_error=f"said by {pages[0].key}"))
            return
        for older in pages if message.is_page else ():
            self.put(replace(withdrawn(older), last_error=f"replaced by {message.key}"))
        self.put(message)

    def _outdate(self, message: Message) -> None:
        """ "Closed, still firing" must not arrive after what came of it, nor "resolved" after that
        it fires again."""
        outdated = CLOSED | ENDED if message.is_page else CLOSED
        for older in self.of(message.notification.incident):
            waits = older.notification.reason in outdated and older.state in WAITING
            if waits and _same_way(older, message):
                self.put(replace(withdrawn(older), last_error=f"replaced by {message.key}"))

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

    def informed(self, incident: int, cycle: int) -> set[Target]:
        """Who believes that it fires: those reached, and whom nobody told of an earlier end."""
        last: dict[Target, bool] = {}
        for one in self.of(incident):
            if one.state is MessageState.SENT and (one.is_page or one.notification.reason in ENDED):
                last[one.target] = one.is_page
        return self.reached(incident, cycle) | {target for target, page in last.items() if page}

    def paged(self, incident: int, cycle: int) -> dict[Target, int]:
        """Who has got a page in this cycle, and when the first one was decided."""
        first: dict[Target, int] = {}
        for one in self.of(incident):
            if one.is_page and one.generation >= cycle and one.state is MessageState.SENT:
                at_ms = one.notification.at_ms
                first[one.target] = min(at_ms, first.get(one.target, at_ms))
        return first

    def missed(self, incident: int, cycle: int) -> set[Target]:
        """Whom this cycle's pages were tried for in vain, without being refused for good."""
        pages = [one for one in self.of(incident) if one.is_page and one.generation >= cycle]
        tried = {one.target for one in pages if one.attempts}
        refused = {one.target for one in pages if _refused(one)}
        return tried - refused - self.informed(incident, cycle)

    def retract(self, failed: Message, cycle: int) -> None:
        """The page never arrived: what was to follow it to the same addressee must not either.

        But whom no try reached before it was over is told that it fired and has resolved.
        """
        if failed.target in self.informed(failed.notification.incident, cycle):
            return
        for message in self.of(failed.notification.incident):
            if message.is_page or not _same_way(message, failed) or not _unsent(message):
                continue
            if message.notification.reason is Reason.RESOLVED and not _refused(failed):
                told = replace(message.notification, reason=Reason.FIRED_AND_RESOLVED)
                self.put(replace(message, notification=told))
            elif message.notification.reason is not Reason.FIRED_AND_RESOLVED or _refused(failed):
                self.put(replace(withdrawn(message), last_error="its page never arrived"))

    def claim(self, now_ms: int, limit: int, goes_at: Gate) -> list[Message]:
        """At most `limit` messages, marked as being sent; the worst severity first.

        `goes_at` gives the time from which a message may go; None: when `resume` was called.
        """
        marked: list[Message] = []
        while len(marked) < limit and (chosen := self._first(now_ms, goes_at)) is not None:
            ready, severity = self._ready[chosen.target.receiver], chosen.notification.severity
            if ready.by_turn:
                self._turn[severity] = max(self._turn[severity], self._turns[chosen.key])
            self._claims += 1
            ready.take(chosen.key, self._claims)
            marked.append(claimed(chosen, now_ms))
            self.put(marked[-1])
        return marked

    def next_due_ms(self, now_ms: int, goes_at: Gate) -> int | None:
        """When there may be one to claim; a message behind another waits for that one."""
        if self._first(now_ms, goes_at) is not None:
            return now_ms
        while self._later and self._at(self._later[0]) is None:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def resume(self, keys: Iterable[str] | None = None) -> None:
        """Ask again whether they may go: of these messages, or of all that might not."""
        for key in list(self._stopped if keys is None else keys):
            if key in self._stopped:
                del self._stopped[key]
                self._plan(self._all[key])

    def _first(self, now_ms: int, goes_at: Gate) -> Message | None:
        """The worst message that may go now; those before it are put where they wait.

        Of one severity the receiver that was served longest ago is the next.
        """
        self._ripen(now_ms)
        heads = (self._head(ready, now_ms, goes_at) for ready in self._ready.values())
        return min((head for head in heads if head), key=self._place, default=None)

    def _head(self, ready: ReadyQueue, now_ms: int, goes_at: Gate) -> Message | None:
        """The next message to a receiver, unless it has no room: it stays there until claimed."""
        while (key := ready.first()) is not None:
            message = self._earliest(key, ready)
            if message is not None and not self._has_room(message):
                return None
            if message is not None and self._goes(message, now_ms, goes_at):
                return message
            ready.remove(message.key if message else key)
        return None

    def _earliest(self, key: str, ready: ReadyQueue) -> Message | None:
        """Of what is ready to the same addressee about the same incident, what was said first."""
        message = self._all.get(key)
        if message is None or not _unsent(message):
            return None  # cancelled, or on its way
        others = self._of.get(message.notification.incident, {})
        waiting = [self._all[one] for one in others if one in ready]
        same = (one for one in waiting if _way(one) == _way(message) and _unsent(one))
        return min(same, key=self._order, default=message)

    def _goes(self, message: Message, now_ms: int, goes_at: Gate) -> bool:
        """Whether it may go now; if not, it is put where it waits."""
        if message.next_at_ms > now_ms:  # tried again later, or the clock went back a little
            self._plan(message)
            return False
        if _way(message) in self._busy:
            self._behind.setdefault(_way(message), []).append(message.key)
            return False
        at_ms = goes_at(message)
        if at_ms is not None and at_ms <= now_ms:
            return True
        self._stopped[message.key] = None
        if at_ms is not None:
            heapq.heappush(self._later, (at_ms, message.key, message.due_at_ms))
        return False

    def _has_room(self, message: Message) -> bool:
        """What is claimed cannot be taken back: few at a time, and the urgent find room still."""
        most = 2 * self._most if message.urgent else self._most
        return self._sending[message.target.receiver] < most

    def _ripen(self, now_ms: int) -> None:
        """What is due becomes ready; what was not reported in time is to be sent again."""
        while self._later and self._later[0][0] <= now_ms:
            message = self._at(heapq.heappop(self._later))
            if message is None:
                continue
            if message.state is MessageState.SENDING:
                self.put(lease_over(message, now_ms))
            else:
                self._make_ready(message)

    def _at(self, entry: tuple[int, str, int | None]) -> Message | None:
        """The message that an entry is about, unless it has moved on."""
        _, key, due_at_ms = entry
        message = self._all.get(key)
        return message if message and message.due_at_ms == due_at_ms is not None else None

    def _make_ready(self, message: Message) -> None:
        severity, turn, number = self._order(message)
        newest = (severity, not message.is_page, -self._batches[message.key], number)
        ready = self._ready.setdefault(message.target.receiver, ReadyQueue())
        ready.add(message.key, ((severity, turn, number), newest))

    def _line_up(self, message: Message) -> None:
        """Its turn is the one after the last of its kind, or the present one."""
        sent = message.notification
        if message.key in self._turns or message.state not in WAITING:
            return
        kind = (sent.severity, sent.group_labels.get("alertname", ""))
        turn = max(self._next_turn.get(kind, 0), self._turn[sent.severity])
        self._turns[message.key], self._next_turn[kind] = turn, turn + 1
        if sent.at_ms != self._last_at_ms:  # later, or the clock went back
            self._last_batch, self._last_at_ms = self._last_batch + 1, sent.at_ms
        self._batches[message.key] = self._last_batch

    def _place(self, message: Message) -> tuple[str, int, Order]:
        ready, order = self._ready[message.target.receiver], self._order(message)
        return message.notification.severity, ready.served, order

    def _order(self, message: Message) -> Order:
        return message.notification.severity, self._turns[message.key], message.id

    def _plan(self, message: Message) -> None:
        due_at_ms = message.due_at_ms
        if due_at_ms is not None:
            heapq.heappush(self._later, (due_at_ms, message.key, due_at_ms))

    def _occupy(self, message: Message, before: Message | None) -> None:
        """One message of an incident at a time is on its way to an addressee."""
        way = _way(message)
        was, is_now = (
            one is not None and one.state is MessageState.SENDING for one in (before, message)
        )
        self._sending[message.target.receiver] += is_now - was
        if is_now:
            self._busy[way] = message.key
        elif before is not None and self._busy.get(way) == message.key:
            del self._busy[way]
            for key in self._behind.pop(way, ()):
                waiting = self._all.get(key)
                if waiting is not None and _unsent(waiting):
                    self._make_ready(waiting)

    def step_failed(self, message: Message) -> bool:
        """Whether no page of the message's step may be waited for."""
        same = [one for one in self.of(message.notification.incident) if _same_step(one, message)]
        return all(one.lost or one.state is MessageState.CANCELLED for one in same)

    def shift(self, delta_ms: int) -> None:
        for message in self.waiting():
            self.put(message.shifted(delta_ms))

    def renumber(self, offset: int) -> None:
        for message in list(self._all.values()):
            self.put(replace(message, id=message.id + offset))

    def drop(self, incidents: Iterable[int]) -> None:
        """Forget what is finished of these incidents; what still waits stays."""
        for number in incidents:
            for message in self.of(number):
                if message.state not in WAITING:
                    self._stopped.pop(message.key, None)
                    self._turns.pop(message.key, None)
                    self._batches.pop(message.key, None)
                    del self._all[message.key]
                    del self._of[number][message.key]
            if not self._of.get(number):
                self._of.pop(number, None)


def _way(message: Message) -> Way:
    return message.notification.incident, message.target


def _says_the_same(message: Message, before: Message) -> bool:
    return message.id == before.id and message.notification is before.notification


def _same_way(one: Message, other: Message) -> bool:
    return one.key != other.key and _way(one) == _way(other)


def _same_step(one: Message, other: Message) -> bool:
    mine, its = one.notification, other.notification
    here = (one.generation, mine.step, mine.loop)
    return one.is_page and here == (other.generation, its.step, its.loop)


def _refused(message: Message) -> bool:
    """For good: what was refused in vain for minutes may be taken again when it is over."""
    return message.state is MessageState.FAILED and not message.refusals


def _unsent(message: Message) -> bool:
    return message.state is MessageState.PENDING


def wants_page(reason: Reason) -> bool:
    """Whether this message goes only to those whom a page of the incident reached."""
    return reason in NOTICES - {Reason.FIRED_AND_RESOLVED, Reason.TEST}
