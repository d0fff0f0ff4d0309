"""By when pages must have been answered with success, before others are tried (rule 9d)."""

import heapq
from collections.abc import Callable

from tocsin_alerting.incidents.outbox_message import WAITING_STATES, OutboxMessage

Get = Callable[[str], OutboxMessage | None]


class DeliveryDeadlines:
    """What has been answered, withdrawn or given another time meanwhile is passed over."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._heap: list[tuple[int, str]] = []

    def put(self, message: OutboxMessage, before: OutboxMessage | None) -> None:
        at_ms = message.deliver_by_ms
        if at_ms is not None and (before is None or before.deliver_by_ms != at_ms):
            heapq.heappush(self._heap, (at_ms, message.key))

    def next_ms(self) -> int | None:
        while self._heap and self._live(*self._heap[0]) is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def passed(self, now_ms: int, most: int) -> list[OutboxMessage]:
        """At most so many pages that nobody has answered in time, the oldest first."""
        found: list[OutboxMessage] = []
        while len(found) < most and (next_ms := self.next_ms()) is not None and next_ms <= now_ms:
            message = self._live(*heapq.heappop(self._heap))
            if message is not None:
                found.append(message)
        return found

    def _live(self, at_ms: int, key: str) -> OutboxMessage | None:
        message = self._get(key)
        if message is None or message.late or message.withdrawn:
            return None
        is_due = message.state in WAITING_STATES and message.deliver_by_ms == at_ms
        return message if is_due else None
