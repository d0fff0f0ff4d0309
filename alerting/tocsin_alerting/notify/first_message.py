"""The first message of an incident, where a service can change it: it shows how things stand.

An edit tells nobody, so that each change is a message of its own as well, and has arrived when the
edit is tried. One that fails is tried again here: else the room would read "firing" above until the
next change. What an end of the agent leaves undone is done by that change.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count

from tocsin_alerting.incidents.outbox_message import (
    GIVE_UP_MS,
    Delivered,
    Outcome,
    RetryAt,
    backoff_ms,
)

log = logging.getLogger(__name__)

Edit = Callable[[], Awaitable[Outcome]]

_LIMIT_S = 5.0  # of one try: the next message to the same addressee waits for the first one
_MOST_WAITING = 500


class FirstMessages:
    """Of one receiver. `sleep` waits so many seconds."""

    def __init__(self, receiver: str) -> None:
        self._receiver = receiver
        self._retries: dict[str, asyncio.Task[None]] = {}
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def change(self, message: str, edit: Edit, now_ms: int) -> None:
        """Try it once, and later again until it is done, refused, a day old, or replaced by the
        next change of the same message. `edit` counts the times that it is told from `now_ms`."""
        await self._end(message)
        outcome = await self._tried(edit)
        if not isinstance(outcome, RetryAt):
            return
        log.info("first message not changed, retrying: %s", self._receiver)
        again = self._again(message, edit, outcome, now_ms)
        self._retries[message] = asyncio.create_task(again)
        while len(self._retries) > _MOST_WAITING:
            await self._end(next(iter(self._retries)))

    async def close(self) -> None:
        for message in list(self._retries):
            await self._end(message)

    async def _again(self, message: str, edit: Edit, outcome: RetryAt, now_ms: int) -> None:
        waited_ms = 0
        for failures in count(1):
            told_ms = (outcome.not_before_ms or now_ms) - now_ms
            wait_ms = max(told_ms, backoff_ms(failures, 0.0, urgent=False))
            await self.sleep(wait_ms / 1000)
            waited_ms += wait_ms
            after = await self._tried(edit)
            if not isinstance(after, RetryAt) or waited_ms >= GIVE_UP_MS:
                break
            outcome = after
        del self._retries[message]

    async def _tried(self, edit: Edit) -> Outcome:
        try:
            async with asyncio.timeout(_LIMIT_S):
                outcome = await edit()
        except TimeoutError:
            return RetryAt(f"no response within {_LIMIT_S:g} s")
        if not isinstance(outcome, Delivered | RetryAt):
            log.info("first message not changed: %s: %s", self._receiver, outcome.error)
        return outcome

    async def _end(self, message: str) -> None:
        """An older state must not arrive after a newer one."""
        retry = self._retries.pop(message, None)
        if retry is not None:
            retry.cancel()
            await asyncio.wait({retry})
