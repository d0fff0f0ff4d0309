"""How many requests are with the engine at once, in all and of one client, and who waits."""

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass

from tocsin_exporter.proxy.exchange import Refusal

_RETRY = ((b"Retry-After", b"1"),)


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """0 sets no limit. `of_client` bounds those that run and wait of one key's owner."""

    running: int = 0
    waiting: int = 1000
    of_client: int = 0


class Slots:
    """First come, first served; who finds no place to wait is refused with 429."""

    def __init__(self, limits: SlotLimits) -> None:
        self.limits = limits
        self.running = 0
        self._of_client: Counter[str] = Counter()
        self._line: OrderedDict[int, asyncio.Future[None]] = OrderedDict()
        self._next = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def enter(self, client: str) -> None:
        """Raises Refusal; after it, `leave` must be called."""
        limits = self.limits
        if limits.of_client and self._of_client[client] >= limits.of_client:
            words = f"this key has {limits.of_client} requests under way, its most; wait for one"
            raise Refusal(429, "rate_limit_exceeded", words, _RETRY)
        if limits.running and self.running >= limits.running and self.waiting >= limits.waiting:
            words = f"{self.running} requests run and {self.waiting} wait, the most of this proxy"
            raise Refusal(429, "rate_limit_exceeded", words, _RETRY)
        self._of_client[client] += 1
        if limits.running and self.running >= limits.running:
            await self._wait(client)
        else:
            self.running += 1

    async def _wait(self, client: str) -> None:
        number, self._next = self._next, self._next + 1
        turn = self._line[number] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given one just now
                self.leave(client)
            else:
                self._forget(client)
            raise
        finally:
            self._line.pop(number, None)

    def leave(self, client: str) -> None:
        """Its place is the next one's."""
        self._forget(client)
        while self._line:
            _, turn = self._line.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def _forget(self, client: str) -> None:
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]
