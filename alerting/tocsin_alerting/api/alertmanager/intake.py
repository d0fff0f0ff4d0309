"""`POST /api/v2/alerts`: the alerts of every Prometheus and vmalert, to be paged as our own.

It is answered with 200 when all of it is on the disk. What cannot be written is in force all the
same, and its sender is told to send it again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from math import ceil

from starlette.requests import Request
from starlette.responses import Response

from tocsin_alerting.api.alertmanager.endpoint import Refused
from tocsin_alerting.api.alertmanager.posted_alerts import (
    RESOLVE_TIMEOUT_MS,
    Arrival,
    Posted,
)
from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.incidents.dispatcher import Dispatcher, Receipt
from tocsin_alerting.incidents.external_alerts import MAX_ALERTS
from tocsin_exporter.connections import counted_address
from tocsin_exporter.slices import in_slices

MAX_BODY_BYTES = 8 << 20
MAX_ERRORS = 20  # that an answer names
MAX_WAITING = 4  # requests of one address; each may hold a whole body


Reader = Callable[[bytes, Arrival], Generator[None, None, Posted]]
"""Reads the alerts of a body, in slices."""


class AlertIntake:
    """`now_ms` gives Unix milliseconds. Requests of one address are taken one after the other, so
    that who sends without end holds up nobody else."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        now_ms: Callable[[], int],
        resolve_timeout_ms: int = RESOLVE_TIMEOUT_MS,
    ) -> None:
        self.resolve_timeout_ms = resolve_timeout_ms
        self.dispatcher, self.now_ms = dispatcher, now_ms
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting = Counter[str]()

    async def take(self, request: Request, read: Reader) -> Response:
        """Raises Refused, and ApiError for a body that is too long or does not come."""
        client = counted_address(request.client)
        if self._waiting[client] >= MAX_WAITING:
            why = f"{MAX_WAITING} requests of {client} wait already; send fewer"
            raise Refused(429, why, retry_after_s=1)
        self._waiting[client] += 1
        try:
            body = await read_body(request, MAX_BODY_BYTES)
            return await self._in_turn(client, lambda: self._take(body, client, read))
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
                self._locks.pop(client, None)

    async def _in_turn(self, client: str, work: Callable[[], Awaitable[Response]]) -> Response:
        async with self._locks.setdefault(client, asyncio.Lock()):
            return await work()

    async def _take(self, body: bytes, client: str, read: Reader) -> Response:
        now_ms = self.now_ms()
        posted = await in_slices(read(body, Arrival(client, now_ms, self.resolve_timeout_ms)))
        receipt = await self.dispatcher.receive(posted.alerts, now_ms)
        self._count(posted, receipt, now_ms)
        if posted.errors:
            raise Refused(400, "; ".join(posted.errors[:MAX_ERRORS]))
        if receipt.refused:
            many = f"{receipt.refused} alerts refused: too many fire already"
            raise Refused(429, f"{many} ({MAX_ALERTS} of one address are taken)")
        if not receipt.recorded:
            raise self._not_recorded(now_ms)
        return Response(status_code=200)

    def _not_recorded(self, now_ms: int) -> Refused:
        """Its sender comes again when the journal has been tried again."""
        writer = self.dispatcher.writer
        why = writer.last_error or "the disk is slow"
        left_ms = writer.retry_at_ms - now_ms if writer.down else 0
        return Refused(
            503,
            f"alerts are in force, but not on disk yet: {why}; send them again",
            retry_after_s=max(1, ceil(left_ms / 1000)),
        )

    def _count(self, posted: Posted, receipt: Receipt, now_ms: int) -> None:
        received = self.dispatcher.working.external.received
        resolved = sum(alert.ends_at_ms <= now_ms for alert in posted.alerts)
        received["resolved"] += resolved
        received["firing"] += len(posted.alerts) - resolved - receipt.refused
        received["invalid"] += len(posted.errors)
        received["refused"] += receipt.refused
