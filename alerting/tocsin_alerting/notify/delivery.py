"""From the outbox to the channels: the one place where messages are tried, again and again.

What to send when, and how long to wait after a failure, the outbox decides. Here messages wait in
one queue a channel, so that a channel that hangs holds up nobody but its own readers.
"""

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from tocsin_alerting.incidents.channel_watch import GONE_WORDS, GoneReceiver
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    URGENT_SEVERITIES,
    Delivered,
    Delivery,
    Outcome,
    Permanent,
    RetryAt,
    outcome_of_attempt,
)
from tocsin_alerting.notify.channel import Channel, Retiring
from tocsin_alerting.notify.log import LOGGED

_END_REASONS = frozenset({Reason.RESOLVED, Reason.UNWATCHED})
RESOLVED_UNWANTED = "send_resolved is off for this receiver"

logger = logging.getLogger("tocsin.delivery")


class DeliveryQueue(Protocol):
    """Where the outbox is kept: the dispatcher; in the tests of this loop, an outbox alone."""

    async def claim(self, now_ms: int) -> Sequence[Delivery]: ...

    async def delivered(self, delivery: Delivery, outcome: Outcome, now_ms: int) -> None: ...


async def _as_it_is(notification: Notification) -> Notification:
    return notification


class DeliveryLoop:
    """`now_ms` is the clock. `counts` holds how many attempts ended how, by channel and outcome.
    `enrich` adds to a message what is read only when it is sent; it is quick, and never raises.
    `gone` says of a receiver that nobody was there, where and since when."""

    def __init__(
        self,
        dispatcher: DeliveryQueue,
        channels: Mapping[str, Channel],
        now_ms: Callable[[], int],
        enrich: Callable[[Notification], Awaitable[Notification]] = _as_it_is,
        gone: Callable[[str], GoneReceiver | None] = lambda _: None,
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._queue = dispatcher
        self._channels = dict(channels)
        self._now_ms = now_ms
        self.enrich, self._gone = enrich, gone
        self._in_hand: dict[str, Delivery] = {}
        self._queues: dict[str, list[tuple[str, int, str]]] = {}
        self._enqueued = 0
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """Messages taken and not yet reported."""
        return len(self._in_hand)

    def gone_since(self, name: str) -> int | None:
        """Since when (ms) the receiver is not asked any more; None while it is."""
        channel, known = self._channels.get(name), self._gone(name)
        if known is None or not isinstance(channel, Retiring):
            return None
        return known.since_ms if known.address == channel.address_mark() else None

    async def collect(self) -> int:
        """Take what may go out now and begin to send it; how many messages that are."""
        taken = await self._queue.claim(self._now_ms())
        for delivery in taken:
            self._enqueue(delivery)
        return len(taken)

    async def idle(self) -> None:
        """Returns when everything that was taken is reported."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def replace_channels(self, channels: Mapping[str, Channel]) -> None:
        """Send by these from now on. What is on its way ends as it began; a channel that is no
        longer among them is closed then. What waits for a receiver that is gone is refused, and
        those in its place are told."""
        before, self._channels = self._channels.values(), dict(channels)
        leaving = [one for one in before if not any(one is kept for kept in channels.values())]
        if leaving:
            closing = asyncio.create_task(self._close_after(set(self._tasks), leaving))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close_after(
        self, tasks: set[asyncio.Task[None]], channels: Sequence[Channel]
    ) -> None:
        if tasks:
            await asyncio.wait(tasks)
        for channel in channels:
            try:
                await channel.close()
            except Exception as error:  # why: a fault of ours in one must not keep the others open
                name = type(error).__name__
                logger.error("channel %s failed to close: %s", channel.name, name)

    async def close(self) -> None:
        """Stop in the middle: what is not reported is sent again after the next start."""
        tasks = [*self._tasks, *self._closing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    def _enqueue(self, delivery: Delivery) -> None:
        """A message that is handed out again while it still waits here is sent once, and reported
        as the attempt that it is now."""
        waiting = delivery.key in self._in_hand
        self._in_hand[delivery.key] = delivery
        if waiting:
            return
        self._enqueued += 1
        name = delivery.notification.receiver
        entry = (delivery.notification.severity, self._enqueued, delivery.key)
        heapq.heappush(self._queues.setdefault(name, []), entry)
        self._send_queued(name)

    def _send_queued(self, name: str) -> None:
        queue = self._queues.get(name, [])
        while queue and self._running[name] < self._max_at_once(name, queue[0][0]):
            _, _, key = heapq.heappop(queue)
            self._running[name] += 1
            task = asyncio.create_task(self._deliver(name, key))
            self._tasks.add(task)
            task.add_done_callback(self._task_done)

    def _max_at_once(self, name: str, severity: str) -> int:
        """The urgent find room when the others hang."""
        channel = self._channels.get(name)
        most = channel.at_once if channel else 1
        return 2 * most if severity in URGENT_SEVERITIES else most

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("failed to record a delivery outcome", exc_info=task.exception())

    async def _deliver(self, name: str, key: str) -> None:
        began_ms = self._now_ms()
        try:
            outcome = await self._attempt(self._in_hand[key])
        finally:  # the next one need not wait until this outcome is on the disk
            self._running[name] -= 1
        self._send_queued(name)
        delivery = self._in_hand.pop(key)
        _log_attempt(delivery, outcome, self._now_ms() - began_ms)
        if not (isinstance(outcome, Delivered) and outcome.unsent):
            self.counts[delivery.notification.receiver, type(outcome).__name__] += 1
        await self._queue.delivered(delivery, outcome, self._now_ms())

    async def _attempt(self, delivery: Delivery) -> Outcome:
        notification = delivery.notification
        channel = self._channels.get(notification.receiver)
        if channel is None:
            return Permanent(f"receiver {notification.receiver} is no longer configured")
        over = notification.reason is Reason.DIGEST and notification.status == "resolved"
        if (over or notification.reason in _END_REASONS) and not channel.send_resolved:
            return Delivered(detail=RESOLVED_UNWANTED, unsent=True)
        if self.gone_since(notification.receiver) is not None:  # its other ways need not wait
            return Permanent(GONE_WORDS.format(notification.receiver), final=True)
        try:
            outcome = await channel.send(await self.enrich(notification), self._now_ms())
            return outcome_of_attempt(outcome, delivery.attempt)
        except Exception as error:  # a fault of ours in one channel must not end delivery for all
            logger.error("channel %s failed: %s", notification.receiver, type(error).__name__)
            return RetryAt(f"internal error in the channel: {type(error).__name__}")


def _log_attempt(delivery: Delivery, outcome: Outcome, took_ms: int) -> None:
    """Who was tried and how it ended; not what was said, which may hold a secret of the reader."""
    sent = delivery.notification
    fields = {
        "incident": sent.incident,
        "severity": sent.severity,
        "receiver": sent.receiver,
        "contact": sent.contact,
        "reason": sent.reason.value,
        "attempt": delivery.attempt,
        "outcome": type(outcome).__name__,
        "took_ms": took_ms,
    }
    whom = f"{sent.contact} by {sent.receiver}" if sent.contact else sent.receiver
    number = f"#{sent.incident} " if sent.incident else ""
    what = f"{number}{sent.severity} {sent.title}"
    match outcome:
        case Delivered() if outcome.unsent or outcome.detail == LOGGED:  # the log has its line
            logger.debug("nothing to send to %s: %s", whom, outcome.detail, extra=fields)
        case Delivered():
            done = "notified" if sent.reason in NOTICE_REASONS else "paged"
            words = (done, whom, sent.reason.value, what, took_ms / 1000)
            logger.info("%s %s (%s): %s, took %.1f s", *words, extra=fields)
        case RetryAt(error=error):
            logger.warning(
                "notification failed, retrying: %s: %s: %s", whom, what, error, extra=fields
            )
        case Permanent(error=error):
            logger.error(
                "notification failed, refused: %s: %s: %s", whom, what, error, extra=fields
            )
